#include "core/report/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "core/report/html.h"
#include "core/report/summary_json.h"
#include "core/report/text.h"
#include "core/report/variants.h"
#include "tests/unit/core/metrics/record_builder.h"
#include "tests/unit/core/report/golden.h"
#include "tests/unit/core/report/html_check.h"

namespace faultline::report {
namespace {

using metrics::testing::at_s;
using metrics::testing::failstop_run;
using metrics::testing::RunRecord;
using metrics::testing::steady_run;

Json summary_of(const RunRecord& run) {
  static const RunRecord without = steady_run();
  return summary_json(make_report(run, &without, &without, {.gpu_price_per_hour = 2}));
}

std::string error_of(std::string_view text) {
  config::Diagnostics diagnostics;
  EXPECT_FALSE(read_summary(text, "s.json", diagnostics).has_value());
  return diagnostics.text();
}

TEST(StoredSummary, ReadsBackWhatWasWritten) {
  const RunRecord run = failstop_run();
  const Report report = make_report(run, nullptr, nullptr);
  config::Diagnostics diagnostics;
  EXPECT_EQ(read_summary(summary_text(report), "s.json", diagnostics), summary_json(report));
  EXPECT_TRUE(diagnostics.ok());
}

TEST(StoredSummary, RefusesWhatIsNoSummaryWithItsPlace) {
  EXPECT_EQ(error_of("{\n  \"a\": x\n}"),
            "s.json:2:8: error: not valid JSON\n  a summary.json that a run has written is expected\n");
  EXPECT_EQ(error_of("[1]"),
            "s.json: error: not a summary: it has no 'schema_version'\n  a summary.json that a run has written is "
            "expected\n");
  EXPECT_EQ(error_of("{\"schema_version\": 99}"), "s.json: error: schema version 99, this program reads version 1\n");
  EXPECT_EQ(error_of("{\"schema_version\": 1}"), "s.json: error: not a summary: 'requests' is missing\n");
  EXPECT_EQ(error_of(std::string(100'000, '[')), "s.json: error: not a summary: nested deeper than 64 levels\n");
}

TEST(Comparison, OfARunWithItselfFindsNothing) {
  const Json a = summary_of(failstop_run());
  Json b = a;
  b["simulator"]["wall_s"] = 99.0;
  const auto list = differences(a, b);
  EXPECT_TRUE(same_run(list)) << "another wall time is no other run";
  EXPECT_NE(differences_text("a", "b", list).find("the same run"), std::string::npos);
  b["requests"]["failed"] = 2;
  EXPECT_FALSE(same_run(differences(a, b)));
}

TEST(Comparison, MatchesFaultsByIdNotByPlace) {
  RunRecord two = failstop_run();
  record::FaultRecord early = two.faults[0];
  early.id = "early";
  early.at = early.reverted = at_s(5);
  early.phases = {};
  early.own_gpus.clear();
  two.faults.push_back(early);
  const auto list = differences(summary_of(failstop_run()), summary_of(two));
  const auto field = [&](const std::string& name) {
    const auto it = std::find_if(list.begin(), list.end(), [&](const Difference& d) { return d.field == name; });
    EXPECT_NE(it, list.end()) << name;
    return *it;
  };
  EXPECT_TRUE(field("faults[gpu].phases_s.detect").equal);
  EXPECT_TRUE(field("faults[early].at_s").a.is_null());
  EXPECT_EQ(field("faults[early].at_s").b, 5.0);
}

TEST(Comparison, OfTwoRunsIsAsReviewed) {
  RunRecord other = failstop_run();
  for (auto& c : other.capacity) c.to = at_s(35);
  other.faults[0].phases.detect = at_s(20.25);
  const std::string text =
      differences_text("runs/restart", "runs/spare", differences(summary_of(failstop_run()), summary_of(other)));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(width_of(line), 80u) << line;
  testing::expect_golden("compare.txt", text);
}

std::vector<Variant> three_variants() {
  RunRecord quick = failstop_run(), never = failstop_run();
  for (auto& c : quick.capacity) c.to = at_s(35);
  for (auto& c : never.capacity) c.to = never.end;
  return {{"restart in place, all ranks of the instance", summary_of(failstop_run())},
          {"spare node", summary_of(quick)},
          {"nothing", summary_of(never)}};
}

TEST(Variants, TableIsAsReviewed) {
  const std::string text = variants_text("recovery: one GPU fails", three_variants());
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(width_of(line), 80u) << line;
  testing::expect_golden("variants.txt", text);
}

TEST(Variants, RowsHoldTheFiguresOfTheSummaries) {
  const auto rows = variant_rows(three_variants());
  EXPECT_EQ(rows[0].capacity_loss_gpu_s, 240);
  EXPECT_EQ(rows[1].capacity_loss_gpu_s, 120);
  EXPECT_EQ(rows[1].restore_s, 15);
  EXPECT_EQ(rows[0].failed, 1);
  EXPECT_FALSE(rows[2].restore_s.has_value());
  EXPECT_FALSE(rows[2].restored);
  const Json json = variants_json("t", three_variants());
  EXPECT_EQ(json["rows"][1]["restore_s"], 15.0);
  EXPECT_TRUE(json["rows"][2]["restore_s"].is_null());
}

TEST(Variants, AVariantWithoutAFaultHasNoTimesAndIsNotCalledUnrestored) {
  const RunRecord quiet = steady_run();
  const auto rows = variant_rows({{"quiet", summary_json(make_report(quiet, nullptr, nullptr))}});
  EXPECT_FALSE(rows[0].capacity_loss_gpu_s.has_value());
  EXPECT_FALSE(rows[0].t95_s.has_value());
  EXPECT_TRUE(rows[0].restored);
}

TEST(Variants, HtmlIsWellFormedAndEscaped) {
  auto variants = three_variants();
  variants[0].name = "<script>alert(1)</script>";
  EXPECT_EQ(testing::html_problem(html_page("a & b", variants_html("<b>", variants))), "");
  EXPECT_EQ(testing::html_problem(html_page("none", variants_html("none", {}))), "");
}

}  // namespace
}  // namespace faultline::report
