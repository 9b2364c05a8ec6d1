// Detection, decision and recovery in the fleet manager, event by event.
#include <gtest/gtest.h>

#include "tests/unit/core/control/fleet_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;
using namespace testing::fleet;

TEST(Fleet, WatchesEveryNodeLeaderAndRouter) {
  FleetSetup s = setup();
  s.routers = 2;
  Fixture f(s);
  EXPECT_EQ(all<Watch>(f.event(Started{})).size(), 6U + 2U + 2U);
}

TEST(Fleet, AFailedGroupIsDetectedDecidedFencedRestartedAndAnnounced) {
  Fixture f(setup());
  Commands c = f.group_failed(0, 1);
  EXPECT_TRUE(has_phase(c, Phase::detect));
  auto updates = sent<InstanceUpdate>(c);
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_FALSE(updates[0].second.accepting);
  c = f.next();
  EXPECT_EQ(f.now, at(100_ms));
  EXPECT_TRUE(has_phase(c, Phase::decide));
  const auto fences = sent<FenceGroups>(c);
  ASSERT_EQ(fences.size(), 1U);
  EXPECT_EQ(fences[0].second.mask, 0b10U);
  EXPECT_EQ(fences[0].second.epoch, 1U);
  const auto s = starts(c);
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].group, 1U);
  EXPECT_EQ(s[0].epoch, 1U);
  c = f.started(s[0]);
  EXPECT_TRUE(has_phase(c, Phase::ready));
  ASSERT_EQ(sent<GroupReady>(c).size(), 1U);
  EXPECT_EQ(sent<GroupReady>(c)[0].second.epoch, 1U);
  updates = sent<InstanceUpdate>(c);
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_TRUE(updates[0].second.accepting);
}

TEST(Fleet, TheRestartUnitDecidesWhatStartsAgain) {
  for (const auto& [unit, groups] :
       {std::pair{RestartUnit::ep_group, 1U}, {RestartUnit::role, 1U}, {RestartUnit::instance, 2U}}) {
    Fixture f(setup(RecoveryAction::restart, unit));
    f.group_failed(0, 1, 0, 3);
    const auto s = starts(f.next());
    ASSERT_EQ(s.size(), groups);
    for (const StartGroup& x : s) EXPECT_EQ(x.rank, kUnknownRank);
  }
}

TEST(Fleet, OneKnownRankRestartsAloneAndItsGroupIsNotFenced) {
  Fixture f(setup(RecoveryAction::restart, RestartUnit::rank));
  f.group_failed(0, 1, 0, 3);
  const Commands c = f.next();
  EXPECT_TRUE(sent<FenceGroups>(c).empty());
  ASSERT_EQ(starts(c).size(), 1U);
  EXPECT_EQ(starts(c)[0].rank, 3U);
}

TEST(Fleet, ASecondFailureBeforeTheDecisionEndsTheRestartOfASingleRank) {
  Fixture f(setup(RecoveryAction::restart, RestartUnit::rank));
  f.group_failed(0, 1, 0, 3);
  f.group_failed(0, 0, 0, 5);
  const Commands c = f.next();
  ASSERT_EQ(sent<FenceGroups>(c).size(), 1U);
  EXPECT_EQ(sent<FenceGroups>(c)[0].second.mask, 0b11U);
  ASSERT_EQ(starts(c).size(), 2U);
  for (const StartGroup& x : starts(c)) EXPECT_EQ(x.rank, kUnknownRank) << "rank 3 is of the other group";
}

TEST(Fleet, ARankThatDoesNotComeBackTakesItsGroupWithIt) {
  Fixture f(setup(RecoveryAction::restart, RestartUnit::rank));
  f.group_failed(0, 1, 0, 3);
  f.started(starts(f.next()).at(0), Cause::device_lost);
  const Commands c = f.next();
  EXPECT_EQ(sent<FenceGroups>(c).size(), 1U);
  ASSERT_EQ(starts(c).size(), 1U);
  EXPECT_EQ(starts(c)[0].rank, kUnknownRank);
}

