// Elastic expert parallelism end to end: the survivors of a group go on, experts are repaired from where a copy is, and
// the lost rank comes back. Times are compared with what bytes and rates give, computed here from the same placement.
#include <gtest/gtest.h>

#include "core/experiment/deployment.h"
#include "core/metrics/summary.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

using record::Outcome;

constexpr const char* kFleet = R"(
name: elastic
seed: 5
topology:
  name: tiny
  nodes: 8
  hosts: 2
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 8x MI300X}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 2, layout: 2P2D, prefill: {{dp: 16, ep: 16, redundant_experts: {0}}}, decode: {{dp: 16, ep: 16, redundant_experts: {0}}}, restart_unit: ep_group}}
workload:
  arrivals: {{kind: poisson, rate: 6}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 20, max: 3000}}, output: {{kind: uniform, min: 50, max: 400}}}}
  duration: 120 s
end: 1000 s
)";

std::string fleet(int redundant, const std::string& rest) { return fmt::format(kFleet, redundant) + rest; }
std::string policy(const char* name, const std::string& elastic = "rank_start: 8 s") {
  return fmt::format("recovery: {{policy: {}, elastic: {{{}}}}}\n", name, elastic);
}
constexpr const char* kOneGpu =
    "faults: [{id: gpu, kind: gpu.failstop, target: inst-1.d-1.gpu-2, at: 30 s, repair: 30 s}]\n";

double after(const record::FaultRecord& f, Instant t) { return t == kNever ? -1 : seconds(t - f.at); }

TEST(Elastic, SurvivorsServeOnAndTheRankComesBack) {
  const auto spec = test::spec_of(fleet(64, policy("elastic_ep") + kOneGpu));
  const test::Outcome o = test::simulate(spec);
  ASSERT_EQ(o.run.faults.size(), 1u);
  const record::FaultRecord& f = o.run.faults[0];
  const record::FaultPhases& p = f.phases;
  EXPECT_EQ(o.completed(), o.run.requests.size());
  EXPECT_LE(p.symptom, p.detect);
  EXPECT_LE(p.decide, p.fence);
  EXPECT_LE(p.fence, p.repair_state);
  EXPECT_LE(p.repair_state, p.degraded);
  // From bytes and rates alone: what this group does without GPU 10 of its 16.
  const auto d = experiment::deploy(spec);
  std::vector<bool> gone(16);
  gone[10] = true;
  const auto change = d->decode->experts->reform(d->decode->experts->initial().placement, gone, Instant{0}, true);
  const double expected = seconds(spec.recovery.elastic.reconfigure + change.time.total());
  // Messages between the two instants cost 50 us each.
  EXPECT_NEAR(seconds(p.degraded - p.repair_state), expected, 0.001);
  EXPECT_GT(change.count.by_source[1], change.count.slots / 2);  // most come from peers
  // Repaired after 30 s, looked at within rejoin_check (5 s), started in 8 s, then formed anew once more.
  EXPECT_GT(after(f, p.restore), 38);
  EXPECT_LT(after(f, p.restore), 45 + expected);
  EXPECT_GE(p.restore, p.rejoin);
  // Only the lost rank's share of the group's requests is computed again.
  std::size_t hit = 0;
  for (const auto& r : o.run.requests) hit += r.attempts > 1;
  const test::Outcome restarted = test::simulate(fleet(64, "recovery: {policy: restart}\n") + kOneGpu);
  std::size_t hit_by_restart = 0;
  for (const auto& r : restarted.run.requests) hit_by_restart += r.attempts > 1;
  EXPECT_GT(hit, 0u);
  EXPECT_LT(2 * hit, hit_by_restart);
}

TEST(Elastic, WhereSurvivorsKeepNothingTheWholeGroupsRequestsBeginAnewAndARejoinCostsNone) {
  const auto again = [](const char* elastic) {
    const test::Outcome o = test::simulate(fleet(64, policy("elastic_ep", elastic) + kOneGpu));
    EXPECT_EQ(o.completed(), o.run.requests.size());
    std::size_t hit = 0, late = 0;
    for (const auto& r : o.run.requests) {
      hit += r.attempts > 1;
      // Arrived after the survivors serve again: the rank that comes back later stops them for a moment only.
      late += r.attempts > 1 && r.arrival > o.run.faults[0].phases.degraded;
    }
    EXPECT_EQ(late, 0u);
    return hit;
  };
  const std::size_t kept = again("rank_start: 8 s"), dropped = again("rank_start: 8 s, keep_requests: false");
  EXPECT_GT(kept, 0u);
  EXPECT_GT(dropped, 4 * kept) << "sixteen ranks instead of one";
}

