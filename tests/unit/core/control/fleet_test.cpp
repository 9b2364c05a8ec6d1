#include "core/control/fleet.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

// Two instances of a prefill group (node 2i) and a decode group (node 2i + 1); nodes 4 and 5 are spares where asked
// for.
FleetSetup setup(RecoveryAction policy = RecoveryAction::restart, RestartUnit unit = RestartUnit::ep_group) {
  FleetSetup s;
  for (std::uint32_t i = 0; i < 2; ++i) {
    FleetSetup::Instance x;
    x.groups = {{GroupRole::prefill, 8, 100, {2 * i}}, {GroupRole::decode, 8, 100, {2 * i + 1}}};
    x.leader_node = 2 * i;
    s.instances.push_back(x);
  }
  s.nodes = 6;
  s.restart_unit = unit;
  s.recovery.policy = policy;
  s.recovery.decision_delay = 100_ms;
  s.recovery.retry_interval = 10_s;
  s.recovery.retry_interval_max = 30_s;
  return s;
}

/// A fleet manager and the moments at which it wants to be woken.
struct Fixture {
  explicit Fixture(FleetSetup s) : fleet(std::move(s)) {}
  Commands event(const Event& e) {
    Commands out = feed(fleet, now, e);
    for (const Command& c : out) {
      if (const auto* t = std::get_if<ArmTimer>(&c)) timers[t->key] = t->deadline;
      if (const auto* t = std::get_if<DisarmTimer>(&c)) timers.erase(t->key);
    }
    return out;
  }
  Commands message(Address from, Message m) { return event(Received{from, std::move(m)}); }
  Commands group_failed(std::uint32_t i, std::uint32_t group, Epoch epoch = 0, std::uint32_t rank = kUnknownRank) {
    return message(leader_at(i), GroupFailed{group, epoch, Cause::device_lost, rank});
  }
  /// Lets the next timer fire.
  Commands next() {
    EXPECT_FALSE(timers.empty());
    if (timers.empty()) return {};
    auto first = timers.begin();
    for (auto it = timers.begin(); it != timers.end(); ++it) {
      if (it->second < first->second) first = it;
    }
    now = first->second;
    const TimerKey key = first->first;
    timers.erase(first);
    return event(TimerFired{key});
  }
  Commands started(const StartGroup& s, Cause cause = Cause::none, std::uint32_t bad = kUnknownRank) {
    return message(agent_at(s.nodes.front()), GroupStarted{s.instance, s.group, s.epoch, cause, bad});
  }
  Commands probed(const std::pair<Address, ProbeNode>& probe, std::uint32_t bad_gpus = 0, bool network = true) {
    return message(probe.first, ProbeResult{probe.second.token, bad_gpus, network});
  }
  FleetManager fleet;
  Instant now{0};
  std::map<TimerKey, Instant> timers;
};

std::vector<StartGroup> starts(const Commands& c) {
  std::vector<StartGroup> out;
  for (const auto& [to, s] : sent<StartGroup>(c)) {
    EXPECT_EQ(to, agent_at(s.nodes.front()));
    out.push_back(s);
  }
  return out;
}
bool has_phase(const Commands& c, Phase phase) {
  for (const NotePhase& n : all<NotePhase>(c)) {
    if (n.phase == phase) return true;
  }
  return false;
}

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

// ---- standby instances ----------------------------------------------------------------------------------------------

FleetSetup with_standby(bool warm) {
  FleetSetup s = setup(RecoveryAction::spare_instance, RestartUnit::instance);
  s.instances[1].serving = false;
  s.instances[1].warm = warm;
  return s;
}

TEST(Fleet, AWarmStandbyTakesTheTrafficAtOnceAndTheOldOneBecomesTheStandby) {
  Fixture f(with_standby(true));
  f.group_failed(0, 1);
  const Commands c = f.next();
  EXPECT_TRUE(has_phase(c, Phase::replace));
  auto updates = sent<InstanceUpdate>(c);
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].second.instance.v, 1U);
  EXPECT_TRUE(updates[0].second.accepting);
  const auto s = starts(c);
  ASSERT_EQ(s.size(), 2U);
  f.started(s[0]);
  const auto now_standby = sent<InstanceUpdate>(f.started(s[1]));
  ASSERT_EQ(now_standby.size(), 1U);
  EXPECT_EQ(now_standby[0].second.instance, InstanceId{0});
  EXPECT_FALSE(now_standby[0].second.accepting);
  EXPECT_FALSE(now_standby[0].second.serving) << "it waits for its turn";
  f.group_failed(1, 0);
  updates = sent<InstanceUpdate>(f.next());
  ASSERT_FALSE(updates.empty());
  EXPECT_EQ(updates[0].second.instance.v, 0U);
  EXPECT_TRUE(updates[0].second.accepting);
}

TEST(Fleet, AColdStandbyIsStartedFirst) {
  Fixture f(with_standby(false));
  f.group_failed(0, 1);
  const Commands c = f.next();
  EXPECT_TRUE(sent<InstanceUpdate>(c).empty());
  std::vector<StartGroup> standby;
  for (const StartGroup& s : starts(c)) {
    if (s.instance.v == 1) standby.push_back(s);
  }
  ASSERT_EQ(standby.size(), 2U);
  f.started(standby[0]);
  const auto updates = sent<InstanceUpdate>(f.started(standby[1]));
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_TRUE(updates[0].second.accepting);
}

