#include "core/fluid/flow.h"

#include <gtest/gtest.h>

namespace faultline::fluid {
namespace {

TEST(FluidFlow, BacklogPeaksAndDrainsAsTheClosedFormSays) {
  // Closed form 11: outage R at arrivals a and capacity c: peak a R, drained after a R / (c - a).
  Flow flow(0, 1e9);
  flow.advance(100, 10, 0);
  EXPECT_DOUBLE_EQ(flow.backlog(), 1000);
  auto s = flow.advance(1000.0 / 5 - 1, 10, 15);
  EXPECT_NEAR(flow.backlog(), 5, 1e-9);
  EXPECT_DOUBLE_EQ(s.short_s, 0);
  s = flow.advance(10, 10, 15);
  EXPECT_DOUBLE_EQ(flow.backlog(), 0);
  EXPECT_NEAR(s.late, 10 * 1.0, 1e-6);  // late for the last second of the queue
}

TEST(FluidFlow, NobodyIsLateWhileTheWaitStaysWithinTheSlack) {
  Flow flow(5, 1e9);
  const auto s = flow.advance(40, 11, 10);  // grows to 40 requests: 4 s of work
  EXPECT_DOUBLE_EQ(s.late, 0);
  EXPECT_DOUBLE_EQ(s.short_s, 40);
  const auto more = flow.advance(40, 11, 10);  // 5 s of work after ten seconds of this
  EXPECT_NEAR(more.late, 11 * 30, 1e-6);
}

TEST(FluidFlow, WaitsBeyondTheTimeOutAreRefused) {
  Flow flow(1, 10);
  const auto s = flow.advance(1000, 12, 10);  // full at 100 requests, after 50 s; then 2/s are refused
  EXPECT_NEAR(s.rejected, 2 * 950, 1e-6);
  EXPECT_NEAR(flow.backlog(), 100, 1e-6);
  EXPECT_NEAR(s.arrived, s.served + s.rejected + flow.backlog(), 1e-6);
}

TEST(FluidFlow, EveryRequestIsServedRefusedOrWaits) {
  Flow flow(2, 30);
  double arrived = 0, served = 0, rejected = 0;
  const double rates[] = {10, 14, 3, 10, 9}, capacities[] = {12, 7, 12, 0, 11};
  for (int k = 0; k < 50; ++k) {
    const auto s = flow.advance(17, rates[k % 5], capacities[k % 5]);
    arrived += s.arrived;
    served += s.served;
    rejected += s.rejected;
    EXPECT_GE(s.late, -1e-9);
    EXPECT_NEAR(arrived, served + rejected + flow.backlog(), 1e-6 * arrived) << k;
  }
}

}  // namespace
}  // namespace faultline::fluid
