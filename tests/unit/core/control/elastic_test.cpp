// The phase machine of elastic expert parallelism in the fleet manager and in the instance leader, event by event.
#include <gtest/gtest.h>

#include "core/control/fleet.h"
#include "core/control/ships.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

constexpr TimerKey kDecideTimer = TimerKey{1} << 56;

// One instance: a prefill group on node 0 that lives and dies whole, a decode group of four ranks on nodes 1 and 2 of
// which two can go on alone. Node 3 is a spare where asked for.
FleetSetup setup(RecoveryAction policy = RecoveryAction::elastic_ep) {
  FleetSetup s;
  FleetSetup::Instance x;
  x.groups = {{GroupRole::prefill, 2, 100, {0}}, {GroupRole::decode, 4, 100, {1, 2}}};
  x.groups[1].ranks_min = 2;
  x.leader_node = 0;
  s.instances.push_back(x);
  s.nodes = 4;
  s.restart_unit = RestartUnit::ep_group;
  s.recovery.policy = policy;
  s.recovery.decision_delay = 100_ms;
  s.recovery.elastic.rejoin_check = 5_s;
  return s;
}

struct Fixture {
  explicit Fixture(FleetSetup s = setup()) : fleet(std::move(s)) {}
  Commands event(const Event& e) { return feed(fleet, now, e); }
  Commands message(Address from, Message m) { return event(Received{from, std::move(m)}); }
  /// A rank of the decode group fails; both its nodes are probed and answer with these bad GPUs.
  Commands fail_and_probe(std::uint32_t bad_1, std::uint32_t bad_2, std::uint32_t suspect = kUnknownRank) {
    message(leader_at(0), GroupFailed{1, epoch, Cause::device_lost, suspect});
    return answer(event(TimerFired{kDecideTimer}), bad_1, bad_2);
  }
  Commands answer(const Commands& asked, std::uint32_t bad_1, std::uint32_t bad_2) {
    Commands last;
    for (const auto& [to, probe] : sent<ProbeNode>(asked)) {
      last = message(to, ProbeResult{probe.token, to.index == 1 ? bad_1 : to.index == 2 ? bad_2 : 0, true, 0});
    }
    return last;
  }
  /// The leader has stopped the group as it was told.
  Commands paused(const Commands& c) {
    const auto pause = sent<PauseGroup>(c);
    EXPECT_EQ(pause.size(), 1U);
    if (pause.empty()) return {};
    epoch = pause[0].second.epoch;
    return message(leader_at(0), GroupPaused{1, epoch});
  }
  Commands formed(std::int64_t missing = 0) {
    return message(agent_at(1), GroupStarted{InstanceId{0}, 1, epoch, Cause::none, kUnknownRank, false, missing});
  }
  void go_on_without_node_1() {
    event(lost(agent_at(1)));
    paused(answer(event(TimerFired{kDecideTimer}), 0, 0));
    message(agent_at(2), GroupStarted{InstanceId{0}, 1, epoch, Cause::none, kUnknownRank, false, 0});
  }
  FleetManager fleet;
  Instant now{0};
  Epoch epoch = 0;
};

std::vector<Phase> phases(const Commands& c) {
  std::vector<Phase> out;
  for (const NotePhase& n : all<NotePhase>(c)) out.push_back(n.phase);
  return out;
}

