#include "core/control/instance.h"

#include <gtest/gtest.h>

#include "tests/unit/core/control/instance_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;

TEST(Instance, WatchesItsNodesAndItsRouters) {
  InstanceSetup s = split();
  s.routers = 2;
  s.signal_interval = 100_ms;
  Fixture f(s);
  const Commands c = f.event(Started{});
  const auto watched = all<Watch>(c);
  ASSERT_EQ(watched.size(), 4U);
  EXPECT_EQ(watched[0].peer, agent_at(0));
  EXPECT_EQ(watched[1].peer, agent_at(1));
  EXPECT_EQ(watched[2].peer, router_at(0));
  EXPECT_EQ(watched[3].peer, router_at(1));
  EXPECT_EQ(armed(c, 1), at(100_ms));
}

TEST(Instance, ARequestIsPrefilledPushedDecodedAndAnswered) {
  Fixture f(split());
  Commands c = f.submit(0, 40, 5);
  const auto runs = sent<RunStep>(c);
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].first, agent_at(0));
  ASSERT_EQ(runs[0].second.items.size(), 1U);
  EXPECT_EQ(runs[0].second.items[0].chunk_tokens, 40);
  EXPECT_EQ(runs[0].second.items[0].context_before, 0);
  EXPECT_TRUE(runs[0].second.loads.empty());
  const auto pushes = sent<PushKv>(c);
  ASSERT_EQ(pushes.size(), 1U);
  EXPECT_EQ(pushes[0].second.bytes, Bytes{400});
  EXPECT_EQ(pushes[0].second.step, runs[0].second.op);
  EXPECT_EQ(pushes[0].second.to_node, 1U);

  EXPECT_TRUE(all<NoteFirstToken>(f.step_done(0)).empty());  // the KV is not there yet
  c = f.push_done();
  EXPECT_EQ(all<NoteFirstToken>(c).size(), 1U);
  ASSERT_TRUE(f.running.contains(1));
  EXPECT_EQ(f.running[1].steps_max, 4);  // the first of five tokens came from prefill
  ASSERT_EQ(f.running[1].loads.size(), 2U);
  EXPECT_EQ(f.running[1].loads[0].sequences + f.running[1].loads[1].sequences, 1);
  EXPECT_EQ(f.running[1].loads[0].context_tokens + f.running[1].loads[1].context_tokens, 40);
  const auto done = ended(f.step_done(1, 4));
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].cause, Cause::none);
  EXPECT_EQ(done[0].produced, 5);
  EXPECT_EQ(f.instance.live(), 0U);
  EXPECT_TRUE(f.running.empty());
}

TEST(Instance, ARequestOfOneTokenNeedsNeitherAPushNorADecodeStep) {
  Fixture f(split());
  EXPECT_TRUE(sent<PushKv>(f.submit(0, 40, 1)).empty());
  const Commands c = f.step_done(0);
  EXPECT_EQ(all<NoteFirstToken>(c).size(), 1U);
  ASSERT_EQ(ended(c).size(), 1U);
  EXPECT_EQ(ended(c)[0].produced, 1);
  EXPECT_EQ(f.instance.live(), 0U);
}

TEST(Instance, ALongPromptGoesInChunksAndEachIsPushedAsItIsComputed) {
  Fixture f(split());
  f.submit(0, 250, 2);
  std::vector<std::pair<std::int64_t, std::int64_t>> chunks;
  while (f.running.contains(0)) {
    ASSERT_EQ(f.running[0].items.size(), 1U);
    chunks.emplace_back(f.running[0].items[0].context_before, f.running[0].items[0].chunk_tokens);
    f.step_done(0);
  }
  EXPECT_EQ(chunks, (std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 100}, {100, 100}, {200, 50}}));
  ASSERT_EQ(f.pushes.size(), 3U);
  EXPECT_EQ(f.pushes[2].bytes, Bytes{500});
  f.push_done();
  f.push_done();
  EXPECT_FALSE(f.running.contains(1));  // one chunk of the KV is still missing
  f.push_done();
  EXPECT_TRUE(f.running.contains(1));
}

