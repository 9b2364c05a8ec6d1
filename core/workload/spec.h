// What load a run is given, as the experiment file states it under `workload:`; see describe() in spec.cpp for the
// keys.
//
//   workload:
//     arrivals: {kind: gamma, rate: 4, cv: 2}             # requests per second
//     lengths: {kind: azure_conversation}
//     requests: 10000
//     slo: [{name: chat, ttft: 2 s, tpot: 80 ms}]
// or
//   workload:
//     trace: {path: traces/azure2023_conv.csv, time_scale: 0.5}
//     rate_scale: 2
//
// With `trace` set (also by --trace), `arrivals` and `lengths` are not used.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/document.h"
#include "core/workload/arrival.h"

namespace faultline::config {
class Fields;
}

namespace faultline::workload {

enum class ArrivalKind { poisson, constant, gamma, weibull, onoff, diurnal };
constexpr std::array<std::string_view, 6> enum_names(const ArrivalKind*) {
  return {"poisson", "constant", "gamma", "weibull", "onoff", "diurnal"};
}

/// When requests come. Rates are requests per second, greater than 0 (rate_off may be 0). Only the fields of the kind
/// are read and printed.
struct ArrivalsSpec {
  ArrivalKind kind = ArrivalKind::poisson;
  double rate = 1;                   // poisson, constant, gamma, weibull; the mean rate of diurnal
  double cv = 1;                     // gamma, weibull: standard deviation / mean of the gaps, 0.05 … 10
  std::optional<double> shape{};     // weibull: instead of cv
  double rate_on = 2, rate_off = 0;  // onoff: Poisson at these rates …
  Duration mean_on{10'000'000'000}, mean_off{10'000'000'000};  // … for exponential times of these means, on first
  double amplitude = 0.5;  // diurnal: rate(t) = rate * (1 + amplitude * sin(2 pi (t + phase) / period)), 0 … 1
  Duration period{86'400'000'000'000};
  Duration phase{};
};

enum class LengthKind { fixed, uniform, lognormal, exponential, geometric, empirical };
constexpr std::array<std::string_view, 6> enum_names(const LengthKind*) {
  return {"fixed", "uniform", "lognormal", "exponential", "geometric", "empirical"};
}

/// A number of tokens. Draws are rounded to the nearest whole number and then clamped to min … max; `mean` and `p50`
/// are those of the distribution before clamping.
struct LengthSpec {
  LengthKind kind = LengthKind::fixed;
  Tokens tokens{512};             // fixed
  double mean = 512;              // lognormal, exponential, geometric
  std::optional<double> p50{};    // lognormal: the median; mean / p50 = exp(sigma^2 / 2)
  std::optional<double> sigma{};  // lognormal: or the standard deviation of the logarithm
  std::string file{};             // empirical: a CSV `tokens,weight`
  Tokens min{1}, max{1'000'000};  // clamps; the bounds themselves for uniform
};

enum class LengthsKind { independent, azure_conversation, azure_code, trace };
constexpr std::array<std::string_view, 4> enum_names(const LengthsKind*) {
  return {"independent", "azure_conversation", "azure_code", "trace"};
}

enum class TraceFormat { detect, azure, mooncake, servegen, burstgpt, csv };
constexpr std::array<std::string_view, 6> enum_names(const TraceFormat*) {
  return {"detect", "azure", "mooncake", "servegen", "burstgpt", "csv"};
}

/// Prompt and output of a request: drawn apart, from a named joint distribution (azure_lengths.h), or as pairs drawn
/// with replacement from the rows of a trace.
struct LengthsSpec {
  LengthsKind kind = LengthsKind::azure_conversation;
  LengthSpec prompt{}, output{.tokens = Tokens{128}};  // independent
  std::string file{};                                  // trace
  TraceFormat format = TraceFormat::detect;            // trace: any but servegen
};

/// Shared beginnings of generated prompts (system prompts, documents): a request begins with one of `count` prefixes
/// of `tokens` tokens with the chance `share`; the drawn prompt follows it and is its own. Prefix r (0 first) is
/// chosen in proportion to 1 / (r + 1)^zipf. Their content is known in blocks of `block_tokens`.
struct PrefixesSpec {
  std::int64_t count = 10;
  Tokens tokens{1024};
  double zipf = 1;
  double share = 1;
  std::int64_t block_tokens = 64;
};

/// What to do with a recorded request of 0 prompt or 0 output tokens. `one` makes it 1 token, the least a server
/// handles, and keeps the load; the row is counted in the trace's summary in every case.
enum class ZeroTokens { one, skip, error };
constexpr std::array<std::string_view, 3> enum_names(const ZeroTokens*) { return {"one", "skip", "error"}; }

struct TraceSpec {
  std::string path{};  // a file, plain or gzip; a ServeGen client folder
  TraceFormat format = TraceFormat::detect;
  double time_scale = 1;  // factor on every recorded time: 0.5 plays the trace twice as fast
  /// Starts again at the end, until requests or duration stop it; prefix blocks and sessions of a round are its own.
  bool loop = false;
  ZeroTokens zero_tokens = ZeroTokens::one;
  /// Mooncake: the recording clock's tick. Requests of one stamp are spread evenly over it in file order, never
  /// past the next stamp. 0 keeps the stamps.
  Duration tick{3'000'000'000};
};

/// A latency promise. Goodput counts the tokens of requests that met both. `share` is the weight of the class among the
/// requests of a generator, or of a trace that names no classes.
struct SloClass {
  std::string name{};
  // Defaults: DeepSeek-R1, server scenario of MLPerf Inference (mlcommons/inference, loadgen/mlperf.conf,
  // 001712e9daf8).
  Duration ttft{2'000'000'000};
  Duration tpot{80'000'000};
  double share = 1;
};

struct WorkloadSpec {
  std::optional<TraceSpec> trace{};
  ArrivalsSpec arrivals{};
  LengthsSpec lengths{};
  std::optional<PrefixesSpec> prefixes{};  // generators only
  std::optional<std::int64_t> requests{};  // at most this many; a generator needs this or duration
  std::optional<Duration> duration{};      // only arrivals before this time
  /// Factor on the rate that leaves the pattern in time as it is. Generators: on every rate. ServeGen: on every window.
  /// Other traces: below 1 keeps each row with this chance, above 1 adds copies between a row and the next.
  double rate_scale = 1;
  std::optional<Tokens> prompt_max{}, output_max{};        // clamps on every request, after everything else
  std::vector<SloClass> slo{SloClass{.name = "default"}};  // 1 … 256 classes
};

void describe(config::Fields& f, ArrivalsSpec& s);
void describe(config::Fields& f, LengthSpec& s);
void describe(config::Fields& f, LengthsSpec& s);
void describe(config::Fields& f, PrefixesSpec& s);
void describe(config::Fields& f, TraceSpec& s);
void describe(config::Fields& f, SloClass& s);
void describe(config::Fields& f, WorkloadSpec& s);

/// The arrivals of `spec`. Files are read through `reader` (traces, histograms). On bad input the errors are in
/// `diagnostics` and the result is null. A trace is held in memory (40 bytes a request, 4 a prefix block).
/// Precondition: `spec` passed describe() or would; numbers out of its ranges are assertions here.
std::unique_ptr<ArrivalSource> make_source(const WorkloadSpec& spec, std::uint64_t seed,
                                           const config::FileReader& reader, config::Diagnostics& diagnostics);

}  // namespace faultline::workload
