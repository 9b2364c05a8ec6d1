// Readers on small samples of each format, and on the real traces where they are present.
#include "core/workload/trace.h"

#include <gtest/gtest.h>

#include "core/workload/gzip.h"
#include "core/workload/readers.h"
#include "core/workload/summary.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

Trace parsed(const std::string& text, TraceSpec spec = {}) {
  config::Diagnostics diagnostics;
  spec.path = "t";
  auto trace = parse_trace(text, spec, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return trace ? *std::move(trace) : Trace{};
}

TEST(AzureTrace, Of2023IsReadWithItsCarriageReturnsAndHundredNanosecondTicks) {
  const Trace t = parsed(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 "
      "18:15:50.9951690,396,109\r\n");
  EXPECT_EQ(t.format, TraceFormat::azure);
  ASSERT_EQ(t.rows.size(), 2U);
  EXPECT_EQ(t.rows[0].at.ns, 0);
  EXPECT_EQ(t.rows[1].at.ns, 4'314'579'000);
  EXPECT_EQ(t.rows[1].prompt, 396U);
  EXPECT_EQ(t.rows[1].output, 109U);
}

TEST(AzureTrace, Of2024IsReadWithItsZoneAcrossMidnight) {
  const Trace t = parsed(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-09 23:59:59.990000+00:00,1,2\n2024-05-10 "
      "00:00:00.009930+00:00,3,4\n2024-05-10 00:00:01+00:00,5,6\n");
  ASSERT_EQ(t.rows.size(), 3U);
  EXPECT_EQ(t.rows[1].at.ns, 19'930'000);
  EXPECT_EQ(t.rows[2].at.ns, 1'010'000'000);
}

TEST(AzureTrace, TimestampsFollowTheCalendar) {
  EXPECT_EQ(parse_timestamp("1970-01-01 00:00:00"), 0);
  EXPECT_EQ(parse_timestamp("2024-02-29 00:00:00"), 1'709'164'800'000'000'000);  // date -u -d 2024-02-29 +%s
  EXPECT_EQ(parse_timestamp("2024-03-01T01:00:00+01:00"), 1'709'251'200'000'000'000);
  EXPECT_EQ(parse_timestamp("2024-03-01 00:00:00Z"), 1'709'251'200'000'000'000);
  for (const char* bad : {"", "2023-02-29 00:00:00", "2100-02-29 00:00:00", "2024-13-01 00:00:00",
                          "2024-00-01 00:00:00", "2024-04-31 00:00:00", "2024-01-01 24:00:00", "2024-01-01 00:60:00",
                          "2024-01-01", "2024-01-01 00:00:00.", "2024-01-01 00:00:00+1", "2024-01-01 00:00:00 ",
                          "1969-12-31 23:59:59", "2024-01-01 00:00:00+15:00", "2024-01-01 00:00:00.1234567890"}) {
    EXPECT_EQ(parse_timestamp(bad), std::nullopt) << bad;
  }
}

TEST(OwnTrace, KeepsAbsoluteTimesClassesAndSessionsInAnyOrderOfColumns) {
  const Trace t = parsed(
      "session,output_tokens,input_tokens,arrival_s,slo_class\nalice,2,1,1.5,chat\n,4,3,2.000000001,batch\nalice,6,5,"
      "3e0,chat\n");
  EXPECT_EQ(t.format, TraceFormat::csv);
  ASSERT_EQ(t.rows.size(), 3U);
  EXPECT_EQ(t.rows[0].at.ns, 1'500'000'000);
  EXPECT_EQ(t.rows[1].at.ns, 2'000'000'001);
  EXPECT_EQ(t.rows[2].at.ns, 3'000'000'000);
  EXPECT_EQ(t.rows[0].session, t.rows[2].session);
  EXPECT_EQ(t.rows[1].session, kNoSession);
  ASSERT_EQ(t.classes.size(), 2U);
  EXPECT_EQ(t.classes[1].name, "batch");
  EXPECT_EQ(t.rows[2].slo_class, 0);
}

TEST(OwnTrace, RowsOutOfOrderAreSortedAndCounted) {
  const Trace t = parsed("arrival_s,input_tokens,output_tokens\n2,1,1\n1,2,1\n2,3,1\n");
  EXPECT_EQ(t.counts.out_of_order, 1);
  EXPECT_EQ(t.rows[0].prompt, 2U);
  EXPECT_EQ(t.rows[1].prompt, 1U);  // equal times keep the order of the file
  EXPECT_EQ(t.rows[2].prompt, 3U);
}

TEST(OwnTrace, AByteOrderMarkAndBlankLinesAtTheEndAreHarmless) {
  EXPECT_EQ(parsed("\xEF\xBB\xBF"
                   "arrival_s,input_tokens,output_tokens\n0,1,1\n\n\r\n")
                .rows.size(),
            1U);
}

constexpr const char* kBurst =
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation "
    "log\n45,GPT-4,1087,0,1087,API log\n";

TEST(BurstGPTTrace, StartsAtItsFirstRequestAndCountsFailedOnes) {
  const Trace one = parsed(kBurst);
  EXPECT_EQ(one.format, TraceFormat::burstgpt);
  ASSERT_EQ(one.rows.size(), 2U);
  EXPECT_EQ(one.rows[1].at.ns, 40'000'000'000);
  EXPECT_EQ(one.rows[1].output, 1U);
  EXPECT_EQ(one.counts.zero_tokens, 1);
  EXPECT_EQ(one.counts.skipped, 0);
  const Trace skip = parsed(kBurst, {.zero_tokens = ZeroTokens::skip});
  EXPECT_EQ(skip.rows.size(), 1U);
  EXPECT_EQ(skip.counts.rows, 2);
  EXPECT_EQ(skip.counts.skipped, 1);
}

TEST(BurstGPTTrace, TheLaterReleaseHasSessions) {
  const Trace t = parsed(
      "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
      "0.5,s1,3,ChatGPT,1,2,3,Conversation log\n0.75,s2,3,ChatGPT,1,2,3,Conversation "
      "log\n1,s1,3,ChatGPT,1,2,3,Conversation log\n");
  EXPECT_EQ(t.session_count, 2U);
  EXPECT_EQ(t.rows[0].session, t.rows[2].session);
}

std::string mooncake_row(int ms, int input, const std::string& ids) {
  return "{\"timestamp\": " + std::to_string(ms) + ", \"input_length\": " + std::to_string(input) +
         ", \"output_length\": 5, \"hash_ids\": [" + ids + "]}\n";
}

TEST(MooncakeTrace, SpreadsTheRequestsOfATickInFileOrderAndNeverPastTheNext) {
  const std::string text = mooncake_row(0, 600, "0, 1") + mooncake_row(0, 700, "0, 2") + mooncake_row(0, 800, "0, 3") +
                           mooncake_row(2999, 900, "0, 4") + mooncake_row(6000, 1000, "0, 5") +
                           mooncake_row(6000, 1024, "7");
  const Trace t = parsed(text);
  const std::vector<std::int64_t> expected_us{0, 999'666, 1'999'333, 2'999'000, 6'000'000, 7'500'000};
  ASSERT_EQ(t.rows.size(), expected_us.size());
  for (std::size_t i = 0; i < expected_us.size(); ++i) EXPECT_EQ(t.rows[i].at.ns / 1000, expected_us[i]) << i;
  for (std::size_t i = 1; i < t.rows.size(); ++i) EXPECT_GT(t.rows[i].prompt, t.rows[i - 1].prompt);
  const Trace plain = parsed(text, {.tick = Duration{0}});
  EXPECT_EQ(plain.rows[2].at.ns, 0);
  EXPECT_EQ(plain.rows[5].at.ns, 6'000'000'000);
}

TEST(MooncakeTrace, KeepsThePrefixBlocksOfEachRow) {
  const Trace t = parsed(mooncake_row(0, 1024, "0, 1") + mooncake_row(1, 1025, "0, 1, 9"));
  EXPECT_EQ(t.prefix_block_tokens, 512U);
  EXPECT_EQ(t.rows[1].first_block, 2U);
  EXPECT_EQ(t.rows[1].block_count, 3U);
  EXPECT_EQ(t.blocks, (std::vector<std::uint32_t>{0, 1, 0, 1, 9}));
}

TEST(Trace, GzipContentIsRecognisedAndDamageIsReported) {
  const std::string packed = gzipped(kBurst);
  config::Diagnostics good;
  EXPECT_TRUE(read_trace({.path = "b.gz"}, files({{"b.gz", packed}}), good));
  config::Diagnostics twice;  // two members, as `cat a.gz b.gz` makes them
  const std::string second = gzipped("46,GPT-4,1,2,3,API log\n");
  const auto both = read_trace({.path = "b.gz"}, files({{"b.gz", packed + second}}), twice);
  ASSERT_TRUE(both) << twice.text();
  EXPECT_EQ(both->rows.size(), 3U);
  config::Diagnostics cut;
  EXPECT_FALSE(read_trace({.path = "b.gz"}, files({{"b.gz", packed.substr(0, packed.size() - 9)}}), cut));
  EXPECT_EQ(cut.text(), "b.gz: error: the gzip content is damaged or cut off\n");
  std::string flipped = packed;
  flipped[packed.size() - 6] ^= 1;  // the checksum
  config::Diagnostics damaged;
  EXPECT_FALSE(read_trace({.path = "b.gz"}, files({{"b.gz", flipped}}), damaged));
  EXPECT_EQ(unpack_gzip(gzipped(std::string(100'000, 'x')), 50'000), std::nullopt);  // the bound on hostile files
}

std::optional<TraceSummary> summary_of(const std::string& path) {
  config::Diagnostics diagnostics;
  auto s = summarize_trace({.path = path}, 1, disk, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return s;
}

// Check values: PROVENANCE.md of the shared traces, one decimal.
TEST(RealTrace, AzureConversationHasTheStatedRowsAndMeans) {
  const std::string path = trace_folder() + "azure2023_conv.csv";
  SKIP_WITHOUT_DATA(path);
  const auto s = summary_of(path);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.requests, 15'877);
  EXPECT_NEAR(s->arrivals.prompt.mean, 1183.5, 0.05);
  EXPECT_NEAR(s->arrivals.output.mean, 201.0, 0.05);
  EXPECT_LT(seconds(s->arrivals.last), 2700);
  EXPECT_EQ(s->counts.zero_tokens + s->counts.out_of_order, 0);
}

TEST(RealTrace, AzureCodeHasTheStatedRowsAndMeans) {
  const std::string path = trace_folder() + "azure2023_code.csv.gz";
  SKIP_WITHOUT_DATA(path);
  const auto s = summary_of(path);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.requests, 7'491);
  EXPECT_NEAR(s->arrivals.prompt.mean, 2040.1, 0.05);
  EXPECT_NEAR(s->arrivals.output.mean, 27.6, 0.05);
}

TEST(RealTrace, MooncakeHasTheStatedRowsMeansAndSharedPrefixes) {
  const std::string path = trace_folder() + "mooncake_conversation.jsonl.gz";
  SKIP_WITHOUT_DATA(path);
  const auto s = summary_of(path);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->arrivals.requests, 7'851);
  EXPECT_NEAR(s->arrivals.prompt.mean, 12428.0, 0.05);
  EXPECT_NEAR(s->arrivals.output.mean, 347.1, 0.05);
  EXPECT_EQ(s->arrivals.blocks, 194'284);
  EXPECT_EQ(s->arrivals.blocks_distinct, 126'103);
  EXPECT_NEAR(s->arrivals.hit_share(), 0.351, 0.0005);
  EXPECT_LT(s->arrivals.gap_cv, 1);  // left on their 3 s stamps the gaps' CV is above 2: bursts that were never there
}

TEST(RealTrace, ServeGenClientsHaveTheStatedRates) {
  const std::string path = trace_folder() + "servegen_deepseek_r1";
  SKIP_WITHOUT_DATA(path + "/chunk-0-trace.csv");
  const auto s = summary_of(path);
  ASSERT_TRUE(s);
  ASSERT_TRUE(s->clients);
  EXPECT_EQ(s->clients->clients, 37);
  EXPECT_NEAR(s->clients->rate_mean, 6.08, 0.005);
  EXPECT_NEAR(s->clients->rate_max, 25.72, 0.005);
  EXPECT_NEAR(s->clients->rate_min, 1.03, 0.005);
  // A window brings its recorded count, so the day does too: rates are counts / 600 s.
  EXPECT_EQ(s->arrivals.requests, static_cast<std::int64_t>(s->clients->rate_mean * 86'400 + 0.5));
}

}  // namespace
}  // namespace faultline::workload