TEST(Instance, ChunksOfDifferentPromptsShareTheTokenBudgetOfARank) {
  InstanceSetup s = split();
  s.groups[0].ranks = 1;
  Fixture f(s);
  f.submit(0, 10, 2);  // starts at once
  f.submit(1, 70, 2);
  f.submit(2, 70, 2);
  f.step_done(0);
  ASSERT_EQ(f.running[0].items.size(), 2U);
  EXPECT_EQ(f.running[0].items[0].chunk_tokens, 70);
  EXPECT_EQ(f.running[0].items[1].chunk_tokens, 30);
  f.step_done(0);
  ASSERT_EQ(f.running[0].items.size(), 1U);
  EXPECT_EQ(f.running[0].items[0].context_before, 30);
  EXPECT_EQ(f.running[0].items[0].chunk_tokens, 40);
}

TEST(Instance, WithoutChunkingALongPromptIsOneStepOfItsOwn) {
  InstanceSetup s = split();
  s.engine.chunked_prefill = false;
  s.groups[0].ranks = 1;
  Fixture f(s);
  f.submit(0, 10, 2);
  f.submit(1, 50, 2);
  f.submit(2, 300, 2);
  f.step_done(0);
  ASSERT_EQ(f.running[0].items.size(), 1U);
  EXPECT_EQ(f.running[0].items[0].chunk_tokens, 50);
  f.step_done(0);
  ASSERT_EQ(f.running[0].items.size(), 1U);
  EXPECT_EQ(f.running[0].items[0].chunk_tokens, 300);
}

TEST(Instance, RequestsSpreadOverTheRanksByWaitingWork) {
  Fixture f(split());
  f.submit(0, 90, 2);
  f.submit(1, 20, 2);
  f.submit(2, 20, 2);
  f.step_done(0);
  std::vector<std::int32_t> ranks;
  for (const auto& i : f.running[0].items) ranks.push_back(i.rank);
  EXPECT_EQ(ranks, (std::vector<std::int32_t>{1, 1}));  // both behind the shorter queue
}

TEST(Instance, AMixedStepCarriesADecodeStepOfTheRunningBatch) {
  Fixture f(both());
  f.submit(0, 40, 10);
  f.step_done(0);
  ASSERT_TRUE(f.running.contains(0));
  EXPECT_TRUE(f.running[0].items.empty());
  const Commands c = f.submit(1, 40, 10);
  ASSERT_EQ(sent<InterruptRun>(c).size(), 1U);  // the decode run ends at its next boundary
  EXPECT_EQ(sent<InterruptRun>(c)[0].second.op, f.running[0].op);
  f.step_done(0, 3);
  ASSERT_EQ(f.running[0].items.size(), 1U);
  ASSERT_EQ(f.running[0].loads.size(), 1U);
  EXPECT_EQ(f.running[0].loads[0].sequences, 1);
  EXPECT_EQ(f.running[0].loads[0].context_tokens, 43);
  f.step_done(0, 1);
  // The mixed step advanced the first one, and the second has joined it.
  EXPECT_EQ(f.running[0].loads[0].sequences, 2);
  EXPECT_EQ(f.running[0].loads[0].context_tokens, 44 + 40);
  EXPECT_EQ(f.running[0].steps_max, 5);  // 9 decode steps of the first, 4 done
}

TEST(Instance, WithoutMixingADecodeBatchWaitsForThePrefillStep) {
  InstanceSetup s = both();
  s.engine.mixed_prefill = false;
  Fixture f(s);
  f.submit(0, 40, 10);
  f.step_done(0);
  f.submit(1, 40, 10);
  f.step_done(0, 3);
  ASSERT_EQ(f.running[0].items.size(), 1U);
  EXPECT_TRUE(f.running[0].loads.empty());
  f.step_done(0, 1);
  EXPECT_EQ(f.running[0].loads[0].context_tokens, 43 + 40);
  EXPECT_EQ(f.running[0].steps_max, 6);
}

TEST(Instance, SequencesLeaveWhenTheyEndAndTheRestGoesOn) {
  Fixture f(split());
  f.submit(0, 16, 3);
  f.submit(1, 16, 6);
  f.step_done(0);
  f.step_done(0);
  f.push_done();
  f.push_done();
  ASSERT_TRUE(f.running.contains(1));
  EXPECT_EQ(f.running[1].steps_max, 2);
  f.step_done(1, 0);  // stopped before its first boundary: the second joins
  EXPECT_EQ(f.running[1].loads[0].sequences + f.running[1].loads[1].sequences, 2);
  EXPECT_EQ(f.running[1].steps_max, 2);
  auto done = ended(f.step_done(1, 2));
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].request.v, 0U);
  EXPECT_EQ(f.running[1].steps_max, 3);
  done = ended(f.step_done(1, 3));
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].request.v, 1U);
}