TEST(Elastic, NoCapacityIsCountedForTheAbsentRankAndAllOfItForTheOthersOnceTheyServe) {
  const test::Outcome o = test::simulate(fleet(64, policy("elastic_ep") + kOneGpu));
  ASSERT_EQ(o.run.faults.size(), 1u);
  const record::FaultPhases& p = o.run.faults[0].phases;
  const Instant middle = p.degraded + Duration{10'000'000'000};
  int lost = 0, own = 0;
  for (const auto& c : o.run.capacity) {
    if (c.from <= middle && middle < c.to && c.usable == 0) ++lost, own += c.own;
  }
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(own, 1);
}

TEST(Elastic, WithoutEnoughSlotsTheGroupRestarts) {
  // 128 experts over 16 GPUs of 8 slots: fifteen cannot hold them all.
  const test::Outcome o = test::simulate(fleet(0, policy("elastic_ep") + kOneGpu));
  ASSERT_EQ(o.run.faults.size(), 1u);
  EXPECT_EQ(o.run.faults[0].phases.degraded, kNever);
  EXPECT_NE(o.run.faults[0].phases.ready, kNever);
  EXPECT_EQ(o.completed(), o.run.requests.size());
}

TEST(Elastic, MaskingGoesOnAtOnceAndCountsDegradedTokens) {
  const std::string one = policy("mask") + kOneGpu;
  const test::Outcome o = test::simulate(fleet(64, one));
  ASSERT_EQ(o.run.faults.size(), 1u);
  const record::FaultPhases& p = o.run.faults[0].phases;
  EXPECT_NEAR(seconds(p.degraded - p.repair_state), 0.57, 0.001);  // reconfigure, nothing is copied
  EXPECT_GT(o.run.tokens_degraded, 0);
  EXPECT_NE(p.restore, kNever);
  // Every expert twice: a lost GPU leaves no hole, so no token is worse.
  EXPECT_EQ(test::simulate(fleet(128, one + "experts: {balance: {balanced: false}}\n")).run.tokens_degraded, 0);
  EXPECT_EQ(test::simulate(fleet(64, policy("elastic_ep") + kOneGpu)).run.tokens_degraded, 0);
}

TEST(Elastic, ASecondRankThatDiesDuringTheRepairLeavesToo) {
  const test::Outcome o = test::simulate(fleet(128, policy("elastic_ep") + R"(
faults:
- {id: first, kind: gpu.failstop, target: inst-1.d-1.gpu-2, at: 30 s, repair: 30 s}
- {id: second, kind: gpu.failstop, target: inst-1.d-1.gpu-1, at: 31 s, repair: 35 s}
)"));
  ASSERT_EQ(o.run.faults.size(), 2u);
  EXPECT_EQ(o.completed(), o.run.requests.size());
  EXPECT_NE(o.run.faults[1].phases.restore, kNever);
}

TEST(Elastic, SkewSlowsStepsReplicasAndRebalancingMakeUpForIt) {
  const auto mean_latency = [](const std::string& experts, int redundant) {
    const test::Outcome o = test::simulate(fleet(redundant, experts));
    EXPECT_EQ(o.completed(), o.run.requests.size());
    return std::pair{seconds(metrics::summarise(o.run).tpot.mean), o.run.rebalances};
  };
  // The same number of slots: what more experts on a GPU cost is in all three.
  const double even = mean_latency("", 64).first;
  const double skewed =
      mean_latency("experts: {popularity: {kind: zipf, exponent: 1}, balance: {balanced: false}}\n", 64).first;
  const double balanced = mean_latency("experts: {popularity: {kind: zipf, exponent: 1}}\n", 64).first;
  EXPECT_GT(skewed, even);
  EXPECT_LT(balanced, skewed);
  const std::string drifting = "experts: {popularity: {kind: zipf, exponent: 1, drift_period: 20 s, drift_share: 0.5}";
  EXPECT_EQ(mean_latency(drifting + "}\n", 64).second, 0);
  EXPECT_GT(mean_latency(drifting + ", balance: {rebalance_period: 30 s}}\n", 64).second, 4);
}

/// The planner alone: no run, so that widths and rates can be swept.
control::ExpertPlanner::Change recovery(int ep, int redundant, const std::string& elastic,
                                        const std::string& nic = "400 Gb/s", int lost = 1) {
  const std::string text = fmt::format(R"(
name: repair
topology:
  name: eight nodes
  nodes: 18
  hosts: 2
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, nic: {{bandwidth: {}}}}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 18}}
model: ../../topologies/models/deepseek-v3.yaml
device: ../../topologies/devices/mi300x.yaml
fleet: {{instances: 1, layout: {}PD, both: {{dp: {}, ep: {}, redundant_experts: {}, kv_precision: fp8}}}}
workload: {{arrivals: {{kind: poisson, rate: 1}}, lengths: {{kind: azure_conversation}}, duration: 10 s}}
recovery: {{policy: elastic_ep, elastic: {{{}}}}}
)",
                                       nic, ep / 8, ep, ep, redundant, elastic);
  const auto d = experiment::deploy(test::spec_of(text));
  std::vector<bool> gone(static_cast<std::size_t>(ep));
  for (int k = 0; k < lost; ++k) gone[static_cast<std::size_t>(k)] = true;
  return d->both->experts->reform(d->both->experts->initial().placement, gone, Instant{0}, true);
}

