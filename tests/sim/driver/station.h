// One GPU that serves a small model: a station of queueing theory, and the cheapest whole run there is.
#pragma once

#include <fmt/format.h>

#include <string>

namespace faultline::test {

/// Values as an experiment has them; `workload` and `rest` are further keys, one a line (those of the workload
/// indented by two).
struct Station {
  std::string engine = "ideal";  // of topologies/engines
  std::string arrivals = "{kind: poisson, rate: 4}";
  std::string prompt = "{kind: fixed, tokens: 1}", output = "{kind: fixed, tokens: 10}";
  std::string workload = "requests: 5000";
  std::string rest;
};

inline std::string text_of(const Station& s) {
  return fmt::format(R"(
name: station
topology: {{name: one node, nodes: 1, hosts: 1, node: ../../topologies/nodes/mi300x-1gpu.yaml, fabric: ../../topologies/fabrics/rail-optimised.yaml}}
model: ../../topologies/models/dense-7b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/{engine}.yaml
fleet: {{instances: 1, layout: 1PD, both: {{dp: 1, ep: 1}}}}
{rest}
workload:
  arrivals: {arrivals}
  lengths: {{kind: independent, prompt: {prompt}, output: {output}}}
  {workload}
)",
                     fmt::arg("engine", s.engine), fmt::arg("arrivals", s.arrivals), fmt::arg("prompt", s.prompt),
                     fmt::arg("output", s.output), fmt::arg("workload", s.workload), fmt::arg("rest", s.rest));
}

}  // namespace faultline::test