TEST(Instance, PrefillWaitsWhileThereIsNoRoomDownstreamAndGoesOnWhenThereIs) {
  InstanceSetup s = split();
  s.groups[1] = {GroupRole::decode, 1, 8, {1}};  // 128 tokens in all
  Fixture f(s);
  f.submit(0, 100, 20);
  f.submit(1, 100, 20);
  f.step_done(0);
  EXPECT_FALSE(f.running.contains(0));
  f.push_done();
  ASSERT_TRUE(f.running.contains(1));
  f.step_done(1, 19);
  EXPECT_TRUE(f.running.contains(0));
}

TEST(Instance, TheSequenceLimitHoldsPrefillBackToo) {
  InstanceSetup s = split();
  s.engine.max_num_seqs = 1;
  s.groups[1].ranks = 1;
  Fixture f(s);
  f.submit(0, 10, 20);
  f.submit(1, 10, 20);
  f.step_done(0);
  EXPECT_FALSE(f.running.contains(0));
}

TEST(Instance, ALostPushThatFreesRoomLetsTheNextPromptStart) {
  InstanceSetup s = split();
  s.groups[1] = {GroupRole::decode, 1, 8, {1}};
  Fixture f(s);
  f.submit(0, 100, 20);
  f.submit(1, 100, 20);
  f.step_done(0);
  ASSERT_FALSE(f.running.contains(0));
  const auto lost_one = ended(f.push_done(0, Cause::link_down));
  ASSERT_EQ(lost_one.size(), 1U);
  EXPECT_EQ(lost_one[0].cause, Cause::link_down);
  EXPECT_TRUE(f.running.contains(0)) << "nothing else will ever wake the prefill group";
}

TEST(Instance, ALostRouterThatFreesRoomLetsTheNextPromptStart) {
  InstanceSetup s = split();
  s.routers = 2;
  s.groups[1] = {GroupRole::decode, 1, 8, {1}};
  Fixture f(s);
  f.submit(0, 100, 20, 0);
  f.submit(1, 100, 20, 1);
  f.step_done(0);
  f.push_done();
  ASSERT_FALSE(f.running.contains(0));
  f.event(lost(router_at(0)));
  f.step_done(1);  // its sequence leaves at the step boundary
  EXPECT_TRUE(f.running.contains(0));
}

TEST(Instance, ASequenceWhoseRouterIsLostLeavesAtTheNextStepBoundaryWithAllThatItHad) {
  InstanceSetup s = split();
  s.routers = 2;
  Fixture f(s);
  f.submit(0, 40, 20, 0);
  f.submit(1, 40, 20, 1);
  for (int k = 0; k < 2; ++k) {
    f.step_done(0);
    f.push_done();
  }
  f.step_done(1);  // the second one joins
  const Commands c = f.event(lost(router_at(0)));
  EXPECT_TRUE(ended(c).empty()) << "the step under way still computes it";
  ASSERT_EQ(sent<InterruptRun>(c).size(), 1U);
  EXPECT_TRUE(sent<InterruptRun>(f.event(lost(router_at(0)))).empty()) << "told twice";
  const Commands boundary = f.step_done(1, 3);
  const auto notes = all<NoteAttemptLost>(boundary);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].request, RequestId{0});
  EXPECT_EQ(notes[0].cause, Cause::router_lost);
  EXPECT_EQ(notes[0].produced, 1 + 1 + 3);
  ASSERT_TRUE(f.running.contains(1)) << "the other goes on";
  EXPECT_EQ(f.running[1].loads[0].sequences + f.running[1].loads[1].sequences, 1);
}

TEST(Instance, RefusesWhatCanNeverFit) {
  Fixture f(split());
  auto e = ended(f.submit(0, 900, 200));  // above max_model_len
  ASSERT_EQ(e.size(), 1U);
  EXPECT_EQ(e[0].cause, Cause::too_large);
  InstanceSetup s = split();
  s.groups[1].kv_blocks_per_rank = 4;
  Fixture small(s);
  e = ended(small.submit(0, 40, 30));  // 5 blocks
  ASSERT_EQ(e.size(), 1U);
  EXPECT_EQ(e[0].cause, Cause::too_large);
  EXPECT_TRUE(ended(small.submit(1, 40, 24)).empty());  // 4 blocks
}

