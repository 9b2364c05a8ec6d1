// Published recoveries, predicted from bytes, time-outs and shapes (experiments/recovery/published), with their
// residuals printed. docs/recovery.md section 4 says which constants were fitted to which of these rows and what stays
// unexplained.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

struct Served {
  double interruption = 0;  // s, from the fault to serving without the dead
  double whole = 0;         // s, until all ranks serve again; 0 where they never do
  double share = 0;         // of the throughput before, from then on until the group stops to take a rank back
  double ramp = 0;          // s of full throughput that are missing at its beginning, against its last ten seconds
};

Served run(const std::string& name, std::vector<std::string> set = {}) {
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/experiments/recovery/published/" + name + ".yaml";
  experiment::Overrides overrides;
  overrides.set = std::move(set);
  const test::Outcome o =
      test::simulate(experiment::load(test::read_file(path).value_or(""), path, overrides, test::read_file));
  Served s;
  if (o.run.faults.empty()) return s;
  const Instant at = o.run.faults[0].at;
  Instant degraded = kNever, whole = kNever;
  for (const auto& f : o.run.faults) {
    if (f.phases.degraded != kNever) degraded = f.phases.degraded;
    if (f.phases.restore != kNever) whole = f.phases.restore;
  }
  if (degraded == kNever) return s;
  s.interruption = seconds(degraded - at);
  if (whole != kNever) s.whole = seconds(whole - at);
  // Whole seconds: the 30 before the fault, and those from serving again until nothing comes out, or the end.
  const auto tokens = [&](std::int64_t k) {
    return static_cast<std::size_t>(k) < o.run.throughput.size()
               ? static_cast<double>(o.run.throughput[static_cast<std::size_t>(k)].output_tokens)
               : 0.0;
  };
  const auto mean = [&](std::int64_t first, std::int64_t end) {
    double sum = 0;
    for (std::int64_t k = first; k < end; ++k) sum += tokens(k);
    return sum / static_cast<double>(end - first);
  };
  const std::int64_t fault = at.ns / 1'000'000'000, first = degraded.ns / 1'000'000'000,
                     last = static_cast<std::int64_t>(o.run.throughput.size()) - 1;
  const double healthy = mean(fault - 30, fault);
  std::int64_t full = first;
  while (full < last && tokens(full) < 0.3 * healthy) ++full;
  std::int64_t end = full;
  while (end < last && tokens(end) > 0.3 * healthy) ++end;
  if (end < first + 15) return s;
  --end;  // the second in which it stops is not whole
  const double stretch = static_cast<double>(end) - seconds(degraded),
               made = mean(first, end) * static_cast<double>(end - first);
  s.share = made / stretch / healthy;
  s.ramp = stretch - made / mean(end - 10, end);
  return s;
}

void row(const char* what, double predicted, double published, const char* unit) {
  std::printf("    %-62s %8.2f %8.2f %s  %+6.1f %%\n", what, predicted, published, unit,
              (predicted / published - 1) * 100);
}

TEST(PublishedRecovery, TimesAreWithin15PercentOfThePapers) {
  std::printf("    %-62s %8s %8s\n", "", "model", "paper");
  const Served eep = run("eep_one_rank");
  row("EEP, 1 of 32 ranks: interruption", eep.interruption, 10.546, "s");
  EXPECT_NEAR(eep.interruption, 10.546, 0.15 * 10.546);
  row("EEP: 95 % of the throughput again", eep.whole, 52, "s");
  EXPECT_NEAR(eep.whole, 52, 0.15 * 52);
  const Served one = run("sglang_one_rank"), many = run("sglang_sixteen_ranks");
  row("SGLang, 1 of 32 ranks: interruption", one.interruption, 6.8, "s");
  EXPECT_NEAR(one.interruption, 6.8, 0.15 * 6.8);
  row("SGLang, 16 of 32 ranks: interruption", many.interruption, 6.2, "s");
  EXPECT_NEAR(many.interruption, 6.2, 0.15 * 6.2);
  EXPECT_LT(many.interruption, one.interruption) << "published: not monotone in the ranks that fail";
  const Served masked = run("revivemoe_masked"), colocated = run("revivemoe_colocated");
  row("ReviveMoE, missing experts masked: interruption", masked.interruption, 10.8, "s");
  EXPECT_NEAR(masked.interruption, 10.8, 0.15 * 10.8);
  row("ReviveMoE, co-located: interruption", colocated.interruption, 12.8, "s");
  EXPECT_NEAR(colocated.interruption, 12.8, 0.15 * 12.8);

  // Throughput left. SGLang publishes no healthy figure: sixteen ranks are compared with thirty-one.
  const double ratio = many.share / one.share;
  row("SGLang, 16 ranks' throughput over 31 ranks'", 100 * ratio, 100 * 2825.0 / 5552, "%");
  EXPECT_NEAR(ratio, 2825.0 / 5552, 0.05);
  row("EEP, 31 ranks' throughput over 32 ranks'", 100 * eep.share, 90.5, "%");
  EXPECT_NEAR(eep.share, 0.905, 0.05);
}

