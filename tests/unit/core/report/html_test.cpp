#include "core/report/html.h"

#include <gtest/gtest.h>

#include "core/report/svg.h"
#include "tests/unit/core/metrics/record_builder.h"
#include "tests/unit/core/report/html_check.h"

namespace faultline::report {
namespace {

using metrics::testing::failstop_run;
using metrics::testing::RunRecord;
using metrics::testing::steady_run;
using testing::html_problem;

TEST(HtmlReport, IsWellFormedAndSelfContained) {
  const RunRecord run = failstop_run(), without = steady_run();
  const std::string html = html_text(make_report(run, &without, &without, {.gpu_price_per_hour = 2},
                                                 "fleet:\n  instances: 2\n", {{"decode GEMM", "a table"}}));
  EXPECT_EQ(html_problem(html), "");
  for (const char* part :
       {"Output throughput", "GPUs lost", "Time to first token", "Recovery, from the fault on", "Blast radius",
        "instances: 2", "decode GEMM", "calibration &#39;mi300x&#39; (MI300X, rows to 2026-01-05)", "0123456789abcdef",
        "contexts longer than any measured", "25.0 %", "prefers-color-scheme:dark", "@media print",
        "Content-Security-Policy"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
}

TEST(HtmlReport, IsWellFormedForEveryShapeOfRun) {
  const RunRecord empty;
  EXPECT_EQ(html_problem(html_text(make_report(empty, nullptr, nullptr))), "");
  const RunRecord quiet = steady_run();
  EXPECT_EQ(html_problem(html_text(make_report(quiet, nullptr, nullptr))), "");
  RunRecord unapplied = failstop_run();
  unapplied.faults[0].applied = false;
  unapplied.faults[0].at = kNever;
  EXPECT_EQ(html_problem(html_text(make_report(unapplied, &quiet, nullptr))), "");
  RunRecord brief = failstop_run();
  brief.end = Instant{21'500'000'000};
  brief.throughput.resize(22);
  brief.requests.resize(19);
  EXPECT_EQ(html_problem(html_text(make_report(brief, &quiet, nullptr))), "");
}

TEST(HtmlReport, NoNameFromOutsideBecomesMarkup) {
  const std::string evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&lt;\x01\xff";
  RunRecord run = failstop_run();
  run.experiment = run.faults[0].id = run.faults[0].kind = run.faults[0].target = run.faults[0].recovery = evil;
  run.slo_class_names = {evil};
  run.warnings = {evil};
  run.stats.fidelity = evil;
  record::FaultRecord late;
  late.id = "late";
  late.not_applied_reason = evil;
  run.faults.push_back(late);
  run.throughput[3].output_tokens -= 1;
  const RunRecord without = steady_run();
  metrics::Options options{.gpu_price_per_hour = 1};
  options.currency = evil;
  std::string html = html_text(make_report(run, &without, nullptr, options, "</pre>" + evil, {{evil, evil}}));
  EXPECT_EQ(html_problem(html), "");
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(1)"), std::string::npos) << "the name is still shown";
}

TEST(HtmlCheck, FindsWhatItIsFor) {
  const auto page = [](const std::string& body) { return "<!DOCTYPE html>\n<html><body>" + body + "</body></html>"; };
  EXPECT_EQ(html_problem(page("<p>x</p>")), "");
  EXPECT_NE(html_problem(page("<p>x")), "");
  EXPECT_NE(html_problem(page("<p><b>x</p></b>")), "");
  EXPECT_NE(html_problem(page("<script>x</script>")), "");
  EXPECT_NE(html_problem(page("<p onclick=\"x\">x</p>")), "");
  EXPECT_NE(html_problem(page("<p>see https://example.org</p>")), "");
  EXPECT_NE(html_problem(page("<p>a & b</p>")), "");
  EXPECT_NE(html_problem(page("<p class=x>a</p>")), "");
}

TEST(Svg, TicksAreRoundAndReachTheTop) {
  EXPECT_EQ(ticks(10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks(11, 5), (std::vector<double>{0, 5, 10, 15}));
  EXPECT_EQ(ticks(100, 4), (std::vector<double>{0, 50, 100}));
  for (double top = 1e-6; top < 1e9; top *= 1.37) {
    const auto t = ticks(top, 4);
    ASSERT_GE(t.back(), top * 0.999999) << top;
    ASSERT_LE(t.size(), 7u) << top;
    ASSERT_GE(t.size(), 2u) << top;
  }
}

TEST(Svg, AGapInALineBreaksThePath) {
  TimeChart chart;
  chart.title = "x";
  chart.lines.push_back({"a", "run", {1.0, std::nullopt, 2.0, 3.0}});
  const std::string svg = time_chart_svg(chart);
  const auto path = svg.substr(svg.find("class=\"line run\""));
  const std::string d = path.substr(0, path.find("/>"));
  EXPECT_EQ(std::count(d.begin(), d.end(), 'M'), 2);
  EXPECT_EQ(std::count(d.begin(), d.end(), 'L'), 1);
}

}  // namespace
}  // namespace faultline::report