TEST(Fleet, APolicyOfNoneOnlyStopsTheTraffic) {
  Fixture f(setup(RecoveryAction::none));
  const Commands c = f.group_failed(0, 1);
  EXPECT_EQ(sent<InstanceUpdate>(c).size(), 1U);
  EXPECT_TRUE(f.timers.empty());
  EXPECT_TRUE(starts(c).empty());
}

TEST(Fleet, AReportOfAFencedIncarnationIsIgnored) {
  Fixture f(setup());
  f.group_failed(0, 1);
  f.started(starts(f.next()).at(0));
  EXPECT_TRUE(f.group_failed(0, 1, 0).empty());
  EXPECT_FALSE(f.group_failed(0, 1, 1).empty());
}

TEST(Fleet, AStartOfAnOlderIncarnationIsIgnored) {
  Fixture f(setup());
  f.group_failed(0, 1);
  const StartGroup first = starts(f.next()).at(0);
  f.started(first, Cause::device_lost);
  const StartGroup second = starts(f.next()).at(0);
  EXPECT_GT(second.epoch, first.epoch);
  EXPECT_TRUE(f.started(first).empty());
  EXPECT_TRUE(has_phase(f.started(second), Phase::ready));
}

TEST(Fleet, AFailedStartIsTriedAgainWithABackOffThatDoublesToItsBound) {
  Fixture f(setup());
  f.group_failed(0, 1);
  auto s = starts(f.next());
  for (const Duration wait : {10_s, 20_s, 30_s, 30_s}) {
    ASSERT_EQ(s.size(), 1U);
    const Instant before = f.now;
    f.started(s[0], Cause::device_lost, 1);
    s = starts(f.next());
    EXPECT_EQ(f.now - before, wait);
  }
  f.started(s.at(0));
  // The next incident begins with the shortest wait again.
  f.group_failed(0, 1, s[0].epoch);
  s = starts(f.next());
  const Instant before = f.now;
  f.started(s.at(0), Cause::device_lost, 1);
  f.next();
  EXPECT_EQ(f.now - before, 10_s);
}

TEST(Fleet, FurtherFailuresBeforeTheDecisionJoinTheIncident) {
  Fixture f(setup());
  f.group_failed(0, 1);
  f.group_failed(0, 0);
  EXPECT_EQ(f.timers.size(), 1U);
  EXPECT_EQ(starts(f.next()).size(), 2U);
}

TEST(Fleet, IncidentsOfTwoInstancesAreApart) {
  Fixture f(setup());
  f.group_failed(0, 1);
  f.group_failed(1, 1);
  EXPECT_EQ(f.timers.size(), 2U);
  EXPECT_EQ(starts(f.next()).at(0).instance.v, 0U);
  EXPECT_EQ(starts(f.next()).at(0).instance.v, 1U);
}

TEST(Fleet, AGroupThatFailsWhileAnotherStartsHasItsTurnAfterIt) {
  Fixture f(setup());
  f.group_failed(0, 1);
  const auto s = starts(f.next());
  f.group_failed(0, 0);
  f.started(s.at(0));
  const auto more = starts(f.next());
  ASSERT_EQ(more.size(), 1U);
  EXPECT_EQ(more[0].group, 0U);
  EXPECT_TRUE(has_phase(f.started(more[0]), Phase::ready));
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

TEST(Fleet, ALostNodeTakesItsGroupsAndIsWaitedFor) {
  Fixture f(setup());
  EXPECT_TRUE(has_phase(f.event(lost(agent_at(1))), Phase::detect));
  EXPECT_TRUE(starts(f.next()).empty());
  EXPECT_TRUE(starts(f.next()).empty());  // still away
  const auto s = starts(f.event(back(agent_at(1))));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].group, 1U);
}

