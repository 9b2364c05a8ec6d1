// Experiments with several fleets: what they may say, what is refused, and where each instance and request belongs.
#include "core/experiment/fleets.h"

#include <gtest/gtest.h>

#include "tests/unit/core/experiment/support.h"

namespace faultline::experiment {
namespace {

using namespace testing;

const std::string kFleets =
    "name: test\n"
    "topology: topologies/fleets/mi300x-32-rail.yaml\n"
    "device: topologies/devices/mi300x.yaml\n"
    "engine: topologies/engines/sglang.yaml\n"
    "pool: {spare_nodes: 2}\n"
    "fleets:\n"
    "  - name: chat\n"
    "    model: topologies/models/deepseek-v3.yaml\n"
    "    fleet: {instances: 2, layout: 2P2D, prefill: {dp: 16, ep: 16, kv_precision: fp8}, decode: {dp: 16, ep: 16, "
    "kv_precision: fp8}, spare_instances: 1}\n"
    "    workload: {arrivals: {rate: 8}, duration: 10 s, slo: [{name: gold}, {name: batch}]}\n"
    "  - name: code\n"
    "    model: topologies/models/qwen3-235b-a22b.yaml\n"
    "    engine: topologies/engines/vllm.yaml\n"
    "    fleet: {instances: 3, layout: 1P1D, prefill: {dp: 8, ep: 8}, decode: {dp: 8, ep: 8}, spare_instances: 1}\n"
    "    workload: {arrivals: {rate: 4}, duration: 20 s, slo: [{name: gold, ttft: 3 s}]}\n"
    "recovery: {policy: spare_node}\n";

ExperimentSpec fleets(const std::vector<std::string>& set = {}) {
  Overrides overrides;
  overrides.set = set;
  return load(kFleets, "e.yaml", overrides, read_repository);
}

TEST(SeveralFleets, AreDeployedOneAfterTheOtherWithTheirOwnModelAndEngine) {
  const ExperimentSpec spec = fleets();
  const auto d = deploy(spec);
  // 2 chat, 3 code, then the spare instance of each; four nodes of chat, two of code.
  EXPECT_EQ(d->fleet_of, (std::vector<std::uint32_t>{0, 0, 1, 1, 1, 0, 1}));
  ASSERT_EQ(d->instances.size(), 7U);
  EXPECT_EQ(d->fleet.instances[1].groups[0].nodes, (std::vector<std::uint32_t>{4, 5}));
  EXPECT_EQ(d->fleet.instances[2].groups[0].nodes, (std::vector<std::uint32_t>{8}));
  EXPECT_EQ(d->fleet.instances[5].groups[0].nodes, (std::vector<std::uint32_t>{14, 15}));
  EXPECT_EQ(d->fleet.instances[6].groups[1].nodes, (std::vector<std::uint32_t>{19}));
  EXPECT_EQ(d->fleet.spare_nodes, (std::vector<std::uint32_t>{30, 31}));
  EXPECT_FALSE(d->fleet.instances[6].serving);
  EXPECT_EQ(d->instances[1].engine.name, spec.engine.name);
  EXPECT_EQ(d->instances[6].engine.name, spec.other_fleets[0].engine.name);
  EXPECT_NE(d->instances[0].engine.name, d->instances[2].engine.name);
  EXPECT_NE(d->instances[0].kv_bytes_per_token, d->instances[2].kv_bytes_per_token);
  EXPECT_EQ(d->roles_of(2).at(0), d->further.at(0).prefill.get());
  EXPECT_EQ(d->router.fleet_of_class, (std::vector<std::uint32_t>{0, 0, 1}));
  const auto run = d->describe_run(spec);
  EXPECT_EQ(run.slo_class_names, (std::vector<std::string>{"chat/gold", "chat/batch", "code/gold"}));
  EXPECT_EQ(run.gpus, 2 * 32 + 3 * 16);
  EXPECT_EQ(run.spare_gpus, 2 * 8 + 32 + 16);
  EXPECT_EQ(run.fleets.at(1).first_class, 2);
  EXPECT_EQ(run.fleets.at(1).model, "Qwen3-235B-A22B");
  EXPECT_EQ(load_duration(spec), Duration{20'000'000'000});
}

TEST(SeveralFleets, ReadBackTheSameWhenResolved) {
  const std::string once = resolved(fleets());
  EXPECT_EQ(resolved(load(once, "once.yaml", {}, read_repository)), once);
  EXPECT_NE(once.find("pool:"), std::string::npos);
}

TEST(SeveralFleets, AFleetGetsTheSameRequestsWhateverTheOthersAre) {
  const auto of = [](const ExperimentSpec& spec, std::uint8_t first_class) {
    config::Diagnostics diagnostics;
    const auto source = make_arrivals(spec, read_repository, diagnostics);
    std::vector<std::array<std::int64_t, 3>> out;
    for (workload::Arrival a; source->next(a);) {
      if (a.slo_class >= first_class) out.push_back({a.at.ns, a.prompt.v, a.output.v});
    }
    return out;
  };
  const auto code = of(fleets(), 2);
  EXPECT_GT(code.size(), 40U);
  EXPECT_EQ(of(fleets({"fleets.0.workload.arrivals.rate=2"}), 2), code);
  const auto all = of(fleets(), 0);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) { return a[0] < b[0]; }));
}

TEST(SeveralFleets, OneFleetAloneIsTheOrdinaryExperiment) {
  const ExperimentSpec spec = fleets();
  const ExperimentSpec code = one_fleet(spec, 1);
  EXPECT_EQ(code.model.name, "Qwen3-235B-A22B");
  EXPECT_EQ(code.fleet.spare_nodes, 2U);
  EXPECT_TRUE(deploy(code)->fleet_of.empty());
  EXPECT_NO_THROW(needs_one_fleet(code, "this"));
  EXPECT_THROW(needs_one_fleet(spec, "this"), config::ConfigError);
}

struct Wrong {
  std::string replace, with, expected;
};
class WrongFleets : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongFleets, AreNamedWithTheirPlace) {
  const Wrong& w = GetParam();
  std::string text = kFleets;
  const auto at = text.find(w.replace);
  ASSERT_NE(at, std::string::npos) << w.replace;
  text.replace(at, w.replace.size(), w.with);
  const std::string got = errors_of(text);
  EXPECT_TRUE(matches(got, w.expected)) << got << "expected\n" << w.expected;
}

