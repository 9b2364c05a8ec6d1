#include "core/plan/calibrate.h"

#include <gtest/gtest.h>

namespace faultline::plan {
namespace {

/// Holds up to `limit` of the closed form's capacity; counts its calls.
struct Fleet {
  double limit;
  int calls = 0;
  std::optional<double> operator()(double factor) {
    ++calls;
    return factor <= limit ? 0.995 : 0.9;
  }
};

TEST(Calibration, FindsTheLargestFactorThatHoldsWithinFourPercent) {
  for (const double limit : {0.11, 0.25, 0.5, 0.77, 0.93, 0.999, 1.0, 1.13, 1.9}) {
    Fleet fleet{limit};
    const Calibration c = calibrate(0.99, [&](double f) { return fleet(f); });
    EXPECT_LE(c.factor, limit) << limit;
    EXPECT_GT(c.factor * 1.041, limit) << limit;
    EXPECT_EQ(c.attainment, 0.995);
    EXPECT_EQ(c.refusal, "");
    EXPECT_EQ(c.runs, fleet.calls);
    EXPECT_LE(c.runs, 16) << limit;
  }
}

TEST(Calibration, AFleetThatNeverSaturatesEndsTheSearch) {
  Fleet fleet{1e9};
  const Calibration c = calibrate(0.99, [&](double f) { return fleet(f); });
  EXPECT_GE(c.factor, 2);
  EXPECT_LE(fleet.calls, 8);
}

TEST(Calibration, WhereAnIdleFleetMissesTheSloThereIsAReasonInsteadOfAFactor) {
  const Calibration c = calibrate(0.99, [](double f) { return std::optional(f < 0.5 ? 0.982 : 0.5); });
  EXPECT_EQ(c.factor, 0);
  EXPECT_NE(c.refusal.find("98.20 % of the requests"), std::string::npos) << c.refusal;
}

TEST(Calibration, AFailedRunCountsAsNotHeld) {
  const Calibration c = calibrate(0.99, [](double f) -> std::optional<double> {
    if (f > 0.8) return std::nullopt;
    return 0.999;
  });
  EXPECT_LE(c.factor, 0.8);
  EXPECT_GT(c.factor, 0.76);
}

TEST(Calibration, ReadsBackWhatItWrote) {
  const Calibration c{.factor = 0.83, .attainment = 0.991, .runs = 6, .refusal = "no"};
  const Calibration d = calibration_from(to_json(c));
  EXPECT_EQ(d.factor, c.factor);
  EXPECT_EQ(d.attainment, c.attainment);
  EXPECT_EQ(d.runs, c.runs);
  EXPECT_EQ(d.refusal, c.refusal);
}

}  // namespace
}  // namespace faultline::plan
