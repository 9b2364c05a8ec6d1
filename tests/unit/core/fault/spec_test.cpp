#include "core/fault/spec.h"

#include <gtest/gtest.h>

#include "tests/unit/core/fault/world.h"

namespace faultline::fault {
namespace {

using namespace literals;
using testing::errors_of;
using testing::read_faults;

TEST(FaultCatalogue, EveryKindHasANameATargetAndWhatIsObserved) {
  for (const KindInfo& kind : catalogue()) {
    EXPECT_FALSE(name_of(kind.kind).empty());
    const bool fleet_wide = kind.kind == FaultKind::placebo || kind.kind == FaultKind::registry_loss ||
                            kind.kind == FaultKind::storage_slow || kind.kind == FaultKind::rollout_bad ||
                            kind.kind == FaultKind::overload;
    EXPECT_EQ(kind.targets.empty(), fleet_wide) << name_of(kind.kind);
    EXPECT_FALSE(kind.effect.empty() || kind.observed.empty()) << name_of(kind.kind);
    EXPECT_EQ(&info(kind.kind), &kind);
  }
  EXPECT_EQ(catalogue().size(), kFaultKindCount);
}

TEST(FaultSpec, ReadsEveryTriggerAndParameter) {
  config::Diagnostics diagnostics;
  const auto specs = read_faults(R"(faults:
  - {id: leaf, kind: switch.down, target: leaf-0, at: 60 s, duration: 30 s}
  - {kind: gpu.slow, target: node-0.gpu-0, factor: 1.5, after: {event: decode_step, nth: 1000, scope: fleet, delay: 5 ms}}
  - {kind: link.flap, target: node-0.nic-0.cable, at: 40 s, down: 1 s, up: 5 s, cycles: 4}
  - {kind: gpu.failstop, target: "node-*", random: {rate_per_hour: 2e-5, from: 10 s, until: 90 s, max: 3}, repair: 24 h}
  - {kind: node.crash, target: node-1, after: {event: recovery_decided, fault: leaf}}
  - {kind: placebo, at: 1 s}
)",
                                 diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  ASSERT_EQ(specs.size(), 6u);
  EXPECT_EQ(specs[0].at, Instant{} + 60_s);
  EXPECT_EQ(specs[0].length(), 30_s);
  EXPECT_EQ(*specs[1].after, (AfterEvent{CausalEvent::decode_step, 1000, CausalScope::fleet, "", 5_ms}));
  EXPECT_EQ(specs[1].length(), kForever);
  EXPECT_EQ(specs[2].length(), 19_s);  // four outages of 1 s with three gaps of 5 s
  EXPECT_EQ(specs[3].random->rate_per_hour, 2e-5);
  EXPECT_EQ(specs[3].random->max, 3);
  EXPECT_EQ(specs[3].length(), 24 * 3600_s);
  EXPECT_EQ(specs[4].after->fault, "leaf");
}

TEST(FaultSpec, FaultsWithoutAnIdAreNamedAfterTheirKind) {
  config::Diagnostics diagnostics;
  const auto specs = read_faults(R"(faults:
  - {kind: placebo, at: 1 s}
  - {kind: placebo, at: 2 s}
  - {kind: placebo, at: 3 s, id: placebo-2}
  - {kind: placebo, at: 4 s}
)",
                                 diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  EXPECT_EQ(specs[0].id, "placebo");
  EXPECT_EQ(specs[1].id, "placebo-3");
  EXPECT_EQ(specs[2].id, "placebo-2");
  EXPECT_EQ(specs[3].id, "placebo-4");
}

TEST(FaultSpec, WhatIsPrintedReadsBackToTheSame) {
  config::Diagnostics diagnostics;
  const std::string text = R"(faults:
  - {id: a, kind: switch.down, target: leaf-0, at: 60 s, duration: 30 s}
  - {id: b, kind: gpu.slow, target: node-0.gpu-0, factor: 1.5, after: {event: decode_step, nth: 7}}
  - {id: c, kind: link.flap, target: node-0.nic-0.cable, at: 40 s, down: 1 s, up: 5 s, cycles: 4}
  - {id: d, kind: gpu.failstop, target: "*", random: {mean_interval: 20 s, distribution: weibull, shape: 0.5}, repair: 1 h}
)";
  testing::Campaign first{read_faults(text, diagnostics)};
  YAML::Emitter emitter;
  config::print(emitter, first);
  testing::Campaign second{read_faults(emitter.c_str(), diagnostics)};
  ASSERT_EQ(diagnostics.text(), "") << emitter.c_str();
  YAML::Emitter again;
  config::print(again, second);
  EXPECT_STREQ(emitter.c_str(), again.c_str());
  ASSERT_EQ(second.faults.size(), 4u);
  EXPECT_EQ(second.faults[1].after, first.faults[1].after);
  EXPECT_EQ(second.faults[3].random, first.faults[3].random);
  EXPECT_EQ(second.faults[2].length(), first.faults[2].length());
}

struct Malformed {
  const char* name;
  const char* entry;  // one element of the list, its column is 5
  const char* message;
};
void PrintTo(const Malformed& m, std::ostream* out) { *out << m.name; }

class MalformedFault : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedFault, IsRefusedWithItsMessage) {
  EXPECT_EQ(errors_of(std::string("faults:\n  - ") + GetParam().entry + "\n"), GetParam().message);
}

