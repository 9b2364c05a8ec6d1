// One instance and what it has asked for, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "core/control/instance.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control::testing {

/// 1P1D: group 0 prefills on node 0, group 1 decodes on node 1; two ranks each, 64 blocks of 16 tokens a rank.
inline InstanceSetup split() {
  InstanceSetup s;
  s.id = InstanceId{0};
  s.engine.block_tokens = 16;
  s.engine.max_num_batched_tokens = 100;
  s.engine.max_num_seqs = 4;
  s.engine.max_model_len = 1000;
  s.groups = {{GroupRole::prefill, 2, 64, {0}}, {GroupRole::decode, 2, 64, {1}}};
  s.kv_bytes_per_token = Bytes{10};
  return s;
}
/// 1PD: one group of one rank that does both.
inline InstanceSetup both() {
  InstanceSetup s = split();
  s.groups = {{GroupRole::both, 1, 64, {0}}};
  return s;
}

/// An instance together with the steps and pushes it has asked for and not yet been told the end of.
struct Fixture {
  explicit Fixture(InstanceSetup s) : instance(s) {}

  Commands feed(Address from, Message m) { return note(testing::feed(instance, now, from, std::move(m))); }
  Commands event(const Event& e) { return note(testing::feed(instance, now, e)); }
  Commands submit(std::uint32_t id, std::int32_t prompt, std::int32_t output, std::uint32_t router = 0) {
    return feed(router_at(router), SubmitRequest{RequestId{id}, 0, prompt, output, 0});
  }
  /// A prompt that is made of these blocks of 16 tokens; the last one may be cut.
  Commands submit_with(std::uint32_t id, std::int32_t prompt, std::int32_t output, std::vector<std::uint32_t> blocks) {
    return feed(router_at(0),
                SubmitRequest{RequestId{id}, 0, prompt, output, 1, PrefixChain{16, prompt, std::move(blocks)}});
  }
  Commands step_done(std::uint32_t group, std::int64_t steps = 1, Cause cause = Cause::none,
                     std::uint32_t rank = kUnknownRank) {
    const RunStep run = running.at(group);
    running.erase(group);
    return feed(agent_at(group), StepReport{run.op, group, run.epoch, steps, cause, rank});
  }
  Commands push_done(std::size_t k = 0, Cause cause = Cause::none) {
    const PushKv p = pushes.at(k);
    pushes.erase(pushes.begin() + static_cast<std::ptrdiff_t>(k));
    return feed(agent_at(0), KvReport{p.op, p.slot, cause, 1});
  }
  Commands note(Commands out) {
    for (const auto& [to, run] : sent<RunStep>(out)) {
      EXPECT_FALSE(running.contains(run.group)) << "two steps at a time in group " << run.group;
      running[run.group] = run;
    }
    for (const auto& [to, p] : sent<PushKv>(out)) pushes.push_back(p);
    instance.check();
    return out;
  }
  InstanceController instance;
  Instant now{0};
  std::map<std::uint32_t, RunStep> running;
  std::vector<PushKv> pushes;
};

inline std::vector<AttemptEnded> ended(const Commands& c) {
  std::vector<AttemptEnded> out;
  for (const auto& [to, m] : sent<AttemptEnded>(c)) out.push_back(m);
  return out;
}

}  // namespace faultline::control::testing
