#include "core/workload/arrival_times.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/stats/sample.h"

namespace faultline::workload {
namespace {

constexpr std::uint64_t kSeed = 20'261'123;

stats::Moments gaps_of(const ArrivalsSpec& spec, int count) {
  std::printf("seed=%llu\n", static_cast<unsigned long long>(kSeed));
  const auto times = make_arrival_times(spec, 1, kSeed);
  stats::Moments gaps;
  Instant before{};
  for (int i = 0; i < count; ++i) {
    const Instant at = times->next();
    EXPECT_GE(at, before);
    gaps.add(seconds(at - before));
    before = at;
  }
  return gaps;
}

/// The mean of independent gaps lies within 4 standard errors (one seed in 16,000 would fail), computed from theory.
void expect_mean(const stats::Moments& gaps, double mean, double cv) {
  EXPECT_NEAR(gaps.mean(), mean, 4 * cv * mean / std::sqrt(static_cast<double>(gaps.count())));
}

TEST(ArrivalTimes, PoissonGapsHaveTheMeanAndUnitVariation) {
  const auto gaps = gaps_of({.kind = ArrivalKind::poisson, .rate = 8}, 200'000);
  expect_mean(gaps, 1.0 / 8, 1);
  EXPECT_NEAR(gaps.cv(), 1, 0.01);  // standard error of the CV of n exponentials: about 1/sqrt(n) = 0.0022
}

TEST(ArrivalTimes, PoissonCountsInEqualWindowsHaveVarianceEqualToTheirMean) {
  const auto times = make_arrival_times({.kind = ArrivalKind::poisson, .rate = 20}, 1, kSeed);
  stats::Moments counts;
  double count = 0;
  std::int64_t window = 0;
  while (window < 20'000) {
    const std::int64_t at = times->next().ns / 1'000'000'000;
    for (; window < at && window < 20'000; ++window, count = 0) counts.add(count);
    ++count;
  }
  EXPECT_NEAR(counts.mean(), 20, 4 * std::sqrt(20.0 / 20'000));
  EXPECT_NEAR(counts.variance() / counts.mean(), 1, 0.04);  // 4 standard errors of sqrt(2/n) = 0.01
}

TEST(ArrivalTimes, GammaGapsHaveTheMeanAndVariationAsked) {
  // Tolerance of the CV: four standard errors of 400,000 gaps, measured over 20 seeds.
  for (const auto& [cv, tolerance] : {std::pair{0.3, 0.0042}, {2.0, 0.016}, {4.0, 0.019}}) {
    SCOPED_TRACE(cv);
    const auto gaps = gaps_of({.kind = ArrivalKind::gamma, .rate = 5, .cv = cv}, 400'000);
    expect_mean(gaps, 0.2, cv);
    EXPECT_NEAR(gaps.cv() / cv, 1, tolerance);
  }
}

TEST(ArrivalTimes, WeibullGapsHaveTheMeanAndVariationAsked) {
  for (const auto& [cv, tolerance] : {std::pair{0.5, 0.005}, {2.0, 0.016}}) {  // as for the gamma
    SCOPED_TRACE(cv);
    const auto gaps = gaps_of({.kind = ArrivalKind::weibull, .rate = 5, .cv = cv}, 400'000);
    expect_mean(gaps, 0.2, cv);
    EXPECT_NEAR(gaps.cv() / cv, 1, tolerance);
  }
}

TEST(ArrivalTimes, WeibullShapeOfOneIsTheExponential) {
  EXPECT_NEAR(weibull_shape_of_cv(1), 1, 1e-9);
  EXPECT_NEAR(weibull_mean(1), 1, 1e-12);
  // Shape 1/2: mean 2, variance 24 - 4 = 20, so CV = sqrt(5); shape 2 (Rayleigh): CV = sqrt(4/pi - 1).
  EXPECT_NEAR(weibull_shape_of_cv(std::sqrt(5.0)), 0.5, 1e-9);
  EXPECT_NEAR(weibull_shape_of_cv(std::sqrt(4 / std::numbers::pi - 1)), 2, 1e-8);
}

TEST(ArrivalTimes, WeibullShapeGivenDirectlyKeepsTheRate) {
  const auto gaps = gaps_of({.kind = ArrivalKind::weibull, .rate = 10, .shape = 0.5}, 400'000);
  expect_mean(gaps, 0.1, std::sqrt(5.0));
}

TEST(ArrivalTimes, ConstantGapsDoNotDrift) {
  const auto times = make_arrival_times({.kind = ArrivalKind::constant, .rate = 3}, 1, kSeed);
  Instant at{};
  for (int i = 0; i <= 3'000'000; ++i) at = times->next();
  EXPECT_EQ(at.ns, 1'000'000'000'000'000);  // the 3,000,000th gap ends at exactly a million seconds
}

TEST(ArrivalTimes, OnOffBurstsHaveTheMeanRateAndAreBurstierThanPoisson) {
  const ArrivalsSpec spec{.kind = ArrivalKind::onoff,
                          .rate_on = 30,
                          .rate_off = 2,
                          .mean_on = Duration{2'000'000'000},
                          .mean_off = Duration{6'000'000'000}};
  const auto gaps = gaps_of(spec, 900'000);
  // (30 * 2 + 2 * 6) / 8 = 9 requests/s. Counts of T s have variance lambda T + 2 s^2 T p (1 - p) tau with s = 28, p =
  // 1/4 and 1/tau = 1/2 + 1/6: relative standard error over the 100,000 s here 0.24%; four of them.
  EXPECT_NEAR(1 / gaps.mean(), 9, 9 * 0.0098);
  EXPECT_GT(gaps.cv(), 1.5);
}

TEST(ArrivalTimes, OnOffWithASilentOffPhaseIsAnInterruptedPoissonProcess) {
  const double rate = 10, leave_on = 0.5, leave_off = 0.25;
  const ArrivalsSpec spec{.kind = ArrivalKind::onoff,
                          .rate_on = rate,
                          .rate_off = 0,
                          .mean_on = duration_from_seconds(1 / leave_on),
                          .mean_off = duration_from_seconds(1 / leave_off)};
  const auto gaps = gaps_of(spec, 600'000);
  // Its gaps are independent (Kuczura, 1973): with probability rate/(rate + leave_on) plain, else through an off phase.
  // From the on state E[X] = (1 + leave_on/leave_off)/rate; E[X^2] solves the first-step equation below.
  const double mean = (1 + leave_on / leave_off) / rate;
  const double stay = 1 / (rate + leave_on), q = leave_on * stay;
  // X = S + B (Y + X'): S ~ exp(rate + leave_on), Y ~ exp(leave_off), B = 1 with probability q.
  const double second = (2 * stay * stay + q * (2 / (leave_off * leave_off) + 2 / leave_off * mean) +
                         2 * q * stay * (1 / leave_off + mean)) /
                        (1 - q);
  const double cv = std::sqrt(second - mean * mean) / mean;
  expect_mean(gaps, mean, cv);
  EXPECT_NEAR(gaps.cv() / cv, 1, 0.015);  // four standard errors, measured over 20 seeds
}

TEST(ArrivalTimes, DiurnalRateFollowsTheSine) {
  const ArrivalsSpec spec{.kind = ArrivalKind::diurnal,
                          .rate = 50,
                          .amplitude = 0.8,
                          .period = Duration{100'000'000'000},
                          .phase = Duration{25'000'000'000}};
  const auto times = make_arrival_times(spec, 1, kSeed);
  std::array<double, 10> bins{};
  constexpr int kPeriods = 200;
  for (Instant at = times->next(); at.ns < kPeriods * spec.period.v; at = times->next()) {
    ++bins[static_cast<std::size_t>(at.ns % spec.period.v / 10'000'000'000)];
  }
  for (std::size_t i = 0; i < bins.size(); ++i) {
    // Integral of 50 (1 + 0.8 cos(2 pi t / 100)) over the bin: a phase of a quarter period turns the sine into a
    // cosine.
    const double w = 2 * std::numbers::pi / 100, a = static_cast<double>(i) * 10;
    const double expected = kPeriods * 50 * (10 + 0.8 / w * (std::sin(w * (a + 10)) - std::sin(w * a)));
    EXPECT_NEAR(bins[i], expected, 4 * std::sqrt(expected)) << "bin " << i;  // Poisson counts: 4 standard errors
  }
}

TEST(ArrivalTimes, RateScaleCompressesTheGapsOfTheSameDraws) {
  const ArrivalsSpec spec{.kind = ArrivalKind::gamma, .rate = 2, .cv = 2};
  const auto one = make_arrival_times(spec, 1, kSeed), four = make_arrival_times(spec, 4, kSeed);
  for (int i = 0; i < 1000; ++i)
    EXPECT_NEAR(seconds(one->next()), 4 * seconds(four->next()), 1e-5);  // ns rounding, summed
}

}  // namespace
}  // namespace faultline::workload
