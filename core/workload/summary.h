// What a trace or a generated workload contains, for reports and for choosing a fleet's size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/config/document.h"
#include "core/workload/arrival.h"
#include "core/workload/trace.h"

namespace faultline::workload {

struct LengthSummary {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0;
  std::int64_t max = 0;
  std::int64_t total = 0;
};

struct ArrivalSummary {
  std::int64_t requests = 0;
  Instant first{}, last{};
  /// (requests - 1) / (last - first), requests per second; 0 below two requests or without a span.
  double mean_rate = 0;
  double peak_rate =
      0;  // requests per second of the fullest whole minute, counted from the first request; 0 where there is none
  double gap_cv = 0;  // standard deviation / mean of the gaps: 1 for Poisson, above for bursts
  LengthSummary prompt{}, output{};
  // Prefix blocks, with a cache that never forgets: a block is a hit if it belongs to the longest leading run of a
  // request's ids that earlier requests had.
  std::int64_t blocks = 0, blocks_distinct = 0, blocks_hit = 0;
  double hit_share() const { return blocks == 0 ? 0 : static_cast<double>(blocks_hit) / static_cast<double>(blocks); }
};

/// Runs the source to its end. Memory: 16 bytes a request for the order statistics, and a set of the prefix ids.
ArrivalSummary summarize(ArrivalSource& source);

struct ClientSummary {
  std::int64_t clients = 0;
  std::int64_t windows = 0;  // of the client with the most
  // Sum of the clients' rates in one window, requests per second, as recorded; from the windows' own figures.
  double rate_mean = 0, rate_max = 0, rate_min = 0;
};

struct TraceSummary {
  std::string path{};
  TraceFormat format = TraceFormat::detect;
  TraceCounts counts{};  // rows of the file and how they were treated; ServeGen: zero_tokens counts histogram entries
  std::int64_t sessions = 0, classes = 0;
  ArrivalSummary arrivals{};               // as played once with the scales of the spec
  std::optional<ClientSummary> clients{};  // ServeGen
};

/// Reads and plays the trace once (`loop` is ignored). nullopt after errors. The seed matters for ServeGen only, whose
/// requests are drawn.
std::optional<TraceSummary> summarize_trace(const TraceSpec& spec, std::uint64_t seed, const config::FileReader& reader,
                                            config::Diagnostics& diagnostics);

std::string to_json(const TraceSummary& summary);
/// For people: at most 80 columns.
std::string to_text(const TraceSummary& summary);

}  // namespace faultline::workload