const Malformed kMalformed[] = {
    {"unknown_kind", "{kind: gpu.failstp, target: node-0.gpu-0, at: 1 s}",
     "e.yaml:2:12: error: kind: unknown fault kind 'gpu.failstp'\n"
     "  known kinds: gpu.failstop, gpu.ecc, gpu.correctable, gpu.hang, gpu.slow, gpu.sdc, pcie.degrade, process.crash "
     "… (24 more), all in docs/faults.md (did you mean 'gpu.failstop'?)\n"},
    {"unknown_kind_of_a_family", "{kind: link.broken, target: node-0.gpu-0, at: 1 s}",
     "e.yaml:2:12: error: kind: unknown fault kind 'link.broken'\n"
     "  known kinds: link.down, link.degrade, link.flap, link.lossy, link.oneway, gpu.failstop, gpu.ecc, "
     "gpu.correctable … (24 more), all in docs/faults.md\n"},
    {"kind_is_a_list", "{kind: [gpu.slow], target: node-0.gpu-0, at: 1 s}",
     "e.yaml:2:12: error: kind: expected a name, got a list\n"},
    {"missing_kind", "{target: leaf-0, at: 1 s}", "e.yaml:2:5: error: 'faults[0]': missing key 'kind'\n"},
    {"unknown_key", "{kind: placebo, at: 1 s, target: leaf-0, durtion: 1 s}",
     "e.yaml:2:46: error: unknown key 'durtion' in 'faults[0]'\n"
     "  known keys: id, kind, target, at, after, random, duration, repair, repair_spread, factor, loss, contained, "
     "shutdown_after, drain, down, up, cycles, then (did you mean 'duration'?)\n"},
    {"no_trigger", "{kind: switch.down, target: leaf-0}",
     "e.yaml:2:5: error: 'faults[0]': no trigger\n  one of 'at', 'after' and 'random' says when\n"},
    {"two_triggers", "{kind: switch.down, target: leaf-0, at: 1 s, after: {event: decode_step}}",
     "e.yaml:2:57: error: more than one trigger\n  only one of 'at', 'after' and 'random' says when\n"},
    {"time_without_unit", "{kind: switch.down, target: leaf-0, at: 60}",
     "e.yaml:2:45: error: at: expected a time since the start with its unit, such as '60 s', got '60'\n"},
    {"negative_time", "{kind: switch.down, target: leaf-0, at: -1 s}",
     "e.yaml:2:45: error: at: must be at least 0 s, got '-1 s'\n"},
    {"time_none", "{kind: switch.down, target: leaf-0, at: none}",
     "e.yaml:2:45: error: at: expected a time since the start with its unit, such as '60 s', got 'none'\n"},
    {"after_the_end", "{kind: switch.down, target: leaf-0, at: 100 s}",
     "e.yaml:2:5: error: fault 'switch.down' comes at 100 s, after the end of the run at 100 s\n"},
    {"missing_factor", "{kind: gpu.slow, target: node-0.gpu-0, at: 1 s}",
     "e.yaml:2:12: error: gpu.slow needs 'factor'\n  how many times slower it becomes, such as 1.5\n"},
    {"factor_not_taken", "{kind: gpu.failstop, target: node-0.gpu-0, at: 1 s, factor: 2}",
     "e.yaml:2:65: error: gpu.failstop takes no 'factor'\n"},
    {"slow_that_is_faster", "{kind: gpu.slow, target: node-0.gpu-0, at: 1 s, factor: 0.5}",
     "e.yaml:2:61: error: factor: what is slowed takes more than 1 times as long, got '0.5'\n"},
    {"degrade_to_nothing", "{kind: link.degrade, target: node-0.nic-0.cable, at: 1 s, factor: 0}",
     "e.yaml:2:71: error: factor: a degraded link keeps more than 0 and less than 1 of its capacity, got '0'\n"
     "  use link.down for a link that carries nothing\n"},
    {"degrade_above_one", "{kind: link.degrade, target: node-0.nic-0.cable, at: 1 s, factor: 1.5}",
     "e.yaml:2:71: error: factor: a degraded link keeps more than 0 and less than 1 of its capacity, got '1.5'\n"},
    {"flap_incomplete", "{kind: link.flap, target: node-0.nic-0.cable, at: 1 s, down: 1 s}",
     "e.yaml:2:12: error: link.flap needs 'up'\n  how long the link is up between two outages, such as '5 s'\n"
     "e.yaml:2:12: error: link.flap needs 'cycles'\n  how many times the link goes down\n"},
    {"flap_with_duration",
     "{kind: link.flap, target: node-0.nic-0.cable, at: 1 s, down: 1 s, up: 1 s, cycles: 2, duration: 1 s}",
     "e.yaml:2:101: error: link.flap takes no 'duration'\n  its length is cycles * (down + up)\n"},
    {"flap_without_cycles", "{kind: link.flap, target: node-0.nic-0.cable, at: 1 s, down: 1 s, up: 1 s, cycles: 0}",
     "e.yaml:2:88: error: cycles: must be at least 1, got '0'\n"},
    {"duration_and_repair", "{kind: node.crash, target: node-0, at: 1 s, duration: 1 s, repair: 1 s}",
     "e.yaml:2:72: error: 'duration' and 'repair' exclude each other\n"},
    {"duration_zero", "{kind: node.crash, target: node-0, at: 1 s, duration: 0 s}",
     "e.yaml:2:59: error: duration: must be greater than 0, got '0 s'\n"},
    {"missing_target", "{kind: node.crash, at: 1 s}", "e.yaml:2:12: error: node.crash needs 'target'\n"},
    {"unknown_target", "{kind: switch.down, target: leaf-3, at: 1 s}",
     "e.yaml:2:33: error: unknown component 'leaf-3' in fault target\n"
     "  known switch names: leaf-0, leaf-1 (did you mean 'leaf-0'?)\n"},
    {"target_of_another_kind", "{kind: gpu.failstop, target: leaf-0, at: 1 s}",
     "e.yaml:2:34: error: gpu.failstop targets a gpu, 'leaf-0' is a switch\n"},
    {"power_of_a_node", "{kind: rack.power, target: node-0, at: 1 s}",
     "e.yaml:2:32: error: rack.power targets a rack or power, 'node-0' is a node\n"},
    {"pattern_without_random", "{kind: switch.down, target: leaf-*, at: 1 s}",
     "e.yaml:2:33: error: target 'leaf-*': a pattern needs a random trigger\n"
     "  'at' and 'after' take one component by its full name\n"},
    {"pattern_matches_nothing", "{kind: switch.down, target: spine-*, random: {mean_interval: 1 s}}",
     "e.yaml:2:33: error: no switch matches 'spine-*'\n"},
    {"random_without_rate", "{kind: switch.down, target: leaf-*, random: {max: 2}}",
     "e.yaml:2:49: error: 'faults[0].random': no rate\n"
     "  'rate_per_hour' is of each matching component, 'mean_interval' of all of them together\n"},
    {"random_with_two_rates", "{kind: switch.down, target: leaf-*, random: {rate_per_hour: 1, mean_interval: 1 s}}",
     "e.yaml:2:83: error: 'rate_per_hour' and 'mean_interval' exclude each other\n"
     "  'rate_per_hour' is of each matching component, 'mean_interval' of all of them together\n"},
    {"rate_zero", "{kind: switch.down, target: leaf-*, random: {rate_per_hour: 0}}",
     "e.yaml:2:65: error: rate_per_hour: must be greater than 0, got '0'\n"},
    {"shape_of_exponential", "{kind: switch.down, target: leaf-*, random: {rate_per_hour: 1, shape: 0.5}}",
     "e.yaml:2:75: error: only a weibull distribution takes 'shape'\n"},
    {"empty_window", "{kind: switch.down, target: leaf-*, random: {rate_per_hour: 1, from: 9 s, until: 9 s}}",
     "e.yaml:2:86: error: 'until' must be after 'from'\n"},
    {"unknown_event", "{kind: switch.down, target: leaf-0, after: {event: decode}}",
     "e.yaml:2:56: error: event: expected one of request_arrived, request_completed, prefill_step, decode_step, "
     "kv_transfer_started, kv_transfer_completed, recovery_detected, recovery_decided, recovery_drained, "
     "recovery_rerouted, recovery_ready, got 'decode'\n"},
    {"zeroth_event", "{kind: switch.down, target: leaf-0, after: {event: decode_step, nth: 0}}",
     "e.yaml:2:74: error: nth: must be at least 1, got '0'\n"},
    {"recovery_of_nothing", "{kind: switch.down, target: leaf-0, after: {event: recovery_decided}}",
     "e.yaml:2:56: error: a recovery event needs 'fault'\n  the id of the fault whose recovery is meant\n"},
    {"recovery_of_unknown", "{id: a, kind: switch.down, target: leaf-0, after: {event: recovery_decided, fault: b}}",
     "e.yaml:2:5: error: unknown fault 'b' in 'after'\n  known faults: a (did you mean 'a'?)\n"},
    {"recovery_of_itself", "{id: a, kind: switch.down, target: leaf-0, after: {event: recovery_decided, fault: a}}",
     "e.yaml:2:5: error: fault 'a' waits for its own recovery\n"},
    {"step_with_a_fault", "{id: a, kind: switch.down, target: leaf-0, after: {event: decode_step, fault: a}}",
     "e.yaml:2:83: error: only recovery events take 'fault'\n"},
    {"after_is_a_word", "{kind: switch.down, target: leaf-0, after: decode_step}",
     "e.yaml:2:48: error: 'faults[0].after': expected a mapping of keys to values\n"},
    {"target_of_the_whole_fleet", "{kind: rollout.bad, target: leaf-0, at: 1 s}",
     "e.yaml:2:33: error: rollout.bad takes no 'target'\n  it strikes the whole fleet\n"},
    {"loss_missing", "{kind: link.lossy, target: node-0.nic-0.cable, at: 1 s}",
     "e.yaml:2:12: error: link.lossy needs 'loss'\n  the share of the packets that is lost, such as 1e-4\n"},
    {"lemons_of_an_interval",
     "{kind: switch.down, target: leaf-*, random: {mean_interval: 1 s, lemons: {share: 0.1, factor: 9}}}",
     "e.yaml:2:78: error: 'lemons' needs 'rate_per_hour'\n  it is a law of single components\n"},
    {"spread_without_repair", "{kind: node.crash, target: node-0, at: 1 s, repair_spread: 1}",
     "e.yaml:2:64: error: 'repair_spread' needs 'repair', its mean\n"},
    {"chain_that_needs_a_factor",
     "{kind: node.crash, target: node-0, at: 1 s, then: [{kind: gpu.slow, probability: 1}]}",
     "e.yaml:2:63: error: gpu.slow needs 'factor'\n"},
    {"crash_with_duration", "{kind: process.crash, target: node-0.gpu-0, at: 1 s, duration: 1 s}",
     "e.yaml:2:68: error: process.crash takes no 'duration'\n  it is over at once; the engine restarts the process\n"},
    {"entry_is_a_word", "leaf-0", "e.yaml:2:5: error: 'faults[0]': expected a mapping of keys to values\n"},
};