TEST(Instance, AFailedGroupGivesItsRequestsBackAndTellsTheFleet) {
  Fixture f(split());
  f.submit(0, 16, 8);
  f.step_done(0);
  f.push_done();
  const Commands c = f.step_done(1, 2, Cause::device_lost, 1);
  const auto e = ended(c);
  ASSERT_EQ(e.size(), 1U);
  EXPECT_EQ(e[0].cause, Cause::device_lost);
  EXPECT_EQ(e[0].produced, 3);
  EXPECT_FALSE(e[0].accepting);
  const auto notes = all<NoteAttemptLost>(c);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].prefilled, 16);
  EXPECT_EQ(notes[0].produced, 3);
  const auto told = sent<GroupFailed>(c);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].second.group, 1U);
  EXPECT_EQ(told[0].second.suspect_rank, 1U);
  EXPECT_EQ(f.instance.live(), 0U);
  // It refuses until the group is back.
  EXPECT_EQ(ended(f.submit(1, 16, 8)).at(0).cause, Cause::overload);
  f.feed(kFleetAddress, FenceGroups{0b10, 1, Cause::device_lost});
  EXPECT_EQ(ended(f.submit(2, 16, 8)).size(), 1U);
  f.feed(kFleetAddress, GroupReady{1, 1, 1, {1}});
  EXPECT_TRUE(ended(f.submit(3, 16, 8)).empty());
}

TEST(Instance, QueuedRequestsOfAFailedPrefillGroupMoveToAnother) {
  InstanceSetup s = split();
  s.groups = {{GroupRole::prefill, 1, 64, {0}}, {GroupRole::prefill, 1, 64, {2}}, {GroupRole::decode, 2, 64, {1}}};
  Fixture f(s);
  f.submit(0, 90, 4);  // group 0, running
  f.submit(1, 90, 4);  // group 1, running
  f.submit(2, 30, 4);  // group 0, queued
  const Commands c = f.step_done(0, 0, Cause::device_lost);
  const auto e = ended(c);
  ASSERT_EQ(e.size(), 1U);
  EXPECT_EQ(e[0].request.v, 0U);
  f.step_done(1);
  ASSERT_TRUE(f.running.contains(1));
  EXPECT_EQ(f.running[1].items[0].chunk_tokens, 30);
}

TEST(Instance, BlocksUnderAPushStayTakenUntilThePushHasEnded) {
  InstanceSetup s = split();
  s.groups[0] = {GroupRole::prefill, 1, 8, {0}};
  s.groups.push_back({GroupRole::decode, 2, 64, {2}});
  Fixture f(s);
  f.submit(0, 100, 4);  // 7 of 8 blocks on the prefill rank; decode goes to group 1
  f.step_done(0);
  f.submit(1, 100, 4);
  ASSERT_FALSE(f.running.contains(0));
  f.event(lost(agent_at(1)));  // the decode side of the first dies: its attempt is over, its push is not
  EXPECT_EQ(f.instance.live(), 2U);
  EXPECT_FALSE(f.running.contains(0));
  f.push_done(0, Cause::peer_lost);
  EXPECT_EQ(f.instance.live(), 1U);
  EXPECT_TRUE(f.running.contains(0));
}

TEST(Instance, AReportForAPushOfAForgottenRequestChangesNothing) {
  Fixture f(split());
  f.submit(0, 40, 4);
  f.step_done(0, 0, Cause::device_lost);
  EXPECT_EQ(f.instance.live(), 0U);
  f.feed(kFleetAddress, FenceGroups{0b01, 1, Cause::device_lost});
  f.feed(kFleetAddress, GroupReady{0, 1, 0, {0}});
  f.submit(1, 40, 4);  // takes the same slot
  EXPECT_TRUE(f.push_done(0, Cause::canceled).empty());
  EXPECT_EQ(f.instance.live(), 1U);
}

TEST(Instance, ReportsOfAnOlderIncarnationAreIgnored) {
  Fixture f(split());
  f.submit(0, 40, 4);
  const RunStep old = f.running[0];
  f.feed(kFleetAddress, FenceGroups{0b01, 1, Cause::device_lost});
  f.running.clear();
  f.feed(kFleetAddress, GroupReady{0, 1, 0, {0}});
  f.submit(1, 40, 4);
  ASSERT_TRUE(f.running.contains(0));
  EXPECT_EQ(f.running[0].epoch, 1U);
  EXPECT_TRUE(f.feed(agent_at(0), StepReport{old.op, 0, 0, 1, Cause::none, kUnknownRank}).empty());
  EXPECT_TRUE(f.feed(agent_at(0), StepReport{old.op, 0, 0, 0, Cause::device_lost, 0}).empty());
  EXPECT_TRUE(f.feed(kFleetAddress, FenceGroups{0b01, 1, Cause::device_lost}).empty());
  EXPECT_TRUE(f.feed(kFleetAddress, GroupReady{0, 0, 0, {0}}).empty());
  EXPECT_EQ(f.instance.live(), 1U);
}