// What EEP's 31 ranks serve less than 31/32: the requests that were reported failed begin anew, and their prompts go
// through the low-latency dispatch, 128 tokens a rank and step, while decode waits.
TEST(PublishedRecovery, ThroughputLeftMovesWithThePromptsThatBeginAnew) {
  const Served eep = run("eep_one_rank");
  ASSERT_GT(eep.share, 0);
  // 16 prompts of 256 tokens on a rank are 32 steps of 128, 64 of 64 and 16 of 256. Half the tokens are more than half
  // of a step (weights are read, layers launched in any case), so the ramp less than doubles, and grows.
  const Served narrow = run("eep_one_rank", {"engine.max_num_batched_tokens=64"});
  const Served wide = run("eep_one_rank", {"engine.max_num_batched_tokens=256"});
  std::printf("    ramp, s: %.2f at 64 tokens a step, %.2f at 128, %.2f at 256; share %.3f, %.3f, %.3f\n", narrow.ramp,
              eep.ramp, wide.ramp, narrow.share, eep.share, wide.share);
  EXPECT_GT(narrow.ramp, 1.3 * eep.ramp);
  EXPECT_LT(narrow.ramp, 2.1 * eep.ramp);
  EXPECT_GT(eep.ramp, 1.2 * wide.ramp);
  EXPECT_LT(narrow.share, eep.share);
  EXPECT_LT(eep.share, wide.share);
  // Prompts twice as long take twice as long.
  const Served longer = run("eep_one_rank", {"workload.lengths.prompt.tokens=512"});
  EXPECT_NEAR(longer.ramp, 2 * eep.ramp, 0.25 * eep.ramp);
  // Survivors that keep their requests have no such ramp; only the lost rank's sixteen of 512 are missing.
  const Served keeping = run("eep_one_rank", {"recovery.elastic.keep_requests=true"});
  EXPECT_LT(keeping.ramp, 0.3 * eep.ramp);
  EXPECT_GT(keeping.share, eep.share + 0.01);
}

// A group half as wide has half the ranks to hold the same experts twice: a survivor receives twice as much.
TEST(PublishedRecovery, AnInterruptionMovesWithTheWidthAndTheCopyRate) {
  const Served eep = run("eep_one_rank");
  const double fixed = 1 + 0.1 + 0.1 + 0.57;  // s: time-out, decision, probe, reconfigure
  const Served fast = run("eep_one_rank", {"recovery.elastic.peer_copy_rate=14.4 GB/s"});
  EXPECT_LT(fast.interruption, eep.interruption - 2) << "the peers' copies take half of their time";
  const Served sixteen =
      run("eep_one_rank", {"fleet.layout=2PD", "fleet.both.dp=16", "fleet.both.ep=16", "topology.nodes=2"});
  std::printf("    interruption, s: %.2f; copies twice as fast %.2f; half as wide %.2f\n", eep.interruption,
              fast.interruption, sixteen.interruption);
  // Experts without a second copy come from the hosts: twice as many of them, from half as many nodes.
  EXPECT_GT(sixteen.interruption - fixed, 2 * (eep.interruption - fixed));
  EXPECT_LT(sixteen.interruption - fixed, 2.6 * (eep.interruption - fixed));
}

}  // namespace
}  // namespace faultline
