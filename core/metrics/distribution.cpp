#include "core/metrics/distribution.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::metrics {
namespace {

__extension__ using Wide = __int128;

/// Index of the nearest rank among n samples.
std::size_t rank_index(std::size_t n, int percent) { return (n * static_cast<std::size_t>(percent) + 99) / 100 - 1; }

}  // namespace

std::int64_t percentile_of_sorted(const std::vector<std::int64_t>& sorted, int percent) {
  FAULTLINE_ASSERT(!sorted.empty() && percent > 0 && percent <= 100, "n={} percent={}", sorted.size(), percent);
  return sorted[rank_index(sorted.size(), percent)];
}

Distribution distribution_of(std::vector<std::int64_t> samples) {
  Distribution out;
  out.count = static_cast<std::int64_t>(samples.size());
  if (samples.empty()) return out;
  Wide sum = 0;
  for (const std::int64_t s : samples) sum += s;
  const Wide half = (sum < 0 ? -out.count : out.count) / 2;
  out.mean = {static_cast<std::int64_t>((sum + half) / out.count)};
  // Each selection works on what lies above the one before.
  auto from = samples.begin();
  const auto select = [&](int percent) {
    const auto at = samples.begin() + static_cast<std::ptrdiff_t>(rank_index(samples.size(), percent));
    if (at >= from) std::nth_element(from, at, samples.end());
    from = at;
    return Duration{*at};
  };
  out.p50 = select(50);
  out.p90 = select(90);
  out.p99 = select(99);
  out.max = {*std::max_element(from, samples.end())};
  return out;
}

}  // namespace faultline::metrics
