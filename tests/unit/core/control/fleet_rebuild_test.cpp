// A fleet manager that is started again, and the terms that keep the one before from acting on.
#include <gtest/gtest.h>

#include "core/control/instance.h"
#include "core/control/node_agent.h"
#include "core/control/router.h"
#include "tests/unit/core/control/fleet_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;

FleetSetup of_term(Term term) {
  FleetSetup s = fleet::setup(RecoveryAction::spare_node);
  s.spare_nodes = {4, 5};
  s.term = term;
  return s;
}

LeaderState leader_state(std::uint32_t i, Term term) {
  return {
      .term = term, .draining = false, .outstanding_tokens = 0, .groups = {{0, true, {2 * i}}, {0, true, {2 * i + 1}}}};
}
RouterState router_state(Term term) { return {.term = term, .instances = {{true, true}, {true, true}}}; }

/// A manager of term 1 that has asked; what its peers answer is up to the test.
struct Fixture {
  Fixture() { asked = feed(fleet, now, Started{}); }
  Commands message(Address from, Message m) { return feed(fleet, now, from, std::move(m)); }
  /// All that the test has not answered for say that nothing has happened.
  Commands answer_rest(std::set<Address> answered = {}) {
    Commands all;
    const auto add = [&](Address from, Message m) {
      if (answered.contains(from)) return;
      const Commands c = message(from, std::move(m));
      all.insert(all.end(), c.begin(), c.end());
    };
    for (std::uint32_t n = 0; n < 6; ++n) add(agent_at(n), AgentState{.term = 1, .groups = {}});
    for (std::uint32_t i = 0; i < 2; ++i) add(leader_at(i), leader_state(i, 1));
    add(router_at(0), router_state(1));
    return all;
  }
  FleetManager fleet{of_term(1)};
  Instant now{0};
  Commands asked;
};

TEST(FleetRebuild, ANewIncarnationClaimsTheFleetAndAsksEverybody) {
  Fixture f;
  EXPECT_EQ(sent<ClaimFleet>(f.asked).size(), 6U + 2U + 1U);
  EXPECT_EQ(all<Watch>(f.asked).size(), 6U + 2U + 1U);
}

TEST(FleetRebuild, TheFirstIncarnationKnowsAndAsksNobody) {
  FleetManager first(of_term(0));
  EXPECT_TRUE(sent<ClaimFleet>(feed(first, at(0_s), Started{})).empty());
}

TEST(FleetRebuild, ItTellsRoutersWhatItFoundOnceAllHaveAnsweredOrAreLost) {
  Fixture f;
  EXPECT_TRUE(sent<InstanceUpdate>(f.answer_rest({agent_at(5)})).empty()) << "one is missing";
  const auto updates = sent<InstanceUpdate>(feed(f.fleet, f.now, lost(agent_at(5))));
  ASSERT_EQ(updates.size(), 2U);
  for (const auto& [to, u] : updates) {
    EXPECT_TRUE(u.accepting && u.serving);
    EXPECT_EQ(u.term, 1U);
  }
}

TEST(FleetRebuild, AGroupThatFailedWhileNobodyManagedIsRecovered) {
  Fixture f;
  LeaderState broken = leader_state(0, 1);
  broken.groups[1].up = false;
  f.message(leader_at(0), broken);
  const Commands c = f.answer_rest({leader_at(0)});
  const auto updates = sent<InstanceUpdate>(c);
  ASSERT_FALSE(updates.empty());
  EXPECT_FALSE(updates.back().second.accepting && updates.back().second.instance == InstanceId{0});
  EXPECT_EQ(all<ArmTimer>(c).size(), 1U) << "a decision is due";
}

TEST(FleetRebuild, ASpareThatTheIncarnationBeforeHasSpentIsNotSpentAgain) {
  Fixture f;
  // Node 4 is starting group 1 of instance 0 for the manager that died; the leader still knows the old place.
  LeaderState fenced = leader_state(0, 1);
  fenced.groups[1] = {1, false, {1}};
  f.message(leader_at(0), fenced);
  f.message(
      agent_at(4),
      AgentState{
          .term = 1,
          .groups = {
              {.instance = InstanceId{0}, .group = 1, .epoch = 1, .launching = true, .nodes = {4}, .leader_node = 0}}});
  feed(f.fleet, f.now, lost(agent_at(1)));
  f.answer_rest({leader_at(0), agent_at(4), agent_at(1)});
  // Instance 1 loses a node: the spare that is left goes there.
  const Commands c = feed(f.fleet, f.now, lost(agent_at(3)));
  TimerKey key = 0;
  for (const ArmTimer& t : all<ArmTimer>(c)) key = t.key;
  const auto starts = sent<StartGroup>(feed(f.fleet, f.now, TimerFired{key}));
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.instance, InstanceId{1});
  EXPECT_EQ(starts[0].second.nodes, (std::vector<std::uint32_t>{5}));
  // And the start that was under way is taken over.
  const auto ready =
      sent<GroupReady>(f.message(agent_at(4), GroupStarted{InstanceId{0}, 1, 1, Cause::none, kUnknownRank}));
  ASSERT_EQ(ready.size(), 1U);
  EXPECT_EQ(ready[0].second.nodes, (std::vector<std::uint32_t>{4}));
}

