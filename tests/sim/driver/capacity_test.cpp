// Capacity lost to one dead GPU, by recovery policy: one meaning for all (docs/metrics.md).
#include <gtest/gtest.h>

#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

// Instances of a prefill and a decode node of four GPUs; what the policy may use stands by.
constexpr const char* kFleet = R"(
name: places
seed: 2
topology:
  name: tiny
  nodes: 7
  hosts: 1
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 4x MI300X, gpus: 4, nics: 4}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 2, layout: 1P1D, prefill: {{dp: 4, ep: 4}}, decode: {{dp: 4, ep: 4}}, restart_unit: instance, {}}}
workload:
  arrivals: {{kind: poisson, rate: 2}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 100, max: 200}}, output: {{kind: uniform, min: 10, max: 20}}}}
  duration: 900 s
end: 900 s
recovery: {}
faults: [{{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-1, at: 60 s, repair: 400 s}}]
)";

struct Lost {
  double gpu_seconds = 0;
  double until = 0;  // s after the fault
};

Lost lost(const char* spares, const char* policy) {
  const test::Outcome o = test::simulate(fmt::format(kFleet, spares, policy));
  Lost sum;
  for (const auto& c : o.run.capacity) {
    sum.gpu_seconds += (1 - c.usable) * seconds(c.to - c.from);
    sum.until = std::max(sum.until, seconds(c.to - o.run.faults.at(0).at));
  }
  return sum;
}

TEST(Capacity, APlaceIsLostUntilItServesAgainWhoeverFillsIt) {
  const Lost restart = lost("spare_nodes: 0", "{policy: restart}");
  const Lost node = lost("spare_nodes: 1", "{policy: spare_node}");
  const Lost warm = lost("spare_instances: 1", "{policy: spare_instance}");
  const Lost cold = lost("spare_instances: 1", "{policy: spare_instance, spare_instance_warm: false}");
  // Eight GPUs stand still: until the repair and one restart (with a back-off of up to 120 s between), until the spare
  // node has joined (30 s) and restarted, until the standby is told to serve, until it has started.
  EXPECT_LT(warm.until, 10);
  EXPECT_GT(cold.until, 20);
  EXPECT_NEAR(node.until, 30 + cold.until, 2) << "both start once; detection and decision differ by the health check";
  EXPECT_GT(restart.until, 400 + cold.until - 2);
  EXPECT_LT(restart.until, 400 + 120 + cold.until + 2);
  for (const Lost& l : {restart, node, warm, cold}) EXPECT_NEAR(l.gpu_seconds, 8 * l.until, 0.02 * 8 * l.until + 8);
}

TEST(Capacity, AnIdleStandbyThatBreaksTakesNoneAway) {
  std::string text = fmt::format(kFleet, "spare_instances: 1", "{policy: spare_instance}");
  text.replace(text.find("inst-0.d-0.gpu-1"), 16, "spare-inst-0.d-0.gpu-1");
  const test::Outcome o = test::simulate(text);
  EXPECT_TRUE(o.run.faults.at(0).applied);
  EXPECT_TRUE(o.run.capacity.empty());
}

/// The first moment after the fault at which this GPU's capacity is counted as lost, and all that it loses.
struct GpuLoss {
  double after_s = 1e9, gpu_seconds = 0;
};
GpuLoss loss_of(const test::Outcome& o, const experiment::ExperimentSpec& spec, std::uint32_t node, std::uint32_t gpu) {
  const auto d = experiment::deploy(spec);
  GpuLoss loss;
  for (const auto& c : o.run.capacity) {
    if (c.gpu != d->topology.gpu({NodeId{node}, gpu})) continue;
    loss.after_s = std::min(loss.after_s, seconds(c.from - o.run.faults.at(0).at));
    loss.gpu_seconds += (1 - c.usable) * seconds(c.to - c.from);
  }
  return loss;
}

TEST(Capacity, GroupsWhoseLeaderIsGoneServeNobodyFromThatInstantOn) {
  std::string text = fmt::format(kFleet, "spare_nodes: 0", "{policy: restart}");
  const auto replace = [&](const std::string& what, const std::string& with) {
    text.replace(text.find(what), what.size(), with);
  };
  // The leader is on the first prefill node; the other prefill node and the decode node could go on without that one.
  replace("layout: 1P1D", "layout: 2P1D");
  replace("restart_unit: instance", "restart_unit: ep_group");
  replace("kind: gpu.failstop, target: inst-0.d-0.gpu-1", "kind: node.crash, target: inst-0.p-0");
  const experiment::ExperimentSpec spec = test::spec_of(text);
  const test::Outcome o = test::simulate(spec);
  for (const std::uint32_t node : {0U, 1U, 2U}) {
    SCOPED_TRACE(node);
    const GpuLoss loss = loss_of(o, spec, node, 0);
    EXPECT_LT(loss.after_s, 0.001) << "heartbeats are missed seconds later";
    EXPECT_GT(loss.gpu_seconds, 400) << "the leader's node is away that long";
  }
}

TEST(Capacity, GroupsThatShareANodeLoseTheirOwnGpusOnly) {
  const auto text = [](const char* gpu) {
    return fmt::format(R"(
name: shared
seed: 2
topology:
  name: tiny
  nodes: 1
  hosts: 1
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 4x MI300X, gpus: 4, nics: 4}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}
model: ../../topologies/models/dense-7b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 1, layout: 1PD, both: {{tp: 2}}, restart_unit: ep_group}}
workload:
  arrivals: {{kind: poisson, rate: 4}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 100, max: 200}}, output: {{kind: uniform, min: 100, max: 200}}}}
  duration: 60 s
end: 400 s
faults: [{{id: gpu, kind: gpu.failstop, target: {}, at: 20 s, repair: 5 s}}]
)",
                       gpu);
  };
  for (const std::uint32_t gpu : {0U, 1U, 2U, 3U}) {
    SCOPED_TRACE(gpu);
    const experiment::ExperimentSpec spec = test::spec_of(text(fmt::format("node-0.gpu-{}", gpu).c_str()));
    const test::Outcome o = test::simulate(spec);
    const std::uint32_t group = gpu / 2;
    std::size_t retried = 0;
    for (const auto& r : o.run.requests) retried += r.attempts > 1;
    EXPECT_GT(retried, 0U);
    for (std::uint32_t k = 0; k < 4; ++k)
      EXPECT_EQ(loss_of(o, spec, 0, k).gpu_seconds > 0, k / 2 == group) << "GPU " << k;
  }
}

}  // namespace
}  // namespace faultline
