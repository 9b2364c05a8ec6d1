// What each policy saves in a whole run, against the same run without it: the same fleet, load and fault. Every run is
// checked at each step (digests, KV blocks); every request ends.
#include <gtest/gtest.h>

#include "core/metrics/summary.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

using record::Outcome;

struct Settings {
  std::string engine =
      "{name: quick, restart_process: 5 s, restart_weights: 40 s, restart_graph_capture: 4 s, restart_warmup: 1 s}";
  std::string fleet =
      "instances: 2, layout: 2P2D, restart_unit: ep_group, prefill: {dp: 16, ep: 16, redundant_experts: 64}, "
      "decode: {dp: 16, ep: 16, redundant_experts: 64}";
  std::string router = "{}";
  std::string slo = "[{name: all, ttft: 10 s, tpot: 1 s}]";
  double rate = 6;
};

std::string fleet_of(const Settings& s, const std::string& fault, const std::string& recovery) {
  return fmt::format(R"(
name: policies
seed: 5
topology:
  name: tiny
  nodes: 10
  hosts: 2
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 8x MI300X}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 10}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: {}
fleet: {{{}}}
router: {}
workload:
  arrivals: {{kind: poisson, rate: {}}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 20, max: 3000}}, output: {{kind: uniform, min: 50, max: 400}}}}
  duration: 300 s
  slo: {}
end: 1500 s
faults: [{}]
recovery: {}
)",
                     s.engine, s.fleet, s.router, s.rate, s.slo, fault, recovery);
}

struct Seen {
  test::Outcome outcome;
  metrics::Summary summary;
  double lost_gpu_s = 0;
};

Seen run(const Settings& s, const std::string& fault, const std::string& recovery) {
  Seen seen;
  seen.outcome = test::simulate(fleet_of(s, fault, recovery));
  const auto& r = seen.outcome.run;
  seen.summary = metrics::summarise(r);
  for (const auto& c : r.capacity) seen.lost_gpu_s += (1 - c.usable) * seconds(c.to - c.from);
  EXPECT_GT(r.requests.size(), 500U);
  EXPECT_EQ(seen.outcome.count(Outcome::unfinished), 0U);
  EXPECT_EQ(seen.summary.requests.unaccounted, 0);
  EXPECT_TRUE(seen.summary.violations.empty());
  std::int64_t made = 0, accounted = 0;  // tokens that were made again count once
  for (const auto& bin : r.throughput) made += bin.output_tokens;
  for (const auto& q : r.requests) accounted += q.output_delivered + q.tokens_lost;
  EXPECT_EQ(made, accounted);
  const experiment::ReplayResult replayed = experiment::replay(seen.outcome.log, test::read_file);
  EXPECT_TRUE(replayed.matches) << replayed.who << "\n" << replayed.difference;
  return seen;
}

constexpr const char* kGpu = "{id: gpu, kind: gpu.failstop, target: inst-1.d-1.gpu-2, at: 30 s, repair: 60 s}";
constexpr const char* kNode = "{id: node, kind: node.crash, target: inst-1.d-1, at: 30 s, duration: 150 s}";

TEST(PolicyRun, DegradedRailKeepsTheGroupThatLostANic) {
  const char* fault = "{id: nic, kind: nic.down, target: inst-1.d-1.nic-2, at: 30 s, duration: 60 s}";
  const Seen base = run({}, fault, "{policy: restart}");
  const Seen rail = run({}, fault, "{policy: restart, degraded_rail: true}");
  EXPECT_GT(base.summary.requests.retried, 10);
  EXPECT_EQ(rail.summary.requests.retried, 0);
  EXPECT_EQ(rail.summary.tokens_recomputed, 0);
  EXPECT_EQ(rail.outcome.completed(), rail.outcome.run.requests.size());
  EXPECT_LT(rail.lost_gpu_s, base.lost_gpu_s / 4);  // slower exchanges while the others carry its load
}

