#include "core/metrics/impact.h"

#include <gtest/gtest.h>

#include "core/base/random.h"
#include "core/metrics/clusters.h"
#include "core/metrics/series.h"
#include "tests/unit/core/metrics/record_builder.h"

namespace faultline::metrics {
namespace {

using testing::at_s;
using testing::failstop_run;
using testing::Outcome;
using testing::RunRecord;
using testing::steady_run;
using namespace literals;

record::FaultRecord fault(std::string id, double at, double reverted) {
  record::FaultRecord f;
  f.id = std::move(id);
  f.kind = "link.down";
  f.at = at_s(at);
  f.reverted = at_s(reverted);
  f.applied = true;
  f.targeted_components = 1;
  return f;
}

TEST(FaultImpact, OfAFailStopIsAsComputedByHand) {
  const RunRecord run = failstop_run(), without = steady_run(), placebo = steady_run();
  const Impacts all = compare(run, &without, &placebo);
  ASSERT_EQ(all.faults.size(), 1u);
  EXPECT_EQ(all.differences_before_fault, 0);
  EXPECT_TRUE(all.notes.empty());
  const FaultImpact& f = all.faults[0];
  EXPECT_EQ(f.targeted, 1);
  EXPECT_EQ(f.structural_gpus_max, 8);
  EXPECT_DOUBLE_EQ(f.structural.gpu_seconds(), 240);
  EXPECT_DOUBLE_EQ(f.capacity_loss.gpu_seconds(), 240);  // 8 GPUs for 30 s
  EXPECT_DOUBLE_EQ(f.own.gpu_seconds(), 30);
  EXPECT_DOUBLE_EQ(f.collateral.gpu_seconds(), 210);
  EXPECT_DOUBLE_EQ(*f.amplification, 8);
  EXPECT_EQ(f.active, 180_s) << "it stays to the end of the run";
  EXPECT_DOUBLE_EQ(*f.capacity_loss_per_fault_s, 240.0 / 180);
  EXPECT_EQ(f.instances_direct, 1);
  EXPECT_EQ(f.requests_hit, 2);
  EXPECT_EQ(f.requests_hit_failed, 1);
  EXPECT_EQ(f.requests_hit_retried, 2);
  EXPECT_EQ(f.interrupted_but_completed, 1);
  EXPECT_EQ(f.kv_bytes_lost, 1'000'000);
  ASSERT_TRUE(f.paired);
  EXPECT_EQ(f.paired->requests_failed, 1);
  EXPECT_EQ(f.paired->requests_retried, 2);
  EXPECT_EQ(f.paired->requests_delayed.raw, 1) << "the retried one: 6 s instead of 2 s";
  EXPECT_EQ(f.paired->requests_delayed.placebo, 0);
  EXPECT_EQ(f.paired->instances_indirect.excess(), 1) << "instance 1 took the rerouted load";
  EXPECT_EQ(f.paired->tokens_recomputed, 100);
  EXPECT_EQ(f.paired->tokens_lost, 6);
  EXPECT_EQ(f.paired->goodput_loss_tokens, 22) << "the failed and the late request";
}

TEST(FaultImpact, RecoveryIsTheFirstWindowThatStaysWithinThePairedRun) {
  // Windows of 10 s hold 110 tokens, 95 % of that is 104.5. Changes: -11 at 22 s, -7 at 24 s, +11 at 26 s; a window
  // from k holds 110 plus the changes in [k, k + 10).
  const RunRecord run = failstop_run(), without = steady_run();
  const FaultImpact f = compare(run, &without, nullptr).faults[0];
  // k = 20, 21, 22: -11 - 7 + 11 = -7: 103 < 104.5. k = 23: -7 + 11 = +4. k = 24: the same. k = 25: +11.
  EXPECT_EQ(f.paired->t95, 3_s);
  EXPECT_NEAR(f.paired->dip.share_min, 103.0 / 110, 1e-12);
  EXPECT_EQ(f.paired->dip.at, at_s(20));
  EXPECT_EQ(f.paired->dip.below, 3_s);
  EXPECT_EQ(f.paired->restore, 30_s) << "the instance serves again at 50 s";
  EXPECT_EQ(f.paired->not_restored_reason, "");
}

TEST(FaultImpact, ARunThatEndsTooEarlyIsNotRestored) {
  RunRecord run = failstop_run(), without = steady_run();
  for (auto& c : run.capacity) c.to = run.end;
  const FaultImpact f = compare(run, &without, nullptr).faults[0];
  EXPECT_EQ(f.paired->t95, 3_s) << "throughput is back although an instance is missing";
  EXPECT_FALSE(f.paired->restore.has_value());
  EXPECT_EQ(f.paired->not_restored_reason, "the run ended before the service had been back for 60 s");
}

TEST(FaultImpact, WithoutAGpuOfItsOwnAmplificationIsNullWithAReason) {
  RunRecord run = steady_run();
  run.faults.push_back(fault("leaf", 20, 40));
  for (std::uint32_t gpu = 0; gpu < 4; ++gpu) {
    run.capacity.push_back({ComponentId{gpu}, InstanceId{0}, at_s(20), at_s(40), 0.75, false, 0});
  }
  const RunRecord without = steady_run();
  const FaultImpact f = compare(run, &without, nullptr).faults[0];
  EXPECT_FALSE(f.amplification.has_value());
  EXPECT_EQ(f.amplification_reason, "the fault disables or disconnects no GPU directly");
  EXPECT_DOUBLE_EQ(f.capacity_loss.gpu_seconds(), 20);  // 4 GPUs, a quarter of each, 20 s
  EXPECT_DOUBLE_EQ(*f.capacity_loss_per_fault_s, 1);
  EXPECT_EQ(f.structural_gpus_max, 0) << "slowed GPUs still compute";
  EXPECT_EQ(f.paired->t95, 0_s);
  EXPECT_EQ(f.paired->restore, 20_s);
}

TEST(FaultImpact, OnlyTheExcessOverThePlaceboIsBlamedOnTheFault) {
  const RunRecord without = steady_run();
  RunRecord run = failstop_run(), placebo = steady_run();
  const auto delay = [](RunRecord& r, std::size_t id) { r.requests[id].end = r.requests[id].end + 500_ms; };
  for (std::size_t id = 60; id < 70; ++id) delay(run, id);
  for (std::size_t id = 80; id < 84; ++id) delay(placebo, id);
  placebo.requests[30].instance = InstanceId{1};  // an even one, so instance 0's
  const FaultImpact f = compare(run, &without, &placebo).faults[0];
  EXPECT_EQ(f.paired->requests_delayed.raw, 11);
  EXPECT_EQ(f.paired->requests_delayed.placebo, 4);
  EXPECT_EQ(f.paired->requests_delayed.excess(), 7);
  EXPECT_EQ(f.paired->instances_indirect.raw, 1);
  EXPECT_EQ(f.paired->instances_indirect.placebo, 1);
  EXPECT_EQ(f.paired->instances_indirect.excess(), 0);
}

TEST(FaultImpact, ARequestIsDelayedAboveTenPerCentOrWhenItNewlyMissesItsSlo) {
  const RunRecord without = steady_run();
  RunRecord run = failstop_run();
  auto& r = run.requests[100];  // 2 s in the paired run
  r.end = r.end + 200_ms;       // exactly 10 %
  EXPECT_EQ(compare(run, &without, nullptr).faults[0].paired->requests_delayed.raw, 1);
  r.end = r.end + 1_ns;
  EXPECT_EQ(compare(run, &without, nullptr).faults[0].paired->requests_delayed.raw, 2);
  r = without.requests[100];
  run.slo_tpot = {100_ms};  // met exactly
  RunRecord strict = without;
  strict.slo_tpot = {100_ms};
  r.end = r.end + 10_ns;
  EXPECT_EQ(compare(run, &strict, nullptr).faults[0].paired->requests_delayed.raw, 2);
}

TEST(FaultImpact, WithoutAPairedRunOnlyTheCausalFiguresExist) {
  const Impacts all = compare(failstop_run(), nullptr, nullptr);
  ASSERT_EQ(all.faults.size(), 1u);
  EXPECT_FALSE(all.faults[0].paired.has_value());
  EXPECT_EQ(all.faults[0].requests_hit, 2);
  EXPECT_DOUBLE_EQ(*all.faults[0].amplification, 8);
}

TEST(FaultImpact, FaultsApartAreReportedApartAndTheirDifferencesAddUp) {
  RunRecord run = steady_run();
  const RunRecord without = steady_run();
  run.faults = {fault("a", 20, 25), fault("b", 100, 110)};
  for (const auto& [id, f] : {std::pair{21u, 0u}, {22u, 0u}, {101u, 1u}}) {
    auto& r = run.requests[id];
    r.hit_by = hit_bit(f);
    r.outcome = Outcome::failed;
    r.cause = Cause::link_down;
    r.tokens_lost = 5;
  }
  run.requests[60].end = run.requests[60].end + 1_s;  // hit by none, after a
  const Impacts all = compare(run, &without, nullptr);
  ASSERT_EQ(all.faults.size(), 2u);
  EXPECT_EQ(all.faults[0].paired->requests_failed, 2);
  EXPECT_EQ(all.faults[1].paired->requests_failed, 1);
  EXPECT_EQ(all.faults[0].paired->tokens_lost, 10);
  EXPECT_EQ(all.faults[0].paired->requests_delayed.raw, 1);
  EXPECT_EQ(all.faults[1].paired->requests_delayed.raw, 0);
  EXPECT_EQ(all.notes.size(), 1u);
}

TEST(FaultImpact, FaultsWhoseEffectsOverlapAreOneClusterThatSaysSo) {
  RunRecord run = steady_run();
  const RunRecord without = steady_run();
  run.faults = {fault("a", 20, 60), fault("b", 50, 55), fault("c", 60, 70)};
  run.requests[30].hit_by = 1;
  run.requests[52].hit_by = 3;
  const Impacts all = compare(run, &without, nullptr);
  ASSERT_EQ(all.faults.size(), 2u);
  ASSERT_EQ(all.faults[0].members.size(), 2u);
  EXPECT_EQ(all.faults[0].members[1].id, "b");
  EXPECT_EQ(all.faults[0].cluster_reason, "a fault came before the effects of the one before had ended");
  EXPECT_EQ(all.faults[0].requests_hit, 2) << "a request hit by both counts once";
  EXPECT_EQ(all.faults[0].members[0].requests_hit, 2);
  EXPECT_EQ(all.faults[0].members[1].requests_hit, 1);
  EXPECT_EQ(all.faults[0].active, 40_s) << "the union of 20 … 60 and 50 … 55";
  EXPECT_EQ(all.faults[1].members[0].id, "c") << "begins when the others' effects have ended";
}

TEST(FaultImpact, FaultsAtOneInstantAreOneCluster) {
  RunRecord run = steady_run();
  run.faults = {fault("a", 20, 20), fault("b", 20, 20)};
  EXPECT_EQ(compare(run, nullptr, nullptr).faults.size(), 1u);
}

TEST(FaultImpact, FaultsThatShareAMarkAreOneCluster) {
  RunRecord run = steady_run(400);
  for (int i = 0; i < 66; ++i) run.faults.push_back(fault("f" + std::to_string(i), 2 + 5 * i, 3 + 5 * i));
  const Impacts all = compare(run, nullptr, nullptr);
  EXPECT_EQ(all.faults.size(), 64u);
  EXPECT_EQ(all.faults.back().members.size(), 3u);
  EXPECT_EQ(all.faults.back().cluster_reason, "more than 64 faults in one run share a mark on the requests they hit");
}

TEST(FaultImpact, FaultsOfBothRunsAreBackground) {
  RunRecord run = failstop_run(), without = steady_run();
  run.faults.push_back(fault("old", 5, 6));
  without.faults.push_back(fault("old", 5, 6));
  const Impacts all = compare(run, &without, nullptr);
  ASSERT_EQ(all.faults.size(), 1u);
  EXPECT_EQ(all.faults[0].members[0].id, "gpu");
  EXPECT_EQ(all.notes.at(0), "1 faults are in both runs of the pair and are not reported");
}

TEST(FaultImpact, AFaultThatWasNotAppliedIsListedWithItsReason) {
  RunRecord run = steady_run();
  run.faults.push_back(fault("a", 20, 30));
  run.faults[0].applied = false;
  run.faults[0].at = kNever;
  run.faults[0].not_applied_reason = "its event never came";
  const RunRecord without = steady_run();
  const Impacts all = compare(run, &without, nullptr);
  ASSERT_EQ(all.faults.size(), 1u);
  EXPECT_FALSE(all.faults[0].applied());
  EXPECT_EQ(all.faults[0].members[0].not_applied_reason, "its event never came");
}

TEST(FaultImpact, ADifferenceBeforeTheFaultIsReported) {
  RunRecord run = failstop_run();
  run.requests[3].end = run.requests[3].end + 1_ns;
  const RunRecord without = steady_run();
  const Impacts all = compare(run, &without, nullptr);
  EXPECT_EQ(all.differences_before_fault, 1);
  EXPECT_FALSE(all.notes.empty());
}

TEST(FirstHeld, FindsTheFirstSecondThatHolds) {
  const std::vector<std::int64_t> there(100, 10);
  std::vector<std::int64_t> here(100, 10);
  EXPECT_EQ(first_held(here, there, 5, 100, 10, 60, 95), 5);
  here[20] = 0;  // windows that start in 11 … 20 hold 90 of 100
  EXPECT_EQ(first_held(here, there, 5, 100, 10, 60, 95), 21);
  EXPECT_EQ(first_held(here, there, 5, 81, 10, 60, 95), 21);
  EXPECT_EQ(first_held(here, there, 5, 80, 10, 60, 95), std::nullopt) << "the end comes before it is held";
  here[20] = 5;  // 95 of 100 is enough
  EXPECT_EQ(first_held(here, there, 5, 100, 10, 60, 95), 5);
  EXPECT_EQ(first_held({}, {}, 0, 60, 10, 60, 95), 0) << "nothing is as good as nothing";
}

TEST(FirstHeld, AgreesWithItsDefinition) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed, "first_held");
    std::vector<std::int64_t> here(40), there(40);
    for (auto& x : there) x = static_cast<std::int64_t>(random.below(6));
    for (auto& x : here) x = static_cast<std::int64_t>(random.below(7));
    const std::int64_t from = static_cast<std::int64_t>(random.below(10)),
                       window = 1 + static_cast<std::int64_t>(random.below(8)),
                       hold = 1 + static_cast<std::int64_t>(random.below(8));
    const auto good = [&](std::int64_t j) {
      std::int64_t h = 0, t = 0;
      for (std::int64_t i = j; i < j + window && i < 40; ++i) {
        h += here[static_cast<std::size_t>(i)];
        t += there[static_cast<std::size_t>(i)];
      }
      return h * 100 >= t * 80;
    };
    std::optional<std::int64_t> expected;
    for (std::int64_t k = from; !expected && k + hold <= 40; ++k) {
      bool all = true;
      for (std::int64_t j = k; j < k + hold; ++j) all = all && good(j);
      if (all) expected = k;
    }
    ASSERT_EQ(first_held(here, there, from, 40, window, hold, 80), expected) << "seed=" << seed;
  }
}

