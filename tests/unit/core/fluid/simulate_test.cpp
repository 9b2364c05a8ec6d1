#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/math.h"
#include "tests/unit/core/fluid/scenario.h"

namespace faultline::fluid {
namespace {

using testing::fleet_text;
using testing::run;

constexpr double kRestart = 150;  // s, of topologies/engines/sglang.yaml: 20 + 90 + 30 + 10

TEST(FluidRun, DeadGpuCostsItsInstanceNoticeDecisionProbeAttachAndRestart) {
  const auto r = run(fleet_text("{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 120 s}"));
  ASSERT_EQ(r.result.costs.size(), 1U);
  const FaultCost& c = r.result.costs[0];
  EXPECT_DOUBLE_EQ(c.detect_s, 1.0);  // process_exit_notice
  const double ready = 1.0 + 0.1 + 0.1 + 30 + kRestart;
  EXPECT_NEAR(c.ready_s, ready, 1e-9);
  EXPECT_NEAR(c.lost_gpu_s, 32 * ready, 1e-6);  // no decode group is left: all four nodes
  EXPECT_NEAR(c.own_gpu_s, ready, 1e-6);
  EXPECT_NEAR(r.result.lost_gpu_s, c.lost_gpu_s, 1e-6);
}

TEST(FluidRun, WithoutSparesTheInstanceWaitsForTheRepair) {
  const auto r = run(
      fleet_text("{kind: node.crash, target: inst-1.d-0, at: 100 s, repair: 200 s}", "recovery: {policy: restart}\n"));
  EXPECT_NEAR(r.result.costs[0].ready_s, 200 + kRestart, 1e-9);  // the node boots, its instance starts at once
}

TEST(FluidRun, InstancesGoOnWhereTheRestartUnitIsTheGroup) {
  // EP8 decode: two groups an instance, so that one goes on.
  const std::string fleet = "{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 100 s}";
  const auto group = run(fleet_text(fleet, "recovery: {policy: spare_node}\n", ", restart_unit: ep_group"), 1,
                         {"fleet.decode.dp=8", "fleet.decode.ep=8"});
  const auto whole = run(fleet_text(fleet, "recovery: {policy: spare_node}\n", ", restart_unit: instance"), 1,
                         {"fleet.decode.dp=8", "fleet.decode.ep=8"});
  EXPECT_NEAR(group.result.costs[0].lost_gpu_s, 8 * group.result.costs[0].ready_s, 1e-6);
  EXPECT_NEAR(whole.result.costs[0].lost_gpu_s, 32 * whole.result.costs[0].ready_s,
              32 * 1.3);  // the others stop at the decision
  EXPECT_GT(whole.result.hit, group.result.hit);
}

TEST(FluidRun, RequestsHitGrowWithTheLoadAsLittleSays) {
  const std::string fault = "{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 100 s}";
  const auto low = run(fleet_text(fault, "recovery: {policy: spare_node}\n", "", 20));
  const auto high = run(fleet_text(fault, "recovery: {policy: spare_node}\n", "", 200));
  // Ten times the arrivals, and steps that a larger batch makes longer: more than ten times the requests on the group.
  EXPECT_GT(high.result.hit / low.result.hit, 10);
  EXPECT_LT(high.result.hit / low.result.hit, 20);
}

TEST(FluidRun, EqualSeedsGiveEqualResultsAndOthersDiffer) {
  const std::string faults =
      "{kind: gpu.failstop, target: \"node-*.gpu-*\", random: {rate_per_hour: 0.5}, repair: 100 s}";
  const auto a = run(fleet_text(faults), 7), b = run(fleet_text(faults), 7), c = run(fleet_text(faults), 8);
  EXPECT_EQ(a.result.lost_gpu_s, b.result.lost_gpu_s);
  EXPECT_EQ(a.result.good, b.result.good);
  EXPECT_EQ(a.result.events, b.result.events);
  EXPECT_NE(a.result.lost_gpu_s, c.result.lost_gpu_s);
}

TEST(FluidRun, CapacityLostToRestartsIsLinearInTheWidthOfWhatStops) {
  // Closed form 3: fraction = rate * (GPUs that stop) * outage. 10^-3 per GPU-hour for 400 days give about 10^6 * 10^-3
  // events' worth of exposure: 128 serving GPUs * 9,600 h * 1e-3 = 1,229 events, so 2.9 % standard error; 12 % is four
  // of them.
  const auto loss = [](const std::string& decode, const std::string& unit) {
    const auto r = run(fleet_text("{kind: process.crash, target: \"node-*.gpu-*\", random: {rate_per_hour: 1e-3}}",
                                  "recovery: {policy: restart}\n", ", restart_unit: " + unit),
                       3,
                       {"workload.duration=400 d", "fleet.decode.dp=" + decode, "fleet.decode.ep=" + decode,
                        "fleet.prefill.dp=8", "fleet.prefill.ep=8"});
    return r.result.lost_gpu_s / (static_cast<double>(r.result.gpus) * r.result.duration_s);
  };
  const double outage_h = (1.0 + 0.1 + kRestart) / 3600;
  EXPECT_NEAR(loss("8", "ep_group"), 1e-3 * 8 * outage_h, 0.12 * 1e-3 * 8 * outage_h);
  EXPECT_NEAR(loss("8", "instance"), 1e-3 * 32 * outage_h, 0.12 * 1e-3 * 32 * outage_h);
}

TEST(FluidRun, AvailabilityOfAnInstanceIsThatOfAnAlternatingRenewalProcess) {
  // Closed form 2 with a long repair and no spares: 1 / (1 + rate * outage), whatever the number of events.
  const auto r = run(fleet_text("{kind: node.crash, target: \"node-*\", random: {rate_per_hour: 2e-3}, repair: 10 h}",
                                "recovery: {policy: restart}\n", ", restart_unit: instance"),
                     5, {"workload.duration=2000 d", "fleet.spare_nodes=0"});
  // Four nodes an instance; while one is down the others may fail, too: each node's own availability, to the fourth
  // power, less the restart after each return.
  const double node = 1 / (1 + 2e-3 * 10), outage = 1 - node * node * node * node;
  const double measured = r.result.lost_gpu_s / (128 * r.result.duration_s);
  EXPECT_NEAR(measured, outage, 0.06 * outage);  // 4,000 outages a node sort: 1.6 % standard error, and 0.4 % restarts
}

TEST(FluidRun, SparesThatRunOutMakeInstancesWait) {
  const std::string two =
      "{kind: node.crash, target: inst-0.d-0, at: 10 s, repair: 300 s}, {id: b, kind: node.crash, target: inst-1.d-0, "
      "at: 20 s, repair: 300 s}";
  const auto r = run(fleet_text(two), 1, {"fleet.spare_nodes=1"});
  EXPECT_EQ(r.result.spare_waits, 1);
  EXPECT_LT(r.result.costs[0].ready_s, 190);
  EXPECT_GT(r.result.costs[1].ready_s, 290 + kRestart);  // the first node to come back, 300 s after 10 s
  EXPECT_GT(r.result.no_spare_s, 250);
}

TEST(FluidRun, IdleSparesFailToo) {
  const auto r = run(fleet_text("{kind: node.crash, target: spare-0, at: 10 s, repair: 1000 s}, {id: b, kind: "
                                "gpu.failstop, target: spare-1.gpu-2, at: 10 s}, "
                                "{id: c, kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 100 s}"),
                     1, {"fleet.spare_nodes=3"});
  EXPECT_EQ(r.result.spare_failures, 2);  // the crash at once, the dead GPU when its start is tried
  EXPECT_NEAR(r.result.costs[2].ready_s, 1.2 + (30 + 20) + 30 + kRestart, 1e-6);
}

TEST(FluidRun, SpareInstanceTakesThePlaceAtTheDecision) {
  const auto r = run(fleet_text("{kind: gpu.failstop, target: inst-1.d-0.gpu-3, at: 100 s, repair: 50 s}",
                                "recovery: {policy: spare_instance}\n"),
                     1, {"fleet.spare_nodes=0", "fleet.spare_instances=1"});
  ASSERT_EQ(r.result.down_s.size(), 2U);
  EXPECT_NEAR(r.result.down_s[1], 1.0 + 0.1, 1e-6);  // from the fault to the decision
  EXPECT_NEAR(r.result.down_s[0] + r.result.down_s[1], 600, 1e-6);
}

TEST(FluidRun, RepairsQueueForTheCrews) {
  const std::string two =
      "{kind: node.crash, target: inst-0.d-0, at: 10 s, repair: 100 s}, {id: b, kind: node.crash, target: inst-1.d-0, "
      "at: 20 s, repair: 100 s}";
  const auto one = run(fleet_text(two, "recovery: {policy: restart}\nfluid: {repair_crews: 1}\n"));
  EXPECT_EQ(one.result.repair_queue_max, 1);
  EXPECT_NEAR(one.result.costs[1].ready_s, 10 + 100 - 20 + 100 + kRestart, 1e-6);
  const auto many = run(fleet_text(two, "recovery: {policy: restart}\n"));
  EXPECT_NEAR(many.result.costs[1].ready_s, 100 + kRestart, 1e-6);
}

TEST(FluidRun, PlannedMaintenanceInterruptsNoRequest) {
  const auto r =
      run(fleet_text("{kind: node.maintenance, target: inst-1.d-0, at: 100 s, drain: 60 s, duration: 60 s}"));
  EXPECT_EQ(r.result.hit, 0);
  EXPECT_GT(r.result.lost_gpu_s, 0);
}

TEST(FluidRun, SlowedGpuThatBreaksTheTpotLimitMakesItsRequestsLate) {
  const auto slow =
      run(fleet_text("{kind: gpu.slow, target: inst-1.d-0.gpu-3, at: 100 s, duration: 100 s, factor: 4}"));
  EXPECT_EQ(slow.result.hit, 0);
  EXPECT_NEAR(slow.result.late, 40 * 100 / 4,
              40 * 100 / 4 * 0.8);  // at most the instance's quarter, less for its lower capacity
  const auto little =
      run(fleet_text("{kind: gpu.slow, target: inst-1.d-0.gpu-3, at: 100 s, duration: 100 s, factor: 1.05}"));
  EXPECT_EQ(little.result.late, 0);
}

TEST(FluidRun, WhatItCannotAnswerIsRefused) {
  const auto errors = [](const std::string& text) {
    try {
      run(text);
    } catch (const config::ConfigError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(
      errors(fleet_text("{kind: gpu.failstop, target: inst-1.d-0.gpu-3, after: {event: decode_step, nth: 10}}")),
      ::testing::HasSubstr(
          "error: fault 'gpu.failstop' is triggered by an event; fluid fidelity has no single events: give it a time"));
  EXPECT_THAT(
      errors(fleet_text("{kind: clock.skew, target: node-1, at: 3 s}")),
      ::testing::HasSubstr("error: fault 'clock.skew' of kind clock.skew has no model at fluid fidelity: use step"));
  EXPECT_THAT(errors(fleet_text("", "autoscaler: {enabled: true}\n")),
              ::testing::HasSubstr(
                  "error: fluid fidelity has no autoscaler\n  set autoscaler.enabled: false, or fidelity: step"));
}

TEST(FluidState, StartsFromWhatIsDownNow) {
  auto r = run(fleet_text(""));
  const StartState state = load_state(
      "load: 10\ninstances_down: [{instance: 2, back_in: 100 s}]\ncordoned: [{node: inst-1.d-0, back_in: 300 "
      "s}]\nspares_used: 4\n",
      "s.yaml", *r.deployment);
  Options options;
  options.duration = *duration_of(r.spec);
  options.state = &state;
  const Result now = simulate(r.spec, *r.deployment, r.capacity, options);
  EXPECT_NEAR(now.arrived, 10 * 600, 1e-6);
  ASSERT_EQ(now.down_s.size(), 3U);
  EXPECT_NEAR(now.down_s[2], 100, 1e-6);                   // both
  EXPECT_NEAR(now.down_s[1], 300 - 100 + kRestart, 1e-6);  // inst-1 waits for its node: no spare is left
}

TEST(FluidState, ErrorsNameWhatIsWrong) {
  const auto r = run(fleet_text(""));
  const auto errors = [&](const std::string& text) {
    try {
      load_state(text, "s.yaml", *r.deployment);
    } catch (const config::ConfigError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(errors("spares_used: 9\n"), "s.yaml: error: spares_used is 9, but the fleet has 4 spare nodes\n");
  EXPECT_EQ(errors("instances_down: [{instance: 4}]\n"),
            "s.yaml: error: instances_down: there is no instance 4, the fleet has 4\n  instances count from 0\n");
  EXPECT_THAT(errors("cordoned: [{node: node-77}]\n"),
              ::testing::HasSubstr("s.yaml:1:19: error: unknown component 'node-77'"));
  EXPECT_EQ(errors("cordoned: [{node: node-7.gpu-1}]\n"), "s.yaml:1:19: error: 'node-7.gpu-1' is not a node\n");
}

}  // namespace
}  // namespace faultline::fluid
