// Standby instances that take a place, and scaling.
#include <gtest/gtest.h>

#include "tests/unit/core/control/fleet_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;
using namespace testing::fleet;

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