INSTANTIATE_TEST_SUITE_P(
    Text, WrongFleets,
    ::testing::ValuesIn(std::vector<Wrong>{
        {"recovery: {policy: spare_node}\n", "", ""},
        {"pool:", "fleet: {instances: 1}\npool:",
         "e.yaml:5:8: error: 'fleet' beside 'fleets'\n  each entry of 'fleets' has its own\n"},
        {"name: code", "name: chat", "e.yaml:7:3: error: fleets[1]: there is a fleet 'chat' already\n"},
        {"name: code", "name: a/b",
         "e.yaml:11:11: error: the name of a fleet is not empty and has no '/', got 'a/b'\n"},
        {"    model: topologies/models/qwen3-235b-a22b.yaml\n", "",
         "e.yaml:11:5: error: missing key 'model'\n  give a file name or a mapping\n"},
        {"layout: 1P1D,", "layout: 1P1D, spare_nodes: 1,",
         "e.yaml:14:12: error: spare_nodes, placement and router_placement are common to all fleets\n"
         "  write them under 'pool'\n"},
        {"spare_nodes: 2}", "spare_node: 2}",
         "e.yaml:5:8: error: unknown key 'spare_node' in 'pool'\n"
         "  known keys: *(did you mean 'spare_nodes'?)\n"},
        {"instances: 3,", "instances: 30,",
         "e.yaml:9:12: error: the placement needs 76 nodes, the topology has 32\n"
         "  2 instances of 2P2D (4 nodes each), 31 instances of 1P1D (2 nodes each), 1 spare instance, 2 spare "
         "nodes\n"},
        {"decode: {dp: 8, ep: 8}", "decode: {dp: 8, ep: 7}", "*e.yaml:14:12: error: fleet.decode: *\n*"},
        {"recovery:", "fidelity: fluid\nrecovery:",
         "e.yaml:9:12: error: fluid fidelity has one fleet, this experiment has several\n  use fidelity: step\n"},
        {"recovery:", "autoscaler: {enabled: true}\nrecovery:",
         "e.yaml:9:12: error: the autoscaler looks at the load of one fleet, this experiment has several\n"
         "  set autoscaler.enabled: false\n"},
    }));

}  // namespace
}  // namespace faultline::experiment