/// A random run and its pair: faults, hits, intervals and outcomes without any plan.
struct RandomPair {
  RunRecord run = steady_run(), without = steady_run();
  explicit RandomPair(std::uint64_t seed) {
    Random random(seed, "pair");
    const std::uint32_t faults = 1 + static_cast<std::uint32_t>(random.below(5));
    double at = 5;
    for (std::uint32_t f = 0; f < faults; ++f) {
      at += 1 + 40 * random.uniform();
      run.faults.push_back(fault("f" + std::to_string(f), at, at + 10 * random.uniform()));
      // Own GPUs stand still as long as the group they stop: collateral never outlasts what it waits for.
      for (std::uint32_t gpu = 0; gpu < 8; ++gpu) {
        run.capacity.push_back({ComponentId{f * 8 + gpu}, InstanceId{0}, at_s(at), at_s(at + 8), 0.0, gpu == 0, f});
      }
      run.faults.back().own_gpus = {ComponentId{f * 8}};
    }
    for (auto& r : run.requests) {
      if (r.end < run.faults[0].at || random.chance(0.7)) continue;
      r.hit_by = random.below(std::uint64_t{1} << faults);
      r.attempts = static_cast<std::uint8_t>(1 + random.below(3));
      r.instance = InstanceId{static_cast<std::uint32_t>(random.below(2))};
      if (random.chance(0.3)) {
        r.outcome = Outcome::failed;
        r.cause = Cause::device_lost;
        r.tokens_lost = static_cast<std::int32_t>(random.below(11));
      } else {
        r.end = r.end + duration_from_seconds(random.uniform());
      }
    }
  }
};

