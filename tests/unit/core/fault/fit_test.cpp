#include "core/fault/fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <sstream>

#include "core/base/random.h"
#include "core/stats/sample.h"

namespace faultline::fault {
namespace {

std::vector<Outage> log_of(int units, double window, const LifeLaw& law, double mean_h, double repair_h, double spread,
                           std::uint64_t seed, const std::string& cause = "node.crash") {
  std::vector<Outage> log;
  for (int u = 0; u < units; ++u) {
    Random r(seed, "log", static_cast<std::uint64_t>(u));
    for (double t = draw_life_s(r, law, mean_h); t < window;) {
      const double end = t + r.lognormal(std::log(repair_h) - spread * spread / 2, spread);
      log.push_back({"node-" + std::to_string(u), t, end < window ? std::optional(end) : std::nullopt, cause});
      if (end >= window) break;
      t = end + draw_life_s(r, law, mean_h);
    }
  }
  return log;
}

Fit fitted(const std::vector<Outage>& log, FitOptions o, std::string* errors = nullptr) {
  config::Diagnostics diagnostics;
  Fit fit = fit_profile(log, "log.csv", o, diagnostics);
  if (errors) *errors = diagnostics.text();
  else EXPECT_EQ(diagnostics.text(), "");
  return fit;
}

FitOptions window_of(double window, int units) {
  FitOptions o;
  o.from_h = 0;
  o.until_h = window;
  o.units = units;
  o.bootstrap = 99;
  return o;
}

TEST(FaultFit, FindsTheLawAndTheRateThatALogWasDrawnFrom) {
  const Fit exponential = fitted(log_of(300, 2'000, {}, 1'000, 10, 0.8, 1), window_of(2'000, 300));
  ASSERT_EQ(exponential.sources.size(), 1u);
  const FittedSource& e = exponential.sources[0];
  EXPECT_EQ(e.source.life.distribution, GapDistribution::exponential);
  const double n = static_cast<double>(e.failures);
  EXPECT_NEAR(e.source.rate_per_hour * 1'000, 1, 3.3 / std::sqrt(n));
  EXPECT_NEAR(seconds(e.source.repair->mean) / 3600, 10, 3.3 * 10 * std::sqrt((std::exp(0.64) - 1) / n));
  EXPECT_NEAR(e.source.repair->spread, 0.8, 3.3 * 0.8 / std::sqrt(2 * n));
  EXPECT_GT(e.life_p, 0.01);
  EXPECT_GT(e.repair_p.value(), 0.01);
  EXPECT_TRUE(exponential.warnings.empty());

  const Fit weibull =
      fitted(log_of(300, 2'000, {GapDistribution::weibull, 0.6}, 500, 10, 0.8, 2), window_of(2'000, 300));
  const FittedSource& w = weibull.sources.at(0);
  EXPECT_EQ(w.source.life.distribution, GapDistribution::weibull);
  // The error of a Weibull shape is about 0.78 shape / sqrt(n).
  EXPECT_NEAR(w.source.life.shape, 0.6, 3.3 * 0.78 * 0.6 / std::sqrt(static_cast<double>(w.failures)));
  EXPECT_NEAR(w.source.rate_per_hour * 500, 1, 0.15);
  EXPECT_GT(w.life_p, 0.01);
}

// Of logs that come from the fitted law, one in twenty is rejected at 5 %; unequal units are found out.
TEST(FaultFit, TheTestOfFitRejectsAsOftenAsItSaysAndFindsLemons) {
  int rejected = 0;
  constexpr int kLogs = 60;
  for (std::uint64_t seed = 1; seed <= kLogs; ++seed) {
    FitOptions o = window_of(1'000, 60);
    o.bootstrap = 59;
    o.seed = seed;
    rejected += fitted(log_of(60, 1'000, {}, 600, 5, 0.5, seed + 100), o).sources.at(0).life_p <= 0.05 ? 1 : 0;
  }
  std::printf("    rejected at 5 %%: %d of %d\n", rejected, kLogs);
  EXPECT_LE(rejected, 9);  // binomial(60, 0.05): 9 or more has a chance of 0.3 %
  std::vector<Outage> mixed = log_of(190, 2'000, {}, 4'000, 5, 0.5, 7);
  for (const Outage& lemon : log_of(10, 2'000, {}, 40, 5, 0.5, 8)) {
    mixed.push_back(lemon);
    mixed.back().unit = "lemon-" + lemon.unit;
  }
  const Fit fit = fitted(mixed, window_of(2'000, 200));
  EXPECT_LT(fit.sources.at(0).life_p, 0.05);
  EXPECT_EQ(fit.warnings.size(), 1u);
}

TEST(FaultFit, AFittedProfileReadsBackAsAProfile) {
  Fit fit = fitted(log_of(300, 2'000, {}, 1'000, 10, 0.8, 3), window_of(2'000, 300));
  YAML::Emitter emitter;
  config::print(emitter, fit.profile);
  const RateProfile back = load_profile(emitter.c_str(), "p.yaml");
  EXPECT_EQ(back.sources.at(0).rate_per_hour, fit.profile.sources[0].rate_per_hour);
  EXPECT_EQ(back.sources[0].repair, fit.profile.sources[0].repair);
  EXPECT_EQ(back.sources[0].evidence, Evidence::fitted);
}

TEST(FaultFit, OutcomeLabelsAMissingPopulationAndAGuessedWindowAreWarnedOf) {
  FitOptions o;
  o.bootstrap = 20;
  const Fit fit = fitted(log_of(20, 2'000, {}, 500, 5, 0.5, 4, "NCCL timeout"), o);
  ASSERT_EQ(fit.warnings.size(), 4u);
  EXPECT_EQ(fit.warnings[0],
            "units that never failed are not in the log: with the 20 that did, rates are too high; state --units");
  EXPECT_EQ(fit.warnings[1],
            "the observation is taken from the first to the last time in the log; state --from and --until");
  EXPECT_EQ(fit.warnings[2],
            "all causes are outcome labels (how work ended), not causes: what broke is not known, and the same failure "
            "may be counted once "
            "a job");
  // A window that begins with a failure and ends with one is no sample of a law of life, and the test of fit sees that.
  EXPECT_TRUE(fit.warnings[3].starts_with("cause 'NCCL timeout': neither law of life fits (p = 0.0"))
      << fit.warnings[3];
  EXPECT_EQ(fit.sources.at(0).source.kind, FaultKind::process_crash);
}

TEST(FaultFit, UnknownCausesAndImpossiblePopulationsAreErrors) {
  std::string errors;
  fitted(log_of(20, 2'000, {}, 500, 5, 0.5, 4, "gpu.failstp"), window_of(2'000, 20), &errors);
  EXPECT_EQ(errors,
            "log.csv: error: unknown cause 'gpu.failstp'\n  say what it is: --cause 'gpu.failstp=KIND' (did you mean "
            "'gpu.failstop'?)\n");
  fitted(log_of(20, 2'000, {}, 500, 5, 0.5, 4), window_of(2'000, 3), &errors);
  EXPECT_EQ(errors, "log.csv: error: 20 units fail, but the fleet has 3\n");
  fitted({}, {}, &errors);
  EXPECT_EQ(errors, "log.csv: error: 0 failures are too few to fit a rate\n");
}

TEST(FailureLog, ReadsHoursAndInstantsAndNamesWhatIsWrong) {
  config::Diagnostics diagnostics;
  std::istringstream good(
      "unit,start,end,cause\na,1.5,2,gpu.failstop\nb,2025-03-01T04:00:00Z,2025-03-01T09:30:00Z,node.crash\nc,7,,node."
      "crash\n");
  const auto log = read_failure_log(good, "log.csv", diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  ASSERT_EQ(log.size(), 3u);
  EXPECT_EQ(log[0].start_h, 1.5);
  EXPECT_NEAR(*log[1].end_h - log[1].start_h, 5.5, 1e-9);
  EXPECT_NEAR(log[1].start_h, 1740801600.0 / 3600, 1e-6);  // date -u -d 2025-03-01T04:00:00Z +%s
  EXPECT_FALSE(log[2].end_h.has_value());
  std::istringstream bad("unit,start,end,cause\na,soon,2,x\nb,3,2,x\n");
  read_failure_log(bad, "log.csv", diagnostics);
  EXPECT_EQ(diagnostics.text(),
            "log.csv:2:3: error: column start: expected hours or an instant such as 2025-03-01T04:00:00Z, got 'soon'\n"
            "log.csv:3:5: error: column end: the outage ends before it starts\n");
}

}  // namespace
}  // namespace faultline::fault
