// --set reaches every field that `check --resolved` prints, those in files that the experiment names included; and
// files with changes (`from:`) mean the same in a file.
#include <gtest/gtest.h>

#include "core/experiment/spec.h"
#include "support.h"

namespace faultline::experiment {
namespace {

using testing::errors_of;
using testing::kBase;
using testing::matches;
using testing::read_repository;

ExperimentSpec with(const std::vector<std::string>& set, const std::string& text = kBase) {
  Overrides overrides;
  overrides.set = set;
  return load(text, "e.yaml", overrides, read_repository);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(Set, ReachesIntoTheFilesThatAnExperimentNames) {
  const ExperimentSpec s = with({"engine.kv_fraction=0.5", "device.memory=128 GiB", "device.gemm_fp8.floor=9 us",
                                 "model.layers=12", "topology.nodes=40", "topology.node.nic_failover=true",
                                 "topology.node.nic.latency=900 ns", "topology.fabric.oversubscription=2"});
  EXPECT_EQ(s.engine.kv_fraction, 0.5);
  EXPECT_EQ(s.device.memory, Bytes{128LL << 30});
  EXPECT_EQ(s.model.layers, 12U);
  EXPECT_EQ(s.topology.nodes, 40U);
  EXPECT_TRUE(s.topology.node.nic_failover);
  EXPECT_EQ(s.topology.node.nic.latency, Duration{900});
  EXPECT_EQ(s.topology.fabric.oversubscription, 2);
  // What was not set is what the files say.
  const ExperimentSpec plain = with({});
  EXPECT_EQ(s.engine.max_num_seqs, plain.engine.max_num_seqs);
  EXPECT_EQ(s.engine.name, plain.engine.name);
  EXPECT_EQ(s.model.name, plain.model.name);
  EXPECT_EQ(s.topology.node.gpus, plain.topology.node.gpus);
  EXPECT_EQ(s.topology.fabric.name, plain.topology.fabric.name);
  EXPECT_NE(s.engine.kv_fraction, plain.engine.kv_fraction);
}

TEST(Set, AFileGivenBeforeIsTheOneThatIsChanged) {
  const ExperimentSpec s = with({"engine=topologies/engines/vllm.yaml", "engine.max_num_seqs=77"});
  EXPECT_EQ(s.engine.name, "vllm");
  EXPECT_EQ(s.engine.max_num_seqs, 77U);
  const ExperimentSpec last = with({"engine.max_num_seqs=77", "engine=topologies/engines/vllm.yaml"});
  EXPECT_NE(last.engine.max_num_seqs, 77U) << "the later one replaces the whole";
}

TEST(Set, EveryErrorInAFileThatItReachesNamesTheArgument) {
  EXPECT_EQ(errors_of(kBase, {"engine.kv_fraction=1.5"}),
            "--set engine.kv_fraction=1.5: error: kv_fraction: must be at most 1, got '1.5'\n");
  EXPECT_TRUE(matches(errors_of(kBase, {"engine.kv_fractio=0.5"}),
                      "--set engine.kv_fractio=0.5: error: unknown key 'kv_fractio'\n  known keys: * (did you mean "
                      "'kv_fraction'?)\n"));
  EXPECT_EQ(errors_of(kBase, {"topology.node.gpus=0"}),
            "--set topology.node.gpus=0: error: gpus: must be at least 1, got '0'\n");
  EXPECT_EQ(
      errors_of(kBase, {"topology.node.nics=3"}),
      "--set topology.node.nics=3: error: 3 NICs do not divide 8 GPUs equally\n  every NIC serves the same number "
      "of GPUs: 'nics' must divide 'gpus'\n");
  EXPECT_EQ(errors_of(kBase, {"model.layers.x=1"}),
            "--set model.layers.x=1: error: layers: expected a whole number, got a mapping\n");
  EXPECT_EQ(errors_of(replaced(kBase, "topologies/engines/sglang.yaml", "none.yaml"), {"engine.kv_fraction=0.5"}),
            "e.yaml:6:9: error: engine: cannot read 'none.yaml'\n  paths start at the experiment's folder\n");
}

TEST(FileWithChanges, MeansTheSameInTheExperiment) {
  const std::string text = replaced(kBase, "engine: topologies/engines/sglang.yaml",
                                    "engine: {from: topologies/engines/sglang.yaml, kv_fraction: 0.5}");
  EXPECT_EQ(resolved(with({}, text)), resolved(with({"engine.kv_fraction=0.5"})));
  const std::string wrong = replaced(kBase, "engine: topologies/engines/sglang.yaml",
                                     "engine: {from: topologies/engines/sglang.yaml, kv_fraction: 5, x: 1}");
  EXPECT_TRUE(matches(errors_of(wrong),
                      "e.yaml:6:61: error: kv_fraction: must be at most 1, got '5'\n"
                      "e.yaml:6:64: error: unknown key 'x'\n  known keys: *\n"))
      << errors_of(wrong);
  EXPECT_EQ(errors_of(replaced(kBase, "engine: topologies/engines/sglang.yaml", "engine: {from: [a]}")),
            "e.yaml:6:9: error: engine: expected a file name or a mapping\n");
}

TEST(Set, AnElementOfAListIsAPlainNumberInIt) {
  EXPECT_EQ(errors_of(kBase, {"faults.7.at=1 s"}),
            "--set faults.7.at=1 s: error: the list has 1 element, numbered from 0: '7' is not one of them\n");
  for (const std::string index : {"0x", "-1", "x"}) {
    EXPECT_EQ(
        errors_of(kBase, {"faults." + index + ".at=1 s"}),
        "--set faults." + index + ".at=1 s: error: 'faults' is a list: its elements are named by number, from 0\n");
  }
  EXPECT_TRUE(errors_of(kBase, {"faults.99999999999999999999.at=1 s"}).find("is not one of them") != std::string::npos);
}

TEST(Name, CannotLeadOutOfTheOutputFolder) {
  for (const std::string name : {"../../x", "/tmp/x", "a/../b", "a//b", ".", "a/", "''"}) {
    const std::string shown = name == "''" ? "" : name;
    EXPECT_EQ(errors_of(kBase, {"name=" + name}),
              "--set name=" + name + ": error: name: outputs go to a folder of this name, '" + shown +
                  "' cannot be one\n  words and '/' between them; none is '.' or '..'\n");
  }
  EXPECT_EQ(errors_of(kBase, {"name="}), "--set name=: error: name: expected a text, got nothing\n");
  EXPECT_EQ(errors_of(kBase, {"name=a b/c.d"}), "");
}

}  // namespace
}  // namespace faultline::experiment
