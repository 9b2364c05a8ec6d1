// The pure parts of the fleet manager: detector, recovery policy, autoscaler.
#include <gtest/gtest.h>

#include "core/control/autoscaler.h"
#include "core/control/failure_detector.h"
#include "core/control/recovery_policy.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;
using Level = FailureDetector::Level;
using Nodes = std::vector<std::uint32_t>;

TEST(FailureDetector, SilenceMakesANodeYellowThenRedAndItsReturnGreen) {
  FailureDetector d({});
  EXPECT_EQ(d.level(3), Level::green);
  d.node_suspected(3);
  EXPECT_EQ(d.level(3), Level::yellow);
  d.node_lost(3);
  EXPECT_EQ(d.level(3), Level::red);
  EXPECT_EQ(d.level(4), Level::green);
  d.node_back(3);
  EXPECT_EQ(d.level(3), Level::green);
}

TEST(FailureDetector, BadHardwareStaysRedUntilAHealthCheckPasses) {
  FailureDetector d({});
  d.node_bad(3);
  d.node_suspected(3);
  EXPECT_EQ(d.level(3), Level::red);
  d.node_good(3);
  EXPECT_EQ(d.level(3), Level::yellow);
  // A good probe says nothing about a silent agent.
  d.node_lost(3);
  d.node_good(3);
  EXPECT_EQ(d.level(3), Level::red);
}

TEST(FailureDetector, ItsDigestIsThatOfItsStateWhateverTheWayThere) {
  FailureDetector a({}), b({});
  a.node_suspected(1);
  a.node_lost(1);
  a.node_bad(2);
  a.node_lost(5);
  a.node_back(5);
  b.node_bad(2);
  b.node_lost(1);
  EXPECT_EQ(a.digest(), b.digest());
  EXPECT_EQ(a.digest(), a.full_digest());
  b.node_back(1);
  EXPECT_NE(a.digest(), b.digest());
  EXPECT_EQ(b.digest(), b.full_digest());
}

TEST(FailureDetector, BothEndsDeserveAProbeAtTheThresholdAndTheCountStartsAnew) {
  FailureDetector d({.transfer_failures = 3, .transfer_window = 10_s});
  EXPECT_TRUE(d.transfer_failed(at(0_s), 1, 2).empty());
  EXPECT_TRUE(d.transfer_failed(at(1_s), 1, 2).empty());
  EXPECT_EQ(d.transfer_failed(at(2_s), 1, 2), (Nodes{1, 2}));
  EXPECT_TRUE(d.transfer_failed(at(3_s), 1, 2).empty());
}

TEST(FailureDetector, FailuresOutsideTheWindowDoNotCount) {
  FailureDetector d({.transfer_failures = 3, .transfer_window = 10_s});
  d.transfer_failed(at(0_s), 1, 2);
  d.transfer_failed(at(9_s), 1, 2);
  EXPECT_TRUE(d.transfer_failed(at(11_s), 1, 2).empty());
  EXPECT_EQ(d.transfer_failed(at(12_s), 1, 2), (Nodes{1, 2}));
}

TEST(FailureDetector, TheCommonEndOfFailuresWithSeveralNodesIsSuspectedAlone) {
  FailureDetector d({.transfer_failures = 3, .transfer_window = 10_s});
  d.transfer_failed(at(0_s), 1, 2);
  d.transfer_failed(at(1_s), 1, 3);
  EXPECT_EQ(d.transfer_failed(at(2_s), 1, 4), (Nodes{1}));
}

// ---- recovery policy ------------------------------------------------------------------------------------------------

/// Two prefill groups on nodes 0 and 1, two decode groups on nodes 2 and 3.
const std::vector<GroupSetup> kGroups{{GroupRole::prefill, 8, 100, {0}},
                                      {GroupRole::prefill, 8, 100, {1}},
                                      {GroupRole::decode, 8, 100, {2}},
                                      {GroupRole::decode, 8, 100, {3}}};

RecoveryPlan plan_of(RecoveryAction action, RestartUnit unit, RecoveryView view) {
  RecoverySpec spec;
  spec.policy = action;
  view.groups = &kGroups;
  return RecoveryPolicy(spec, unit).plan(view);
}