TEST(FaultImpactProperty, EveryDifferenceIsAttributedOnceAndAmplificationIsAtLeastOne) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const RandomPair pair(seed);
    const Impacts all = compare(pair.run, &pair.without, nullptr);
    std::int64_t failed = 0, lost = 0, goodput = 0, hit = 0, members = 0;
    for (const FaultImpact& f : all.faults) {
      failed += f.paired->requests_failed;
      lost += f.paired->tokens_lost;
      goodput += f.paired->goodput_loss_tokens;
      hit += f.requests_hit;
      members += static_cast<std::int64_t>(f.members.size());
      ASSERT_TRUE(f.amplification.has_value()) << "seed=" << seed;
      EXPECT_GE(*f.amplification, 1) << "seed=" << seed;
      EXPECT_DOUBLE_EQ(f.own.gpu_seconds() + f.collateral.gpu_seconds(), f.capacity_loss.gpu_seconds())
          << "seed=" << seed;
      EXPECT_LE(f.structural.gpu_seconds(), f.capacity_loss.gpu_seconds() + 1e-9) << "seed=" << seed;
      EXPECT_LE(f.interrupted_but_completed + f.requests_hit_failed, f.requests_hit) << "seed=" << seed;
      if (f.paired->t95 && f.paired->restore) {
        EXPECT_LE(*f.paired->t95, *f.paired->restore) << "seed=" << seed;
      }
    }
    const Summary a = summarise(pair.run), b = summarise(pair.without);
    EXPECT_EQ(failed, a.requests.failed) << "seed=" << seed;
    EXPECT_EQ(lost, a.tokens_lost) << "seed=" << seed;
    EXPECT_EQ(goodput, b.throughput.goodput_tokens - a.throughput.goodput_tokens) << "seed=" << seed;
    EXPECT_EQ(members, static_cast<std::int64_t>(pair.run.faults.size())) << "seed=" << seed;
    EXPECT_GE(hit, 0);
    EXPECT_EQ(all.differences_before_fault, 0) << "seed=" << seed;
  }
}

