#include "core/workload/summary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

std::optional<TraceSummary> summary_of(const std::string& text, TraceSpec spec = {}) {
  config::Diagnostics diagnostics;
  spec.path = "t.csv";
  auto s = summarize_trace(spec, 1, files({{"t.csv", text}}), diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return s;
}

const std::string kOwn =
    "arrival_s,input_tokens,output_tokens,session\n10,100,1,a\n11,200,0,a\n13,300,5,b\n12,400,2,\n";

TEST(Summary, CountsRatesAndLengthsOfASmallTrace) {
  const auto s = summary_of(kOwn);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->counts.rows, 4);
  EXPECT_EQ(s->counts.zero_tokens, 1);
  EXPECT_EQ(s->counts.out_of_order, 1);
  EXPECT_EQ(s->sessions, 2);
  EXPECT_EQ(s->arrivals.requests, 4);
  EXPECT_EQ(s->arrivals.first.ns, 10'000'000'000);
  EXPECT_DOUBLE_EQ(s->arrivals.mean_rate, 1);  // three gaps of a second
  EXPECT_DOUBLE_EQ(s->arrivals.gap_cv, 0);
  EXPECT_DOUBLE_EQ(s->arrivals.prompt.mean, 250);
  EXPECT_DOUBLE_EQ(s->arrivals.prompt.p50, 250);
  EXPECT_EQ(s->arrivals.prompt.max, 400);
  EXPECT_EQ(s->arrivals.output.total, 9);  // the 0 counts as 1
}

TEST(Summary, SkippedRowsAreCountedApart) {
  const auto s = summary_of(kOwn, {.zero_tokens = ZeroTokens::skip});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.requests, 3);
  EXPECT_EQ(s->counts.skipped, 1);
  EXPECT_EQ(s->counts.rows, s->arrivals.requests + s->counts.skipped);
}

TEST(Summary, OnlyTheLeadingRunOfKnownBlocksIsAHit) {
  const auto row = [](const char* ids) {
    return std::string(R"({"timestamp": 0, "input_length": 2048, "output_length": 1, "hash_ids": [)") + ids + "]}\n";
  };
  const auto s = summary_of(row("1, 2, 3") + row("1, 2, 4") + row("9, 2, 3") + row("1, 2, 3, 5"));
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.blocks, 13);
  EXPECT_EQ(s->arrivals.blocks_distinct, 6);
  EXPECT_EQ(s->arrivals.blocks_hit, 2 + 0 + 3);  // 2 and 3 behind the unknown 9 are no prefix
}

TEST(Summary, TheFullestMinuteIsAWholeOne) {
  std::string text = "arrival_s,input_tokens,output_tokens\n";
  for (int i = 0; i < 60; ++i) text += std::to_string(i) + ",1,1\n";            // 1 a second
  for (int i = 0; i < 120; ++i) text += std::to_string(60 + i / 2) + ",1,1\n";  // 2 a second
  for (int i = 0; i < 500; ++i) text += "120,1,1\n";                            // a minute that has only begun
  const auto s = summary_of(text);
  ASSERT_TRUE(s);
  EXPECT_DOUBLE_EQ(s->arrivals.peak_rate, 2);
}

TEST(Summary, OfOneRequestHasNoRate) {
  const auto s = summary_of("arrival_s,input_tokens,output_tokens\n5,1,1\n");
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.mean_rate, 0);
  EXPECT_EQ(s->arrivals.gap_cv, 0);
}

TEST(Summary, TextNamesEverythingThatWasDoneToRowsAndFitsEightyColumns) {
  const std::string text = to_text(*summary_of(kOwn));
  EXPECT_EQ(text,
            "t.csv (csv)\n"
            "  rows               4\n"
            "  requests           4\n"
            "  zero-token rows    1, of which 0 left out (the others count as 1 token)\n"
            "  out of order       1 rows (sorted by time)\n"
            "  sessions           2\n"
            "  span               3.000 s\n"
            "  mean rate          1.000 requests/s\n"
            "  burstiness         CV of gaps 0.00 (Poisson: 1)\n"
            "\n"
            "  tokens                  mean       p50       p90       p99       max\n"
            "  prompt                 250.0       250       370       397       400\n"
            "  output                   2.2         2         4         5         5\n");
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    EXPECT_LE(end - begin, 80U);
    begin = end + 1;
  }
}

TEST(Summary, JsonHasTheSameFigures) {
  const auto s = summary_of(kOwn);
  const auto json = nlohmann::json::parse(to_json(*s));
  EXPECT_EQ(json["format"], "csv");
  EXPECT_EQ(json["rows"], 4);
  EXPECT_EQ(json["zero_token_rows"], 1);
  EXPECT_EQ(json["prompt_tokens"]["mean"], 250.0);
  EXPECT_FALSE(json.contains("prefix"));
  EXPECT_FALSE(json.contains("clients"));
}

}  // namespace
}  // namespace faultline::workload
