// What each kind of fault does to a run that no other kind does: who notices, what is lost, what goes on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "core/experiment/campaign.h"
#include "core/fault/shrink.h"
#include "sim/faults/support.h"
#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/tiny_fleet.h"

namespace faultline {
namespace {

using record::Outcome;

/// `extra` are further keys of the experiment.
std::string fleet(const std::string& faults, const std::string& extra = "") {
  return test::text_of({.rest = fmt::format("faults: [{}]\n{}", faults, extra)});
}

test::Outcome run(const std::string& faults, const std::string& extra = "") {
  return test::simulate(fleet(faults, extra));
}

std::int64_t retried(const test::Outcome& o) {
  return std::count_if(o.run.requests.begin(), o.run.requests.end(), [](const auto& r) { return r.attempts > 1; });
}
std::int64_t hit(const test::Outcome& o) {
  return std::count_if(o.run.requests.begin(), o.run.requests.end(), [](const auto& r) { return r.hit_by != 0; });
}
double least_usable(const test::Outcome& o) {
  double least = 1;
  for (const auto& c : o.run.capacity) least = std::min(least, c.usable);
  return least;
}

TEST(FaultModels, AContainedMemoryErrorIsAProcessThatDiesAndALostOneWaitsForItsRepair) {
  const std::string where = "kind: gpu.ecc, target: inst-0.d-0.gpu-0, at: 20 s, repair: 60 s";
  const test::Outcome contained = run("{" + where + ", contained: 1}"), lost = run("{" + where + ", contained: 0}");
  const test::Outcome crash = run("{kind: process.crash, target: inst-0.d-0.gpu-0, at: 20 s}");
  const auto ready = [](const test::Outcome& o) {
    return seconds(o.run.faults.at(0).phases.ready - o.run.faults[0].at);
  };
  EXPECT_EQ(ready(contained), ready(crash));
  EXPECT_GT(ready(lost), 60);
  EXPECT_LT(ready(contained), 60);
  EXPECT_GT(retried(contained), 0);
  EXPECT_EQ(contained.completed(), contained.run.requests.size());
}

TEST(FaultModels, WrongResultsTaintRequestsAndNobodyNotices) {
  const test::Outcome o = run("{kind: gpu.sdc, target: inst-0.d-0.gpu-0, at: 20 s, duration: 30 s}");
  EXPECT_EQ(retried(o), 0);
  EXPECT_EQ(o.run.faults.at(0).phases.detect, kNever);
  EXPECT_EQ(least_usable(o), 1);
  std::int64_t tainted_elsewhere = 0, outside = 0;
  for (const auto& r : o.run.requests) {
    if (r.hit_by == 0) continue;
    tainted_elsewhere += r.instance.v != 0 ? 1 : 0;
    outside += r.end.ns < 20'000'000'000 || r.arrival.ns > 50'000'000'000 ? 1 : 0;
  }
  // About half of 8 requests a second for 30 s.
  EXPECT_NEAR(static_cast<double>(hit(o)), 120, 40);
  EXPECT_EQ(tainted_elsewhere, 0);
  EXPECT_EQ(outside, 0);
}

/// Mean seconds from arrival to the last token of the requests that arrive while the fault lasts.
double latency(const test::Outcome& o) {
  double sum = 0, count = 0;
  for (const auto& r : o.run.requests) {
    if (r.arrival.ns < 20'000'000'000 || r.arrival.ns > 60'000'000'000) continue;
    sum += seconds(r.end - r.arrival);
    ++count;
  }
  return sum / count;
}

// Gray failures: the part is worse, probes pass, nothing is restarted.
TEST(FaultModels, GrayFailuresSlowTheirRequestsAndPassEveryProbe) {
  const std::string daemon = "detector: {health_period: 5 s}";
  const double healthy = latency(run("", daemon));
  for (const char* fault :
       {"kind: gpu.slow, target: inst-0.d-0.gpu-0, factor: 3",
        "kind: pcie.degrade, target: inst-0.p-0.gpu-0, factor: 0.02",
        "kind: link.lossy, target: node-0.nic-0.cable, loss: 0.3",
        "kind: xgmi.degrade, target: node-2.xgmi-0-1, factor: 0.02", "kind: pfc.storm, target: leaf-0, factor: 0.02"}) {
    SCOPED_TRACE(fault);
    const test::Outcome o = run(fmt::format("{{{}, at: 20 s, duration: 40 s}}", fault), daemon);
    EXPECT_EQ(o.completed(), o.run.requests.size());
    EXPECT_EQ(retried(o), 0);
    EXPECT_EQ(o.run.faults.at(0).phases.detect, kNever) << "a probe found it";
    EXPECT_GT(least_usable(o), 0) << "it stood still";
    EXPECT_GT(latency(o), healthy + 0.001) << "nothing became slower";
  }
}

TEST(FaultModels, AOneWayBlackHoleStopsTransfersWhileEveryPortIsUp) {
  const test::Outcome o = run("{kind: link.oneway, target: node-0.nic-0.cable, at: 20 s, duration: 20 s}",
                              "detector: {health_period: 5 s}");
  EXPECT_EQ(o.completed(), o.run.requests.size());
  EXPECT_GT(retried(o), 0);
  ASSERT_NE(o.run.faults.at(0).phases.symptom, kNever);
  // The first sign is a write that ran out of retransmissions, never a port event or a probe.
  EXPECT_GE((o.run.faults[0].phases.symptom - o.run.faults[0].at).v,
            test::spec_of(fleet("")).network.retransmission_budget().v);
}

TEST(FaultModels, TheHealthDaemonFindsAHangLongBeforeThePeersGiveUp) {
  const auto detect = [](const std::string& detector) {
    experiment::ExperimentSpec spec =
        test::spec_of(fleet("{kind: gpu.hang, target: inst-0.d-0.gpu-0, at: 20 s, duration: 60 s}", detector));
    spec.engine.collective_timeout = Duration{100'000'000'000};
    const test::Outcome o = test::simulate(spec);
    EXPECT_EQ(o.completed(), o.run.requests.size());
    const Instant at = o.run.faults.at(0).phases.detect;
    return at == kNever ? 1e9 : seconds(at - o.run.faults[0].at);
  };
  // Asked every 7 s, and given 3 s to answer: at 21 s, so found at 24 s.
  const double daemon = detect("detector: {health_period: 7 s, probe_timeout: 3 s}");
  std::printf("    found after %.2f s by the daemon\n", daemon);
  EXPECT_NEAR(daemon, 4, 0.01);
  EXPECT_GT(detect(""), 60) << "the hang was over before its peers gave up";
}

TEST(FaultModels, FalsePositivesRestartHealthyInstancesAndLoseNothing) {
  const test::Outcome o = run("{kind: placebo, at: 20 s}", "detector: {health_period: 20 s, false_positives: 0.2}");
  EXPECT_EQ(o.completed(), o.run.requests.size());
  EXPECT_GT(retried(o), 0) << "no healthy instance was restarted";
  const test::Outcome calm = run("{kind: placebo, at: 20 s}", "detector: {health_period: 20 s}");
  EXPECT_EQ(retried(calm), 0);
}

TEST(FaultModels, AMaintenanceWithALongDrainRetriesNothingAndAShortOneDoes) {
  const auto reboot = [](const char* drain) {
    return run(
        fmt::format("{{kind: node.maintenance, target: inst-0.d-0, at: 20 s, drain: {}, duration: 20 s}}", drain));
  };
  const test::Outcome planned = reboot("20 s"), hasty = reboot("100 ms"),
                      crash = run("{kind: node.crash, target: inst-0.d-0, at: 20 s, duration: 20 s}");
  for (const test::Outcome* o : {&planned, &hasty, &crash}) {
    EXPECT_EQ(o->completed(), o->run.requests.size());
    // The instance serves again afterwards.
    EXPECT_TRUE(std::any_of(o->run.requests.begin(), o->run.requests.end(), [](const auto& r) {
      return r.instance.v == 0 && r.first_token.ns > 61'000'000'000 && r.first_token != kNever;
    }));
  }
  std::printf("    tried again: %ld after a drain of 20 s, %ld of 100 ms, %ld of a crash\n",
              static_cast<long>(retried(planned)), static_cast<long>(retried(hasty)),
              static_cast<long>(retried(crash)));
  EXPECT_EQ(retried(planned), 0);
  EXPECT_GT(retried(hasty), 0);
  EXPECT_GT(retried(crash), 0);
}

TEST(FaultModels, AMaintenanceTakesCapacityFromTheEndOfTheDrainToTheNextStart) {
  const test::Outcome o = run("{kind: node.maintenance, target: inst-0.d-0, at: 20 s, drain: 20 s, duration: 20 s}");
  double lost = 0;
  Instant first = kNever, last{0};
  for (const auto& c : o.run.capacity) {
    EXPECT_EQ(c.instance.v, 0U);
    lost += (1 - c.usable) * seconds(c.to - c.from);
    first = std::min(first, c.from);
    last = std::max(last, c.to);
  }
  const double start = seconds(test::spec_of(fleet("")).engine.restart_total());
  // Eight GPUs: what they have is drained within the 20 s, the node is off from 40 s to 60 s, then all of them start.
  EXPECT_GT(first.ns, 20'000'000'000);
  EXPECT_LT(first.ns, 40'000'000'000);
  EXPECT_NEAR(seconds(last - Instant{60'000'000'000}), start, 1) << "messages and the first look at the node";
  EXPECT_NEAR(lost, 8 * seconds(last - first), 1e-6);
}

TEST(FaultModels, AMaintenanceOutlivesTheFleetManagerThatWasToldOfIt) {
  // The fleet manager runs on instance 0's first node and dies with it, twice: while instance 1 is down for the
  // maintenance of a node, and, in the second run, over the end of that.
  for (const char* crash : {"at: 40 s, duration: 5 s", "at: 60 s, duration: 30 s"}) {
    SCOPED_TRACE(crash);
    experiment::ExperimentSpec spec = test::spec_of(
        fleet(fmt::format("{{kind: node.maintenance, target: inst-1.d-0, at: 20 s, drain: 5 s, duration: 50 s}}, "
                          "{{kind: node.crash, target: inst-0.p-0, {}}}",
                          crash)));
    spec.fleet.router_placement = topology::RouterPlacement::nodes;
    spec.workload.duration = Duration{300'000'000'000};
    const test::Outcome o = test::simulate(spec);
    std::int64_t before = 0, meanwhile = 0, after = 0;
    for (const auto& r : o.run.requests) {
      if (r.instance.v != 1 || r.first_token == kNever) continue;
      before += r.first_token.ns < 20'000'000'000;
      meanwhile += r.first_token.ns > 26'000'000'000 && r.first_token.ns < 75'000'000'000;
      after += r.first_token.ns > 200'000'000'000;
    }
    EXPECT_GT(before, 0);
    EXPECT_EQ(meanwhile, 0) << "its node is off";
    EXPECT_GT(after, 0) << "nobody remembered to bring it back";
  }
}

TEST(FaultModels, SlowStorageAndABadRolloutDelayTheRestartOfSomethingElse) {
  const std::string gpu = "{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-0, at: 20 s, duration: 1 s}";
  const auto ready = [&](const std::string& more) {
    const test::Outcome o = run(gpu + more);
    EXPECT_EQ(o.completed(), o.run.requests.size());
    for (const auto& f : o.run.faults) {
      if (f.id == "gpu") return seconds(f.phases.ready - f.at);
    }
    return 0.0;
  };
  const experiment::ExperimentSpec spec = test::spec_of(fleet(gpu));
  const double alone = ready("");
  EXPECT_NEAR(ready(", {kind: storage.slow, factor: 3, at: 5 s}") - alone, 2 * seconds(spec.engine.restart_weights),
              1e-6);
  EXPECT_GE(ready(", {kind: rollout.bad, at: 5 s, duration: 60 s}"),
            45);  // workers that start before 65 s fail their check
}

TEST(FaultModels, CoolingLossSlowsFirstAndTakesThePowerLater) {
  const test::Outcome o =
      run("{kind: cooling.loss, target: rack-1, factor: 1.5, shutdown_after: 10 s, at: 20 s, duration: 30 s}");
  EXPECT_EQ(o.completed(), o.run.requests.size());
  bool slowed = false, dark = false;
  for (const auto& c : o.run.capacity) {
    slowed |= c.usable > 0 && c.usable < 1 && c.from.ns >= 20'000'000'000 && c.from.ns < 30'000'000'000;
    dark |= c.usable == 0 && c.from.ns >= 30'000'000'000;
  }
  EXPECT_TRUE(slowed);
  EXPECT_TRUE(dark);
}

TEST(FaultModels, OverlappingFactorsMultiplyAndEachIsTakenBackAlone) {
  const auto usable_at = [](const test::Outcome& o, std::int64_t s) {
    double least = 1;
    for (const auto& c : o.run.capacity) {
      if (c.from.ns <= s * 1'000'000'000 && c.to.ns > s * 1'000'000'000) least = std::min(least, c.usable);
    }
    return least;
  };
  const test::Outcome o =
      run("{id: a, kind: gpu.slow, target: inst-0.d-0.gpu-0, factor: 2, at: 20 s, duration: 40 s},"
          "{id: b, kind: gpu.slow, target: inst-0.d-0.gpu-0, factor: 3, at: 30 s, duration: 10 s}");
  EXPECT_LT(usable_at(o, 35), usable_at(o, 25) * 0.5);
  EXPECT_NEAR(usable_at(o, 50), usable_at(o, 25), 0.05);
  EXPECT_EQ(usable_at(o, 70), 1);
}

TEST(FaultModels, WhatTheSimulatorLacksIsAnErrorBeforeTheRun) {
  const experiment::ExperimentSpec spec =
      test::spec_of(fleet("{kind: partition, target: rack-0, at: 1 s}, {kind: clock.skew, target: node-0, at: 1 s}"));
  const auto deployment = experiment::deploy(spec);
  const std::string text = test::in_child([&]() -> std::string {
    try {
      sim::simulate(spec, *deployment, test::read_file, {});
      return "it ran";
    } catch (const config::ConfigError& e) {
      return e.what();
    }
  });
  EXPECT_NE(
      text.find("error: fault 'partition' (partition on rack-0) cannot be applied: a simulated peer is heard by all "
                "or by none; crash the node, or cut its links\n"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("(clock.skew on node-0) cannot be applied: all simulated machines share one clock\n"),
            std::string::npos)
      << text;
}

// A second fault in every phase of the recovery from the first, the pairs of a campaign: every request ends, and none
// fails as long as one of the two instances is left.
TEST(SecondFault, InEveryPhaseOfARecoveryEveryRequestEnds) {
  config::Diagnostics diagnostics;
  const fault::CampaignSpec campaign = fault::read_campaign(R"(
name: second
kind: second
first: {kind: gpu.failstop, target: inst-0.d-0.gpu-0, at: 15 s, repair: 20 s}
second:
  - {kind: gpu.failstop, target: inst-0.d-1.gpu-1, repair: 10 s}
  - {kind: node.crash, target: inst-0.p-0, repair: 10 s}
  - {kind: node.crash, target: inst-1.d-0, repair: 10 s}
  - {kind: switch.down, target: leaf-0, repair: 5 s}
)",
                                                            "second.yaml", test::read_file, diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  experiment::ExperimentSpec spec = test::spec_of(fleet(""));
  const auto cases = experiment::campaign_cases(spec, campaign, {}, diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  ASSERT_EQ(cases.size(), 20u);
  int applied = 0;
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    spec.faults = c.faults;
    const test::Outcome o = test::simulate(spec);
    if (o.run.faults.size() != 2) continue;  // the child failed, which is recorded
    applied += o.run.faults[1].applied ? 1 : 0;
    EXPECT_EQ(o.count(Outcome::unfinished), 0u);
    if (c.name.find("inst-1") == std::string::npos) {
      EXPECT_EQ(o.completed(), o.run.requests.size());
    }
  }
  std::printf("    %d of 20 second faults came\n", applied);
  EXPECT_GE(applied, 12) << "phases that do not happen with this policy have no second fault";
}

// Random faults by published rates, sped up: a failure, if there is one, is reduced to the few faults that show it.
TEST(RandomCampaign, ByPublishedRatesLosesNothingUnaccountedFor) {
  config::Diagnostics diagnostics;
  const fault::CampaignSpec campaign = fault::read_campaign(
      "{name: rates, kind: profile, profiles: [../profiles/llama3-h100.yaml], acceleration: 2000000, max: 3}",
      std::string(FAULTLINE_SOURCE_DIR) + "/faults/campaigns/test.yaml", test::read_file, diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  std::size_t faults = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    experiment::ExperimentSpec spec = test::spec_of(fleet(""), {.seed = seed});
    const auto cases = experiment::campaign_cases(spec, campaign, {}, diagnostics);
    ASSERT_EQ(diagnostics.text(), "");
    spec.faults = cases.at(0).faults;
    // Repairs of a day would outlast the run: minutes here.
    for (auto& f : spec.faults) {
      if (f.repair) f.repair = Duration{20'000'000'000};
      f.repair_spread = 0;
    }
    const test::Outcome o = test::simulate(spec);
    faults += o.run.faults.size();
    const auto wrong = [](const test::Outcome& x) { return x.count(Outcome::unfinished) > 0; };
    if (!wrong(o)) continue;
    const auto small =
        fault::shrink<fault::FaultSpec>(fault::scripted(experiment::deploy(spec)->faults), [&](const auto& some) {
          experiment::ExperimentSpec one = spec;
          one.faults = some;
          return wrong(test::simulate(one));
        });
    ADD_FAILURE() << "seed " << seed << ": requests did not end, shown by " << fault::yaml_of(small);
  }
  EXPECT_GT(faults, 30u);
}

}  // namespace
}  // namespace faultline
