// When there are replicas enough. The rule looks at the values in the order of their seeds, never in the order in which
// processes happened to end, so that a sweep stops at the same seed on any number of cores and hosts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace faultline::stats {

/// 95 % confidence interval of a mean by Student's t, for independent values.
struct Interval {
  std::int64_t count = 0;
  double mean = 0;
  double half_width = 0;  // infinite below two values
  bool holds(double x) const { return x >= mean - half_width && x <= mean + half_width; }
};
Interval interval(std::span<const double> values);

struct StoppingRule {
  double relative_half_width = 0.05;  // of the mean
  std::int64_t least = 10;            // values before it may stop: fewer have no variance to speak of
  std::int64_t most = 10'000;
};

/// The number of values after which the rule stops: the smallest n >= least whose interval is narrow enough, or `most`;
/// nullopt where more are needed. A mean of 0 with no spread at all is narrow enough. Stopping at the first n that
/// looks narrow makes intervals a little too short: tests/unit/core/stats/stopping_test.cpp measures by how much.
std::optional<std::int64_t> stops_after(std::span<const double> values, const StoppingRule& rule);

}  // namespace faultline::stats