TEST(FleetRebuild, WorkersThatCameUpWhileNobodyManagedAreAnnounced) {
  Fixture f;
  LeaderState fenced = leader_state(0, 1);
  fenced.groups[1] = {2, false, {1}};
  f.message(leader_at(0), fenced);
  f.message(
      agent_at(1),
      AgentState{
          .term = 1,
          .groups = {
              {.instance = InstanceId{0}, .group = 1, .epoch = 2, .running = true, .nodes = {1}, .leader_node = 0}}});
  const auto ready = sent<GroupReady>(f.answer_rest({leader_at(0), agent_at(1)}));
  ASSERT_EQ(ready.size(), 1U);
  EXPECT_EQ(ready[0].second.epoch, 2U);
}

TEST(FleetRebuild, WhatHappensWhileItAsksIsHandledAfterwards) {
  Fixture f;
  f.message(leader_at(1), leader_state(1, 1));
  EXPECT_TRUE(f.message(leader_at(1), GroupFailed{0, 0, Cause::device_lost, 2}).empty());
  EXPECT_EQ(all<ArmTimer>(f.answer_rest({leader_at(1)})).size(), 1U);
}

// ---- maintenance ----------------------------------------------------------------------------------------------------

constexpr Address kOperator{Role::client, 0};

/// Instance 0 was drained and stopped for the maintenance of its decode node, which is off.
struct ParkedFixture : Fixture {
  ParkedFixture() {
    LeaderState stopped = leader_state(0, 1);
    stopped.groups = {{1, false, {0}}, {1, false, {1}}};
    message(leader_at(0), stopped);
    message(agent_at(0), AgentState{.term = 1,
                                    .groups = {{.instance = InstanceId{0},
                                                .group = 0,
                                                .epoch = 0,
                                                .running = false,
                                                .nodes = {0},
                                                .leader_node = 0}}});
    feed(fleet, now, lost(agent_at(1)));
    RouterState routers = router_state(1);
    routers.instances[0] = {false, false};
    message(router_at(0), routers);
  }
  Commands rest() { return answer_rest({leader_at(0), agent_at(0), agent_at(1), router_at(0)}); }
};

TEST(FleetRebuild, AnInstanceThatIsDownForMaintenanceStaysDownUntilItIsOver) {
  ParkedFixture f;
  EXPECT_TRUE(f.message(kOperator, Maintenance{1, true}).empty());
  const Commands c = f.rest();
  EXPECT_TRUE(all<ArmTimer>(c).empty()) << "there is nothing to recover";
  EXPECT_TRUE(sent<StartGroup>(c).empty());
  for (const auto& [to, u] : sent<InstanceUpdate>(c)) EXPECT_EQ(u.serving, u.instance == InstanceId{1});
  feed(f.fleet, f.now, back(agent_at(1)));
  const auto starts = sent<StartGroup>(f.message(kOperator, Maintenance{1, false}));
  EXPECT_EQ(starts.size(), 2U) << "it serves again when its node is back";
}

TEST(FleetRebuild, AnInstanceWhoseMaintenanceEndedWhileNobodyManagedServesAgain) {
  ParkedFixture f;
  feed(f.fleet, f.now, back(agent_at(1)));
  f.message(agent_at(1), AgentState{.term = 1, .groups = {}});
  std::set<std::uint32_t> started;
  for (const auto& [to, start] : sent<StartGroup>(f.rest())) {
    EXPECT_EQ(start.instance, InstanceId{0});
    started.insert(start.group);
  }
  EXPECT_EQ(started, (std::set<std::uint32_t>{0, 1}));
}

TEST(FleetRebuild, ADrainForMaintenanceGoesOnUnderTheNextManagerAndIsCalledOffWithoutAPlan) {
  for (const bool planned : {true, false}) {
    Fixture f;
    LeaderState draining = leader_state(0, 1);
    draining.draining = true;
    f.message(leader_at(0), draining);
    if (planned) f.message(kOperator, Maintenance{1, true});
    const Commands c = f.answer_rest({leader_at(0)});
    for (const auto& [to, u] : sent<InstanceUpdate>(c))
      EXPECT_EQ(u.accepting, !planned || u.instance == InstanceId{1}) << planned;
    const auto called_off = sent<Drain>(c);
    ASSERT_EQ(called_off.size(), planned ? 0U : 1U);
    if (!planned) {
      EXPECT_FALSE(called_off[0].second.drain);
    }
    // When it is drained its groups are stopped.
    EXPECT_EQ(sent<StopGroup>(f.message(leader_at(0), Drained{})).size(), planned ? 2U : 0U);
  }
}

