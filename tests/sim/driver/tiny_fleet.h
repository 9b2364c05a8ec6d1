// A fleet that is small enough for hundreds of whole runs: two instances of 2P2D on nodes of two GPUs, EP4 groups over
// two nodes, so that a group spans the fabric.
#pragma once

#include <fmt/format.h>

#include <string>

namespace faultline::test {

/// Values as an experiment has them; `workload` and `rest` are further keys, one or more lines (those of the workload
/// indented by two).
struct TinyFleet {
  std::string seed = "1";
  int nodes = 8;
  std::string engine = "../../topologies/engines/ideal.yaml";
  std::string group;                             // further keys of both parallel plans, such as "redundant_experts: 4"
  std::string fleet = "restart_unit: instance";  // further keys of `fleet`
  std::string rate = "8";                        // requests a second
  int output_max = 200;                          // tokens
  std::string workload;
  std::string duration = "100 s", end = "1000 s";
  std::string rest;
};

inline std::string text_of(const TinyFleet& t) {
  const std::string plan = t.group.empty() ? "dp: 4, ep: 4" : "dp: 4, ep: 4, " + t.group;
  return fmt::format(R"(
name: tiny
seed: {seed}
topology:
  name: tiny
  nodes: {nodes}
  hosts: 2
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 2x MI300X, gpus: 2, nics: 2}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 4}}
  racks: {{nodes_per_rack: 2, racks_per_feed: 2}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: {engine}
fleet: {{instances: 2, layout: 2P2D, prefill: {{{plan}}}, decode: {{{plan}}}, {fleet}}}
workload:
  arrivals: {{kind: poisson, rate: {rate}}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 20, max: 3000}}, output: {{kind: uniform, min: 1, max: {output_max}}}}}
  {workload}
  duration: {duration}
end: {end}
{rest}
)",
                     fmt::arg("seed", t.seed), fmt::arg("nodes", t.nodes), fmt::arg("engine", t.engine),
                     fmt::arg("plan", plan), fmt::arg("fleet", t.fleet), fmt::arg("rate", t.rate),
                     fmt::arg("output_max", t.output_max), fmt::arg("workload", t.workload),
                     fmt::arg("duration", t.duration), fmt::arg("end", t.end), fmt::arg("rest", t.rest));
}

}  // namespace faultline::test
