// Every malformed experiment gives its exact messages: all of them at once, with file, line and column.
#include <gtest/gtest.h>

#include "tests/unit/core/experiment/support.h"

namespace faultline::experiment {
namespace {

using namespace testing;

struct Case {
  std::string replace, with;  // in kBase
  std::string expected;       // '*' stands for any text within a line (lists of keys grow)
};

std::string name_of_case(const ::testing::TestParamInfo<Case>& info) { return "case_" + std::to_string(info.index); }

class MalformedExperiment : public ::testing::TestWithParam<Case> {};

TEST(WrongKindOfFile, APlanOrASweepIsNotAnExperiment) {
  EXPECT_EQ(errors_of("name: x\nexperiment: a.yaml\ntarget: 0.999\n"),
            "e.yaml:2:13: error: a plan, which is made of an experiment, is none itself\n"
            "  run it with: faultline plan e.yaml\n");
  EXPECT_EQ(errors_of("name: x\nexperiment: a.yaml\nseeds: 4\n"),
            "e.yaml:2:13: error: a sweep, which is made of an experiment, is none itself\n"
            "  run it with: faultline sweep e.yaml\n");
}

TEST_P(MalformedExperiment, SaysWhatIsWrongAndWhere) {
  const Case& c = GetParam();
  std::string text = kBase;
  const auto at = text.find(c.replace);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, c.replace.size(), c.with);
  const std::string got = errors_of(text);
  EXPECT_TRUE(matches(got, c.expected)) << c.replace << " -> " << c.with << "\n" << got << "expected\n" << c.expected;
}

INSTANTIATE_TEST_SUITE_P(
    Text, MalformedExperiment,
    ::testing::ValuesIn(std::vector<Case>{
        {"name: test\n", "", "e.yaml:1:1: error: missing key 'name'\n"},
        {"seed: 1", "seed: -1", "e.yaml:2:7: error: seed: must be at least 0, got '-1'\n"},
        {"seed: 1", "seed: one", "e.yaml:2:7: error: seed: expected a whole number, got 'one'\n"},
        {"seed: 1", "seed: [1, 2]", "e.yaml:2:7: error: seed: expected a whole number, got a list\n"},
        {"seed: 1", "sed: 1",
         "e.yaml:2:1: error: unknown key 'sed'\n"
         "  known keys: * (did you mean 'seed'?)\n"},
        {"seed: 1", "seed: 1\nseed: 2",
         "e.yaml:3:1: error: key 'seed' appears twice\n"
         "  first at e.yaml:2:1\n"},
        {"seed: 1", "fidelity: flow", "e.yaml:2:11: error: fidelity: expected one of step, fluid, got 'flow'\n"},
        {"seed: 1", "end: 0 s", "e.yaml:2:6: error: end: must be greater than 0, got '0 s'\n"},
        {"seed: 1", "end: 10 GiB",
         "e.yaml:2:6: error: end: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, d), got "
         "'10 GiB'\n"},
        {"seed: 1", "end: soon",
         "e.yaml:2:6: error: end: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, d), got "
         "'soon'\n"},
        {"topology: topologies/fleets/mi300x-32-rail.yaml\n", "",
         "e.yaml:1:1: error: missing key 'topology'\n"
         "  give a file name or a mapping\n"},
        {"mi300x-32-rail.yaml", "mi300x-33-rail.yaml",
         "e.yaml:3:11: error: topology: cannot read the file 'topologies/fleets/mi300x-33-rail.yaml'\n"
         "  file names are relative to the file that names them\n"},
        {"model: topologies/models/deepseek-v3.yaml\n", "",
         "e.yaml:1:1: error: missing key 'model'\n"
         "  give a file name or a mapping\n"},
        {"models/deepseek-v3.yaml", "models/deepseek-v4.yaml",
         "e.yaml:4:8: error: model: cannot read 'topologies/models/deepseek-v4.yaml'\n"
         "  paths start at the experiment's folder\n"},
        {"model: topologies/models/deepseek-v3.yaml", "model: [1]",
         "e.yaml:4:8: error: model: expected a file name or a mapping\n"},
        {"engines/sglang.yaml", "engines/vllmm.yaml",
         "e.yaml:6:9: error: engine: cannot read 'topologies/engines/vllmm.yaml'\n"
         "  paths start at the experiment's folder\n"},
        {"  layout: 2P2D", "  layout: 2P",
         "e.yaml:9:11: error: layout: expected xPyD such as 2P2D, or xPD for nodes that do both, got '2P'\n"},
        {"  layout: 2P2D", "  layout: 0P2D",
         "e.yaml:9:11: error: layout: expected xPyD such as 2P2D, or xPD for nodes that do both, got '0P2D'\n"},
        {"  layout: 2P2D", "  layout: 2p2d",
         "e.yaml:9:11: error: layout: expected xPyD such as 2P2D, or xPD for nodes that do both, got '2p2d'\n"},
        {"  layout: 2P2D", "  layout: 99999P2D",
         "e.yaml:9:11: error: layout: expected xPyD such as 2P2D, or xPD for nodes that do both, got '99999P2D'\n"},
        {"  layout: 2P2D", "  layout: 2PD",
         "e.yaml:8:3: error: 'fleet': missing key 'both'\n"
         "e.yaml:10:3: error: unknown key 'prefill' in 'fleet'\n"
         "  known keys: *\n"
         "e.yaml:11:3: error: unknown key 'decode' in 'fleet'\n"
         "  known keys: *\n"},
        {"  instances: 4", "  instances: 0", "e.yaml:8:14: error: instances: must be at least 1, got '0'\n"},
        {"  instances: 4", "  instances: 9",
         "e.yaml:8:3: error: the placement needs 36 nodes, the topology has 32\n"
         "  9 instances of 2P2D (4 nodes each)\n"},
        {"  instances: 4", "  instances: 2.5", "e.yaml:8:14: error: instances: expected a whole number, got '2.5'\n"},
        {"  instances: 4", "  instnces: 4",
         "e.yaml:8:3: error: unknown key 'instnces' in 'fleet'\n"
         "  known keys: * (did you mean 'instances'?)\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}\n", "", "e.yaml:8:3: error: 'fleet': missing key 'prefill'\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {dp: 12, ep: 12}",
         "e.yaml:8:3: error: fleet.prefill: tp*dp = 12 GPUs do not fill whole nodes of 8\n"
         "e.yaml:8:3: error: fleet.prefill: ep=12 does not divide the 256 experts and 0 replicas of DeepSeek-V3: "
         "redundant_experts=8 would\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {dp: 16, ep: 7}",
         "e.yaml:8:3: error: fleet.prefill: ep=7 must equal the GPUs of its group, tp*dp = 1*16 = 16\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {tp: 8, dp: 16, ep: 128}",
         "e.yaml:8:3: error: fleet.prefill: groups of 128 GPUs (tp 8 x dp 16) do not divide the role's 2 nodes of 8 "
         "GPUs\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {dp: 1, ep: 1}",
         "e.yaml:8:3: error: fleet.prefill: DeepSeek-V3 with tp=1 dp=1 ep=1 on MI300X does not fit: of 192.0 GiB a "
         "GPU, 23.0 GiB are reserved and 3.0 GiB taken by the runtime; weights need 626.9 GiB (experts 609.1, "
         "attention 10.6, other 7.1), activations 1.8 GiB, communication 0.0 GiB: 462.8 GiB too much\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {dp: 16, ep: 16, kv_precision: fp9}",
         "e.yaml:10:43: error: kv_precision: expected one of bf16, fp8, got 'fp9'\n"
         "  (did you mean 'fp8'?)\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: {dp: 0, ep: 16}",
         "e.yaml:10:17: error: dp: must be at least 1, got '0'\n"},
        {"  prefill: {dp: 16, ep: 16, kv_precision: fp8}", "  prefill: 16",
         "e.yaml:10:12: error: 'fleet.prefill': expected a mapping of keys to values\n"},
        {"restart_unit: instance", "restart_unit: rack",
         "e.yaml:12:17: error: restart_unit: expected one of rank, ep_group, role, instance, got 'rack'\n"
         "  (did you mean 'rank'?)\n"},
        {"restart_unit: instance", "spare_nodes: -1",
         "e.yaml:12:16: error: spare_nodes: must be at least 0, got '-1'\n"},
        {"restart_unit: instance", "spare_nodes: 17",
         "e.yaml:8:3: error: the placement needs 33 nodes, the topology has 32\n"
         "  4 instances of 2P2D (4 nodes each), 17 spare nodes\n"},
        {"restart_unit: instance", "spare_instances: 5",
         "e.yaml:8:3: error: the placement needs 36 nodes, the topology has 32\n"
         "  4 instances of 2P2D (4 nodes each), 5 spare instances\n"},
        {"restart_unit: instance", "placement: tight",
         "e.yaml:12:14: error: placement: expected one of pack, spread, rack_aligned, got 'tight'\n"},
        {"fleet:\n  instances: 4", "fleet: 4\nx:\n  instances: 4",
         "e.yaml:7:8: error: 'fleet': expected a mapping of keys to values\n"
         "e.yaml:8:1: error: unknown key 'x'\n"
         "  known keys: *\n"},
        {"kind: poisson, rate: 8", "kind: poison, rate: 8",
         "e.yaml:14:20: error: kind: expected one of poisson, constant, gamma, weibull, onoff, diurnal, got 'poison'\n"
         "  (did you mean 'poisson'?)\n"},
        {"kind: poisson, rate: 8", "kind: poisson, rate: 0",
         "e.yaml:14:35: error: rate: must be at least 1e-06, got '0'\n"},
        {"  duration: 10 s\n", "  duration: 10\n",
         "e.yaml:16:13: error: duration: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, "
         "d), got '10'\n"},
        {"  duration: 10 s\n", "  duration: 10 m\n",
         "e.yaml:16:13: error: duration: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, "
         "d), got '10 m'\n"},
        {"  duration: 10 s\n", "", "e.yaml:14:3: error: a generated workload needs an end: 'requests' or 'duration'\n"},
        {"kind: azure_conversation", "kind: azure",
         "e.yaml:15:19: error: kind: expected one of independent, azure_conversation, azure_code, trace, got "
         "'azure'\n"},
        {"kind: switch.down", "kind: switch.dwn",
         "e.yaml:18:22: error: kind: unknown fault kind 'switch.dwn'\n"
         "  known kinds: switch.down, gpu.failstop, gpu.ecc, gpu.correctable, gpu.hang, gpu.slow, gpu.sdc, "
         "pcie.degrade … (24 more), all in docs/faults.md (did you mean 'switch.down'?)\n"},
        {"kind: switch.down", "kind: gpu.failstop",
         "e.yaml:18:44: error: gpu.failstop targets a gpu, 'leaf-0' is a switch\n"},
        {"target: leaf-0", "target: leaf-99",
         "e.yaml:18:43: error: unknown component 'leaf-99' in fault target\n"
         "  known switch names: leaf-0, leaf-1, leaf-2, leaf-3, leaf-4, leaf-5, leaf-6, leaf-7 … (32 more) (did you "
         "mean 'leaf-0'?)\n"},
        {"target: leaf-0, ", "", "e.yaml:18:22: error: switch.down needs 'target'\n"},
        {"at: 5 s", "at: -5 s", "e.yaml:18:55: error: at: must be at least 0 s, got '-5 s'\n"},
        {"at: 5 s, ", "",
         "e.yaml:18:5: error: 'faults[0]': no trigger\n"
         "  one of 'at', 'after' and 'random' says when\n"},
        {"at: 5 s", "at: 5 s, after: {event: request.completed, nth: 3}",
         "e.yaml:18:67: error: more than one trigger\n"
         "  only one of 'at', 'after' and 'random' says when\n"
         "e.yaml:18:75: error: event: expected one of request_arrived, request_completed, prefill_step, decode_step, "
         "kv_transfer_started, kv_transfer_completed, recovery_detected, recovery_decided, recovery_drained, "
         "recovery_rerouted, recovery_ready, got 'request.completed'\n"
         "  (did you mean 'request_completed'?)\n"},
        {"duration: 2 s}", "duration: 2 s, factor: 0.5}", "e.yaml:18:83: error: switch.down takes no 'factor'\n"},
        {"duration: 2 s}", "duration: 2 s}\n  - {id: leaf, kind: node.crash, target: node-0, at: 1 s}",
         "e.yaml:19:5: error: fault id 'leaf' appears twice\n"
         "  first at e.yaml:18:5\n"},
        {"recovery: {policy: restart}", "recovery: {policy: reboot}",
         "e.yaml:19:20: error: policy: expected one of none, restart, spare_node, spare_instance, elastic_ep, mask, "
         "role_switch, got 'reboot'\n"},
        {"recovery: {policy: restart}", "recovery: {policy: restart, decision_delay: 100}",
         "e.yaml:19:45: error: decision_delay: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, "
         "h, d), got '100'\n"},
        {"recovery: {policy: restart}", "recovry: {policy: restart}",
         "e.yaml:19:1: error: unknown key 'recovry'\n"
         "  known keys: * (did you mean 'recovery'?)\n"},
        {"recovery: {policy: restart}", "router: {replicas: 0}",
         "e.yaml:19:20: error: replicas: must be at least 1, got '0'\n"},
        {"recovery: {policy: restart}", "router: {policy: random}",
         "e.yaml:19:18: error: policy: expected one of round_robin, least_tokens, power_of_two, prefix_affinity, "
         "cache_aware, got "
         "'random'\n"},
        {"recovery: {policy: restart}", "router: {retry: {budget: 1.5}}",
         "e.yaml:19:26: error: budget: must be at most 1, got '1.5'\n"},
        {"recovery: {policy: restart}", "router: {signal_interval: 1 us}",
         "e.yaml:19:27: error: signal_interval: must be at least 1 ms, got '1 us'\n"},
        {"recovery: {policy: restart}", "router: {queue_max: -1}",
         "e.yaml:19:21: error: queue_max: must be at least 0, got '-1'\n"},
        {"recovery: {policy: restart}", "detector: {heartbeats_missed: 0}",
         "e.yaml:19:31: error: heartbeats_missed: must be at least 1, got '0'\n"},
        {"recovery: {policy: restart}", "detector: {heartbeat_period: 3 Gb/s}",
         "e.yaml:19:30: error: heartbeat_period: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, "
         "min, h, d), got '3 Gb/s'\n"},
        {"recovery: {policy: restart}", "autoscaler: {enabled: yes please}",
         "e.yaml:19:23: error: enabled: expected true or false, got 'yes please'\n"},
        {"recovery: {policy: restart}", "autoscaler: {scale_up_tokens: 10, scale_down_tokens: 20}",
         "e.yaml:19:54: error: must be below scale_up_tokens, or the fleet would oscillate\n"},
        {"recovery: {policy: restart}", "transfer: {tries_max: 0}",
         "e.yaml:19:23: error: tries_max: must be at least 1, got '0'\n"},
        {"recovery: {policy: restart}", "network: {rdma_timeout: 32}",
         "e.yaml:19:25: error: rdma_timeout: must be at most 31, got '32'\n"},
        {"recovery: {policy: restart}", "cost: {gpu_hour: -2}",
         "e.yaml:19:18: error: gpu_hour: must be at least 0, got '-2'\n"},
        {"recovery: {policy: restart}", "cost: {gpu_hour: cheap}",
         "e.yaml:19:18: error: gpu_hour: expected a number, got 'cheap'\n"},
        {"recovery: {policy: restart}", "recovery: {policy: restart}\n---\nname: b\n",
         "e.yaml:21:1: error: a second YAML document in one file ('---')\n"},
        {"recovery: {policy: restart}", "recovery: {policy: restart",
         "e.yaml:20:1: error: not valid YAML: end of map flow not found\n"},
        {"recovery: {policy: restart}", "recovery: {policy: *unknown}",
         "e.yaml:19:20: error: not valid YAML: the referenced anchor is not defined\n"},
        {"recovery: {policy: restart}", "timing: {control_latency: 1e30 s}",
         "e.yaml:19:27: error: control_latency: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, "
         "min, h, d), got '1e30 s'\n"},
        {"recovery: {policy: restart}", "timing: {control_latency: nan s}",
         "e.yaml:19:27: error: control_latency: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, "
         "min, h, d), got 'nan s'\n"},
        {"recovery: {policy: restart}", "recovery:\n\tpolicy: restart",
         "e.yaml:20:8: error: not valid YAML: illegal map value\n"},
        {"recovery: {policy: restart}", "engine2: {}",
         "e.yaml:19:1: error: unknown key 'engine2'\n"
         "  known keys: * (did you mean 'engine'?)\n"},
        {"engine: topologies/engines/sglang.yaml", "engine: {max_num_seqs: 0, kv_fraction: 2}",
         "e.yaml:6:24: error: max_num_seqs: must be at least 1, got '0'\n"
         "e.yaml:6:40: error: kv_fraction: must be at most 1, got '2'\n"},
        {"engine: topologies/engines/sglang.yaml", "engine: {kv_fraction: 0.05}",
         "e.yaml:8:3: error: fleet.prefill: DeepSeek-V3 with tp=1 dp=16 ep=16 on MI300X does not fit: of 192.0 GiB a "
         "GPU, 182.4 GiB are reserved and 3.0 GiB taken by the runtime; weights need 55.8 GiB (experts 38.1, attention "
         "10.6, other 7.1), activations 1.8 GiB, communication 2.7 GiB: 53.7 GiB too much\n"
         "e.yaml:8:3: error: fleet.decode: DeepSeek-V3 with tp=1 dp=16 ep=16 on MI300X does not fit: of 192.0 GiB a "
         "GPU, 182.4 GiB are reserved and 3.0 GiB taken by the runtime; weights need 55.8 GiB (experts 38.1, attention "
         "10.6, other 7.1), activations 1.8 GiB, communication 2.7 GiB: 53.7 GiB too much\n"},
        {"engine: topologies/engines/sglang.yaml", "engine: {graph_batch_sizes: [1, 4, 2]}",
         "e.yaml:6:29: error: graph_batch_sizes: must ascend from at least 1 to at most 65536\n"},
        {"engine: topologies/engines/sglang.yaml", "engine: {max_num_seqs: 1, block_tokens: 0}",
         "e.yaml:6:41: error: block_tokens: must be at least 1, got '0'\n"}}),
    name_of_case);

TEST(Experiment, TheTextThatTheOthersAreMadeFromIsWell) { EXPECT_EQ(errors_of(kBase), ""); }

TEST(Experiment, MoreInstancesAtLeastThanTheFleetHasAreRefused) {
  EXPECT_EQ(errors_of(kBase + "autoscaler: {enabled: true, instances_min: 5}\n"),
            "e.yaml:8:3: error: autoscaler.instances_min is 5, but the fleet has 4 instances\n");
}
TEST(Experiment, AStandbyPolicyWithoutAStandbyIsRefused) {
  EXPECT_EQ(errors_of(kBase, {"recovery.policy=spare_instance"}),
            "e.yaml:8:3: error: recovery.policy is spare_instance, but the fleet has no spare instance\n"
            "  set fleet.spare_instances, or another policy\n");
  EXPECT_EQ(errors_of(kBase, {"recovery.policy=spare_instance", "fleet.spare_instances=1"}), "");
}
TEST(Experiment, WaitsThatShrinkAreRefused) {
  EXPECT_EQ(errors_of(kBase + "router: {retry: {backoff: 3 s, backoff_max: 2 s}}\n"),
            "e.yaml:20:27: error: backoff: must not exceed backoff_max\n");
  EXPECT_EQ(errors_of(kBase, {"recovery.retry_interval=1 h"}),
            "--set recovery.retry_interval=1 h: error: retry_interval: must not exceed retry_interval_max\n");
}
TEST(Experiment, AFileOfTheWrongKindNamesItselfInEveryError) {
  std::string text = kBase;
  text.replace(text.find("devices/mi300x.yaml"), 19, "models/deepseek-v3.yaml");
  std::istringstream lines(errors_of(text));
  int errors = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("  ")) continue;
    EXPECT_TRUE(line.starts_with("topologies/models/deepseek-v3.yaml:")) << line;
    ++errors;
  }
  EXPECT_GT(errors, 20);
}

