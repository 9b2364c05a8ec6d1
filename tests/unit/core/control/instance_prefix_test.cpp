// What an instance does with prompts that begin like earlier ones. The fixture checks the books after every event:
// blocks that requests own, cached ones that they reference and those that are kept for later.
#include <gtest/gtest.h>

#include "tests/unit/core/control/instance_fixture.h"

namespace faultline::control {
namespace {

using namespace testing;

/// 1P1D with one rank each.
InstanceSetup one_each(std::int64_t blocks = 64) {
  InstanceSetup s = split();
  s.groups = {{GroupRole::prefill, 1, blocks, {0}}, {GroupRole::decode, 1, 64, {1}}};
  return s;
}
/// Prefills, pushes and decodes whatever is asked for, until nothing is.
void finish(Fixture& f) {
  while (!f.running.empty() || !f.pushes.empty()) {
    if (f.running.contains(0)) f.step_done(0);
    while (!f.pushes.empty()) f.push_done();
    if (f.running.contains(1)) f.step_done(1, f.running[1].steps_max);
  }
}
/// The note of an admission among the commands.
NotePrefixCache admission(const Commands& c) {
  for (const NotePrefixCache& n : all<NotePrefixCache>(c)) {
    if (n.request.valid()) return n;
  }
  ADD_FAILURE() << "nobody was admitted";
  return {};
}
std::int64_t evicted(const Commands& c) {
  std::int64_t n = 0;
  for (const NotePrefixCache& x : all<NotePrefixCache>(c)) n += x.evicted;
  return n;
}

TEST(InstancePrefix, CachedTokensAreNotComputedAgainAndAllAreHandedOver) {
  Fixture f(one_each());
  EXPECT_EQ(admission(f.submit_with(0, 70, 3, {1, 2, 3, 4, 5})).hit, 0);
  finish(f);
  const Commands c = f.submit_with(1, 90, 3, {1, 2, 3, 7, 8, 9});
  EXPECT_EQ(admission(c).hit, 48);
  EXPECT_EQ(admission(c).asked, 90);
  ASSERT_EQ(f.running.at(0).items.size(), 1U);
  EXPECT_EQ(f.running.at(0).items[0].context_before, 48);
  EXPECT_EQ(f.running.at(0).items[0].chunk_tokens, 42);
  ASSERT_EQ(f.pushes.size(), 1U);
  EXPECT_EQ(f.pushes[0].bytes, Bytes{900}) << "the decode side has none of it";
  finish(f);
  EXPECT_EQ(f.instance.live(), 0U);
}

TEST(InstancePrefix, TheCachedPartGoesWithTheFirstChunkOnly) {
  Fixture f(one_each());
  f.submit_with(0, 32, 3, {1, 2});
  finish(f);
  f.submit_with(1, 200, 3, {1, 2});
  ASSERT_EQ(f.pushes.size(), 1U);
  EXPECT_EQ(f.pushes[0].bytes, Bytes{1320});  // 32 cached, 100 computed
  f.step_done(0);
  EXPECT_EQ(f.running.at(0).items[0].context_before, 132);
  EXPECT_EQ(f.pushes.at(1).bytes, Bytes{680});
  finish(f);
}

TEST(InstancePrefix, OneTokenAtLeastIsComputed) {
  Fixture f(one_each());
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  EXPECT_EQ(admission(f.submit_with(1, 64, 3, {1, 2, 3, 4})).hit, 48);
  EXPECT_EQ(f.running.at(0).items[0].chunk_tokens, 16);
  finish(f);
  EXPECT_EQ(admission(f.submit_with(2, 65, 3, {1, 2, 3, 4, 5})).hit, 64);
  finish(f);
}

TEST(InstancePrefix, BlocksAreFoundFromTheEndOfTheStepThatComputedThem) {
  Fixture f(one_each());
  f.submit_with(0, 160, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});  // two chunks of 100 and 60
  f.submit_with(1, 160, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const Commands c = f.step_done(0);  // 6 full blocks are there; both are in the second step
  EXPECT_EQ(admission(c).hit, 96);
  ASSERT_EQ(f.running.at(0).items.size(), 2U);
  EXPECT_EQ(f.running.at(0).items[1].context_before, 96);
  finish(f);
  EXPECT_EQ(f.instance.live(), 0U);
}

TEST(InstancePrefix, WithoutAChainOrWithTheCacheOffNothingIsKept) {
  for (const bool off : {true, false}) {
    InstanceSetup s = one_each();
    s.engine.prefix_cache = !off;
    Fixture f(s);
    for (std::uint32_t id = 0; id < 2; ++id) {
      const Commands c = off ? f.submit_with(id, 64, 3, {1, 2, 3, 4}) : f.submit(id, 64, 3);
      EXPECT_TRUE(all<NotePrefixCache>(c).empty());
      EXPECT_EQ(f.running.at(0).items[0].context_before, 0);
      finish(f);
    }
  }
}

TEST(InstancePrefix, KeptBlocksMakeRoomForWhoeverNeedsThem) {
  Fixture f(one_each(8));
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  EXPECT_EQ(evicted(f.submit_with(1, 64, 3, {5, 6, 7, 8})), 0);
  finish(f);
  EXPECT_EQ(evicted(f.submit(2, 96, 3)), 96) << "all 8 blocks are kept, 6 are needed";
  finish(f);
  // The older chain is gone, of the younger one the last blocks.
  EXPECT_EQ(admission(f.submit_with(3, 64, 3, {1, 2, 3, 4})).hit, 0);
  finish(f);
  EXPECT_EQ(admission(f.submit_with(4, 64, 3, {5, 6, 7, 8})).hit, 32);
  finish(f);
}

TEST(InstancePrefix, APromptThatFillsTheRankIsAdmittedWhateverIsKept) {
  Fixture f(one_each(8));
  const PrefixChain chain{128, 128, {1}};  // one prefix block of all 8 KV blocks; the last of these is computed anew
  for (std::uint32_t id = 0; id < 3; ++id) {
    f.feed(router_at(0), SubmitRequest{RequestId{id}, 0, 128, 3, 1, chain});
    ASSERT_TRUE(f.running.contains(0)) << id;
    finish(f);
    EXPECT_EQ(f.instance.live(), 0U);
  }
}

TEST(InstancePrefix, WhatARequestHoldsIsNotEvictedAndTheNextOneWaits) {
  Fixture f(one_each(8));
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  f.submit_with(1, 80, 3, {1, 2, 3, 4, 5});  // 4 held, 1 of its own
  ASSERT_TRUE(f.running.contains(0));
  f.submit(2, 64, 3);
  f.step_done(0);  // its blocks are still read by the push: 5 of 8 in use, 4 needed
  EXPECT_FALSE(f.running.contains(0));
  f.push_done();
  ASSERT_TRUE(f.running.contains(0)) << "the blocks are free for the taking";
  EXPECT_EQ(f.running[0].items[0].chunk_tokens, 64);
  finish(f);
}

TEST(InstancePrefix, AnAbandonedRequestLetsGo) {
  Fixture f(one_each(8));
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  f.submit_with(1, 100, 3, {1, 2, 3, 4});
  f.event(lost(router_at(0)));
  EXPECT_EQ(f.instance.live(), 1U) << "the network still reads its blocks";
  while (!f.pushes.empty()) f.push_done(0, Cause::canceled);
  EXPECT_EQ(f.instance.live(), 0U);
  f.step_done(0);
  EXPECT_EQ(evicted(f.submit(2, 128, 3)), 64) << "all blocks can be had, of which those four were kept";
  finish(f);
}

TEST(InstancePrefix, ARestartLosesWhatWasKept) {
  Fixture f(one_each());
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  const Commands c = f.feed(kFleetAddress, FenceGroups{0b01, 1, Cause::device_lost});
  ASSERT_EQ(all<NotePrefixCache>(c).size(), 1U);
  EXPECT_EQ(all<NotePrefixCache>(c)[0].lost, 64);
  EXPECT_FALSE(all<NotePrefixCache>(c)[0].request.valid());
  f.feed(kFleetAddress, GroupReady{0, 1, 0, {0}});
  EXPECT_EQ(admission(f.submit_with(1, 64, 3, {1, 2, 3, 4})).hit, 0);
  finish(f);
}

TEST(InstancePrefix, ALostDecodeGroupLeavesThePrefillSidesCache) {
  Fixture f(one_each());
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  finish(f);
  EXPECT_TRUE(all<NotePrefixCache>(f.feed(kFleetAddress, FenceGroups{0b10, 1, Cause::device_lost})).empty());
  f.feed(kFleetAddress, GroupReady{1, 1, 1, {1}});
  EXPECT_EQ(admission(f.submit_with(1, 64, 3, {1, 2, 3, 4})).hit, 48);
  finish(f);
}

TEST(InstancePrefix, WhereOneRankRestartsTheOthersKeepTheirs) {
  InstanceSetup s = split();
  s.restart_unit = RestartUnit::rank;
  Fixture f(s);
  f.submit_with(0, 64, 3, {1, 2, 3, 4});  // rank 0
  f.submit_with(1, 64, 3, {5, 6, 7, 8});  // rank 1, in the next step
  finish(f);
  f.feed(agent_at(0), StepReport{OpId{}, 0, 0, 0, Cause::device_lost, 0});
  f.feed(kFleetAddress, GroupReady{0, 1, 0, {0}});
  EXPECT_EQ(admission(f.submit_with(2, 64, 3, {5, 6, 7, 8})).hit, 48);
  finish(f);
  EXPECT_EQ(admission(f.submit_with(3, 64, 3, {1, 2, 3, 4})).hit, 0);
  finish(f);
}

TEST(InstancePrefix, OfTwoRanksTheOneThatHasTheBeginningIsChosen) {
  Fixture f(split());
  f.submit_with(0, 64, 3, {1, 2, 3, 4});
  const std::int32_t home = f.running.at(0).items[0].rank;
  finish(f);
  for (std::uint32_t id = 1; id < 5; ++id) {
    f.submit_with(id, 80, 3, {1, 2, 3, 4, id + 10});
    EXPECT_EQ(f.running.at(0).items[0].rank, home);
    finish(f);
  }
}

TEST(InstancePrefix, ABeginningThatAllShareDoesNotDrawThemPastAnEmptyRank) {
  InstanceSetup s = split();
  s.groups[0].kv_blocks_per_rank = 10;
  Fixture f(s);
  f.submit_with(0, 128, 3, {1, 2, 3, 4, 5, 6, 7, 8});
  const std::int32_t home = f.running.at(0).items[0].rank;
  finish(f);
  f.submit_with(1, 128, 3, {1, 12, 13, 14, 15, 16, 17, 18});  // one block is cached, five kept ones would have to go
  EXPECT_NE(f.running.at(0).items[0].rank, home);
  finish(f);
  f.submit_with(2, 128, 3, {1, 2, 3, 4, 5, 6, 7, 28});
  EXPECT_EQ(f.running.at(0).items[0].rank, home);
  finish(f);
}

TEST(InstancePrefix, AGroupOfBothRolesKeepsAPromptsBlocksFromItsEnd) {
  InstanceSetup s = both();
  s.groups = {{GroupRole::both, 1, 16, {0}}};
  Fixture f(s);
  f.submit_with(0, 64, 40, {1, 2, 3, 4});  // 7 blocks
  f.step_done(0);
  const Commands second = f.submit_with(1, 64, 40, {1, 2, 3, 4});
  EXPECT_EQ(sent<InterruptRun>(second).size(), 1U);
  EXPECT_EQ(admission(f.step_done(0, 1)).hit, 48) << "found while the first one decodes with it";
  f.step_done(0);
  EXPECT_TRUE(f.running.contains(0));
  while (f.running.contains(0)) f.step_done(0, f.running[0].steps_max);
  EXPECT_EQ(f.instance.live(), 0U);
  EXPECT_EQ(admission(f.submit_with(2, 96, 2, {1, 2, 3, 4, 5, 6})).hit, 64);
  while (f.running.contains(0)) f.step_done(0, f.running[0].steps_max);
}

}  // namespace
}  // namespace faultline::control