TEST(PolicyRun, MigrationMakesInterruptedRequestsGapsWhereTheEngineReplaysNothing) {
  Settings s;
  s.engine.insert(s.engine.size() - 1, ", gateway_replays: false");
  const Seen base = run(s, kGpu, "{policy: restart}");
  s.router = "{retry: {migrate: true}}";
  const Seen migrated = run(s, kGpu, "{policy: restart}");
  EXPECT_GT(base.summary.requests.failed, 10);
  EXPECT_EQ(migrated.summary.requests.failed, 0);
  EXPECT_EQ(migrated.outcome.completed(), migrated.outcome.run.requests.size());
  EXPECT_GT(migrated.summary.requests_migrated, 10);
  EXPECT_EQ(migrated.summary.tokens_lost, 0);
  EXPECT_GT(migrated.summary.gap_max.v, 0);
  for (const auto& r : migrated.outcome.run.requests) EXPECT_EQ(r.output_delivered, r.output_tokens);
}

TEST(PolicyRun, SheddingTheBatchClassKeepsThePromiseToTheOther) {
  Settings s;
  s.engine.insert(s.engine.size() - 1, ", max_num_seqs: 2");  // one instance alone cannot carry the load
  s.rate = 8;
  s.slo = "[{name: chat, ttft: 1 s, tpot: 1 s, share: 1}, {name: batch, ttft: 600 s, tpot: 1 s, share: 1}]";
  const Seen base = run(s, kNode, "{policy: restart}");
  s.router = "{shed_above: [0, 60000]}";
  const Seen shed = run(s, kNode, "{policy: restart}");
  ASSERT_EQ(base.summary.slo_classes.size(), 2U);
  const auto share = [](const Seen& x, std::size_t c) {
    return static_cast<double>(x.summary.slo_classes[c].met) / static_cast<double>(x.summary.slo_classes[c].arrived);
  };
  std::printf("    chat within its SLO: %.3f without shedding, %.3f with; batch %.3f and %.3f\n", share(base, 0),
              share(shed, 0), share(base, 1), share(shed, 1));
  EXPECT_EQ(base.summary.requests.rejected, 0);
  EXPECT_GT(share(shed, 0), share(base, 0) + 0.1);
  EXPECT_LT(share(shed, 1), share(base, 1));
  for (const auto& r : shed.outcome.run.requests) EXPECT_TRUE(r.outcome == Outcome::completed || r.slo_class == 1);
}

TEST(PolicyRun, ARoleSwitchServesOnWhileTheOtherRolesHardwareIsGone) {
  const Seen base = run({}, kNode, "{policy: restart}");
  const Seen switched = run({}, kNode, "{policy: role_switch}");
  EXPECT_EQ(base.summary.role_switches, 0);
  EXPECT_EQ(switched.summary.role_switches, 2);  // there and back
  const auto& p = switched.outcome.run.faults.at(0).phases;
  EXPECT_LE(p.decide, p.replace);
  // From the switch to serving: process, graphs and warm-up; the weights stay. Messages cost 50 us each.
  EXPECT_NEAR(seconds(p.degraded - p.replace), 10, 0.01);
  EXPECT_NE(p.restore, kNever);
  EXPECT_LT(switched.lost_gpu_s, base.lost_gpu_s);
  EXPECT_EQ(switched.outcome.completed(), switched.outcome.run.requests.size());
  const auto loaded =
      run({}, kNode, "{policy: role_switch, role_switch: {keep_weights: false}}").outcome.run.faults.at(0);
  EXPECT_NEAR(seconds(loaded.phases.degraded - loaded.phases.replace), 50, 0.01);
}

