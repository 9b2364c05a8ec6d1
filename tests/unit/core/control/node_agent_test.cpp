#include "core/control/node_agent.h"

#include <gtest/gtest.h>

#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

constexpr Address kLeader = leader_at(5);

NodeAgentSetup setup() {
  NodeAgentSetup s;
  s.node = 3;
  s.transfer = {.deadline = 10_s, .tries_max = 3, .retry_delay = 1_s};
  return s;
}
RunStep run(std::uint64_t op, Epoch epoch = 0, std::uint32_t group = 1) {
  RunStep r;
  r.op = OpId{op};
  r.group = group;
  r.epoch = epoch;
  return r;
}
PushKv push(std::uint64_t op) {
  PushKv p;
  p.op = OpId{op};
  p.slot = 77;
  p.to_node = 9;
  p.bytes = Bytes{100};
  return p;
}
StartGroup start(Epoch epoch) {
  StartGroup s;
  s.instance = InstanceId{5};
  s.group = 1;
  s.epoch = epoch;
  s.nodes = {3};
  return s;
}

TEST(NodeAgent, RunsAStepAndReportsItsEndOnceToItsLeader) {
  NodeAgent a(setup());
  const Commands c = feed(a, at(0_s), kLeader, run(1));
  ASSERT_EQ(all<SubmitStep>(c).size(), 1U);
  EXPECT_EQ(all<SubmitStep>(c)[0].instance, InstanceId{5});
  EXPECT_EQ(all<Watch>(c).size(), 1U);
  const auto reports = sent<StepReport>(feed(a, at(1_s), StepEnded{OpId{1}, 7, Cause::none, kUnknownRank}));
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].first, kLeader);
  EXPECT_EQ(reports[0].second.steps, 7);
  EXPECT_EQ(reports[0].second.group, 1U);
  EXPECT_TRUE(all<Watch>(feed(a, at(1_s), kLeader, run(2))).empty());
}

TEST(NodeAgent, AFailureKeepsItsCauseAndRank) {
  NodeAgent a(setup());
  feed(a, at(0_s), kLeader, run(1));
  const auto reports = sent<StepReport>(feed(a, at(1_s), StepEnded{OpId{1}, 2, Cause::device_lost, 6}));
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].second.cause, Cause::device_lost);
  EXPECT_EQ(reports[0].second.suspect_rank, 6U);
}

TEST(NodeAgent, TheEndOfAStepOfItsFormerIncarnationIsNobodysConcern) {
  NodeAgent a(setup());
  EXPECT_TRUE(feed(a, at(0_s), StepEnded{OpId{1}, 3, Cause::none, kUnknownRank}).empty());
}

TEST(NodeAgent, InterruptsOnlyWhatRuns) {
  NodeAgent a(setup());
  feed(a, at(0_s), kLeader, run(1));
  EXPECT_EQ(all<InterruptStep>(feed(a, at(0_s), kLeader, InterruptRun{OpId{1}, 1})).size(), 1U);
  feed(a, at(1_s), StepEnded{OpId{1}, 2, Cause::none, kUnknownRank});
  EXPECT_TRUE(feed(a, at(1_s), kLeader, InterruptRun{OpId{1}, 1}).empty());
}

TEST(NodeAgent, WorkOfAnOtherEpochIsAnsweredAsStaleAndNotRun) {
  NodeAgent a(setup());
  feed(a, at(0_s), kFleetAddress, start(4));
  feed(a, at(1_s), LaunchEnded{InstanceId{5}, 1, 4, Cause::none, kUnknownRank});
  for (const Epoch epoch : {Epoch{3}, Epoch{5}}) {
    const Commands c = feed(a, at(2_s), kLeader, run(epoch, epoch));
    EXPECT_TRUE(all<SubmitStep>(c).empty());
    ASSERT_EQ(sent<StepReport>(c).size(), 1U);
    EXPECT_EQ(sent<StepReport>(c)[0].second.cause, Cause::stale_epoch);
    EXPECT_EQ(sent<StepReport>(c)[0].second.epoch, epoch);
  }
  EXPECT_EQ(all<SubmitStep>(feed(a, at(2_s), kLeader, run(9, 4))).size(), 1U);
}

TEST(NodeAgent, StartingAGroupStopsItsOlderIncarnationAndReportsTheEnd) {
  NodeAgent a(setup());
  feed(a, at(0_s), kLeader, run(1, 0));
  Commands c = feed(a, at(1_s), kFleetAddress, start(1));
  ASSERT_EQ(all<KillGroup>(c).size(), 1U);
  EXPECT_EQ(all<KillGroup>(c)[0].epoch, 0U);
  EXPECT_EQ(all<LaunchGroup>(c).size(), 1U);
  c = feed(a, at(1_s), StepEnded{OpId{1}, 0, Cause::canceled, kUnknownRank});
  EXPECT_EQ(sent<StepReport>(c).size(), 1U);  // also the killed one has its answer
  c = feed(a, at(9_s), LaunchEnded{InstanceId{5}, 1, 1, Cause::device_lost, 3});
  ASSERT_EQ(sent<GroupStarted>(c).size(), 1U);
  EXPECT_EQ(sent<GroupStarted>(c)[0].second.cause, Cause::device_lost);
  EXPECT_EQ(sent<GroupStarted>(c)[0].second.bad_node, 3U);
  // Not started: still stopped.
  EXPECT_EQ(sent<StepReport>(feed(a, at(9_s), kLeader, run(2, 0))).at(0).second.cause, Cause::stale_epoch);
}