TEST(Fleet, ASuspectedNodeIsNotYetAFailure) {
  Fixture f(setup());
  EXPECT_TRUE(f.event(PeerChanged{agent_at(1), PeerChanged::To::suspected, Cause::timeout}).empty());
}

TEST(Fleet, ANodeThatDiesWhileItStartsAGroupIsNotWaitedForForEver) {
  Fixture f(setup());
  f.group_failed(0, 1);
  ASSERT_EQ(starts(f.next()).size(), 1U);
  f.event(lost(agent_at(1)));  // the agent that was to answer
  const auto s = starts(f.event(back(agent_at(1))));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_TRUE(has_phase(f.started(s[0]), Phase::ready));
}

TEST(Fleet, TheLossOfALeaderRestartsItsInstanceOnce) {
  Fixture f(setup());
  f.event(lost(leader_at(0)));
  f.event(lost(agent_at(0)));
  EXPECT_TRUE(starts(f.next()).empty());
  const Commands c = f.event(back(agent_at(0)));
  EXPECT_TRUE(sent<FenceGroups>(c).empty());  // nobody to fence
  const auto s = starts(c);
  ASSERT_EQ(s.size(), 2U);
  // The leader's new incarnation announces the end of the old one and itself, before or after the first group is up.
  f.started(s[0]);
  f.event(lost(leader_at(0)));
  f.event(back(leader_at(0)));
  EXPECT_TRUE(has_phase(f.started(s[1]), Phase::ready));
  EXPECT_TRUE(f.timers.empty()) << "a second restart of what has just started";
}

TEST(Fleet, ARouterThatComesBackIsToldWhoAccepts) {
  Fixture f(setup());
  f.group_failed(0, 1);
  const auto updates = sent<InstanceUpdate>(f.event(back(router_at(0))));
  ASSERT_EQ(updates.size(), 2U);
  EXPECT_FALSE(updates[0].second.accepting);
  EXPECT_TRUE(updates[1].second.accepting);
}

TEST(Fleet, AGroupOnADeadNodeDoesNotHoldUpTheRestartOfAnotherGroup) {
  Fixture f(setup());
  f.event(lost(agent_at(1)));  // group 1 waits for its node …
  EXPECT_TRUE(starts(f.next()).empty());
  f.group_failed(0, 0);  // … while group 0 loses a worker on a healthy one
  auto s = starts(f.next());
  EXPECT_EQ(f.now, at(200_ms)) << "after the decision delay, not after the back-off of the other";
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].group, 0U);
  f.started(s[0]);
  s = starts(f.event(back(agent_at(1))));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].group, 1U);
  EXPECT_TRUE(has_phase(f.started(s[0]), Phase::ready));
  EXPECT_TRUE(f.timers.empty());
}

TEST(Fleet, BothInOneIncidentTheHealthyGroupStartsAndTheOtherWaits) {
  Fixture f(setup());
  f.event(lost(agent_at(1)));
  f.group_failed(0, 0);
  auto s = starts(f.next());
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].group, 0U);
  // The node is back while the first one still starts: the second need not wait for that.
  const auto second = starts(f.event(back(agent_at(1))));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].group, 1U);
  EXPECT_TRUE(sent<GroupReady>(f.started(s[0])).size() == 1U);
  EXPECT_TRUE(has_phase(f.started(second[0]), Phase::ready));
  EXPECT_TRUE(f.timers.empty());
}

TEST(Fleet, WhatRestartsTogetherWaitsTogether) {
  for (const RestartUnit unit : {RestartUnit::instance, RestartUnit::role}) {
    FleetSetup setup_of_three = setup(RecoveryAction::restart, unit);
    setup_of_three.instances[0].groups.push_back({GroupRole::decode, 8, 100, {4}});
    Fixture f(setup_of_three);
    f.event(lost(agent_at(1)));
    EXPECT_TRUE(starts(f.next()).empty());
    f.group_failed(0, 2);
    if (unit == RestartUnit::role) {
      f.next();
    }
    EXPECT_TRUE(starts(f.next()).empty()) << "its unit has a dead node";
    EXPECT_EQ(starts(f.event(back(agent_at(1)))).size(), unit == RestartUnit::role ? 2U : 3U);
  }
}