TEST(Fleet, AColdStandbyWhoseLeaderHasDiedIsStillStarted) {
  FleetSetup s = setup(RecoveryAction::spare_instance, RestartUnit::instance);
  s.instances[1].serving = s.instances[1].warm = false;
  Fixture f(s);
  EXPECT_TRUE(f.event(lost(leader_at(1))).empty()) << "nothing runs there that could be missed";
  f.group_failed(0, 1);
  std::vector<StartGroup> standby;
  for (const StartGroup& x : starts(f.next())) {
    if (x.instance == InstanceId{1}) standby.push_back(x);
  }
  ASSERT_EQ(standby.size(), 2U);
  f.started(standby[0]);
  f.event(back(leader_at(1)));  // with the first of its workers
  const auto updates = sent<InstanceUpdate>(f.started(standby[1]));
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].second.instance, InstanceId{1});
  EXPECT_TRUE(updates[0].second.accepting);
}

TEST(Fleet, AnInstanceThatIsBackBeforeItsStandbyKeepsItsPlace) {
  Fixture f(with_standby(false));
  f.group_failed(0, 1);
  bool accepting = false;
  for (const StartGroup& s : starts(f.next())) {
    if (s.instance.v == 1) {
      f.started(s, Cause::device_lost, 2);  // the standby's hardware is bad
      continue;
    }
    for (const auto& [to, u] : sent<InstanceUpdate>(f.started(s))) accepting = u.accepting && u.instance.v == 0;
  }
  EXPECT_TRUE(accepting) << "otherwise nobody serves";
}

// ---- scaling --------------------------------------------------------------------------------------------------------

FleetSetup scaling(bool warm) {
  FleetSetup s = setup();
  s.instances[1].serving = false;
  s.instances[1].warm = warm;
  s.autoscaler = {.enabled = true,
                  .instances_min = 1,
                  .interval = 10_s,
                  .scale_up_tokens = 1000,
                  .scale_down_tokens = 100,
                  .cooldown = 0_s};
  return s;
}

TEST(Fleet, ScalesUpByStartingAnInstanceAndDownByDrainingIt) {
  Fixture f(scaling(false));
  f.event(Started{});
  f.message(leader_at(0), LoadReport{5000});
  const auto s = starts(f.next());
  ASSERT_EQ(s.size(), 2U);
  EXPECT_EQ(s[0].instance.v, 1U);
  f.started(s[0]);
  EXPECT_EQ(sent<InstanceUpdate>(f.started(s[1])).size(), 1U);
  f.message(leader_at(0), LoadReport{10});
  Commands c = f.next();
  ASSERT_EQ(sent<Drain>(c).size(), 1U);
  EXPECT_EQ(sent<Drain>(c)[0].first, leader_at(1));
  EXPECT_FALSE(sent<InstanceUpdate>(c).at(0).second.accepting);
  c = f.message(leader_at(1), Drained{});
  EXPECT_EQ(sent<FenceGroups>(c).size(), 1U);
  EXPECT_EQ(sent<StopGroup>(c).size(), 2U);
  // It can be started again, under a new epoch.
  f.message(leader_at(0), LoadReport{5000});
  const auto again = starts(f.next());
  ASSERT_EQ(again.size(), 2U);
  EXPECT_GT(again[0].epoch, s[0].epoch);
}

TEST(Fleet, AWarmStandbyIsScaledUpWithoutARestart) {
  Fixture f(scaling(true));
  f.event(Started{});
  f.message(leader_at(0), LoadReport{5000});
  const Commands c = f.next();
  EXPECT_TRUE(starts(c).empty()) << "its workers run: their leader would refuse a start it was not fenced for";
  ASSERT_EQ(sent<InstanceUpdate>(c).size(), 1U);
  EXPECT_TRUE(sent<InstanceUpdate>(c)[0].second.accepting);
}

TEST(Fleet, AnUnaskedDrainedChangesNothing) {
  Fixture f(setup());
  EXPECT_TRUE(f.message(leader_at(0), Drained{}).empty());
}

TEST(Fleet, AnInstanceThatFailsWhileItDrainsIsDrainedAfterItsRestart) {
  FleetSetup setup = scaling(false);
  setup.instances[1].serving = setup.instances[1].warm = true;
  Fixture f(setup);
  f.event(Started{});
  ASSERT_EQ(sent<Drain>(f.next()).size(), 1U);
  f.event(lost(leader_at(1)));
  std::vector<StartGroup> s;
  while (s.empty()) s = starts(f.next());
  f.started(s.at(0));
  const auto drains = sent<Drain>(f.started(s.at(1)));
  ASSERT_EQ(drains.size(), 1U) << "the new leader knows of no drain";
  EXPECT_TRUE(drains[0].second.drain);
}

TEST(Fleet, AnInstanceThatIsDrainedDuringItsRestartCanBeStartedAgain) {
  FleetSetup setup = scaling(false);
  setup.instances[1].serving = setup.instances[1].warm = true;
  Fixture f(setup);
  f.event(Started{});
  ASSERT_EQ(sent<Drain>(f.next()).size(), 1U);
  f.group_failed(1, 1);
  ASSERT_EQ(starts(f.next()).size(), 1U);
  f.message(leader_at(1), Drained{});  // its last request went with the group
  f.message(leader_at(0), LoadReport{5000});
  EXPECT_EQ(starts(f.next()).size(), 2U);
}

}  // namespace
}  // namespace faultline::control
