// Groups of one role that take over the other while its hardware is gone, and are turned back.
#include <gtest/gtest.h>

#include "core/control/fleet.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

constexpr TimerKey kDecide = TimerKey{1} << 56;

FleetManager fleet(std::size_t prefill_groups, RoleSwitchSpec spec = {}) {
  FleetSetup s;
  FleetSetup::Instance x;
  std::uint32_t node = 0;
  for (std::size_t g = 0; g < prefill_groups; ++g) x.groups.push_back({GroupRole::prefill, 1, 100, {node++}});
  x.groups.push_back({GroupRole::decode, 1, 100, {node++}});
  s.instances.push_back(x);
  s.nodes = node;
  s.restart_unit = RestartUnit::ep_group;
  s.recovery.policy = RecoveryAction::role_switch;
  s.recovery.role_switch = spec;
  return FleetManager(s);
}
/// The decode group's node is lost, and that is decided upon.
Commands lose_decode(FleetManager& f, std::uint32_t node) {
  feed(f, at(0_s), lost(agent_at(node)));
  return feed(f, at(1_s), TimerFired{kDecide});
}
std::vector<Phase> phases(const Commands& c) {
  std::vector<Phase> out;
  for (const NotePhase& n : all<NotePhase>(c)) out.push_back(n.phase);
  return out;
}
GroupStarted up(std::uint32_t group, Epoch epoch) {
  return {InstanceId{0}, group, epoch, Cause::none, kUnknownRank, false, 0};
}

TEST(RoleSwitch, TheOnlyGroupLeftTakesBothRolesAndIsTurnedBackOnceDrained) {
  FleetManager f = fleet(1);
  Commands c = lose_decode(f, 1);
  auto starts = sent<StartGroup>(c);
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.group, 0U);
  EXPECT_EQ(starts[0].second.role, GroupRole::both);
  EXPECT_TRUE(starts[0].second.keep_weights);
  EXPECT_EQ(sent<FenceGroups>(c).size(), 2U);  // the lost group, then the one whose KV is given up
  EXPECT_NE(std::find(phases(c).begin(), phases(c).end(), Phase::decide), phases(c).end());
  c = feed(f, at(10_s), agent_at(0), up(0, starts[0].second.epoch));
  ASSERT_EQ(sent<GroupReady>(c).size(), 1U);
  EXPECT_EQ(sent<GroupReady>(c)[0].second.role, GroupRole::both);
  ASSERT_FALSE(sent<InstanceUpdate>(c).empty());
  EXPECT_TRUE(sent<InstanceUpdate>(c).back().second.accepting);
  // The node is back: its group starts as it was; then nobody is sent there until the instance is drained.
  starts = sent<StartGroup>(feed(f, at(60_s), back(agent_at(1))));
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.group, 1U);
  EXPECT_EQ(starts[0].second.role, GroupRole::as_set_up);
  EXPECT_FALSE(starts[0].second.keep_weights);
  c = feed(f, at(90_s), agent_at(1), up(1, starts[0].second.epoch));
  ASSERT_EQ(sent<Drain>(c).size(), 1U);
  EXPECT_TRUE(sent<Drain>(c)[0].second.drain);
  EXPECT_FALSE(sent<InstanceUpdate>(c).back().second.accepting);
  c = feed(f, at(100_s), leader_at(0), Drained{});
  EXPECT_FALSE(sent<Drain>(c).at(0).second.drain);
  starts = sent<StartGroup>(c);
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.group, 0U);
  EXPECT_EQ(starts[0].second.role, GroupRole::as_set_up);
  EXPECT_TRUE(starts[0].second.keep_weights);
  c = feed(f, at(110_s), agent_at(0), up(0, starts[0].second.epoch));
  const auto last = phases(c);
  EXPECT_NE(std::find(last.begin(), last.end(), Phase::restore), last.end());
  EXPECT_TRUE(sent<InstanceUpdate>(c).back().second.accepting);
}

TEST(RoleSwitch, OfSeveralGroupsHalfChangeTheirRole) {
  FleetManager f = fleet(4);
  const auto starts = sent<StartGroup>(lose_decode(f, 4));
  ASSERT_EQ(starts.size(), 2U);
  for (const auto& [to, start] : starts) EXPECT_EQ(start.role, GroupRole::decode);
  EXPECT_EQ(starts[0].second.group, 2U);  // the first keep theirs: the leader is on their node
  EXPECT_EQ(starts[1].second.group, 3U);
}

TEST(RoleSwitch, NobodyIsTurnedWhileTheLostGroupCanStartAtOnce) {
  FleetManager f = fleet(1);
  feed(f, at(0_s), leader_at(0), GroupFailed{1, 0, Cause::device_lost, 0});
  Commands c = feed(f, at(1_s), TimerFired{kDecide});
  const auto probes = sent<ProbeNode>(c);
  ASSERT_EQ(probes.size(), 1U);
  c = feed(f, at(1_s), agent_at(1), ProbeResult{probes[0].second.token, 0, true, 0});  // its hardware is well
  const auto starts = sent<StartGroup>(c);
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].second.group, 1U);
}

TEST(RoleSwitch, WithoutAWayBackTheGroupKeepsItsNewRole) {
  FleetManager f = fleet(1, {.keep_weights = false, .back = false});
  auto starts = sent<StartGroup>(lose_decode(f, 1));
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_FALSE(starts[0].second.keep_weights);
  feed(f, at(10_s), agent_at(0), up(0, starts[0].second.epoch));
  starts = sent<StartGroup>(feed(f, at(60_s), back(agent_at(1))));
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_TRUE(sent<Drain>(feed(f, at(90_s), agent_at(1), up(1, starts[0].second.epoch))).empty());
}

}  // namespace
}  // namespace faultline::control
