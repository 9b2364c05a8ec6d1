#include "core/workload/servegen.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/stats/sample.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

const std::string kLengths =
    R"({"0": {"input_tokens": "{100: 0.25, 200: 0.75}", "output_tokens": "{7: 1.0}", "reason_ratio": "{0.5: 1.0}"},
 "1200": {"input_tokens": "{300: 1.0}", "output_tokens": "{9: 1}", "reason_ratio": "{}"}})";

std::map<std::string, std::string> one_client(const std::string& windows, const std::string& lengths = kLengths) {
  return {{"f/chunk-4-trace.csv", windows}, {"f/chunk-4-dataset.json", lengths}};
}

std::vector<Recorded> play(std::map<std::string, std::string> content, const std::string& yaml = "") {
  WorkloadSpec spec;
  EXPECT_EQ(read_spec("trace: {path: f/}\n" + yaml, spec), "");
  config::Diagnostics diagnostics;
  const auto source = make_source(spec, 3, files(std::move(content)), diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return source ? drain(*source) : std::vector<Recorded>{};
}

std::string errors_of(std::map<std::string, std::string> content) {
  config::Diagnostics diagnostics;
  EXPECT_FALSE(read_servegen({.path = "f"}, files(std::move(content)), diagnostics));
  return diagnostics.text();
}

TEST(ServeGen, AWindowBringsItsRecordedCountAndIdleWindowsNothing) {
  const auto all = play(one_client("0,0.5,1,Gamma,1,2\n600,0,0,,0,0\n1200,0.25,1,Weibull,1,4\n"));
  int first = 0, last = 0;
  for (const auto& r : all) {
    const double at = seconds(r.arrival.at);
    (at < 600 ? first : last) += 1;
    EXPECT_TRUE(at < 600 || (at >= 1200 && at < 1800)) << at;
    // The span of lengths in force at the window's start.
    EXPECT_EQ(r.arrival.output.v, at < 600 ? 7 : 9);
    EXPECT_EQ(r.arrival.prompt.v == 300, at >= 600);
  }
  EXPECT_EQ(first, 300);
  EXPECT_EQ(last, 150);
}

TEST(ServeGen, GapsInAWindowHaveItsVariation) {
  // 60,000 gaps of a gamma of shape 1/4 (CV 2), scaled to the window; the CV's standard error is near 1%.
  const auto all = play(one_client("0,100,2,Gamma,0.25,0.04\n"));
  ASSERT_EQ(all.size(), 60'000U);
  stats::Moments gaps;
  for (std::size_t i = 1; i < all.size(); ++i) gaps.add(seconds(all[i].arrival.at - all[i - 1].arrival.at));
  EXPECT_NEAR(gaps.cv(), 2, 0.06);
}

TEST(ServeGen, AVeryBurstyWindowStillBringsItsCount) {
  EXPECT_EQ(play(one_client("0,0.085,6.69,Gamma,0.0223,73\n")).size(), 51U);  // a real row
}

TEST(ServeGen, RateScaleScalesTheCounts) {
  EXPECT_EQ(play(one_client("0,0.5,1,Gamma,1,2\n"), "rate_scale: 3\n").size(), 900U);
  const std::size_t part = play(one_client("0,0.5,1,Gamma,1,2\n"), "rate_scale: 0.0155\n").size();  // 4.65
  EXPECT_TRUE(part == 4 || part == 5) << part;
}

TEST(ServeGen, ALoopRepeatsTheDayWithOtherDraws) {
  const auto all = play(one_client("0,0.5,1,Gamma,1,2\n"), "requests: 900\n");
  EXPECT_EQ(all.size(), 300U);
  WorkloadSpec spec;
  spec.trace = TraceSpec{.path = "f", .loop = true};
  spec.requests = 900;
  config::Diagnostics diagnostics;
  const auto source = make_source(spec, 3, files(one_client("0,0.5,1,Gamma,1,2\n")), diagnostics);
  ASSERT_NE(source, nullptr) << diagnostics.text();
  const auto looped = drain(*source);
  ASSERT_EQ(looped.size(), 900U);
  EXPECT_EQ(looped[299].arrival.at, all[299].arrival.at);
  EXPECT_GE(looped[300].arrival.at.ns, 600'000'000'000);
  EXPECT_NE(looped[310].arrival.at.ns, looped[10].arrival.at.ns + 600'000'000'000);
}

TEST(ServeGen, ClientsAreMergedByTimeAndNamedByTheirSession) {
  auto content = one_client("0,0.5,1,Gamma,1,2\n");
  content["f/chunk-9-trace.csv"] = "0,0.25,1,Gamma,1,4\n";
  content["f/chunk-9-dataset.json.gz"] = gzipped(kLengths);
  const auto all = play(content);
  std::map<std::uint32_t, int> counts;
  for (std::size_t i = 0; i < all.size(); ++i) {
    ++counts[all[i].arrival.session];
    EXPECT_GE(all[i].arrival.at, all[i > 0 ? i - 1 : 0].arrival.at);
  }
  EXPECT_EQ(counts, (std::map<std::uint32_t, int>{{0, 300}, {1, 150}}));
  // A further client moves no request of the others.
  const auto alone = play(one_client("0,0.5,1,Gamma,1,2\n"));
  std::size_t i = 0;
  for (const auto& r : all) {
    if (r.arrival.session != 0) continue;
    EXPECT_EQ(r.arrival.at, alone[i].arrival.at);
    EXPECT_EQ(r.arrival.prompt, alone[i].arrival.prompt);
    ++i;
  }
}

TEST(ServeGen, PythonDictsAreParsedOrRefusedWithTheirPlace) {
  std::size_t bad = 0;
  EXPECT_EQ(parse_python_dict("{}", bad)->size(), 0U);
  const auto two = parse_python_dict(" {60: 0.25 , 61: 7.5e-01}", bad);
  ASSERT_TRUE(two);
  EXPECT_EQ((*two)[1], (std::pair<double, double>{61, 0.75}));
  for (const char* text : {"", "{", "{1", "{1:", "{1:2", "{1:2,", "{1:2,}", "{:1}", "{1 2}", "{1:2} x", "{1:nan}",
                           "{1:inf}", "[1]", "{a:1}"}) {
    EXPECT_FALSE(parse_python_dict(text, bad)) << text;
    EXPECT_LE(bad, std::string_view(text).size()) << text;
  }
}

TEST(BadServeGen, FolderWithoutClients) {
  EXPECT_EQ(errors_of({}), "f: error: cannot read the file, and it is no ServeGen folder (no chunk-N-trace.csv)\n");
}
TEST(BadServeGen, ClientWithoutLengths) {
  EXPECT_EQ(errors_of({{"f/chunk-0-trace.csv", "0,0,0,,0,0\n"}}),
            "f/chunk-0-dataset.json: error: cannot read the file\n");
}
TEST(BadServeGen, WindowOfTooManyRequests) {
  EXPECT_EQ(errors_of(one_client("0,500000,1,Gamma,1,2\n")),
            "f/chunk-4-trace.csv: error: the window at 0 s brings 300000000 requests, expected 0.001 to 10000000\n");
}
TEST(BadServeGen, RateScaleThatNoMemoryHolds) {
  WorkloadSpec spec;
  ASSERT_EQ(read_spec("trace: {path: f}\nrate_scale: 10_000\n", spec), "");
  config::Diagnostics diagnostics;
  EXPECT_EQ(make_source(spec, 1, files(one_client("0,100,1,Gamma,1,2\n")), diagnostics), nullptr);
  EXPECT_EQ(diagnostics.text(), "f: error: rate_scale 10000 makes a window of more than 100000000 requests\n");
}
TEST(BadServeGen, UnknownPattern) {
  EXPECT_EQ(
      errors_of(one_client("0,0.5,1,Pareto,1,2\n")),
      "f/chunk-4-trace.csv:1:9: error: column pattern: expected Gamma, Weibull or nothing (idle), got 'Pareto'\n");
}
TEST(BadServeGen, RateWithoutAPattern) {
  EXPECT_EQ(errors_of(one_client("0,0.5,1,,1,2\n")),
            "f/chunk-4-trace.csv:1:9: error: column pattern: a rate of 0.5 needs a pattern\n");
}
TEST(BadServeGen, WindowsBackwards) {
  EXPECT_EQ(errors_of(one_client("600,0,0,,0,0\n0,0,0,,0,0\n")),
            "f/chunk-4-trace.csv:2:1: error: column start_s: expected a start after 600, got 0\n");
}
TEST(BadServeGen, ShapeOfZero) {
  EXPECT_EQ(errors_of(one_client("0,0.5,1,Gamma,0,2\n")),
            "f/chunk-4-trace.csv:1:15: error: column shape: expected a number from 0.0001 to 10000, got '0'\n");
}
TEST(BadServeGen, MissingValueOfAWindow) {
  EXPECT_EQ(errors_of(one_client("0,0.5,1,Gamma,1\n")),
            "f/chunk-4-trace.csv:1:1: error: expected 6 values, got 5\n  columns: start_s, rate, cv, pattern, shape, "
            "scale_s\n");
}
TEST(BadServeGen, BrokenJson) {
  EXPECT_EQ(errors_of(one_client("0,0.5,1,Gamma,1,2\n", "{\n  \"0\": {,}\n}")),
            "f/chunk-4-dataset.json:2:9: error: not valid JSON\n");
}
TEST(BadServeGen, BrokenDict) {
  EXPECT_EQ(errors_of(one_client("0,0.5,1,Gamma,1,2\n",
                                 R"({"0": {"input_tokens": "{1: 0.5; 2: 0.5}", "output_tokens": "{7: 1}"}})")),
            "f/chunk-4-dataset.json: error: \"0\".input_tokens: expected {tokens: probability, …}, got '; 2: 0.5}' at "
            "character 8\n");
}
TEST(BadServeGen, ProbabilitiesThatDoNotAddUp) {
  EXPECT_EQ(
      errors_of(one_client("0,0.5,1,Gamma,1,2\n", R"({"0": {"input_tokens": "{1: 0.5}", "output_tokens": "{7: 1}"}})")),
      "f/chunk-4-dataset.json: error: \"0\".input_tokens: the probabilities add up to 0.5, not 1\n");
}
TEST(BadServeGen, FractionalTokens) {
  EXPECT_EQ(errors_of(one_client("0,0,0,,0,0\n", R"({"0": {"input_tokens": "{1.5: 1}", "output_tokens": "{7: 1}"}})")),
            "f/chunk-4-dataset.json: error: \"0\".input_tokens: expected a whole number of tokens, at most 100000000, "
            "got 1.5\n");
}
TEST(BadServeGen, LengthsMissingForABusyWindow) {
  EXPECT_EQ(
      errors_of(one_client("0,0.5,1,Gamma,1,2\n", R"({"600": {"input_tokens": "{1: 1}", "output_tokens": "{7: 1}"}})")),
      "f/chunk-4-dataset.json: error: no lengths for the requests of the window at 0 s\n");
}
TEST(BadServeGen, MissingOutputTokens) {
  EXPECT_EQ(errors_of(one_client("0,0,0,,0,0\n", R"({"0": {"input_tokens": "{1: 1}"}})")),
            "f/chunk-4-dataset.json: error: \"0\".output_tokens: missing\n");
}

}  // namespace
}  // namespace faultline::workload
