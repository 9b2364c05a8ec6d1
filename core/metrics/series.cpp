#include "core/metrics/series.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/metrics/request.h"

namespace faultline::metrics {
namespace {

using record::RunRecord;
constexpr std::int64_t kSecond = 1'000'000'000;

std::size_t whole_seconds(const RunRecord& run) {
  if (run.end == kNever || run.end <= run.begin) return 0;
  return static_cast<std::size_t>(((run.end - run.begin).v + kSecond - 1) / kSecond);
}

}  // namespace

GpusLost gpus_lost(const RunRecord& run) {
  GpusLost out;
  out.own.resize(whole_seconds(run));
  out.collateral.resize(out.own.size());
  const std::int64_t end = run.end == kNever ? run.begin.ns : run.end.ns;
  for (const auto& c : run.capacity) {
    auto& into = c.own ? out.own : out.collateral;
    const std::int64_t from = std::max(c.from.ns, run.begin.ns) - run.begin.ns;
    const std::int64_t to = std::min(c.to.ns, end) - run.begin.ns;
    for (std::int64_t t = from; t < to;) {
      const std::int64_t second = t / kSecond, next = std::min(to, (second + 1) * kSecond);
      into[static_cast<std::size_t>(second)] += (1 - c.usable) * static_cast<double>(next - t) * 1e-9;
      t = next;
    }
  }
  return out;
}

std::vector<std::optional<double>> ttft_over_time(const RunRecord& run, int bucket_s) {
  FAULTLINE_ASSERT(bucket_s > 0);
  const auto width = static_cast<std::size_t>(bucket_s);
  std::vector<std::vector<std::int64_t>> samples((whole_seconds(run) + width - 1) / width);
  for (const auto& r : run.requests) {
    const auto v = ttft(r);
    if (!v || r.arrival < run.begin) continue;
    const auto bucket = static_cast<std::size_t>((r.arrival - run.begin).v / (kSecond * bucket_s));
    if (bucket < samples.size()) samples[bucket].push_back(v->v);
  }
  std::vector<std::optional<double>> out(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].empty()) continue;
    std::sort(samples[i].begin(), samples[i].end());
    out[i] = static_cast<double>(percentile_of_sorted(samples[i], 50)) * 1e-9;
  }
  return out;
}

std::vector<double> output_rate(const RunRecord& run, int bucket_s) {
  FAULTLINE_ASSERT(bucket_s > 0);
  std::vector<double> out;
  const auto width = static_cast<std::size_t>(bucket_s);
  for (std::size_t i = 0; i < run.throughput.size(); i += width) {
    const std::size_t to = std::min(i + width, run.throughput.size());
    std::int64_t sum = 0;
    for (std::size_t j = i; j < to; ++j) sum += run.throughput[j].output_tokens;
    out.push_back(static_cast<double>(sum) / static_cast<double>(to - i));
  }
  return out;
}

std::vector<std::int64_t> output_bins(const RunRecord& run) {
  std::vector<std::int64_t> out;
  out.reserve(run.throughput.size());
  for (const auto& bin : run.throughput) out.push_back(bin.output_tokens);
  return out;
}

std::vector<std::int64_t> goodput_bins(const RunRecord& run) {
  std::vector<std::int64_t> out(whole_seconds(run) + 1);
  for (const auto& r : run.requests) {
    if (!met_slo(run, r)) continue;
    const auto second = static_cast<std::size_t>((r.end - run.begin).v / kSecond);
    if (second < out.size()) out[second] += r.output_delivered;
  }
  return out;
}

std::optional<std::int64_t> first_held(const std::vector<std::int64_t>& here, const std::vector<std::int64_t>& there,
                                       std::int64_t from, std::int64_t last_s, std::int64_t window_s,
                                       std::int64_t hold_s, int share_percent) {
  const auto at = [](const std::vector<std::int64_t>& bins, std::int64_t i) {
    return i < static_cast<std::int64_t>(bins.size()) ? bins[static_cast<std::size_t>(i)] : 0;
  };
  std::int64_t h = 0, t = 0;
  for (std::int64_t i = from; i < from + window_s; ++i) {
    h += at(here, i);
    t += at(there, i);
  }
  std::int64_t since = from;  // all windows that start in [since, j) are good
  for (std::int64_t j = from; since + hold_s <= last_s; ++j) {
    if (j - since >= hold_s) return since;
    if (h * 100 < t * share_percent) since = j + 1;
    h += at(here, j + window_s) - at(here, j);
    t += at(there, j + window_s) - at(there, j);
  }
  return std::nullopt;
}

}  // namespace faultline::metrics
