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
  double share = 0;         // of the throughput before, while some are away
};

Served run(const std::string& name) {
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/experiments/recovery/published/" + name + ".yaml";
  const test::Outcome o =
      test::simulate(experiment::load(test::read_file(path).value_or(""), path, {}, test::read_file));
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
  // Means over whole seconds: 30 s up to the fault, and 20 s that begin 5 s after serving again.
  const auto mean = [&](std::int64_t first, std::int64_t seconds_long) {
    double sum = 0;
    for (std::int64_t k = first; k < first + seconds_long; ++k) {
      if (static_cast<std::size_t>(k) < o.run.throughput.size())
        sum += static_cast<double>(o.run.throughput[static_cast<std::size_t>(k)].output_tokens);
    }
    return sum / static_cast<double>(seconds_long);
  };
  s.share = mean(degraded.ns / 1'000'000'000 + 5, 20) / mean(at.ns / 1'000'000'000 - 30, 30);
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
  // Known to be outside five points (docs/recovery.md): the paper's further loss is not in the model. It must not grow.
  EXPECT_NEAR(eep.share, 0.905, 0.08);
}

}  // namespace
}  // namespace faultline
