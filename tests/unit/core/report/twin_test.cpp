// What is allowed between a prediction and an observation.
#include "core/report/twin.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace faultline::report {
namespace {

Json summary(int failed, int retried, double detect, Json ready = 10.0) {
  return {{"requests", {{"arrived", 1000}, {"failed", failed}, {"rejected", 0}, {"retried", retried}}},
          {"faults", Json::array({{{"id", "gpu"}, {"phases_s", {{"detect", detect}, {"ready", std::move(ready)}}}}})},
          {"simulator", {{"fidelity", "step"}}}};
}

bool within(const Json& a, const Json& b, const InstancesHit& hit_a = {1}, const InstancesHit& hit_b = {1}) {
  return all_within(twin_lines(a, b, hit_a, hit_b));
}

TEST(Twin, RequestsMayDifferByThreeOrFivePercentOfThePrediction) {
  EXPECT_TRUE(within(summary(0, 10, 1), summary(3, 13, 1)));
  EXPECT_FALSE(within(summary(0, 10, 1), summary(4, 10, 1)));
  EXPECT_FALSE(within(summary(0, 10, 1), summary(0, 14, 1)));
  EXPECT_TRUE(within(summary(0, 200, 1), summary(0, 210, 1)));
  EXPECT_FALSE(within(summary(0, 200, 1), summary(0, 211, 1)));
}

TEST(Twin, PhasesMayDifferByTenPercentOrFiftyMilliseconds) {
  EXPECT_TRUE(within(summary(0, 0, 0.100), summary(0, 0, 0.149)));
  EXPECT_FALSE(within(summary(0, 0, 0.100), summary(0, 0, 0.151)));
  EXPECT_TRUE(within(summary(0, 0, 4.0), summary(0, 0, 3.61)));
  EXPECT_FALSE(within(summary(0, 0, 4.0), summary(0, 0, 3.59)));
}

TEST(Twin, APhaseThatOnlyOneOfThemHasIsOutside) {
  EXPECT_FALSE(within(summary(0, 0, 1), summary(0, 0, 1, nullptr)));
  EXPECT_FALSE(within(summary(0, 0, 1, nullptr), summary(0, 0, 1)));
  EXPECT_TRUE(within(summary(0, 0, 1, nullptr), summary(0, 0, 1, nullptr)));
}

TEST(Twin, TheSameInstancesMustBeHitWhereBothAreKnown) {
  EXPECT_FALSE(within(summary(0, 0, 1), summary(0, 0, 1), {1}, {1, 2}));
  EXPECT_TRUE(all_within(twin_lines(summary(0, 0, 1), summary(0, 0, 1), std::nullopt, InstancesHit{1})));
}

TEST(Twin, AFaultThatTheObservationLacksIsOutside) {
  Json other = summary(0, 0, 1);
  other["faults"][0]["id"] = "node";
  EXPECT_FALSE(within(summary(0, 0, 1), other));
}

TEST(Twin, TheTextNamesWhatIsOutside) {
  const auto lines = twin_lines(summary(0, 0, 1), summary(9, 0, 1), InstancesHit{1}, InstancesHit{1});
  const std::string text = twin_text("a", "b", lines);
  EXPECT_NE(text.find("requests failed                      0             9   3   <- outside"), std::string::npos)
      << text;
  EXPECT_NE(text.find("1 of "), std::string::npos) << text;
  EXPECT_FALSE(twin_json("a", "b", lines)["within"].get<bool>());
  EXPECT_FALSE(is_live(summary(0, 0, 1)));
}

}  // namespace
}  // namespace faultline::report
