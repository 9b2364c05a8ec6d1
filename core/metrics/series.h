// Time series of a run for charts and for t95: everything by whole seconds of simulated time from the run's begin.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/metrics/summary.h"

namespace faultline::metrics {

/// Mean number of GPUs lost in each second, from capacity intervals: own (failed) and collateral (healthy, idle or
/// slowed).
struct GpusLost {
  std::vector<double> own, collateral;  // same length: the seconds of the run
};
GpusLost gpus_lost(const record::RunRecord& run);

/// Median TTFT (s) of the requests that arrived in each bucket of `bucket_s` seconds; empty where none got a token.
std::vector<std::optional<double>> ttft_over_time(const record::RunRecord& run, int bucket_s);

/// Output tokens per second, averaged over buckets of `bucket_s` seconds; the last bucket may be shorter.
std::vector<double> output_rate(const record::RunRecord& run, int bucket_s);

/// Output tokens within SLO by the second in which their request ended.
std::vector<std::int64_t> goodput_bins(const record::RunRecord& run);
std::vector<std::int64_t> output_bins(const record::RunRecord& run);

/// First second k >= `from` such that for every j in [k, k + hold_s) the sum of here[j, j + window_s) is at least
/// share_percent of there[j, j + window_s). Beyond their ends both count 0. Empty if no such k has k + hold_s <=
/// last_s.
std::optional<std::int64_t> first_held(const std::vector<std::int64_t>& here, const std::vector<std::int64_t>& there,
                                       std::int64_t from, std::int64_t last_s, std::int64_t window_s,
                                       std::int64_t hold_s, int share_percent);

}  // namespace faultline::metrics