TEST(Instance, ANodeOfAGroupThatIsLostTakesTheGroupWithIt) {
  Fixture f(split());
  f.submit(0, 16, 8);
  f.step_done(0);
  f.push_done();
  const Commands c = f.event(lost(agent_at(1)));
  EXPECT_EQ(ended(c).size(), 1U);
  ASSERT_EQ(sent<GroupFailed>(c).size(), 1U);
  EXPECT_EQ(sent<GroupFailed>(c)[0].second.cause, Cause::peer_lost);
  EXPECT_TRUE(sent<GroupFailed>(f.event(lost(agent_at(1)))).empty());
}

TEST(Instance, WorkersThatExitWhileIdleFailTheirGroup) {
  Fixture f(split());
  const Commands c = f.feed(agent_at(1), StepReport{OpId{}, 1, 0, 0, Cause::device_lost, 1});
  ASSERT_EQ(sent<GroupFailed>(c).size(), 1U);
  EXPECT_EQ(sent<GroupFailed>(c)[0].second.group, 1U);
}

TEST(Instance, AReplacedNodeIsWatchedInsteadOfTheOldOne) {
  Fixture f(split());
  f.feed(kFleetAddress, FenceGroups{0b10, 1, Cause::device_lost});
  const Commands c = f.feed(kFleetAddress, GroupReady{1, 1, 7, {7}});
  ASSERT_EQ(all<Watch>(c).size(), 1U);
  EXPECT_EQ(all<Watch>(c)[0].peer, agent_at(7));
  ASSERT_EQ(all<Unwatch>(c).size(), 1U);
  EXPECT_EQ(all<Unwatch>(c)[0].peer, agent_at(1));
  f.submit(0, 16, 4);
  EXPECT_EQ(f.pushes.at(0).to_node, 7U);
  f.step_done(0);
  EXPECT_EQ(sent<RunStep>(f.push_done()).at(0).first, agent_at(7));
}

// ---- restart of one rank --------------------------------------------------------------------------------------------

/// Two decoding requests, one on each decode rank.
Fixture two_decoding() {
  InstanceSetup s = split();
  s.restart_unit = RestartUnit::rank;
  Fixture f(s);
  f.submit(0, 16, 20);
  f.submit(1, 16, 20);
  f.step_done(0);
  f.step_done(0);
  f.push_done();
  f.push_done();
  f.step_done(1, 0);
  EXPECT_EQ(f.running[1].loads[0].sequences, 1);
  EXPECT_EQ(f.running[1].loads[1].sequences, 1);
  return f;
}

TEST(Instance, WhereOneRankRestartsTheOthersKeepTheirRequests) {
  Fixture f = two_decoding();
  EXPECT_EQ(ended(f.step_done(1, 5, Cause::device_lost, 1)).size(), 1U);
  EXPECT_EQ(f.instance.live(), 1U);
  f.feed(kFleetAddress, GroupReady{1, 1, 1, {1}});
  ASSERT_TRUE(f.running.contains(1));
  EXPECT_EQ(f.running[1].epoch, 1U);
  EXPECT_EQ(f.running[1].loads[0].sequences, 1);
  EXPECT_EQ(f.running[1].loads[1].sequences, 0);
  EXPECT_EQ(f.running[1].steps_max, 14);
  EXPECT_EQ(ended(f.step_done(1, 14)).at(0).produced, 20);
}

TEST(Instance, AFenceAfterTheLossOfOneRankTakesTheOthersRequestsToo) {
  Fixture f = two_decoding();
  f.step_done(1, 5, Cause::device_lost, 1);
  const auto e = ended(f.feed(kFleetAddress, FenceGroups{0b10, 1, Cause::device_lost}));
  ASSERT_EQ(e.size(), 1U) << "its KV does not survive the restart of the group";
  EXPECT_EQ(e[0].cause, Cause::device_lost);
  EXPECT_EQ(f.instance.live(), 0U);
}

