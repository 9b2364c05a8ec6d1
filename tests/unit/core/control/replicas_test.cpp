// Copies of decoding sequences on a neighbour: what is sent, and how a sequence goes on from its copy.
#include <gtest/gtest.h>

#include "core/control/instance.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

/// A prefill group and two decode groups, each of one rank on a node of its own.
class Replicas : public ::testing::Test {
 protected:
  static InstanceSetup setup(bool enabled = true) {
    InstanceSetup s;
    s.engine.block_tokens = 16;
    s.engine.max_num_batched_tokens = 64;
    s.restart_unit = RestartUnit::ep_group;
    s.kv_bytes_per_token = Bytes{3};
    s.replication = {.enabled = enabled, .interval = 1_s, .memory_share = 0.5};
    s.groups = {{GroupRole::prefill, 1, 24, {0}}, {GroupRole::decode, 1, 24, {1}}, {GroupRole::decode, 1, 24, {2}}};
    return s;
  }
  /// Up to 20 decode steps of a request of 32 + 100 tokens.
  void decode(InstanceController& x) {
    feed(x, at(0_s), Started{});
    Commands c = feed(x, at(0_s), router_at(0), SubmitRequest{RequestId{0}, 0, 32, 100, 0});
    const auto push = sent<PushKv>(c).at(0).second;
    const auto prefill = sent<RunStep>(c).at(0).second;
    feed(x, at(0_s), agent_at(0), StepReport{prefill.op, 0, 0, 1});
    c = feed(x, at(0_s), agent_at(0), KvReport{push.op, push.slot});
    const auto [where, run] = sent<RunStep>(c).at(0);
    first_ = where;
    c = feed(x, at(1_s), TimerFired{2});
    ASSERT_EQ(sent<InterruptRun>(c).size(), 1U);
    c = feed(x, at(1_s), where, StepReport{run.op, run.group, 0, 20});
    pushes_ = sent<PushKv>(c);
  }
  Address first_;
  std::vector<std::pair<Address, PushKv>> pushes_;
};

TEST_F(Replicas, WholeBlocksThatAreNewGoToTheOtherGroup) {
  InstanceController x(setup());
  decode(x);
  ASSERT_EQ(pushes_.size(), 1U);
  const auto& [from, push] = pushes_[0];
  EXPECT_EQ(from, first_);
  EXPECT_NE(push.to_node, first_.index);
  EXPECT_NE(push.to_node, 0U);
  EXPECT_FALSE(push.step.valid());
  EXPECT_EQ(push.bytes, Bytes{48 * 3});  // of 52 tokens three blocks of 16
  const auto notes = all<NoteReplicated>(feed(x, at(1_s), from, KvReport{push.op, push.slot}));
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].bytes, push.bytes);
  x.check();
}

TEST_F(Replicas, ASequenceWhoseRankIsLostMakesOnlyTheTokensSinceItsLastBlockAgain) {
  InstanceController x(setup());
  decode(x);
  feed(x, at(1_s), pushes_[0].first, KvReport{pushes_[0].second.op, pushes_[0].second.slot});
  const Commands c = feed(x, at(2_s), lost(first_));
  const auto notes = all<NoteResumed>(c);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].produced, 21);  // the first with the prefill, 20 steps
  EXPECT_EQ(notes[0].again, 4);      // 48 tokens are there: the prompt's 32 and 16 more
  EXPECT_TRUE(all<NoteAttemptLost>(c).empty());
  const auto runs = sent<RunStep>(c);
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].first, agent_at(pushes_[0].second.to_node));
  EXPECT_EQ(runs[0].second.steps_max, 83);
  EXPECT_EQ(runs[0].second.loads.at(0).context_tokens, 48);
  const auto ended =
      sent<AttemptEnded>(feed(x, at(3_s), runs[0].first, StepReport{runs[0].second.op, runs[0].second.group, 0, 83}));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].second.cause, Cause::none);
  EXPECT_EQ(ended[0].second.produced, 100);
  x.check();
  EXPECT_EQ(x.live(), 0U);
}

TEST_F(Replicas, ACopyThatHasNotArrivedSavesNothing) {
  InstanceController x(setup());
  decode(x);
  const Commands c = feed(x, at(2_s), lost(first_));
  EXPECT_TRUE(all<NoteResumed>(c).empty());
  EXPECT_EQ(all<NoteAttemptLost>(c).size(), 1U);
  x.check();
  // Nor does its late arrival.
  EXPECT_TRUE(
      all<NoteReplicated>(feed(x, at(2_s), pushes_[0].first, KvReport{pushes_[0].second.op, pushes_[0].second.slot}))
          .empty());
  x.check();
}

TEST_F(Replicas, LosingTheCopysNodeLosesNoRequest) {
  InstanceController x(setup());
  decode(x);
  feed(x, at(1_s), pushes_[0].first, KvReport{pushes_[0].second.op, pushes_[0].second.slot});
  const Commands c = feed(x, at(2_s), lost(agent_at(pushes_[0].second.to_node)));
  EXPECT_TRUE(all<NoteAttemptLost>(c).empty());
  EXPECT_TRUE(all<NoteResumed>(c).empty());
  x.check();
}

TEST_F(Replicas, ACopyGivesWayToARequestThatHasNoOtherRoom) {
  // Either decode rank has 24 blocks. Two requests of nine blocks (32 + 100 tokens) run on one each, with the copy of
  // the other beside them; a third finds six free blocks on either.
  InstanceSetup s = setup();
  s.groups[0].kv_blocks_per_rank = 1000;
  InstanceController x(s);
  decode(x);
  ASSERT_EQ(pushes_.size(), 1U);
  const auto admitted = [&](std::uint32_t id) {
    const Commands c = feed(x, at(2_s), router_at(0), SubmitRequest{RequestId{id}, 0, 32, 100, 0});
    const auto steps = sent<RunStep>(c);
    EXPECT_EQ(steps.size(), sent<PushKv>(c).size());
    if (steps.empty()) return std::uint32_t{0};
    const PushKv push = sent<PushKv>(c).at(0).second;
    feed(x, at(2_s), agent_at(0), StepReport{steps[0].second.op, 0, 0, 1});
    feed(x, at(2_s), agent_at(0), KvReport{push.op, push.slot});
    x.check();
    return push.to_node;
  };
  const std::uint32_t other = 3 - first_.index;
  EXPECT_EQ(admitted(1), other);
  // The first request's copy is being written there and stays; the second's gives way.
  EXPECT_EQ(admitted(2), first_.index);
  feed(x, at(3_s), pushes_[0].first, KvReport{pushes_[0].second.op, pushes_[0].second.slot});
  EXPECT_EQ(admitted(3), other) << "written by now, and in the way of a request";
  EXPECT_EQ(admitted(4), 0U) << "there is nothing left to give way";
}

TEST_F(Replicas, WithoutTheSettingNothingIsSent) {
  InstanceController x(setup(false));
  feed(x, at(0_s), Started{});
  EXPECT_EQ(armed(feed(x, at(0_s), Started{}), 2), kNever);
}

}  // namespace
}  // namespace faultline::control
