#include "core/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/core/fluid/scenario.h"

namespace faultline::plan {
namespace {

using fluid::testing::fleet_text;

struct Ground {
  PlanSpec plan;
  experiment::ExperimentSpec base;
  fluid::Load load;
  fault::RateProfile profile;
  fluid::Prices prices = fluid::prices_of(2, 8);
};

Ground ground(double rate = 200, double per_hour = 2e-4) {
  Ground g;
  g.plan.name = "test";
  g.plan.period = Duration{std::int64_t{90} * 86'400 * 1'000'000'000};
  g.plan.seeds = 2;
  g.plan.decode_widths = {8, 16};
  experiment::Overrides none;
  g.base = experiment::load(fleet_text("", "recovery: {policy: restart}\n", "", rate), "e.yaml", none,
                            experiment::testing::read_repository);
  g.load = fluid::load_of(g.base, experiment::testing::read_repository);
  g.profile.name = "p";
  fault::RateSource s;
  s.id = "gpu";
  s.kind = fault::FaultKind::gpu_failstop;
  s.per = fault::TargetKind::gpu;
  s.rate_per_hour = per_hour;
  s.repair = fault::RepairLaw{Duration{std::int64_t{24} * 3600 * 1'000'000'000}, 0};
  g.profile.sources = {s};
  return g;
}

TEST(Plan, ShapesBalancePrefillAndDecode) {
  Ground g = ground();
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  ASSERT_GE(shapes.size(), 4U);
  for (const ShapeChoice& s : shapes) EXPECT_EQ(s.refusal, "") << s.shape.text();
  // Some split of each width wastes less than half of its nodes.
  for (const std::int64_t width : {8, 16}) {
    double best = 0;
    for (const ShapeChoice& s : shapes) {
      if (s.shape.decode_width == width)
        best = std::max(best, s.requests_per_s / (s.shape.layout.prefill + s.shape.layout.decode));
    }
    EXPECT_GT(best, 1);
  }
}

TEST(Plan, ShapesThatCannotRunSayWhy) {
  Ground g = ground();
  g.plan.decode_widths = {2, 12};
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  ASSERT_EQ(shapes.size(), 2U);
  EXPECT_NE(shapes[0].refusal, "");  // two GPUs do not hold the weights
  EXPECT_THAT(shapes[1].refusal, ::testing::HasSubstr("do not fill whole nodes of 8"));
}

TEST(Plan, CheapestFleetHoldsTheTargetAndNoCheaperOneDoes) {
  Ground g = ground();
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  const Search found = search(g.plan, g.base, shapes.back(), g.profile, g.prices, g.load);
  ASSERT_TRUE(found.best.has_value()) << found.refusal;
  EXPECT_GE(found.best->held(), g.plan.target);
  EXPECT_GE(static_cast<double>(found.best->fleet.needed) * shapes.back().requests_per_s, g.load.rate);
  EXPECT_GT(found.best->output_1m, found.best->output_1m_clean);  // failures cost something
  // Without a spare and without headroom it does not hold: a dead GPU takes its instance for a day.
  EXPECT_GT(found.best->fleet.spares + found.best->fleet.instances - found.best->fleet.needed, 0);
}

TEST(Plan, MoreFailuresNeverMakeAFleetCheaper) {
  Ground g = ground();
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  double last = 0;
  for (const double rate : {1e-6, 2e-5, 1e-3}) {
    g.profile.sources[0].rate_per_hour = rate;
    const Search found = search(g.plan, g.base, shapes[0], g.profile, g.prices, g.load);
    ASSERT_TRUE(found.best.has_value()) << found.refusal;
    EXPECT_GE(found.best->per_hour, last);
    last = found.best->per_hour;
  }
}

TEST(Plan, TargetOutOfReachIsSaidWithTheBestThatWasFound) {
  Ground g = ground(200, 0.5);  // a failure of every GPU every two hours
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  const Search found = search(g.plan, g.base, shapes[0], g.profile, g.prices, g.load);
  EXPECT_FALSE(found.best.has_value());
  EXPECT_THAT(found.refusal,
              ::testing::MatchesRegex(
                  "the target of 99.9 % is not held with up to .* instances of headroom and 16 spares: .* % at best"));
}

TEST(Plan, SearchesReadBackAsTheyWereStored) {
  Ground g = ground();
  const auto shapes = shapes_of(g.plan, g.base, g.load);
  const Search found = search(g.plan, g.base, shapes[0], g.profile, g.prices, g.load);
  const auto text = to_json(found).dump();
  EXPECT_EQ(to_json(search_from(nlohmann::json::parse(text))).dump(), text);
}

TEST(Plan, ChangesReachWhatTheyName) {
  Ground g = ground();
  for (const Change& c : changes()) {
    Ground changed = g;
    apply(c, changed.plan, changed.base, changed.profile);
    EXPECT_DOUBLE_EQ(changed.profile.sources[0].rate_per_hour, g.profile.sources[0].rate_per_hour * c.rates) << c.name;
    EXPECT_DOUBLE_EQ(changed.base.workload.rate_scale, c.load) << c.name;
    EXPECT_NEAR(seconds(changed.base.engine.restart_total()), c.restart * seconds(g.base.engine.restart_total()), 1e-6)
        << c.name;
    EXPECT_DOUBLE_EQ(changed.plan.target, c.target > 0 ? c.target : g.plan.target) << c.name;
  }
}

TEST(Plan, ErrorsAreNamedAtTheirPlace) {
  const auto errors = [](const std::string& text) {
    try {
      load_plan(text, "p.yaml");
    } catch (const config::ConfigError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(errors("name: a\nexperiment: e.yaml\nprofiles: []\n"),
            "p.yaml:3:11: error: profiles: at least one is needed\n");
  EXPECT_EQ(errors("name: a\nexperiment: e.yaml\ndecode_widths: [8, 4096]\n"),
            "p.yaml:3:16: error: a width of 4096 GPUs: expected 1 to 1024\n");
  EXPECT_THAT(errors("name: a\nexperiment: e.yaml\ntarget: 2\n"), ::testing::HasSubstr("p.yaml:3:9: error: "));
  EXPECT_EQ(errors("name: a\nexperiment: e.yaml\n"), "");
}

}  // namespace
}  // namespace faultline::plan