TEST(Fleet, AStartThatFailsDoesNotRestartAnotherGroupThatIsStarting) {
  Fixture f(setup());
  f.group_failed(0, 0);
  f.group_failed(0, 1);
  const auto s = starts(f.next());
  ASSERT_EQ(s.size(), 2U);
  f.started(s[0], Cause::device_lost);
  const auto again = starts(f.next());
  EXPECT_EQ(f.now, at(10'100_ms));
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].group, 0U);
  f.started(s[1]);
  EXPECT_TRUE(has_phase(f.started(again[0]), Phase::ready));
  EXPECT_TRUE(f.timers.empty());
}

TEST(Fleet, ALateLossOfTheLeaderOfGroupsThatWaitIsNotASecondFailure) {
  Fixture f(setup(RecoveryAction::restart, RestartUnit::instance));
  f.event(lost(agent_at(0)));
  EXPECT_TRUE(starts(f.next()).empty());
  f.event(lost(leader_at(0)));
  for (const StartGroup& s : starts(f.event(back(agent_at(0))))) f.started(s);
  EXPECT_TRUE(f.timers.empty()) << "a second restart of what has just started";
}

// ---- spare nodes ----------------------------------------------------------------------------------------------------

FleetSetup with_spares(std::vector<std::uint32_t> spares) {
  FleetSetup s = setup(RecoveryAction::spare_node);
  s.spare_nodes = std::move(spares);
  s.recovery.node_attach = 30_s;
  return s;
}

TEST(Fleet, ASpareReplacesTheNodeThatFailsItsProbe) {
  Fixture f(with_spares({4}));
  f.group_failed(0, 1);
  const auto probes = sent<ProbeNode>(f.next());
  ASSERT_EQ(probes.size(), 1U);
  EXPECT_EQ(probes[0].first, agent_at(1));
  const Commands c = f.probed(probes[0], 0b100);
  EXPECT_TRUE(has_phase(c, Phase::replace));
  const auto s = starts(c);
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].nodes, (std::vector<std::uint32_t>{4}));
  EXPECT_EQ(s[0].delay, 30_s);
  const auto ready = sent<GroupReady>(f.started(s[0]));
  ASSERT_EQ(ready.size(), 1U);
  EXPECT_EQ(ready[0].second.head_node, 4U);
}

TEST(Fleet, AHealthyNodeIsRestartedInPlaceAndKeepsTheSpare) {
  Fixture f(with_spares({4}));
  f.group_failed(0, 1);
  const auto s = starts(f.probed(sent<ProbeNode>(f.next()).at(0)));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].nodes, (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(s[0].delay, 0_s);
}

TEST(Fleet, AReplacedLeadersNodeMovesTheLeaderToo) {
  Fixture f(with_spares({4}));
  f.event(lost(leader_at(0)));
  f.event(lost(agent_at(0)));
  Commands c = f.next();
  const auto probes = sent<ProbeNode>(c);
  ASSERT_EQ(probes.size(), 1U);  // the other node of the instance
  const auto s = starts(f.probed(probes[0]));
  ASSERT_EQ(s.size(), 2U);
  EXPECT_EQ(s[0].leader_node, 4U);
  EXPECT_EQ(s[0].nodes, (std::vector<std::uint32_t>{4}));
  EXPECT_EQ(s[1].nodes, (std::vector<std::uint32_t>{1}));
}

TEST(Fleet, ANodeThatDiesWhileItIsProbedDoesNotHoldTheRecoveryUp) {
  Fixture f(with_spares({4}));
  f.group_failed(0, 1);
  ASSERT_EQ(sent<ProbeNode>(f.next()).size(), 1U);
  const auto s = starts(f.event(lost(agent_at(1))));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].nodes, (std::vector<std::uint32_t>{4}));
}

