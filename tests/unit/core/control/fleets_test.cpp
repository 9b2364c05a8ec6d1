// Several models behind the same routers and the same fleet manager: each keeps to its own instances, the spare nodes
// are everybody's.
#include <gtest/gtest.h>

#include "core/control/router.h"
#include "tests/unit/core/control/fleet_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;
using namespace testing::fleet;

// Instances 0 and 1 serve the model of class 0; instance 2 that of classes 1 and 2, on an engine without replays.
RouterSetup two_models() {
  RouterSetup s;
  s.seed = 7;
  s.accepting.assign(3, true);
  s.fleet_of_instance = {0, 0, 1};
  s.fleet_of_class = {0, 1, 1};
  s.replays_of_fleet = {true, false};
  return s;
}

RequestArrived request(std::uint32_t id, std::uint8_t slo_class, std::uint64_t prefix = 0) {
  return {RequestId{id}, 100, 10, slo_class, prefix};
}

std::uint32_t placed(const Commands& commands, std::uint32_t id) {
  for (const auto& [to, m] : sent<SubmitRequest>(commands)) {
    if (m.request.v == id) return to.index;
  }
  return kUnknownRank;
}

class EveryRoutePolicy : public ::testing::TestWithParam<RoutePolicy> {};

TEST_P(EveryRoutePolicy, SendsARequestOnlyToInstancesOfItsModel) {
  RouterSetup s = two_models();
  s.spec.policy = GetParam();
  Router r(s);
  for (std::uint32_t id = 0; id < 60; ++id) {
    const auto slo_class = static_cast<std::uint8_t>(id % 3);
    const std::uint32_t i = placed(feed(r, at(0_s), request(id, slo_class, id + 1)), id);
    EXPECT_EQ(i == 2, slo_class > 0) << "request " << id;
    EXPECT_LT(i, 3U);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryRoutePolicy,
                         ::testing::Values(RoutePolicy::round_robin, RoutePolicy::least_tokens,
                                           RoutePolicy::power_of_two, RoutePolicy::prefix_affinity,
                                           RoutePolicy::cache_aware));

TEST(SeveralModels, RequestsThatWaitForOneModelDoNotHoldUpTheOther) {
  Router r(two_models());
  for (const std::uint32_t i : {0U, 1U, 2U}) feed(r, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{i}, false});
  EXPECT_EQ(placed(feed(r, at(1_s), request(0, 1)), 0), kUnknownRank);
  EXPECT_EQ(placed(feed(r, at(1_s), request(1, 0)), 1), kUnknownRank);
  EXPECT_EQ(placed(feed(r, at(1_s), request(2, 0)), 2), kUnknownRank);
  const Commands c = feed(r, at(2_s), kFleetAddress, InstanceUpdate{InstanceId{1}, true});
  EXPECT_EQ(placed(c, 1), 1U);
  EXPECT_EQ(placed(c, 2), 1U);
  EXPECT_EQ(placed(c, 0), kUnknownRank) << "the first that came waits for its own model";
  EXPECT_EQ(placed(feed(r, at(3_s), kFleetAddress, InstanceUpdate{InstanceId{2}, true}), 0), 2U);
}

TEST(SeveralModels, WhetherAnInterruptedRequestIsReplayedIsItsEnginesMatter) {
  Router r(two_models());
  const std::uint32_t first = placed(feed(r, at(0_s), request(0, 0)), 0);
  feed(r, at(0_s), request(1, 1));
  const auto lost = [&](std::uint32_t instance, std::uint32_t id) {
    return all<NoteRequestEnded>(
        feed(r, at(1_s), leader_at(instance), AttemptEnded{RequestId{id}, 0, Cause::device_lost, 3, true}));
  };
  EXPECT_TRUE(lost(first, 0).empty());
  ASSERT_EQ(lost(2, 1).size(), 1U);
  EXPECT_EQ(r.in_flight(), 1U);
}

TEST(SeveralModels, LoadIsShedByTheInstancesOfTheModelAlone) {
  RouterSetup s = two_models();
  s.spec.shed_above = {50, 50, 0};
  Router r(s);
  feed(r, at(0_s), request(0, 2));  // never shed, and more than instance 2 is to have
  EXPECT_NE(placed(feed(r, at(0_s), request(1, 0)), 1), kUnknownRank);
  EXPECT_EQ(placed(feed(r, at(0_s), request(2, 1)), 2), kUnknownRank);
}

/// Instance 0 of fleet 0, instance 1 of fleet 1, on the nodes of the fixture; one spare node.
FleetSetup two_fleets(RecoveryAction policy) {
  FleetSetup s = setup(policy);
  s.instances[1].fleet = 1;
  return s;
}

TEST(SeveralModels, TakeSpareNodesFromOnePoolInTheOrderOfTheirNeed) {
  FleetSetup s = two_fleets(RecoveryAction::spare_node);
  s.spare_nodes = {4};
  Fixture f(s);
  const auto lose = [&](std::uint32_t node) {
    f.event(PeerChanged{agent_at(node), PeerChanged::To::lost, Cause::peer_lost});
    Commands c = f.next();
    for (const auto& probe : sent<ProbeNode>(c)) {
      const Commands more = f.probed(probe);
      c.insert(c.end(), more.begin(), more.end());
    }
    return c;
  };
  const auto second = starts(lose(3));  // fleet 1's decode node
  ASSERT_FALSE(second.empty());
  EXPECT_EQ(second[0].instance, InstanceId{1});
  EXPECT_EQ(second[0].nodes, std::vector<std::uint32_t>{4});
  EXPECT_FALSE(second[0].warm) << "the node held no weights of this model";
  for (const StartGroup& x : starts(lose(1))) EXPECT_NE(x.nodes, std::vector<std::uint32_t>{4}) << "a spare used twice";
}

TEST(SeveralModels, AStandbyTakesThePlaceOfItsOwnModelOnly) {
  for (const std::uint32_t of : {0U, 1U}) {
    FleetSetup s = two_fleets(RecoveryAction::spare_instance);
    FleetSetup::Instance standby;
    standby.groups = {{GroupRole::prefill, 8, 100, {4}}, {GroupRole::decode, 8, 100, {5}}};
    standby.leader_node = 4;
    standby.serving = false;
    standby.fleet = of;
    s.instances.push_back(standby);
    Fixture f(s);
    f.group_failed(0, 1);
    const Commands c = f.next();
    bool serves = false;
    for (const auto& [to, update] : sent<InstanceUpdate>(c)) serves |= update.instance.v == 2 && update.accepting;
    EXPECT_EQ(serves, of == 0);
    EXPECT_EQ(has_phase(c, Phase::replace), of == 0);
  }
}

TEST(SeveralModels, RestartByTheUnitOfTheirOwnEngine) {
  FleetSetup s = two_fleets(RecoveryAction::restart);
  s.instances[0].restart_unit = RestartUnit::instance;
  s.instances[1].restart_unit = RestartUnit::ep_group;
  Fixture f(s);
  f.group_failed(0, 1);
  EXPECT_EQ(starts(f.next()).size(), 2U);
  f.group_failed(1, 1);
  EXPECT_EQ(starts(f.next()).size(), 1U);
}

}  // namespace
}  // namespace faultline::control