TEST(Instance, AnAdmittedPromptOfOneTokenGivesItsBlocksBackWhenTheFenceComes) {
  InstanceSetup s = split();
  s.restart_unit = RestartUnit::rank;
  s.groups = {{GroupRole::prefill, 2, 8, {0}}, {GroupRole::prefill, 1, 8, {2}}, {GroupRole::decode, 1, 64, {1}}};
  Fixture f(s);
  f.submit(0, 100, 1);  // rank 0 of group 0: 7 of its 8 blocks
  f.step_done(0, 0, Cause::device_lost, 1);
  f.feed(kFleetAddress, FenceGroups{0b001, 1, Cause::device_lost});
  EXPECT_EQ(f.instance.live(), 0U) << "its KV is gone";
  f.feed(kFleetAddress, GroupReady{0, 1, 0, {0}});
  f.submit(1, 100, 1);
  EXPECT_TRUE(f.running.contains(0)) << "there is room for it again";
}

TEST(Instance, AnUnknownRankTakesTheWholeGroup) {
  Fixture f = two_decoding();
  EXPECT_EQ(ended(f.step_done(1, 5, Cause::timeout)).size(), 2U);
  EXPECT_EQ(f.instance.live(), 0U);
}

// ---- draining, reports ----------------------------------------------------------------------------------------------

TEST(Instance, ADrainingInstanceRefusesNewRequestsAndSaysOnceWhenItIsEmpty) {
  Fixture f(split());
  f.submit(0, 16, 3);
  EXPECT_TRUE(sent<Drained>(f.feed(kFleetAddress, Drain{true})).empty());
  EXPECT_EQ(ended(f.submit(1, 16, 3)).at(0).cause, Cause::overload);
  f.step_done(0);
  f.push_done();
  EXPECT_EQ(sent<Drained>(f.step_done(1, 2)).size(), 1U);
  EXPECT_TRUE(sent<Drained>(f.event(TimerFired{1})).empty());
  f.feed(kFleetAddress, Drain{false});
  EXPECT_TRUE(ended(f.submit(2, 16, 3)).empty());
}

TEST(Instance, AnEmptyInstanceIsDrainedAtOnce) {
  Fixture f(split());
  EXPECT_EQ(sent<Drained>(f.feed(kFleetAddress, Drain{true})).size(), 1U);
}

TEST(Instance, IsDrainedAlsoWhereItsLastRequestEndsInALoss) {
  Fixture pushed(split());
  pushed.submit(0, 16, 3);
  pushed.step_done(0);
  pushed.feed(kFleetAddress, Drain{true});
  EXPECT_EQ(sent<Drained>(pushed.push_done(0, Cause::link_down)).size(), 1U);
  Fixture routed(split());
  routed.submit(0, 16, 3);
  routed.step_done(0);
  routed.push_done();
  routed.feed(kFleetAddress, Drain{true});
  routed.event(lost(router_at(0)));
  EXPECT_EQ(sent<Drained>(routed.step_done(1)).size(), 1U);
}

TEST(Instance, ReportsItsLoadOnlyWhereItChanged) {
  InstanceSetup s = split();
  s.routers = 2;
  s.report_to_fleet = true;
  s.signal_interval = 100_ms;
  Fixture f(s);
  f.submit(0, 16, 4);
  const auto reports = sent<LoadReport>(f.event(TimerFired{1}));
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_EQ(reports[0].second.outstanding_tokens, 20);
  EXPECT_EQ(reports[2].first, kFleetAddress);
  const Commands again = f.event(TimerFired{1});
  EXPECT_TRUE(sent<LoadReport>(again).empty());
  EXPECT_EQ(armed(again, 1), at(100_ms));
}

TEST(Instance, AccountsForWhatItHeldWhenItsLeaderDies) {
  Fixture f = two_decoding();
  f.submit(2, 50, 4);
  Commands notes;
  const std::int64_t in_flight[] = {0, 3};
  f.instance.account_loss(in_flight, notes);
  const auto lost_ones = all<NoteAttemptLost>(notes);
  ASSERT_EQ(lost_ones.size(), 3U);
  EXPECT_EQ(lost_ones[0].produced, 4);  // the first token and three steps that the leader had not heard of
  EXPECT_EQ(lost_ones[2].produced, 0);
  EXPECT_EQ(lost_ones[2].prefilled, 0);
}

}  // namespace
}  // namespace faultline::control