TEST(FaultImpactProperty, ARunAgainstItselfHasNoCounterfactualLoss) {
  const RunRecord run = failstop_run();
  RunRecord twin = run;
  twin.faults.clear();
  const FaultImpact f = compare(run, &twin, &twin).faults[0];
  EXPECT_EQ(f.paired->requests_failed, 0);
  EXPECT_EQ(f.paired->requests_delayed.raw, 0);
  EXPECT_EQ(f.paired->goodput_loss_tokens, 0);
  EXPECT_EQ(f.paired->t95, 0_s);
}

TEST(Series, GpusLostIsTheMeanOfEachSecond) {
  RunRecord run = steady_run(10);
  run.capacity = {{ComponentId{0}, InstanceId{0}, at_s(2.5), at_s(4), 0.0, true, 0},
                  {ComponentId{1}, InstanceId{0}, at_s(2), at_s(3.25), 0.5, false, 0},
                  {ComponentId{2}, InstanceId{0}, at_s(9), at_s(50), 0.0, false, 0}};
  const GpusLost lost = gpus_lost(run);
  ASSERT_EQ(lost.own.size(), 10u);
  EXPECT_NEAR(lost.own[2], 0.5, 1e-12);
  EXPECT_NEAR(lost.own[3], 1, 1e-12);
  EXPECT_EQ(lost.own[4], 0);
  EXPECT_NEAR(lost.collateral[2], 0.5, 1e-12);
  EXPECT_NEAR(lost.collateral[3], 0.125, 1e-12);
  EXPECT_NEAR(lost.collateral[9], 1, 1e-12);
}

}  // namespace
}  // namespace faultline::metrics