TEST(Fleet, ANodeThatDiesWhileItStartsIsReplaced) {
  Fixture f(with_spares({4, 5}));
  f.event(lost(agent_at(1)));
  ASSERT_EQ(starts(f.next()).at(0).nodes.front(), 4U);
  const auto s = starts(f.event(lost(agent_at(4))));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].nodes.front(), 5U);
  EXPECT_TRUE(has_phase(f.started(s[0]), Phase::ready));
}

TEST(Fleet, ABadSpareIsReplacedByTheNext) {
  Fixture f(with_spares({4, 5}));
  f.event(lost(agent_at(1)));
  const auto s = starts(f.started(starts(f.next()).at(0), Cause::device_lost, 4));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_EQ(s[0].nodes.front(), 5U);
}

TEST(Fleet, ALostSpareIsNotUsed) {
  Fixture f(with_spares({4, 5}));
  f.event(lost(agent_at(4)));
  f.event(lost(agent_at(1)));
  EXPECT_EQ(starts(f.next()).at(0).nodes.front(), 5U);
}

TEST(Fleet, WithoutASpareBadHardwareIsProbedAgainUntilItIsRepaired) {
  Fixture f(with_spares({}));
  f.group_failed(0, 1);
  EXPECT_TRUE(starts(f.probed(sent<ProbeNode>(f.next()).at(0), 1)).empty());
  for (int k = 0; k < 3; ++k) {  // still bad
    const auto probes = sent<ProbeNode>(f.next());
    ASSERT_EQ(probes.size(), 1U);
    EXPECT_TRUE(starts(f.probed(probes[0], 1)).empty());
  }
  const auto s = starts(f.probed(sent<ProbeNode>(f.next()).at(0), 0));
  ASSERT_EQ(s.size(), 1U);
  EXPECT_TRUE(has_phase(f.started(s[0]), Phase::ready));
}

TEST(Fleet, ARepairedNodeThatWasReplacedBecomesASpare) {
  Fixture f(with_spares({4}));
  f.event(lost(agent_at(1)));
  f.started(starts(f.next()).at(0));
  EXPECT_TRUE(starts(f.event(back(agent_at(1)))).empty());
  f.event(lost(agent_at(3)));  // of the other instance
  EXPECT_EQ(starts(f.next()).at(0).nodes.front(), 1U);
}

TEST(Fleet, TheLastSpareIsSpentOnce) {
  Fixture f(with_spares({4}));
  f.event(lost(agent_at(1)));
  f.event(lost(agent_at(3)));
  EXPECT_EQ(starts(f.next()).at(0).nodes.front(), 4U);
  EXPECT_TRUE(starts(f.next()).empty());
}

// ---- transfers ------------------------------------------------------------------------------------------------------

TEST(Fleet, RepeatedTransferFailuresHaveBothEndsProbedAndABadOneTakenOut) {
  Fixture f(setup());
  const auto fail = [&] { return f.message(agent_at(0), TransferFailed{0, 1, Cause::link_down}); };
  EXPECT_TRUE(fail().empty());
  EXPECT_TRUE(fail().empty());
  const auto probes = sent<ProbeNode>(fail());
  ASSERT_EQ(probes.size(), 2U);
  EXPECT_TRUE(f.probed(probes[0]).empty());
  EXPECT_TRUE(has_phase(f.probed(probes[1], 0, false), Phase::detect));
  EXPECT_TRUE(starts(f.next()).empty());  // its network is not there
  // The port comes back; the node never went away, so that nothing but a probe can tell.
  const auto again = sent<ProbeNode>(f.next());
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(starts(f.probed(again[0])).size(), 1U);
}

TEST(Fleet, AnUnknownProbeResultChangesNothing) {
  Fixture f(setup());
  EXPECT_TRUE(f.message(agent_at(1), ProbeResult{99, 1, false}).empty());
}

}  // namespace
}  // namespace faultline::control
