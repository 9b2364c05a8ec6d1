// Mean and percentiles of integer samples. The percentile rule is nearest rank: the smallest sample such that at least
// p per cent of all samples are not above it (rank ceil(p n / 100), from 1); it is always a sample, nothing is
// interpolated.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/quantity.h"

namespace faultline::metrics {

struct Distribution {
  std::int64_t count = 0;
  Duration mean{0};  // exact sum / count, to the nearest ns; 0 where there is no sample (then count says so)
  Duration p50{0}, p90{0}, p99{0}, max{0};
};

/// Consumes the samples; O(n). Order does not matter.
Distribution distribution_of(std::vector<std::int64_t> samples_ns);
/// Nearest rank; samples must be sorted and not empty (asserted); 0 < percent <= 100.
std::int64_t percentile_of_sorted(const std::vector<std::int64_t>& sorted, int percent);

}  // namespace faultline::metrics