TEST(Experiment, WhatIsSetOnTheCommandLineIsCheckedLikeTheFile) {
  EXPECT_EQ(errors_of(kBase, {"fleet.instances"}),
            "--set fleet.instances: error: expected a field and a value, such as 'fleet.instances=8'\n");
  EXPECT_EQ(errors_of(kBase, {"=3"}), "--set =3: error: expected a field and a value, such as 'fleet.instances=8'\n");
  EXPECT_EQ(errors_of(kBase, {"fleet..x=1"}), "--set fleet..x=1: error: the field has an empty part\n");
  EXPECT_EQ(errors_of(kBase, {"seed={"}),
            "--set seed={: error: the value is not valid YAML: end of map flow not found\n");
  EXPECT_EQ(errors_of(kBase, {"name.x=1"}), "--set name.x=1: error: 'name' is a single value and has no field 'x'\n");
  EXPECT_EQ(errors_of(kBase, {"fleet.instances="}),
            "--set fleet.instances=: error: instances: expected a whole number, got nothing\n");
  EXPECT_EQ(errors_of(kBase, {"fleet.instances=abc"}),
            "--set fleet.instances=abc: error: instances: expected a whole number, got 'abc'\n");
  EXPECT_EQ(errors_of(kBase, {"fleet.instances=0"}),
            "--set fleet.instances=0: error: instances: must be at least 1, got '0'\n");
  EXPECT_TRUE(matches(errors_of(kBase, {"fleet.instnces=3"}),
                      "--set fleet.instnces=3: error: unknown key 'instnces' in 'fleet'\n  known keys: * (did you mean "
                      "'instances'?)\n"));
  EXPECT_TRUE(matches(errors_of(kBase, {"flet.instances=3"}),
                      "--set flet.instances=3: error: unknown key 'flet'\n  known keys: * (did you mean 'fleet'?)\n"));
  EXPECT_TRUE(matches(errors_of(kBase, {"detector.probe_timout=3 s"}),
                      "--set detector.probe_timout=3 s: error: unknown key 'probe_timout' in 'detector'\n  known keys: "
                      "* (did you mean 'probe_timeout'?)\n"))
      << "where the file has no such mapping";
  const std::string known = errors_of(kBase, {"workloads=1"});
  EXPECT_NE(known.find(" faults,"), std::string::npos) << known;
  EXPECT_EQ(known.find(" faults,"), known.rfind(" faults,")) << "each known key once: " << known;
  EXPECT_TRUE(matches(errors_of(kBase, {"router={policy: lest_tokens}"}),
                      "--set router={policy: lest_tokens}: error: policy: expected one of *, got 'lest_tokens'\n  (did "
                      "you mean 'least_tokens'?)\n"));
  EXPECT_TRUE(matches(errors_of(kBase, {"fleet.instances=x", "seed=y"}),
                      "--set fleet.instances=x: error: *\n--set seed=y: error: *\n"))
      << "each error names its own argument";
  EXPECT_EQ(errors_of(kBase, {"fleet.instances=3", "faults.0.at=1 s"}), "");
}

TEST(Experiment, WhatIsNoMappingIsRefused) {
  EXPECT_EQ(errors_of(""), "e.yaml: error: the file is empty\n");
  EXPECT_EQ(errors_of("- a\n"), "e.yaml:1:1: error: the file: expected a mapping of keys to values\n");
  EXPECT_EQ(errors_of(std::string("a: \0b\n", 6)), "e.yaml: error: not a text file: it contains a zero byte\n");
}

TEST(Experiment, DeepNestingIsRefusedBeforeItCostsAStack) {
  std::string lists = "name: ", maps = "name: ";
  for (int k = 0; k < 20'000; ++k) lists += "[", maps += "{a: ";
  EXPECT_EQ(errors_of(lists), "e.yaml: error: nested deeper than 64 levels\n");
  EXPECT_EQ(errors_of(maps), "e.yaml: error: nested deeper than 64 levels\n");
}

}  // namespace
}  // namespace faultline::experiment