TEST(RecoveryPolicy, TheRestartUnitIsWhatRestartsTogether) {
  const RecoveryView view{.failed = 0b0100};
  EXPECT_EQ(plan_of(RecoveryAction::restart, RestartUnit::rank, view).scope, 0b0100U);
  EXPECT_EQ(plan_of(RecoveryAction::restart, RestartUnit::ep_group, view).scope, 0b0100U);
  EXPECT_EQ(plan_of(RecoveryAction::restart, RestartUnit::role, view).scope, 0b1100U);
  EXPECT_EQ(plan_of(RecoveryAction::restart, RestartUnit::instance, view).scope, 0b1111U);
}

TEST(RecoveryPolicy, AUnitIsWhatEachFailedGroupTakesWithIt) {
  const auto unit = [](RestartUnit u, GroupMask failed) { return RecoveryPolicy({}, u).unit_of(kGroups, failed); };
  EXPECT_EQ(unit(RestartUnit::ep_group, 0b0110), 0b0110U);
  EXPECT_EQ(unit(RestartUnit::role, 0b0010), 0b0011U);
  EXPECT_EQ(unit(RestartUnit::role, 0b0110), 0b1111U);
  EXPECT_EQ(unit(RestartUnit::instance, 0b0010), 0b1111U);
  EXPECT_EQ(unit(RestartUnit::instance, 0), 0U);
}

TEST(RecoveryPolicy, FailuresOfBothRolesRestartBoth) {
  EXPECT_EQ(plan_of(RecoveryAction::restart, RestartUnit::role, {.failed = 0b0101}).scope, 0b1111U);
}

TEST(RecoveryPolicy, WithoutItsLeaderTheWholeInstanceRestartsWhateverTheUnit) {
  for (const RestartUnit unit : {RestartUnit::rank, RestartUnit::ep_group, RestartUnit::role, RestartUnit::instance}) {
    const RecoveryPlan p =
        plan_of(RecoveryAction::restart, unit, {.failed = 1, .leader_lost = true, .rank_known = true});
    EXPECT_EQ(p.scope, 0b1111U);
    EXPECT_FALSE(p.rank_only);
  }
}

TEST(RecoveryPolicy, OneRankRestartsAloneOnlyWhereTheUnitSaysSoAndItsHardwareLives) {
  EXPECT_TRUE(plan_of(RecoveryAction::restart, RestartUnit::rank, {.failed = 4, .rank_known = true}).rank_only);
  EXPECT_FALSE(plan_of(RecoveryAction::restart, RestartUnit::rank, {.failed = 4, .rank_known = false}).rank_only);
  EXPECT_FALSE(plan_of(RecoveryAction::restart, RestartUnit::ep_group, {.failed = 4, .rank_known = true}).rank_only);
  EXPECT_FALSE(plan_of(RecoveryAction::restart, RestartUnit::rank, {.failed = 4, .rank_known = true, .dead_nodes = {2}})
                   .rank_only);
}

TEST(RecoveryPolicy, DeadNodesAreReplacedAsFarAsThereAreSpares) {
  const auto plan = [](RecoveryAction action, Nodes dead, std::size_t spares) {
    return plan_of(action, RestartUnit::instance, {.failed = 4, .dead_nodes = std::move(dead), .spare_nodes = spares});
  };
  EXPECT_TRUE(plan(RecoveryAction::spare_node, {2}, 1).replace_nodes);
  EXPECT_FALSE(plan(RecoveryAction::spare_node, {2}, 1).wait_for_repair);
  EXPECT_TRUE(plan(RecoveryAction::spare_node, {2, 3}, 1).replace_nodes);
  EXPECT_TRUE(plan(RecoveryAction::spare_node, {2, 3}, 1).wait_for_repair);
  EXPECT_FALSE(plan(RecoveryAction::spare_node, {2}, 0).replace_nodes);
  EXPECT_TRUE(plan(RecoveryAction::spare_node, {2}, 0).wait_for_repair);
  EXPECT_FALSE(plan(RecoveryAction::spare_node, {}, 2).replace_nodes);
  EXPECT_FALSE(plan(RecoveryAction::restart, {2}, 1).replace_nodes);
  EXPECT_TRUE(plan(RecoveryAction::restart, {2}, 1).wait_for_repair);
  EXPECT_FALSE(plan(RecoveryAction::restart, {}, 0).wait_for_repair);
}

