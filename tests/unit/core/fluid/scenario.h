// Experiments at fluid fidelity as text, run in this process.
#pragma once

#include <fmt/format.h>

#include <string>

#include "core/fluid/simulate.h"
#include "tests/unit/core/experiment/support.h"

namespace faultline::fluid::testing {

/// 2P2D instances with EP16 decode on 32 nodes.
inline std::string fleet_text(const std::string& faults, const std::string& rest = "recovery: {policy: spare_node}\n",
                              const std::string& fleet = "", double rate = 40) {
  return fmt::format(
      "name: test\n"
      "fidelity: fluid\n"
      "topology: topologies/fleets/mi300x-32-rail.yaml\n"
      "model: topologies/models/deepseek-v3.yaml\n"
      "device: topologies/devices/mi300x.yaml\n"
      "engine: topologies/engines/sglang.yaml\n"
      "fleet: {{instances: 4, layout: 2P2D, prefill: {{dp: 8, ep: 8, kv_precision: fp8}}, decode: {{dp: 16, ep: 16, "
      "kv_precision: fp8}}, spare_nodes: 4{}}}\n"
      "workload: {{arrivals: {{kind: poisson, rate: {}}}, duration: 600 s, slo: [{{name: chat, ttft: 2 s, tpot: 50 "
      "ms}}]}}\n"
      "faults: [{}]\n{}",
      fleet, rate, faults, rest);
}

struct Run {
  experiment::ExperimentSpec spec;
  std::unique_ptr<experiment::Deployment> deployment;
  Capacity capacity;
  Result result;
};

inline Run run(const std::string& text, std::uint64_t seed = 1, const std::vector<std::string>& set = {}) {
  Run r;
  experiment::Overrides overrides;
  overrides.seed = seed;
  overrides.set = set;
  r.spec = experiment::load(text, "e.yaml", overrides, experiment::testing::read_repository);
  r.deployment = experiment::deploy(r.spec);
  config::Diagnostics diagnostics;
  check(r.spec, *r.deployment, nullptr, diagnostics);
  diagnostics.throw_if_any();
  r.capacity = capacity_of(r.spec, *r.deployment, load_of(r.spec, experiment::testing::read_repository));
  Options options;
  options.duration = *duration_of(r.spec);
  options.repair_crews = r.spec.fluid.repair_crews;
  r.result = simulate(r.spec, *r.deployment, r.capacity, options);
  return r;
}

}  // namespace faultline::fluid::testing
