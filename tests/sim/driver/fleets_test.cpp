// Whole runs of two models on one fabric with one pool of spare nodes.
#include <gtest/gtest.h>

#include "core/experiment/fleets.h"
#include "core/metrics/fleets.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

/// Two instances of each model on a node per role; the second model's engine starts in half the time.
std::string experiment(int spares, const std::string& faults, const std::string& policy = "spare_node") {
  const std::string fleet =
      "{instances: 2, layout: 1P1D, prefill: {dp: 8, ep: 8, kv_precision: fp8}, decode: {dp: 8, ep: 8, kv_precision: "
      "fp8}}";
  return fmt::format(
      "name: fleets\nseed: 3\n"
      "topology: {{nodes: 12, hosts: 1, node: ../../topologies/nodes/mi300x-8gpu.yaml, fabric: "
      "../../topologies/fabrics/rail-optimised.yaml}}\n"
      "device: ../../topologies/devices/mi300x.yaml\n"
      "engine: {{restart_process: 10 s, restart_weights: 30 s, restart_graph_capture: 0 s, restart_warmup: 0 s}}\n"
      "pool: {{spare_nodes: {0}}}\n"
      "fleets:\n"
      "  - name: large\n"
      "    model: ../../topologies/models/deepseek-v3.yaml\n"
      "    fleet: {1}\n"
      "    workload: {{arrivals: {{rate: 3}}, lengths: {{kind: azure_conversation}}, duration: 240 s}}\n"
      "  - name: small\n"
      "    model: ../../topologies/models/qwen3-235b-a22b.yaml\n"
      "    engine: {{restart_process: 5 s, restart_weights: 15 s, restart_graph_capture: 0 s, restart_warmup: 0 s}}\n"
      "    fleet: {1}\n"
      "    workload: {{arrivals: {{rate: 5}}, lengths: {{kind: azure_conversation}}, duration: 240 s, slo: [{{name: a, "
      "share: 1}}, {{name: b, share: 2}}]}}\n"
      "recovery: {{policy: {2}, node_attach: 4 s}}\n"
      "faults: [{3}]\n",
      spares, fleet, policy, faults);
}

struct Seen {
  test::Outcome outcome;
  std::vector<metrics::FleetFigures> fleets;
  std::vector<metrics::SpareUse> spares;
};

/// Runs it and checks what must hold whatever happens.
Seen run(const std::string& text) {
  Seen seen;
  seen.outcome = test::simulate(text);
  const record::RunRecord& r = seen.outcome.run;
  EXPECT_TRUE(metrics::summarise(r).violations.empty());
  EXPECT_EQ(seen.outcome.count(record::Outcome::unfinished), 0U);
  for (const auto& q : r.requests) {
    if (q.attempts == 0) continue;
    EXPECT_EQ(r.fleet_of.at(q.instance.v), q.slo_class == 0 ? 0U : 1U) << "a request went to another model";
  }
  const experiment::ReplayResult replayed = experiment::replay(seen.outcome.log, test::read_file);
  EXPECT_TRUE(replayed.matches) << replayed.who << "\n" << replayed.difference;
  seen.fleets = metrics::fleet_figures(r);
  seen.spares = metrics::spare_uses(r);
  EXPECT_EQ(seen.fleets.size(), 2U);
  EXPECT_EQ(seen.fleets[0].summary.requests.arrived + seen.fleets[1].summary.requests.arrived,
            static_cast<std::int64_t>(r.requests.size()));
  return seen;
}

constexpr const char* kLarge = "{id: large, kind: node.crash, target: inst-1.d-0, at: 40 s}";
constexpr const char* kSmall = "{id: small, kind: node.crash, target: inst-2.d-0, at: 100 s}";

TEST(FleetsRun, APooledSpareServesWhicheverModelLosesANodeAndLoadsThatModel) {
  for (const bool large : {true, false}) {
    const Seen seen = run(experiment(1, large ? kLarge : kSmall));
    ASSERT_EQ(seen.spares.size(), 1U);
    EXPECT_EQ(seen.spares[0].fleet, large ? "large" : "small");
    EXPECT_EQ(seen.spares[0].node, 11);
    EXPECT_EQ(seen.fleets[large ? 0 : 1].spare_nodes_taken, 1);
    EXPECT_EQ(seen.fleets[large ? 1 : 0].spare_nodes_taken, 0);
    // From the spare's allocation to serving: it is attached, and every phase of its own engine's start runs there, the
    // weights included; messages cost 50 us each.
    const auto& p = seen.outcome.run.faults.at(0).phases;
    EXPECT_NEAR(seconds(p.ready - p.replace), 4 + (large ? 40 : 20), 0.01);
    EXPECT_EQ(seen.outcome.completed(), seen.outcome.run.requests.size());
  }
}

TEST(FleetsRun, TheFirstModelToNeedTheLastSpareHasItAndTheOtherWaits) {
  const std::string both = std::string(kLarge) + ", " + kSmall;
  const Seen one = run(experiment(1, both)), two = run(experiment(2, both));
  ASSERT_EQ(one.spares.size(), 1U);
  EXPECT_EQ(one.spares[0].fleet, "large");
  ASSERT_EQ(two.spares.size(), 2U);
  EXPECT_EQ(two.spares[1].fleet, "small");
  EXPECT_NE(two.spares[0].node, two.spares[1].node);
  EXPECT_EQ(one.outcome.run.faults.at(1).phases.ready, kNever);
  EXPECT_NE(two.outcome.run.faults.at(1).phases.ready, kNever);
  // The other half of its fleet carries all of the small model's load meanwhile; the large one has none of it.
  EXPECT_GT(one.fleets[1].summary.latency.p99, two.fleets[1].summary.latency.p99);
  EXPECT_EQ(one.fleets[0].summary.latency.p99, two.fleets[0].summary.latency.p99);
}

TEST(FleetsRun, AFleetIsServedAsIfItWereAlone) {
  // Nothing is shared but fabric, routers and spares: without a fault and with idle links, latencies are those of a run
  // of its own.
  const Seen shared = run(experiment(1, ""));
  const test::Outcome alone = test::simulate(experiment::one_fleet(test::spec_of(experiment(1, "")), 0));
  const metrics::Summary own = metrics::summarise(alone.run);
  const metrics::Summary& here = shared.fleets[0].summary;
  EXPECT_EQ(here.requests.arrived, own.requests.arrived);
  EXPECT_EQ(here.throughput.output_tokens, own.throughput.output_tokens);
  // Ties between idle instances are broken by the request's number, which counts all fleets' requests.
  EXPECT_NEAR(seconds(here.latency.mean), seconds(own.latency.mean), 0.02 * seconds(own.latency.mean));
}

TEST(FleetsRun, ASpareInstanceStaysWithItsModel) {
  std::string text = experiment(0, kSmall, "spare_instance");
  const std::string first = "instances: 2,";
  text.insert(text.find(first) + first.size(), " spare_instances: 1,");  // of the large model
  const Seen seen = run(text);
  EXPECT_TRUE(seen.spares.empty());
  EXPECT_EQ(seen.fleets[1].standbys_taken, 0);
  EXPECT_EQ(seen.outcome.run.faults.at(0).phases.replace, kNever);
}

}  // namespace
}  // namespace faultline
