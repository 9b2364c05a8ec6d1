// Requests that go on elsewhere with the tokens they have, load that is shed by class, and which spare may stand in.
#include <gtest/gtest.h>

#include "core/control/fleet.h"
#include "core/control/router.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

Router router(bool migrate, std::vector<std::int64_t> shed = {}) {
  RouterSetup s;
  s.accepting = {true, true};
  s.replays = false;  // an engine whose gateway replays nothing
  s.spec.retry.migrate = migrate;
  s.spec.retry.backoff = 0_s;
  s.spec.retry.backoff_max = 0_s;
  s.spec.shed_above = std::move(shed);
  return Router(s);
}
RequestArrived request(std::uint32_t id, std::int32_t prompt = 100, std::int32_t output = 50,
                       std::uint8_t slo_class = 0) {
  return {RequestId{id}, prompt, output, slo_class, 0};
}

TEST(Migration, TheNextAttemptPrefillsWhatTheClientHasAndMakesTheRest) {
  Router r = router(true);
  const auto first = sent<SubmitRequest>(feed(r, at(0_s), request(0)));
  ASSERT_EQ(first.size(), 1U);
  feed(r, at(1_s), first[0].first, AttemptEnded{RequestId{0}, 0, Cause::device_lost, 20, true});
  const Commands c = feed(r, at(1_s), TimerFired{1});
  const auto second = sent<SubmitRequest>(c);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].second.prompt, 120);
  EXPECT_EQ(second[0].second.output, 30);
  EXPECT_EQ(all<NoteAttempt>(c)[0].resumed, 20);
  // A third goes on from there.
  feed(r, at(2_s), second[0].first, AttemptEnded{RequestId{0}, 1, Cause::device_lost, 5, true});
  const auto third = sent<SubmitRequest>(feed(r, at(2_s), TimerFired{1}));
  ASSERT_EQ(third.size(), 1U);
  EXPECT_EQ(third[0].second.prompt, 125);
  const auto ended =
      all<NoteRequestEnded>(feed(r, at(3_s), third[0].first, AttemptEnded{RequestId{0}, 2, Cause::none, 25, true}));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].delivered, 50);
  EXPECT_EQ(ended[0].cause, Cause::none);
}

TEST(Migration, WithoutItAnEngineThatReplaysNothingFailsTheRequest) {
  Router r = router(false);
  const auto first = sent<SubmitRequest>(feed(r, at(0_s), request(0)));
  const auto ended = all<NoteRequestEnded>(
      feed(r, at(1_s), first[0].first, AttemptEnded{RequestId{0}, 0, Cause::device_lost, 20, true}));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].cause, Cause::device_lost);
}

TEST(Migration, AnInstanceThatEndsTakesNothingTheClientHas) {
  Router r = router(true);
  const auto first = sent<SubmitRequest>(feed(r, at(0_s), request(0)));
  feed(r, at(1_s), StreamCut{RequestId{0}, 0, 33});
  feed(r, at(2_s), lost(first[0].first));
  const auto second = sent<SubmitRequest>(feed(r, at(2_s), TimerFired{1}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_NE(second[0].first, first[0].first);
  EXPECT_EQ(second[0].second.prompt, 133);
  EXPECT_EQ(second[0].second.output, 17);
}

TEST(Migration, TheLastTokenAlwaysComesFromAnAttemptThatEndsWell) {
  Router r = router(true);
  const auto first = sent<SubmitRequest>(feed(r, at(0_s), request(0, 100, 50)));
  feed(r, at(1_s), first[0].first, AttemptEnded{RequestId{0}, 0, Cause::device_lost, 50, true});
  const auto second = sent<SubmitRequest>(feed(r, at(1_s), TimerFired{1}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].second.output, 1);
}

TEST(Shedding, RejectsTheClassWhoseBoundTheLoadExceedsAndNoOther) {
  Router r = router(false, {0, 200});
  for (std::uint32_t id = 0; id < 3; ++id)
    EXPECT_EQ(sent<SubmitRequest>(feed(r, at(0_s), request(id, 100, 50, 1))).size(), 1U);
  // 450 tokens over two instances: above 200 each.
  const auto shed = all<NoteRequestEnded>(feed(r, at(0_s), request(3, 100, 50, 1)));
  ASSERT_EQ(shed.size(), 1U);
  EXPECT_TRUE(shed[0].rejected);
  EXPECT_EQ(shed[0].cause, Cause::overload);
  EXPECT_EQ(sent<SubmitRequest>(feed(r, at(0_s), request(4, 100, 50, 0))).size(), 1U);
  // With one instance left its whole share counts.
  feed(r, at(1_s), kFleetAddress, InstanceUpdate{InstanceId{0}, false});
  EXPECT_EQ(sent<SubmitRequest>(feed(r, at(1_s), request(5, 100, 50, 0))).size(), 1U);
}

TEST(Substitution, OnlyASpareThatTheRuleAllowsStandsIn) {
  // Nodes 0 and 1 carry the instance in rack 0 below fabric 0; spares: 2 elsewhere, 3 same fabric, 4 same rack.
  const auto replaced = [](SubstitutionRule rule, std::vector<std::uint32_t> spares) {
    FleetSetup s;
    FleetSetup::Instance x;
    x.groups = {{GroupRole::prefill, 1, 100, {0}}, {GroupRole::decode, 1, 100, {1}}};
    s.instances.push_back(x);
    s.nodes = 5;
    s.spare_nodes = std::move(spares);
    s.rack_of = {0, 0, 2, 1, 0};
    s.fabric_of = {0, 0, 1, 0, 0};
    s.restart_unit = RestartUnit::ep_group;
    s.recovery.policy = RecoveryAction::spare_node;
    s.recovery.substitution = rule;
    FleetManager fleet(s);
    feed(fleet, at(0_s), lost(agent_at(1)));
    const Commands c = feed(fleet, at(1_s), TimerFired{TimerKey{1} << 56});
    for (const NotePhase& n : all<NotePhase>(c)) {
      if (n.phase == Phase::replace) return n.node;
    }
    return kUnknownRank;
  };
  EXPECT_EQ(replaced(SubstitutionRule::any, {2, 3, 4}), 2U);
  EXPECT_EQ(replaced(SubstitutionRule::same_fabric, {2, 3, 4}), 3U);
  EXPECT_EQ(replaced(SubstitutionRule::same_rack, {2, 3, 4}), 4U);
  EXPECT_EQ(replaced(SubstitutionRule::same_rack, {2, 3}), kUnknownRank);
}

}  // namespace
}  // namespace faultline::control