TEST(FleetRebuild, ADrainThatTurnsRolesBackGoesOnWithoutAPlan) {
  Fixture f;
  LeaderState draining = leader_state(0, 1);
  draining.draining = true;
  draining.groups[0].role = GroupRole::both;  // it stood in for the decode group, which is back
  f.message(leader_at(0), draining);
  EXPECT_TRUE(sent<Drain>(f.answer_rest({leader_at(0)})).empty());
  const auto starts = sent<StartGroup>(f.message(leader_at(0), Drained{}));
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.group, 0U);
  EXPECT_EQ(starts[0].second.role, GroupRole::as_set_up);
}

TEST(FleetRebuild, WhatServesAgainAfterMaintenanceHasItsOwnRoles) {
  ParkedFixture f;
  LeaderState stopped = leader_state(0, 1);
  stopped.groups = {{1, false, {0}}, {1, false, {1}}};
  stopped.groups[0].role = GroupRole::both;  // as it was when it was stopped
  f.message(leader_at(0), stopped);
  f.message(kOperator, Maintenance{1, true});
  f.rest();
  feed(f.fleet, f.now, back(agent_at(1)));
  const auto starts = sent<StartGroup>(f.message(kOperator, Maintenance{1, false}));
  ASSERT_EQ(starts.size(), 2U);
  for (const auto& [to, start] : starts) EXPECT_EQ(start.role, GroupRole::as_set_up);
}

TEST(FleetRebuild, AMaintenanceThatBeginsWhileItAsksDrainsTheInstance) {
  Fixture f;
  f.message(leader_at(1), leader_state(1, 1));
  f.message(kOperator, Maintenance{1, true});
  const auto drains = sent<Drain>(f.answer_rest({leader_at(1)}));
  ASSERT_EQ(drains.size(), 1U);
  EXPECT_EQ(drains[0].first, leader_at(0));
  EXPECT_TRUE(drains[0].second.drain);
}

// ---- what its peers refuse
// ------------------------------------------------------------------------------------------------

TEST(FleetTerm, AnAgentRefusesTheStartsOfAManagerThatWasReplaced) {
  NodeAgent agent({.node = 0, .detector = {}, .transfer = {}});
  StartGroup start;
  start.nodes = {0};
  start.epoch = 1;
  start.term = 1;
  EXPECT_EQ(all<LaunchGroup>(feed(agent, at(0_s), kFleetAddress, start)).size(), 1U);
  const auto states = sent<AgentState>(feed(agent, at(0_s), kFleetAddress, ClaimFleet{2}));
  ASSERT_EQ(states.size(), 1U);
  ASSERT_EQ(states[0].second.groups.size(), 1U);
  EXPECT_TRUE(states[0].second.groups[0].launching);
  start.epoch = 2;
  EXPECT_TRUE(all<LaunchGroup>(feed(agent, at(0_s), kFleetAddress, start)).empty());
  EXPECT_TRUE(all<KillGroup>(feed(agent, at(0_s), kFleetAddress, StopGroup{InstanceId{0}, 0, 9, 1})).empty());
  start.term = 2;
  EXPECT_EQ(all<LaunchGroup>(feed(agent, at(0_s), kFleetAddress, start)).size(), 1U);
}

TEST(FleetTerm, ALeaderRefusesTheFencesOfAManagerThatWasReplaced) {
  InstanceSetup s;
  s.id = InstanceId{0};
  s.groups = {{GroupRole::both, 1, 100, {0}}};
  InstanceController leader(s);
  const auto state = sent<LeaderState>(feed(leader, at(0_s), kFleetAddress, ClaimFleet{3}));
  ASSERT_EQ(state.size(), 1U);
  EXPECT_TRUE(state[0].second.groups.at(0).up);
  feed(leader, at(0_s), kFleetAddress, FenceGroups{1, 5, Cause::device_lost, 2});
  EXPECT_TRUE(sent<LeaderState>(feed(leader, at(0_s), kFleetAddress, ClaimFleet{3}))[0].second.groups.at(0).up);
  feed(leader, at(0_s), kFleetAddress, FenceGroups{1, 5, Cause::device_lost, 3});
  EXPECT_FALSE(sent<LeaderState>(feed(leader, at(0_s), kFleetAddress, ClaimFleet{3}))[0].second.groups.at(0).up);
}

TEST(FleetTerm, ARouterRefusesTheUpdatesOfAManagerThatWasReplaced) {
  Router router({.spec = {}, .accepting = {true, false}});
  feed(router, at(0_s), kFleetAddress, ClaimFleet{2});
  feed(router, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{1}, true, true, 1});
  const auto state = sent<RouterState>(feed(router, at(0_s), kFleetAddress, ClaimFleet{2}));
  ASSERT_EQ(state.size(), 1U);
  EXPECT_FALSE(state[0].second.instances.at(1).accepting);
  feed(router, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{1}, true, true, 2});
  EXPECT_TRUE(
      sent<RouterState>(feed(router, at(0_s), kFleetAddress, ClaimFleet{2}))[0].second.instances.at(1).accepting);
}

}  // namespace
}  // namespace faultline::control
