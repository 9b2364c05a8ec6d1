#include "core/workload/summary.h"

#include <algorithm>
#include <map>
#include <unordered_set>
#include <vector>

#include "core/stats/sample.h"
#include "core/workload/load.h"
#include "core/workload/replay.h"

namespace faultline::workload {
namespace {

constexpr std::int64_t kMinute = 60'000'000'000;

LengthSummary summarize_lengths(std::vector<double>& values) {
  LengthSummary s;
  std::sort(values.begin(), values.end());
  double total = 0;
  for (const double v : values) total += v;
  if (values.empty()) return s;
  s.total = static_cast<std::int64_t>(total);
  s.mean = total / static_cast<double>(values.size());
  s.p50 = stats::quantile(values, 0.5);
  s.p90 = stats::quantile(values, 0.9);
  s.p99 = stats::quantile(values, 0.99);
  s.max = static_cast<std::int64_t>(values.back());
  return s;
}

ClientSummary summarize_clients(const ServeGenFolder& folder) {
  ClientSummary s{.clients = static_cast<std::int64_t>(folder.clients.size())};
  std::map<std::int64_t, double> rates;  // total by start of window
  for (const Client& client : folder.clients) {
    s.windows = std::max(s.windows, static_cast<std::int64_t>(client.windows.size()));
    for (const ClientWindow& w : client.windows) rates[w.begin_s] += w.rate;
  }
  stats::Moments moments;
  for (const auto& [begin_s, rate] : rates) {
    s.rate_max = std::max(s.rate_max, rate);
    s.rate_min = moments.count() == 0 ? rate : std::min(s.rate_min, rate);
    moments.add(rate);
  }
  s.rate_mean = moments.mean();
  return s;
}

}  // namespace

ArrivalSummary summarize(ArrivalSource& source) {
  ArrivalSummary s;
  stats::Moments gaps;
  std::vector<double> prompts, outputs;
  std::unordered_set<std::uint32_t> seen;  // asked and filled, never iterated
  std::int64_t minute = 0, in_minute = 0, in_minute_max = 0;
  Arrival a;
  while (source.next(a)) {
    if (s.requests++ == 0) s.first = a.at;
    else gaps.add(seconds(a.at - s.last));
    s.last = a.at;
    const std::int64_t this_minute = (a.at - s.first).v / kMinute;
    if (this_minute != minute) {
      in_minute_max = std::max(in_minute_max, in_minute);
      in_minute = 0;
      minute = this_minute;
    }
    ++in_minute;
    prompts.push_back(static_cast<double>(a.prompt.v));
    outputs.push_back(static_cast<double>(a.output.v));
    s.blocks += static_cast<std::int64_t>(a.prefix_blocks.size());
    bool leading = true;
    for (const std::uint32_t id : a.prefix_blocks) {
      leading = leading && seen.contains(id);
      s.blocks_hit += leading;
      if (!leading) seen.insert(id);
    }
  }
  // The last minute is seldom whole and does not count.
  s.peak_rate = static_cast<double>(in_minute_max) / 60;
  s.blocks_distinct = static_cast<std::int64_t>(seen.size());
  const Duration span = s.last - s.first;
  if (s.requests > 1 && span.v > 0) s.mean_rate = static_cast<double>(s.requests - 1) / seconds(span);
  s.gap_cv = gaps.cv();
  s.prompt = summarize_lengths(prompts);
  s.output = summarize_lengths(outputs);
  return s;
}

std::optional<TraceSummary> summarize_trace(const TraceSpec& spec, std::uint64_t seed, const config::FileReader& reader,
                                            config::Diagnostics& diagnostics) {
  TraceSummary s{.path = spec.path, .format = spec.format};
  LoadedTrace loaded = load_trace(spec, reader, diagnostics);
  if (auto* folder = std::get_if<ServeGenFolder>(&loaded)) {
    s.format = TraceFormat::servegen;
    s.counts.zero_tokens = folder->zero_values;
    s.clients = summarize_clients(*folder);
    s.sessions = s.clients->clients;
    s.arrivals = summarize(*make_servegen_source(std::move(*folder), spec.time_scale, 1, false, seed));
    return s;
  }
  auto* trace = std::get_if<Trace>(&loaded);
  if (!trace) return std::nullopt;
  s.format = trace->format;
  s.counts = trace->counts;
  s.sessions = trace->session_count;
  s.classes = static_cast<std::int64_t>(trace->classes.size());
  ReplaySource source(std::move(*trace), {.time_scale = spec.time_scale}, seed);
  s.arrivals = summarize(source);
  return s;
}

}  // namespace faultline::workload
