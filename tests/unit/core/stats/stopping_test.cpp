#include "core/stats/stopping.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "core/base/random.h"

namespace faultline::stats {
namespace {

/// Share of 2,000 experiments whose interval holds the true mean. `n` values each, or as many as a rule asks for.
double coverage(const std::function<double(Random&)>& value, double mean, std::size_t n,
                const StoppingRule* rule = nullptr) {
  int held = 0;
  constexpr int kExperiments = 2'000;
  for (int e = 0; e < kExperiments; ++e) {
    Random r(17, "coverage", static_cast<std::uint64_t>(e));
    std::vector<double> values;
    while (values.size() < n) values.push_back(value(r));
    const auto stop = rule ? stops_after(values, *rule) : std::nullopt;
    if (stop) values.resize(static_cast<std::size_t>(*stop));
    held += interval(values).holds(mean) ? 1 : 0;
  }
  return static_cast<double>(held) / kExperiments;
}

// 95 % intervals hold the truth 93 to 97 times in a hundred, also for the skewed values that failures give.
TEST(Intervals, CoverTheTruthAsOftenAsTheySay) {
  const auto normal = [](Random& r) { return 5 + r.normal(); };
  const auto gamma = [](Random& r) { return r.gamma(4, 0.5); };
  // Mean of 30 exponentials: what a figure of a run with about thirty events looks like.
  const auto events = [](Random& r) { return r.gamma(30, 1.0 / 30); };
  for (const std::size_t n : {10u, 30u}) {
    const double a = coverage(normal, 5, n), b = coverage(gamma, 2, n), c = coverage(events, 1, n);
    std::printf("    %zu values: normal %.3f, gamma(4) %.3f, thirty events %.3f\n", n, a, b, c);
    for (const double share : {a, b, c}) {
      EXPECT_GE(share, 0.93);
      EXPECT_LE(share, 0.97);
    }
  }
}

TEST(Intervals, StoppingAtTheFirstNarrowOneCostsAPointOfCoverage) {
  const StoppingRule rule{.relative_half_width = 0.1, .least = 10, .most = 400};
  const auto gamma = [](Random& r) { return r.gamma(4, 0.5); };
  const double share = coverage(gamma, 2, 400, &rule);
  std::printf("    with the stopping rule: %.3f\n", share);
  EXPECT_GE(share, 0.92);
  EXPECT_LE(share, 0.97);
}

TEST(StoppingRule, StopsAtTheFirstNarrowIntervalInTheOrderOfTheSeeds) {
  const std::vector<double> calm(20, 3.0);
  EXPECT_EQ(stops_after(calm, {.relative_half_width = 0.05, .least = 10, .most = 100}), 10);
  std::vector<double> values;
  for (int k = 0; k < 200; ++k) values.push_back(k % 2 == 0 ? 1 : 3);
  const StoppingRule rule{.relative_half_width = 0.1, .least = 10, .most = 1'000};
  const auto n = stops_after(values, rule);
  ASSERT_TRUE(n.has_value());
  // 1.98 / sqrt(n) <= 0.1 * 2 near n = 98.
  EXPECT_NEAR(static_cast<double>(*n), 98, 6);
  values.resize(static_cast<std::size_t>(*n) - 1);
  EXPECT_EQ(stops_after(values, rule), std::nullopt);
  EXPECT_EQ(stops_after(values, {.relative_half_width = 0.001, .least = 10, .most = 50}), 50);
  EXPECT_EQ(stops_after({}, rule), std::nullopt);
}

TEST(StoppingRule, AMeanOfZeroNeedsNoSpread) {
  EXPECT_EQ(stops_after(std::vector<double>(10, 0.0), {.least = 10}), 10);
  EXPECT_TRUE(std::isinf(interval(std::vector<double>{4.0}).half_width));
}

}  // namespace
}  // namespace faultline::stats