TEST(NodeAgent, AStoppedGroupRunsNothingUntilItIsStartedAgain) {
  NodeAgent a(setup());
  feed(a, at(0_s), kFleetAddress, start(2));
  feed(a, at(0_s), LaunchEnded{InstanceId{5}, 1, 2, Cause::none, kUnknownRank});
  EXPECT_TRUE(feed(a, at(1_s), kFleetAddress, StopGroup{InstanceId{5}, 1, 1}).empty());  // an older one
  EXPECT_EQ(all<KillGroup>(feed(a, at(1_s), kFleetAddress, StopGroup{InstanceId{5}, 1, 2})).size(), 1U);
  EXPECT_EQ(sent<StepReport>(feed(a, at(1_s), kLeader, run(1, 2))).at(0).second.cause, Cause::stale_epoch);
  feed(a, at(2_s), LaunchEnded{InstanceId{5}, 1, 3, Cause::none, kUnknownRank});
  EXPECT_EQ(all<SubmitStep>(feed(a, at(2_s), kLeader, run(2, 3))).size(), 1U);
}

TEST(NodeAgent, AnOlderStartThatEndsLateDoesNotReplaceTheNewer) {
  NodeAgent a(setup());
  feed(a, at(0_s), kFleetAddress, start(2));
  feed(a, at(0_s), kFleetAddress, start(3));
  feed(a, at(1_s), LaunchEnded{InstanceId{5}, 1, 3, Cause::none, kUnknownRank});
  feed(a, at(2_s), LaunchEnded{InstanceId{5}, 1, 2, Cause::none, kUnknownRank});
  EXPECT_EQ(all<SubmitStep>(feed(a, at(3_s), kLeader, run(1, 3))).size(), 1U);
}

TEST(NodeAgent, TheEndOfAStepCarriesTheEpochItWasSubmittedWith) {
  NodeAgent a(setup());
  feed(a, at(0_s), kLeader, run(1, 0));
  feed(a, at(0_s), kFleetAddress, start(1));
  feed(a, at(1_s), LaunchEnded{InstanceId{5}, 1, 1, Cause::none, kUnknownRank});
  EXPECT_EQ(sent<StepReport>(feed(a, at(2_s), StepEnded{OpId{1}, 0, Cause::canceled, kUnknownRank})).at(0).second.epoch,
            0U);
}

TEST(NodeAgent, StopsWorkersThatItHasNeverHeardOf) {
  NodeAgent a(setup());
  EXPECT_EQ(all<KillGroup>(feed(a, at(0_s), kFleetAddress, StopGroup{InstanceId{5}, 1, 0})).size(), 1U);
}

TEST(NodeAgent, WorkersThatExitedAreReportedToTheLeader) {
  NodeAgent a(setup());
  const auto reports = sent<StepReport>(feed(a, at(0_s), WorkersExited{InstanceId{5}, 1, 4, Cause::device_lost, 2}));
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_FALSE(reports[0].second.op.valid());
  EXPECT_EQ(reports[0].second.epoch, 4U);
}

TEST(NodeAgent, WithoutItsLeaderAGroupStopsButNotOneThatWasStartedForTheNext) {
  NodeAgent a(setup());
  feed(a, at(0_s), kLeader, run(1, 0));
  EXPECT_EQ(all<KillGroup>(feed(a, at(1_s), lost(kLeader))).size(), 1U);
  feed(a, at(1_s), StepEnded{OpId{1}, 0, Cause::canceled, kUnknownRank});
  feed(a, at(2_s), kFleetAddress, start(1));
  feed(a, at(3_s), LaunchEnded{InstanceId{5}, 1, 1, Cause::none, kUnknownRank});
  // The new leader's start announces the end of the old one once more.
  EXPECT_TRUE(all<KillGroup>(feed(a, at(3_s), lost(kLeader))).empty());
  feed(a, at(3_s), back(kLeader));
  EXPECT_EQ(all<SubmitStep>(feed(a, at(4_s), kLeader, run(2, 1))).size(), 1U);
}

