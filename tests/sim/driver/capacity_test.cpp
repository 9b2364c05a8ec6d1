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

}  // namespace
}  // namespace faultline
