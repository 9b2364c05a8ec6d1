#include "core/plan/rank.h"

#include <gtest/gtest.h>

#include "tests/unit/core/fluid/scenario.h"

namespace faultline::plan {
namespace {

fault::RateSource source(const std::string& id, fault::FaultKind kind, fault::TargetKind per, double rate) {
  fault::RateSource s;
  s.id = id;
  s.kind = kind;
  s.per = per;
  s.rate_per_hour = rate;
  s.repair = fault::RepairLaw{Duration{std::int64_t{4} * 3600 * 1'000'000'000}, 0};
  return s;
}

TEST(Rank, RowsComeByWhatTheyCostAndNameTheFixThatPays) {
  experiment::Overrides none;
  const auto base = experiment::load(fluid::testing::fleet_text("", "recovery: {policy: restart}\n"), "e.yaml", none,
                                     experiment::testing::read_repository);
  fault::RateProfile profile;
  profile.name = "p";
  profile.sources = {source("gpu", fault::FaultKind::gpu_failstop, fault::TargetKind::gpu, 1e-5),
                     source("node", fault::FaultKind::node_crash, fault::TargetKind::node, 1e-4),
                     source("skew", fault::FaultKind::clock_skew, fault::TargetKind::node, 1e-3)};
  std::vector<std::string> skipped;
  const auto load = fluid::load_of(base, experiment::testing::read_repository);
  const auto rows = rank(base, profile, fluid::prices_of(2, 8), load, {.samples = 16}, skipped);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].source, "node");  // 32 nodes at 1e-4 against 256 GPUs at 1e-5
  EXPECT_NEAR(rows[0].events_per_month, 32 * 1e-4 * 730.5, 1e-9);
  for (const RankRow& r : rows) {
    EXPECT_GT(r.money.mean, 0);
    EXPECT_LT(r.money.low, r.money.mean);
    EXPECT_GT(r.money.high, r.money.mean);
    ASSERT_FALSE(r.fixes.empty()) << r.source;
    EXPECT_GT(r.fixes[0].saves, r.fixes[0].per_month);
  }
  // Four hours of repair without a spare: 16 of the 32 nodes are in the fleet, a failure takes 32 GPUs for about four
  // hours.
  EXPECT_NEAR(rows[0].lost_gpu_h.mean, rows[0].events_per_month * 0.5 * 32 * 4.05, 0.6 * rows[0].lost_gpu_h.mean);
  ASSERT_EQ(skipped.size(), 1U);
  EXPECT_EQ(skipped[0], "p/skew: fault '' of kind clock.skew has no model at fluid fidelity: use step");
}

TEST(Rank, RateIntervalIsThatOfAPoissonCount) {
  // Garwood's interval of 10 events is 4.795 to 18.39.
  EXPECT_NEAR(rate_interval(10).low, 0.4795, 1e-4);
  EXPECT_NEAR(rate_interval(10).high, 1.839, 1e-3);
  EXPECT_LT(rate_interval(400).high, 1.11);
}

}  // namespace
}  // namespace faultline::plan