TEST(RecoveryPolicy, AStandbyIsPromotedOnlyByItsOwnPolicy) {
  EXPECT_TRUE(plan_of(RecoveryAction::spare_instance, RestartUnit::instance, {.failed = 1, .standby_instance = true})
                  .promote_standby);
  EXPECT_FALSE(plan_of(RecoveryAction::spare_instance, RestartUnit::instance, {.failed = 1}).promote_standby);
  EXPECT_FALSE(
      plan_of(RecoveryAction::restart, RestartUnit::instance, {.failed = 1, .standby_instance = true}).promote_standby);
}

TEST(RecoveryPolicy, AnInstanceOfSixtyFourGroupsRestartsWhole) {
  const std::vector<GroupSetup> many(kGroupsMax, GroupSetup{GroupRole::both, 1, 1, {0}});
  EXPECT_EQ(RecoveryPolicy({}, RestartUnit::instance).plan({.groups = &many, .failed = 1}).scope, ~GroupMask{0});
}

// ---- autoscaler -----------------------------------------------------------------------------------------------------

AutoscalerSpec scaler() {
  return {.enabled = true,
          .instances_min = 1,
          .interval = 10_s,
          .scale_up_tokens = 1000,
          .scale_down_tokens = 100,
          .cooldown = 60_s};
}

/// All that are to serve do.
Autoscaler::View seen(Instant now, std::int32_t active, std::int32_t starting, std::int32_t standby,
                      std::int64_t tokens) {
  return {.now = now,
          .active = active,
          .accepting = active,
          .starting = starting,
          .standby = standby,
          .outstanding_tokens = tokens};
}

TEST(Autoscaler, StartsOneAboveTheUpperThresholdWhereThereIsAStandby) {
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 2, 0, 1, 2001)), 1);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 2, 0, 1, 2000)), 0);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 2, 0, 0, 2001)), 0);
}

TEST(Autoscaler, AnInstanceOnItsWayCountsAsCapacity) {
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 2, 1, 1, 2001)), 0);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 2, 1, 1, 3001)), 1);
}

TEST(Autoscaler, DrainsOneBelowTheLowerThresholdButKeepsTheMinimum) {
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 3, 0, 0, 299)), -1);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 3, 0, 0, 300)), 0);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 3, 1, 0, 10)), 0);
  EXPECT_EQ(Autoscaler(scaler()).decide(seen(at(0_s), 1, 0, 0, 0)), 0);
}

TEST(Autoscaler, StartsUpToTheMinimumWhereNobodyServesAndSoNobodyReportsALoad) {
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s), .standby = 1}), 1);
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s), .active = 1, .standby = 1}), 1) << "the only one is broken";
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s), .active = 1, .starting = 1, .standby = 1}), 0)
      << "help is on its way";
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s)}), 0) << "there is nothing to start";
}

TEST(Autoscaler, ABrokenInstanceDoesNotCountTowardsTheMinimumThatStays) {
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s), .active = 2, .accepting = 1}), 0);
  EXPECT_EQ(Autoscaler(scaler()).decide({.now = at(0_s), .active = 2, .accepting = 2}), -1);
}

TEST(Autoscaler, DoesNotDrainWhatWouldPushTheRestOverTheUpperThreshold) {
  AutoscalerSpec s = scaler();
  s.scale_down_tokens = 900;
  EXPECT_EQ(Autoscaler(s).decide(seen(at(0_s), 2, 0, 0, 1'700)), 0);   // 850 each, 1700 on the one left
  EXPECT_EQ(Autoscaler(s).decide(seen(at(0_s), 4, 0, 0, 2'900)), -1);  // 725 each, 967 on the three left
}

TEST(Autoscaler, WaitsItsCooldownBetweenTwoChangesButNotBeforeTheFirst) {
  Autoscaler a(scaler());
  EXPECT_EQ(a.decide(seen(at(0_s), 1, 0, 3, 5000)), 1);
  EXPECT_EQ(a.decide(seen(at(59_s), 2, 0, 2, 5000)), 0);
  EXPECT_EQ(a.decide(seen(at(60_s), 2, 0, 2, 5000)), 1);
}

}  // namespace
}  // namespace faultline::control