INSTANTIATE_TEST_SUITE_P(All, MalformedFault, ::testing::ValuesIn(kMalformed),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(FaultSpec, AnIdUsedTwiceIsRefusedWithTheFirstPlace) {
  EXPECT_EQ(errors_of("faults:\n  - {id: a, kind: placebo, at: 1 s}\n  - {id: a, kind: placebo, at: 2 s}\n"),
            "e.yaml:3:5: error: fault id 'a' appears twice\n  first at e.yaml:2:5\n");
}

TEST(FaultSpec, ARandomFaultInARunWithoutEndNeedsAnEnd) {
  EXPECT_EQ(errors_of("faults:\n  - {kind: switch.down, target: leaf-0, random: {mean_interval: 1 s}}\n", kNever),
            "e.yaml:2:5: error: random fault 'switch.down' needs 'until': the run has no time limit\n");
}

TEST(FaultSpec, ARateThatStrikesTooOftenIsRefused) {
  EXPECT_EQ(
      errors_of(
          "faults:\n  - {kind: link.down, target: node-0.nic-0.cable, repair: 1 ns, random: {mean_interval: 1 us}}\n"),
      "e.yaml:2:5: error: random fault 'link.down' strikes more than 100000 times in this run\n"
      "  lower its rate or bound it by 'until'\n");
}

}  // namespace
}  // namespace faultline::fault
