#include "core/stats/sample.h"

#include <gtest/gtest.h>

#include <array>

namespace faultline::stats {
namespace {

TEST(Moments, MatchTheDefinitionsOnASmallSample) {
  Moments m;
  for (const double x : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) m.add(x);
  EXPECT_EQ(m.count(), 8);
  EXPECT_DOUBLE_EQ(m.mean(), 5);
  EXPECT_NEAR(m.variance(), 32.0 / 7, 1e-12);  // rounding of a few additions
  EXPECT_NEAR(m.cv(), std::sqrt(32.0 / 7) / 5, 1e-12);
}

TEST(Moments, KeepTheVarianceOfSmallDifferencesOnALargeOffset) {
  Moments m;
  for (int i = 0; i < 1000; ++i) m.add(1e9 + (i % 2));
  EXPECT_NEAR(m.variance(), 0.25 * 1000 / 999, 1e-6);  // a sum of squares would lose all digits here
}

TEST(Moments, OfNothingAreZero) {
  const Moments m;
  EXPECT_EQ(m.mean(), 0);
  EXPECT_EQ(m.variance(), 0);
  EXPECT_EQ(m.cv(), 0);
}

TEST(Quantile, InterpolatesBetweenNeighbours) {
  const std::array<double, 4> values{10, 20, 30, 40};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 10);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 25);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 37);  // numpy.quantile([10, 20, 30, 40], 0.9)
  EXPECT_DOUBLE_EQ(quantile(values, 1), 40);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

}  // namespace
}  // namespace faultline::stats