TEST(NodeAgent, APushIsPostedAndItsEndReportedWithItsTries) {
  NodeAgent a(setup());
  const auto posted = all<PostWrite>(feed(a, at(0_s), kLeader, push(1)));
  ASSERT_EQ(posted.size(), 1U);
  EXPECT_EQ(posted[0].attempt, 0U);
  EXPECT_EQ(posted[0].instance, InstanceId{5});
  const Commands c = feed(a, at(1_s), WriteEnded{posted[0].op, Cause::none});
  const auto reports = sent<KvReport>(c);
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].second.slot, 77U);
  EXPECT_EQ(reports[0].second.cause, Cause::none);
  EXPECT_EQ(reports[0].second.tries, 1U);
  EXPECT_TRUE(sent<TransferFailed>(c).empty());
}

TEST(NodeAgent, ABrokenPathIsTriedAgainAsOftenAsAllowedThenReportedToLeaderAndFleet) {
  NodeAgent a(setup());
  Instant now = at(0_s);
  OpId op = all<PostWrite>(feed(a, now, kLeader, push(1))).at(0).op;
  for (std::uint32_t k = 1; k < 3; ++k) {
    EXPECT_EQ(armed(feed(a, now, WriteEnded{op, Cause::link_down}), 1), now + 1_s);
    now = now + 1_s;
    const auto again = all<PostWrite>(feed(a, now, TimerFired{1}));
    ASSERT_EQ(again.size(), 1U);
    EXPECT_EQ(again[0].attempt, k);
    EXPECT_NE(again[0].op, op);  // operation ids are never used twice
    op = again[0].op;
  }
  const Commands c = feed(a, now, WriteEnded{op, Cause::link_down});
  ASSERT_EQ(sent<KvReport>(c).size(), 1U);
  EXPECT_EQ(sent<KvReport>(c)[0].second.cause, Cause::link_down);
  EXPECT_EQ(sent<KvReport>(c)[0].second.tries, 3U);
  ASSERT_EQ(sent<TransferFailed>(c).size(), 1U);
  EXPECT_EQ(sent<TransferFailed>(c)[0].second.from_node, 3U);
  EXPECT_EQ(sent<TransferFailed>(c)[0].second.to_node, 9U);
}

TEST(NodeAgent, OnlyABrokenPathIsWorthAnotherTry) {
  for (const Cause cause : {Cause::peer_lost, Cause::device_lost, Cause::protection, Cause::canceled}) {
    NodeAgent a(setup());
    const OpId op = all<PostWrite>(feed(a, at(0_s), kLeader, push(1))).at(0).op;
    const auto reports = sent<KvReport>(feed(a, at(1_s), WriteEnded{op, cause}));
    ASSERT_EQ(reports.size(), 1U);
    EXPECT_EQ(reports[0].second.cause, cause);
  }
}

TEST(NodeAgent, ADeadlineCancelsThePostedAttemptAndItsEndIsATimeOut) {
  NodeAgent a(setup());
  Commands c = feed(a, at(0_s), kLeader, push(1));
  EXPECT_EQ(armed(c, 1), at(10_s));
  const OpId op = all<PostWrite>(c).at(0).op;
  c = feed(a, at(10_s), TimerFired{1});
  ASSERT_EQ(all<CancelWrite>(c).size(), 1U);
  EXPECT_TRUE(sent<KvReport>(c).empty());  // the transport has not let go of the memory
  c = feed(a, at(11_s), WriteEnded{op, Cause::canceled});
  ASSERT_EQ(sent<KvReport>(c).size(), 1U);
  EXPECT_EQ(sent<KvReport>(c)[0].second.cause, Cause::timeout);
}

TEST(NodeAgent, AWriteThatEndsWellDespiteItsCancellationIsWell) {
  NodeAgent a(setup());
  const OpId op = all<PostWrite>(feed(a, at(0_s), kLeader, push(1))).at(0).op;
  feed(a, at(10_s), TimerFired{1});
  EXPECT_EQ(sent<KvReport>(feed(a, at(11_s), WriteEnded{op, Cause::none})).at(0).second.cause, Cause::none);
}

TEST(NodeAgent, NoTryBeginsAfterTheDeadline) {
  NodeAgentSetup s = setup();
  s.transfer.deadline = 1500_ms;
  NodeAgent a(s);
  const OpId op = all<PostWrite>(feed(a, at(0_s), kLeader, push(1))).at(0).op;
  const auto reports = sent<KvReport>(feed(a, at(600_ms), WriteEnded{op, Cause::link_down}));
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].second.cause, Cause::link_down);
}

TEST(NodeAgent, ProbesItsNodeForTheFleet) {
  NodeAgent a(setup());
  ASSERT_EQ(all<RunProbe>(feed(a, at(0_s), kFleetAddress, ProbeNode{8})).size(), 1U);
  const auto results = sent<ProbeResult>(feed(a, at(1_s), ProbeEnded{8, 0b101, false}));
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].first, kFleetAddress);
  EXPECT_EQ(results[0].second.token, 8U);
  EXPECT_EQ(results[0].second.bad_gpus, 0b101U);
  EXPECT_FALSE(results[0].second.network_ok);
}

}  // namespace
}  // namespace faultline::control
