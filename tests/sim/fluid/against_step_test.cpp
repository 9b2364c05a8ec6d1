// The same scenario at fluid and at step fidelity.
#include <gtest/gtest.h>

#include <cmath>

#include "core/fluid/compare.h"
#include "core/fluid/simulate.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

struct Scenario {
  const char* name;
  const char* fault;
  const char* policy;
  const char* unit;
  /// Of the requests interrupted; 0: not compared.
  double interrupted = 0.3;
};

class FluidAgainstStep : public ::testing::TestWithParam<Scenario> {};

TEST_P(FluidAgainstStep, TimesAndCapacityAgreeWithinThreePerCent) {
  const Scenario& s = GetParam();
  const std::string text = fmt::format(
      "name: test\nseed: 1\nend: 700 s\n"
      "topology: ../../topologies/fleets/mi300x-32-rail.yaml\nmodel: ../../topologies/models/deepseek-v3.yaml\n"
      "device: ../../topologies/devices/mi300x.yaml\nengine: ../../topologies/engines/sglang.yaml\n"
      "fleet: {{instances: 4, layout: 2P2D, prefill: {{dp: 8, ep: 8, kv_precision: fp8}}, decode: {{dp: 16, ep: 16, "
      "kv_precision: fp8}}, restart_unit: {}, spare_nodes: 4, spare_instances: {}}}\n"
      "workload: {{arrivals: {{kind: poisson, rate: 30}}, duration: 700 s, slo: [{{name: chat, ttft: 2 s, tpot: 50 "
      "ms}}]}}\n"
      "faults: [{}]\nrecovery: {{policy: {}}}\n",
      s.unit, std::string_view(s.policy) == "spare_instance" ? 1 : 0, s.fault, s.policy);
  const experiment::ExperimentSpec spec = test::spec_of(text);
  const auto deployment = experiment::deploy(spec);
  config::Diagnostics diagnostics;
  fluid::check(spec, *deployment, nullptr, diagnostics);
  ASSERT_TRUE(diagnostics.ok()) << diagnostics.text();
  const fluid::Capacity capacity = fluid::capacity_of(spec, *deployment, fluid::load_of(spec, test::read_file));
  fluid::Options options;
  options.duration = *spec.end;
  const fluid::Result with = fluid::simulate(spec, *deployment, capacity, options);
  const test::Outcome step = test::simulate(spec);
  const metrics::Impacts impacts = metrics::compare(step.run, nullptr, nullptr);
  const auto rows = fluid::compare(with, with, metrics::summarise(step.run), impacts);
  std::string table = fluid::comparison_text(rows);
  for (const fluid::ComparisonRow& r : rows) {
    const bool strict = r.what == "ready after, slowest, s" || r.what == "capacity lost, GPU-s";
    if (strict) {
      ASSERT_EQ(r.fluid.has_value(), r.step.has_value()) << table;
      if (r.difference()) {
        EXPECT_LT(std::abs(*r.difference()), 0.03) << table;
      }
    }
    // One Poisson number of about 50 requests: 14 % standard deviation, and the model's own error.
    if (r.what == "requests interrupted" && r.difference() && s.interrupted > 0) {
      EXPECT_LT(std::abs(*r.difference()), s.interrupted) << table;
    }
    if (r.what == "requests arrived") {
      EXPECT_LT(std::abs(*r.difference()), 0.03) << table;  // 21,000 arrivals: 0.7 %
    }
  }
}

// Nobody knows for 100 s that the group hangs, and requests come on. One run's number is a Poisson number; the mean of
// twelve has a standard error of 2 %.
TEST(FluidAgainstStepMeans, AHungGroupInterruptsAsManyRequestsWithinTenPerCent) {
  for (const int rate : {25, 40}) {
    double fluid_sum = 0, step_sum = 0;
    for (int seed = 1; seed <= 12; ++seed) {
      const experiment::ExperimentSpec spec = test::spec_of(fmt::format(
          "name: test\nseed: {}\nend: 240 s\n"
          "topology: ../../topologies/fleets/mi300x-32-rail.yaml\nmodel: ../../topologies/models/deepseek-v3.yaml\n"
          "device: ../../topologies/devices/mi300x.yaml\nengine: ../../topologies/engines/sglang.yaml\n"
          "fleet: {{instances: 4, layout: 2P2D, prefill: {{dp: 8, ep: 8, kv_precision: fp8}}, decode: {{dp: 16, ep: "
          "16, kv_precision: fp8}}, restart_unit: instance, spare_nodes: 4}}\n"
          "workload: {{arrivals: {{kind: poisson, rate: {}}}, duration: 240 s, slo: [{{name: chat, ttft: 2 s, tpot: 50 "
          "ms}}]}}\n"
          "faults: [{{kind: gpu.hang, target: inst-1.d-1.gpu-3, at: 120 s}}]\nrecovery: {{policy: spare_node}}\n",
          seed, rate));
      const auto deployment = experiment::deploy(spec);
      const fluid::Capacity capacity = fluid::capacity_of(spec, *deployment, fluid::load_of(spec, test::read_file));
      fluid::Options options;
      options.duration = *spec.end;
      const fluid::Result with = fluid::simulate(spec, *deployment, capacity, options);
      const test::Outcome step = test::simulate(spec);
      const metrics::Impacts impacts = metrics::compare(step.run, nullptr, nullptr);
      for (const fluid::ComparisonRow& r : fluid::compare(with, with, metrics::summarise(step.run), impacts)) {
        if (r.what != "requests interrupted") continue;
        ASSERT_TRUE(r.fluid && r.step);
        fluid_sum += *r.fluid;
        step_sum += *r.step;
      }
    }
    std::printf("    %d requests/s: interrupted, mean of 12: fluid %.1f, step %.1f\n", rate, fluid_sum / 12,
                step_sum / 12);
    ASSERT_GT(step_sum, 0);
    EXPECT_NEAR(fluid_sum / step_sum, 1, 0.1) << rate;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Faults, FluidAgainstStep,
    ::testing::Values(
        Scenario{"DeadGpuSpareNode", "{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 120 s, repair: 200 s}",
                 "spare_node", "instance"},
        Scenario{"DeadGpuRestart", "{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 120 s, repair: 200 s}",
                 "restart", "ep_group"},
        Scenario{"DeadGpuSpareInstance", "{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 120 s, repair: 200 s}",
                 "spare_instance", "instance"},
        Scenario{"HangSpareNode", "{kind: gpu.hang, target: inst-1.d-1.gpu-3, at: 120 s, duration: 300 s}",
                 "spare_node", "instance"},
        Scenario{"NodeCrashRestart", "{kind: node.crash, target: inst-1.d-1, at: 120 s, repair: 200 s}", "restart",
                 "instance"},
        Scenario{"NodeCrashSpareNode", "{kind: node.crash, target: inst-1.d-1, at: 120 s, repair: 200 s}", "spare_node",
                 "ep_group"},
        Scenario{"NicDownSpareNode", "{kind: nic.down, target: inst-1.d-1.nic-2, at: 120 s, duration: 200 s}",
                 "spare_node", "instance"},
        Scenario{"SlowGpu", "{kind: gpu.slow, target: inst-1.d-1.gpu-2, at: 120 s, duration: 200 s, factor: 2}",
                 "restart", "instance", 0},
        Scenario{"LeafDownRestart", "{kind: switch.down, target: leaf-2, at: 120 s, duration: 60 s}", "restart",
                 "instance"}),
    [](const auto& scenario) { return std::string(scenario.param.name); });

}  // namespace
}  // namespace faultline
