// One seed gives one event log: across runs, and against hashes in golden_hashes.txt that every compiler, build type
// and sanitizer build must meet. A change of what controllers or prices do changes the hashes; then write them anew
// with
//   FAULTLINE_UPDATE_GOLDEN=1 test_sim --gtest_filter='Determinism.*'
// and say in the commit why behaviour changed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "core/base/hash.h"
#include "core/report/requests_jsonl.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

const std::map<std::string, std::string>& scenarios() {
  static const std::map<std::string, std::string> all{
      {"disaggregated instances lose a leaf and a GPU", R"(
name: leaf and gpu
seed: 7
topology: ../../topologies/tiny/two-pods.yaml
model: ../../topologies/models/deepseek-v3.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {instances: 2, layout: 2P2D, prefill: {dp: 16, ep: 16, kv_precision: fp8}, decode: {dp: 16, ep: 16, kv_precision: fp8}, restart_unit: role}
workload: {arrivals: {kind: gamma, rate: 6, cv: 2}, lengths: {kind: azure_conversation}, requests: 200}
faults:
  - {kind: switch.down, target: leaf-0, at: 5 s, duration: 4 s}
  - {kind: gpu.failstop, target: inst-1.d-1.gpu-3, at: 14 s, repair: 20 s}
)"},
      {"a spare node stands in while a straggler slows a neighbour", R"(
name: spare node
seed: 8
topology: ../../topologies/fleets/mi300x-32-rail.yaml
model: ../../topologies/models/deepseek-v3.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/sglang.yaml
fleet: {instances: 2, layout: 2P2D, prefill: {dp: 16, ep: 16, kv_precision: fp8}, decode: {dp: 16, ep: 16, kv_precision: fp8}, spare_nodes: 1}
router: {policy: power_of_two, replicas: 2}
workload: {arrivals: {kind: poisson, rate: 4}, lengths: {kind: azure_code}, requests: 150}
faults:
  - {kind: gpu.slow, target: inst-0.d-0.gpu-1, factor: 1.7, at: 3 s, duration: 9 s}
  - {kind: node.crash, target: inst-1.p-1, at: 6 s}
recovery: {policy: spare_node}
)"},
      {"small instances behind two routers, one of which crashes", R"(
name: routers
seed: 9
topology: ../../topologies/tiny/two-pods.yaml
model: ../../topologies/models/dense-7b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/vllm.yaml
fleet: {instances: 8, layout: 1PD, both: {dp: 1, ep: 1}}
router: {replicas: 2, policy: prefix_affinity}
workload: {arrivals: {kind: weibull, rate: 40, cv: 1.5}, lengths: {kind: azure_conversation}, requests: 400}
faults:
  - {kind: router.crash, target: router-1, at: 2 s}
  - {kind: gpu.hang, target: node-3.gpu-0, at: 4 s}
)"},
  };
  return all;
}

std::string fingerprint(const test::Outcome& o) {
  return fmt::format("{:016x} {:016x}", o.run.stats.log_hash, hash_text(report::requests_jsonl(o.run)));
}

std::string golden_path() { return std::string(FAULTLINE_SOURCE_DIR) + "/tests/sim/driver/golden_hashes.txt"; }

std::map<std::string, std::string> golden() {
  std::map<std::string, std::string> all;
  std::istringstream lines(test::read_file(golden_path()).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > 34) all[line.substr(34)] = line.substr(0, 33);
  }
  return all;
}

TEST(Determinism, OneSeedGivesOneLogAndTheCommittedOneInEveryBuild) {
  const auto expected = golden();
  std::string fresh;
  for (const auto& [name, text] : scenarios()) {
    SCOPED_TRACE(name);
    const test::Outcome first = test::simulate(text), second = test::simulate(text);
    ASSERT_FALSE(first.run.requests.empty());
    for (const auto& f : first.run.faults) EXPECT_TRUE(f.applied) << f.id;
    EXPECT_EQ(first.log, second.log);
    EXPECT_EQ(fingerprint(first), fingerprint(second));
    fresh += fingerprint(first) + " " + name + "\n";
    if (std::getenv("FAULTLINE_UPDATE_GOLDEN") == nullptr) {
      ASSERT_TRUE(expected.contains(name)) << "no committed hash";
      EXPECT_EQ(fingerprint(first), expected.at(name));
    }
  }
  if (std::getenv("FAULTLINE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(golden_path()) << fresh;
    GTEST_SKIP() << "wrote " << golden_path() << ":\n" << fresh;
  }
}

TEST(Determinism, AnotherSeedGivesAnotherLog) {
  const std::string& text = scenarios().begin()->second;
  EXPECT_NE(test::simulate(test::spec_of(text, {.seed = 1})).run.stats.log_hash,
            test::simulate(test::spec_of(text, {.seed = 2})).run.stats.log_hash);
}

TEST(Determinism, ReplayOfEachLogGivesTheRecordedCommands) {
  for (const auto& [name, text] : scenarios()) {
    SCOPED_TRACE(name);
    const test::Outcome o = test::simulate(text);
    const experiment::ReplayResult r = experiment::replay(o.log, test::read_file);
    EXPECT_TRUE(r.matches) << r.who << " at " << r.at.ns << "\n" << r.difference;
    EXPECT_GT(r.records, 1'000u);
  }
}

}  // namespace
}  // namespace faultline