TEST(ElasticFleet, PhasesComeInOrderAndOnlyTheDeadRankLeaves) {
  Fixture f;
  const Commands fenced = f.fail_and_probe(0b10, 0);
  ASSERT_EQ(phases(fenced).back(), Phase::fence);
  const auto pause = sent<PauseGroup>(fenced);
  ASSERT_EQ(pause.size(), 1U);
  EXPECT_EQ(pause[0].second.absent, (std::vector<std::uint32_t>{1}));
  EXPECT_TRUE(sent<FenceGroups>(fenced).empty()) << "survivors keep their KV";
  const Commands repairing = f.paused(fenced);
  EXPECT_EQ(phases(repairing), (std::vector{Phase::repair_state}));
  const auto start = sent<StartGroup>(repairing);
  ASSERT_EQ(start.size(), 1U);
  EXPECT_EQ(start[0].first, agent_at(1));
  EXPECT_EQ(start[0].second.kind, StartGroup::Kind::survivors);
  const Commands up = f.formed();
  EXPECT_EQ(phases(up), (std::vector{Phase::degraded, Phase::ready}));
  const auto ready = sent<GroupReady>(up);
  ASSERT_EQ(ready.size(), 1U);
  EXPECT_EQ(ready[0].second.absent, (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(armed(up, kFleetAbsentTimer), at(5_s));
}

TEST(ElasticFleet, AnAbsentRankIsTakenBackOnlyWhenItsHardwareIsWellAndItsProcessRuns) {
  Fixture f;
  f.paused(f.fail_and_probe(0b10, 0));
  f.formed();
  // Still broken: looked at again later.
  Commands look = f.event(TimerFired{kFleetAbsentTimer});
  EXPECT_TRUE(sent<StartGroup>(f.answer(look, 0b10, 0)).empty());
  look = f.event(TimerFired{kFleetAbsentTimer});
  const auto join = sent<StartGroup>(f.answer(look, 0, 0));
  ASSERT_EQ(join.size(), 1U);
  EXPECT_EQ(join[0].second.kind, StartGroup::Kind::join);
  EXPECT_EQ(join[0].second.joining, (std::vector<std::uint32_t>{1}));
  const Commands fenced =
      f.message(agent_at(1), GroupStarted{InstanceId{0}, 1, f.epoch, Cause::none, kUnknownRank, true, 0});
  ASSERT_EQ(sent<PauseGroup>(fenced).size(), 1U);
  EXPECT_TRUE(sent<PauseGroup>(fenced)[0].second.absent.empty());
  f.paused(fenced);
  const Commands whole = f.formed();
  EXPECT_EQ(phases(whole), (std::vector{Phase::rejoin, Phase::restore, Phase::ready}));
  EXPECT_TRUE(sent<GroupReady>(whole)[0].second.absent.empty());
}

TEST(ElasticFleet, ALostNodeTakesItsRanksAndTheHeadMoves) {
  Fixture f;
  f.event(lost(agent_at(1)));
  const Commands fenced = f.answer(f.event(TimerFired{kDecideTimer}), 0, 0);
  EXPECT_EQ(sent<PauseGroup>(fenced)[0].second.absent, (std::vector<std::uint32_t>{0, 1}));
  const auto start = sent<StartGroup>(f.paused(fenced));
  ASSERT_EQ(start.size(), 1U);
  EXPECT_EQ(start[0].first, agent_at(2)) << "the first node with a rank that takes part";
}

TEST(ElasticFleet, ANodeThatItsGroupDoesWithoutMayBeLostAgainWithoutEffect) {
  Fixture f;
  f.go_on_without_node_1();
  f.event(back(agent_at(1)));
  const Commands again = f.event(lost(agent_at(1)));
  EXPECT_TRUE(phases(again).empty());
  EXPECT_EQ(armed(again, kDecideTimer), kNever) << "an incident, which would end with a restart of the whole group";
  // A node that it needs is another matter.
  EXPECT_NE(armed(f.event(lost(agent_at(2))), kDecideTimer), kNever);
}

TEST(ElasticFleet, ANodeThatIsLostWhileItsRanksAreTakenBackCounts) {
  Fixture f;
  f.go_on_without_node_1();
  f.event(back(agent_at(1)));
  ASSERT_EQ(sent<StartGroup>(f.answer(f.event(TimerFired{kFleetAbsentTimer}), 0, 0)).size(), 1U);
  const Commands fenced =
      f.message(agent_at(2), GroupStarted{InstanceId{0}, 1, f.epoch, Cause::none, kUnknownRank, true, 0});
  ASSERT_EQ(sent<PauseGroup>(fenced).size(), 1U);
  const auto anew = sent<PauseGroup>(f.event(lost(agent_at(1))));
  ASSERT_EQ(anew.size(), 1U);
  EXPECT_EQ(anew[0].second.absent, (std::vector<std::uint32_t>{0, 1}));
}

TEST(ElasticFleet, TooFewSurvivorsRestart) {
  Fixture f;
  const Commands c = f.fail_and_probe(0b11, 0b01);
  EXPECT_TRUE(sent<PauseGroup>(c).empty());
  EXPECT_FALSE(sent<FenceGroups>(c).empty());
}

TEST(ElasticFleet, AGroupThatLivesAndDiesWholeRestarts) {
  Fixture f;
  f.message(leader_at(0), GroupFailed{0, 0, Cause::device_lost, 0});
  const Commands c = f.answer(f.event(TimerFired{kDecideTimer}), 0, 0);
  EXPECT_TRUE(sent<PauseGroup>(c).empty());
  ASSERT_EQ(sent<StartGroup>(c).size(), 1U);
  EXPECT_EQ(sent<StartGroup>(c)[0].second.kind, StartGroup::Kind::whole);
}

TEST(ElasticFleet, ALostLeaderEndsTheGroupsItLed) {
  Fixture f;
  f.event(lost(leader_at(0)));
  const Commands c = f.answer(f.event(TimerFired{kDecideTimer}), 0, 0);
  EXPECT_TRUE(sent<PauseGroup>(c).empty());
}

TEST(ElasticFleet, ALeaderThatDiesWhileItsGroupIsToStopEndsTheWait) {
  Fixture f;
  f.fail_and_probe(0b10, 0);
  const Commands c = f.event(lost(leader_at(0)));
  EXPECT_FALSE(sent<StartGroup>(c).empty());
  for (const auto& [to, s] : sent<StartGroup>(c)) EXPECT_EQ(s.kind, StartGroup::Kind::whole);
}

TEST(ElasticFleet, ASecondRankThatDiesInEachPhaseLeavesWithTheFirst) {
  // While the survivors are told to stop …
  Fixture pausing;
  pausing.fail_and_probe(0b10, 0);
  const Commands again = pausing.event(lost(agent_at(2)));
  ASSERT_EQ(sent<PauseGroup>(again).size(), 0U) << "one of four is not enough";
  EXPECT_FALSE(sent<FenceGroups>(again).empty());
  // … and while they form the group: the start fails, who is left is asked anew.
  Fixture forming;
  forming.paused(forming.fail_and_probe(0b10, 0));
  const Commands failed =
      forming.message(agent_at(1), GroupStarted{InstanceId{0}, 1, forming.epoch, Cause::device_lost, 2, false, 0});
  EXPECT_NE(armed(failed, kDecideTimer), kNever);
  const Commands fenced = forming.answer(forming.event(TimerFired{kDecideTimer}), 0b10, 0b01);
  ASSERT_EQ(sent<PauseGroup>(fenced).size(), 1U);
  EXPECT_EQ(sent<PauseGroup>(fenced)[0].second.absent, (std::vector<std::uint32_t>{1, 2}));
}

TEST(ElasticFleet, AProcessThatEndsOnGoodHardwareLeavesAndComesBack) {
  Fixture f;
  const Commands fenced = f.fail_and_probe(0, 0, 3);
  EXPECT_EQ(sent<PauseGroup>(fenced)[0].second.absent, (std::vector<std::uint32_t>{3}));
}

TEST(ElasticFleet, AGroupThatFailsTwiceWithoutLosingARankRestarts) {
  Fixture f;
  f.paused(f.fail_and_probe(0, 0));
  f.formed();
  const Commands again = f.fail_and_probe(0, 0);
  EXPECT_TRUE(sent<PauseGroup>(again).empty());
  EXPECT_FALSE(sent<FenceGroups>(again).empty());
}

TEST(ElasticFleet, MaskingLeavesExpertsUnrepairedUntilTheRankIsBack) {
  Fixture f(setup(RecoveryAction::mask));
  const auto start = sent<StartGroup>(f.paused(f.fail_and_probe(0b10, 0)));
  ASSERT_EQ(start.size(), 1U);
  EXPECT_EQ(start[0].second.kind, StartGroup::Kind::survivors_unrepaired);
}

// ---- the leader
// ---------------------------------------------------------------------------------------------------------

InstanceSetup leader_setup() {
  InstanceSetup s;
  s.id = InstanceId{0};
  s.engine.block_tokens = 16;
  s.groups = {{GroupRole::both, 2, 100, {0, 1}}};
  s.groups[0].ranks_min = 1;
  s.kv_bytes_per_token = Bytes{1};
  return s;
}
RunStep last_run(const Commands& c) {
  const auto runs = sent<RunStep>(c);
  EXPECT_FALSE(runs.empty());
  return runs.empty() ? RunStep{} : runs.back().second;
}

TEST(ElasticLeader, DropsOnlyWhatTheDeadRankHeldAndGoesOnWithTheRest) {
  InstanceController leader(leader_setup());
  Commands c = feed(leader, at(0_s), router_at(0), SubmitRequest{RequestId{0}, 0, 32, 100, 0});
  RunStep run = last_run(c);
  c = feed(leader, at(1_s), router_at(0), SubmitRequest{RequestId{1}, 0, 32, 100, 0});  // goes to the other rank
  c = feed(leader, at(1_s), agent_at(0), StepReport{run.op, 0, 0, 1, Cause::none, kUnknownRank});
  run = last_run(c);
  c = feed(leader, at(2_s), agent_at(0), StepReport{run.op, 0, 0, 1, Cause::none, kUnknownRank});
  run = last_run(c);  // both decode
  ASSERT_EQ(run.loads.size(), 2U);
  EXPECT_EQ(run.loads[0].sequences + run.loads[1].sequences, 2);
  c = feed(leader, at(3_s), agent_at(0), StepReport{run.op, 0, 0, 10, Cause::device_lost, 1});
  EXPECT_EQ(all<NoteAttemptLost>(c).size(), 1U);
  EXPECT_EQ(leader.live(), 1U);
  c = feed(leader, at(4_s), kFleetAddress, PauseGroup{0, 1, {1}});
  ASSERT_EQ(sent<GroupPaused>(c).size(), 1U);
  EXPECT_EQ(sent<GroupPaused>(c)[0].second.epoch, 1U);
  EXPECT_TRUE(sent<RunStep>(c).empty());
  c = feed(leader, at(5_s), kFleetAddress, GroupReady{0, 1, 0, {0, 1}, {1}});
  run = last_run(c);  // the survivor's sequence goes on where it stood
  EXPECT_EQ(run.loads[0].sequences, 1);
  EXPECT_EQ(run.loads[1].sequences, 0);
  leader.check();
  // No new request goes to the absent rank.
  for (std::uint32_t r = 2; r < 6; ++r) feed(leader, at(5_s), router_at(0), SubmitRequest{RequestId{r}, 0, 32, 100, 0});
  c = feed(leader, at(6_s), agent_at(0), StepReport{run.op, 0, 1, 1, Cause::none, kUnknownRank});
  for (const auto& item : last_run(c).items) EXPECT_EQ(item.rank, 0);
}

TEST(ElasticLeader, ARunningGroupStopsAtTheNextBoundaryBeforeItIsFormedAnew) {
  InstanceController leader(leader_setup());
  Commands c = feed(leader, at(0_s), router_at(0), SubmitRequest{RequestId{0}, 0, 32, 100, 0});
  RunStep run = last_run(c);
  run = last_run(feed(leader, at(1_s), agent_at(0), StepReport{run.op, 0, 0, 1, Cause::none, kUnknownRank}));
  c = feed(leader, at(2_s), kFleetAddress, PauseGroup{0, 1, {}});
  EXPECT_EQ(sent<InterruptRun>(c).size(), 1U);
  EXPECT_TRUE(sent<GroupPaused>(c).empty());
  c = feed(leader, at(3_s), agent_at(0), StepReport{run.op, 0, 0, 5, Cause::none, kUnknownRank});
  EXPECT_EQ(sent<GroupPaused>(c).size(), 1U);
  EXPECT_TRUE(sent<RunStep>(c).empty());
  EXPECT_EQ(leader.live(), 1U) << "nobody left";
  EXPECT_EQ(last_run(feed(leader, at(4_s), kFleetAddress, GroupReady{0, 1, 0, {0, 1}, {}})).steps_max, 94);
}

TEST(Ships, APolicyThatTheEngineDoesNotShipIsNamedWithItsSource) {
  EngineSpec vllm, ideal;
  vllm.name = "vllm";
  RecoverySpec elastic;
  elastic.policy = RecoveryAction::elastic_ep;
  RouterSpec router;
  ASSERT_EQ(not_shipped(vllm, elastic, router).size(), 1U);
  EXPECT_NE(not_shipped(vllm, elastic, router)[0].find("vllm does not ship elastic_ep"), std::string::npos);
  EngineSpec sglang = vllm;
  sglang.name = "sglang";
  EXPECT_TRUE(not_shipped(sglang, elastic, router).empty());
  EXPECT_TRUE(not_shipped(ideal, elastic, router).empty());
  router.retry.migrate = true;
  router.shed_above = {0, 100};
  EXPECT_EQ(not_shipped(sglang, elastic, router).size(), 2U);
  // Every policy that a file can name has an entry.
  for (const std::string_view name : enum_names(static_cast<const RecoveryAction*>(nullptr))) {
    EXPECT_TRUE(std::any_of(shipped().begin(), shipped().end(), [&](const Shipped& s) { return s.policy == name; }))
        << name;
  }
}

}  // namespace
}  // namespace faultline::control