TEST(ElasticMechanism, RepairTimeFollowsBytesOverRates) {
  const auto base = recovery(32, 256, "peer_copy_rate: 6 GB/s");
  EXPECT_NEAR(seconds(base.time.peer), static_cast<double>(base.count.gpu_bytes_max) / 6e9, 1e-6);
  EXPECT_NEAR(seconds(recovery(32, 256, "peer_copy_rate: 12 GB/s").time.peer), seconds(base.time.peer) / 2, 1e-6);
  // Half the slots on each GPU of a group twice as wide: half the bytes for each.
  const auto wide = recovery(64, 256, "peer_copy_rate: 6 GB/s");
  EXPECT_NEAR(seconds(wide.time.peer) / seconds(base.time.peer), 8.0 / 16.0, 0.05);
  // A NIC slower than the engine's copies decides.
  const auto slow = recovery(32, 256, "peer_copy_rate: 6 GB/s", "8 Gb/s");
  EXPECT_GT(seconds(slow.time.peer), 2 * seconds(base.time.peer));
  EXPECT_NEAR(seconds(recovery(32, 256, "peer_copy_rate: 6 GB/s", "4 Gb/s").time.peer), 2 * seconds(slow.time.peer),
              0.01);
  // What no GPU has comes from the hosts, or from disk where they keep no copies.
  const auto thin = recovery(32, 32, "host_load_rate: 2 GB/s");
  EXPECT_GT(thin.time.host.v, 0);
  EXPECT_EQ(thin.time.disk.v, 0);
  EXPECT_NEAR(seconds(recovery(32, 32, "host_load_rate: 4 GB/s").time.host), seconds(thin.time.host) / 2, 1e-6);
  const auto disk = recovery(32, 32, "host_copies: false, disk_load_rate: 1 GB/s");
  EXPECT_EQ(disk.time.host.v, 0);
  EXPECT_GT(disk.time.disk.v, 0);
}

TEST(ElasticMechanism, RecoveryTimeIsNotMonotoneInTheNumberOfLostRanks) {
  // Every survivor fills the same slots however many are lost, and what it has in place already differs: published are
  // 6.8 s for one rank and 6.2 s for sixteen.
  const auto one = recovery(32, 256, "peer_copy_rate: 6 GB/s", "400 Gb/s", 1);
  const auto many = recovery(32, 256, "peer_copy_rate: 6 GB/s", "400 Gb/s", 12);
  EXPECT_LT(many.time.peer, one.time.peer);
  EXPECT_GT(2 * many.time.peer.v, one.time.peer.v);
}

}  // namespace
}  // namespace faultline