TEST(PolicyRun, SequencesGoOnFromTheirCopiesAndTheBytesOfCopiesAreConserved) {
  const char* elastic =
      "{{policy: elastic_ep, elastic: {{rank_start: 8 s}}, replicate_kv: {{enabled: {}, interval: {}}}}}";
  Settings s;
  s.rate = 40;
  const Seen base = run(s, kGpu, fmt::format(fmt::runtime(elastic), false, "1 s"));
  const Seen copied = run(s, kGpu, fmt::format(fmt::runtime(elastic), true, "1 s"));
  EXPECT_EQ(base.summary.replica_bytes, 0);
  EXPECT_GT(base.summary.requests.retried, 0);
  EXPECT_GT(copied.summary.replica_resumes, 0);
  EXPECT_LT(copied.summary.requests.retried, base.summary.requests.retried);
  EXPECT_LT(copied.summary.tokens_recomputed, base.summary.tokens_recomputed / 2);
  // At most the tokens since the last copy, a block and an interval's steps, for each.
  EXPECT_LT(copied.summary.replica_tokens_again, copied.summary.replica_resumes * 200);
  EXPECT_EQ(copied.outcome.completed(), copied.outcome.run.requests.size());
  // What leaders know to be there is what the network has delivered.
  const Seen calm = run({}, "{id: none, kind: placebo, target: inst-1.d-1.gpu-2, at: 30 s, duration: 60 s}",
                        fmt::format(fmt::runtime(elastic), true, "1 s"));
  EXPECT_EQ(calm.summary.replica_bytes, calm.outcome.run.replica_bytes_written);
  std::int64_t tokens = 0;  // no copy has more than the context of its request
  for (const auto& r : calm.outcome.run.requests) tokens += r.prompt_tokens + r.output_tokens;
  const auto d = experiment::deploy(test::spec_of(fleet_of({}, "", "{policy: elastic_ep}")));
  EXPECT_GT(calm.summary.replica_bytes, 0);
  EXPECT_LE(calm.summary.replica_bytes, (d->kv_bytes_per_token * tokens).v);
  EXPECT_EQ(calm.summary.replica_bytes % d->kv_bytes_per_token.v, 0);
}

TEST(PolicyRun, MaskedExpertsAreBroughtBackWhileTheGroupServes) {
  const char* mask = "{{policy: mask, elastic: {{rank_start: 8 s, rejoin_check: 5 s, restore_masked: {}}}}}";
  const Seen base = run({}, kGpu, fmt::format(fmt::runtime(mask), false));
  const Seen restored = run({}, kGpu, fmt::format(fmt::runtime(mask), true));
  EXPECT_GT(restored.summary.tokens_degraded, 0);
  EXPECT_LT(restored.summary.tokens_degraded, base.summary.tokens_degraded / 2);
  EXPECT_EQ(restored.outcome.completed(), restored.outcome.run.requests.size());
}

TEST(PolicyRun, ASpareNodeBringsTheWidthOfAnElasticGroupBack) {
  // What no GPU of the other node has comes from the hosts first: two minutes.
  const char* kLong = "{id: node, kind: node.crash, target: inst-1.d-1, at: 30 s, duration: 250 s}";
  Settings s;
  s.fleet =
      "instances: 2, layout: 2P2D, restart_unit: ep_group, prefill: {dp: 16, ep: 16, redundant_experts: 128}, "
      "decode: {dp: 16, ep: 16, redundant_experts: 128}";  // one node can hold every expert
  const Seen base = run(s, kLong, "{policy: elastic_ep, node_attach: 10 s, elastic: {rank_start: 8 s}}");
  s.fleet += ", spare_nodes: 1";
  const Seen spare = run(s, kLong, "{policy: elastic_ep, node_attach: 10 s, elastic: {rank_start: 8 s}}");
  const auto &without = base.outcome.run.faults.at(0).phases, &with = spare.outcome.run.faults.at(0).phases;
  std::printf("    replaced at %.1f s, rejoined at %.1f s, whole at %.1f s; without a spare at %.1f s\n",
              seconds(with.replace - Instant{0}), seconds(with.rejoin - Instant{0}), seconds(with.restore - Instant{0}),
              seconds(without.restore - Instant{0}));
  EXPECT_NE(with.replace, kNever);
  EXPECT_GT(seconds(without.restore - Instant{0}), 280);  // its own node is back then
  EXPECT_LT(seconds(with.restore - Instant{0}), 200);
  EXPECT_EQ(spare.outcome.completed(), spare.outcome.run.requests.size());
}

}  // namespace
}  // namespace faultline
