// ServeGen client folders (github.com/alibaba/ServeGen, Xiang et al., arXiv 2505.09999) as a generator: the
// superposition of clients, each with its own arrival process per window and its own length distributions.
//
// chunk-N-trace.csv (no header), one row a window: start s, mean rate req/s, CV of the gaps, pattern (Gamma, Weibull or
// empty: idle), shape, scale s. chunk-N-dataset.json[.gz]: "start of a span of hours" -> {input_tokens, output_tokens,
// reason_ratio}, each a string with a Python dict {value: probability}; a span holds until the next one begins.
// reason_ratio is not used: reasoning tokens are output tokens to a server.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/document.h"
#include "core/workload/arrival.h"
#include "core/workload/histogram.h"
#include "core/workload/spec.h"

namespace faultline::workload {

struct ClientWindow {
  enum class Pattern { idle, gamma, weibull };
  std::int64_t begin_s = 0, end_s = 0;
  double rate = 0;  // requests per second
  Pattern pattern = Pattern::idle;
  double shape = 0;
};

struct Client {
  int number = 0;                                              // N of chunk-N
  std::vector<ClientWindow> windows{};                         // in order of time
  std::map<std::int64_t, std::array<Histogram, 2>> lengths{};  // by start s; [0] input, [1] output
};

struct ServeGenFolder {
  std::string path{};
  std::vector<Client> clients{};
  std::int64_t zero_values = 0;  // histogram entries of 0 tokens, treated as TraceSpec::zero_tokens says
};

/// The clients chunk-0, chunk-1, …; numbers may be missing, up to 256 in a row. nullopt after errors, or where there is
/// no client at all (which is an error too).
std::optional<ServeGenFolder> read_servegen(const TraceSpec& spec, const config::FileReader& reader,
                                            config::Diagnostics& diagnostics);

/// Requests of the busiest window of one client. The source holds the times of a window in memory.
double busiest_window(const ServeGenFolder& folder);
inline constexpr double kWindowRequestsScaledMax = 1e8;

/// {60: 0.25, 61: 0.75} into (key, value) pairs; nullopt and the place of the first bad character in `bad` otherwise.
std::optional<std::vector<std::pair<double, double>>> parse_python_dict(std::string_view text, std::size_t& bad);

/// Precondition: busiest_window(folder) * rate_scale <= kWindowRequestsScaledMax (asserted).
/// Arrivals of all clients, merged by time (at equal times by client number); session = index of the client.
/// A window of rate r and length L brings exactly r L rate_scale requests (a fraction as a keyed chance), at the first
/// n of n + 1 drawn gaps scaled to the window: the recorded counts with the recorded burstiness. Drawing plain gaps
/// from the window's start instead would bring (CV^2 - 1) / 2 too many a window: 22 in place of 51 more at the CV
/// of 6.7 seen.
std::unique_ptr<ArrivalSource> make_servegen_source(ServeGenFolder folder, double time_scale, double rate_scale,
                                                    bool loop, std::uint64_t seed);

}  // namespace faultline::workload
