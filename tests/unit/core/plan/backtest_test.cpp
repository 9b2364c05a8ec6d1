#include "core/plan/backtest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/core/fluid/scenario.h"

namespace faultline::plan {
namespace {

std::string errors_of(const std::string& text, const std::string& csv = "") {
  try {
    load_incidents(text, "i.yaml",
                   [&](const std::string& path) { return path == "m.csv" ? std::optional(csv) : std::nullopt; });
  } catch (const config::ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(Backtest, TokensMissingAreThoseBelowTheLevelBefore) {
  std::string csv = "time_s,output_tokens_per_s\n";
  for (int t = 0; t < 2000; t += 10) csv += fmt::format("{},{}\n", t, t >= 1000 && t < 1200 ? 600 : 1000);
  config::Diagnostics diagnostics;
  const auto missing = tokens_missing(csv, "m.csv", 1000, 1200, diagnostics);
  ASSERT_TRUE(diagnostics.ok());
  EXPECT_DOUBLE_EQ(*missing, 400 * 200);
}

TEST(Backtest, ErrorsAreNamedAtTheirPlace) {
  const std::string incident =
      "incidents: [{name: a, start: 1000 s, kind: gpu.failstop, component: node-0.gpu-1, metrics: m.csv}]\n";
  EXPECT_EQ(errors_of(incident, "t,v\n"), "m.csv:1:1: error: expected columns 'time_s' and 'output_tokens_per_s'\n");
  EXPECT_EQ(errors_of(incident, "time_s,output_tokens_per_s\n1,2\n2,x\n"),
            "m.csv:3:1: error: expected numbers in 'time_s' and 'output_tokens_per_s'\n");
  EXPECT_EQ(errors_of(incident, "time_s,output_tokens_per_s\n5,2\n5,3\n"),
            "m.csv:3:1: error: time_s does not increase\n");
  EXPECT_EQ(errors_of(incident, "time_s,output_tokens_per_s\n5,2\n"),
            "m.csv: error: no metrics in the 600 s before the incident at 1000 s: nothing to compare with\n");
  EXPECT_THAT(errors_of("incidents: [{name: a, start: 9 s, end: 8 s, kind: gpu.failstop, component: x}]\n"),
              ::testing::HasSubstr("error: end: it is not after the start"));
  EXPECT_THAT(
      errors_of("incidents: [{name: a, start: 9 s, kind: gpu.slow, component: x}]\n"),
      ::testing::HasSubstr(
          "error: gpu.slow takes parameters that an incident does not state: give it as a fault of an experiment"));
}

TEST(Backtest, BiasAndCoverageComeFromAllIncidents) {
  std::vector<Incident> incidents(2);
  incidents[0].name = "a";
  incidents[0].observed.ready_s = 200;
  incidents[1].name = "b";
  incidents[1].observed.ready_s = 100;
  const auto outcome = [](double ready) {
    Outcome o;
    o.ready_s = ready;
    return o;
  };
  const Backtest b =
      backtest(incidents, {{outcome(195), outcome(205), outcome(200)}, {outcome(150), outcome(151), outcome(149)}});
  ASSERT_EQ(b.totals.size(), 1U);
  EXPECT_EQ(b.totals[0].count, 2);
  EXPECT_EQ(b.totals[0].inside, 1);
  EXPECT_NEAR(b.totals[0].bias, (0 + 0.5) / 2, 1e-12);
  // Student's t of two degrees: 4.303 * 5 * sqrt(4/3).
  EXPECT_NEAR(b.rows[0].high, 200 + 4.302653 * 5 * std::sqrt(4.0 / 3), 1e-3);
}

TEST(Backtest, ExperimentHoldsTheIncidentAsItsOnlyFault) {
  experiment::Overrides none;
  const auto base = experiment::load(fluid::testing::fleet_text("{kind: gpu.hang, target: inst-0.d-0.gpu-0, at: 3 s}"),
                                     "e.yaml", none, experiment::testing::read_repository);
  Incident i;
  i.name = "a";
  i.start = Duration{std::int64_t{1000} * 1'000'000'000};
  i.end = Duration{std::int64_t{1090} * 1'000'000'000};
  i.kind = fault::FaultKind::node_crash;
  i.component = "inst-1.d-0";
  const auto spec = experiment_around(base, i);
  const auto d = experiment::deploy(spec);
  ASSERT_EQ(d->faults.size(), 1U);
  EXPECT_EQ(d->faults[0].kind, fault::FaultKind::node_crash);
  EXPECT_DOUBLE_EQ(seconds(d->faults[0].length), 90);
  EXPECT_EQ(spec.fidelity, experiment::Fidelity::step);
}

}  // namespace
}  // namespace faultline::plan
