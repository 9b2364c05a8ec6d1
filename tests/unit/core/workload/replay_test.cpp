#include "core/workload/replay.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/workload/trace.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

/// Rows one second apart with two prefix blocks each, the first shared by all.
Trace steady(int rows) {
  Trace t{.prefix_block_tokens = 512, .session_count = 2};
  for (int i = 0; i < rows; ++i) {
    t.rows.push_back({.at = Instant{i * 1'000'000'000LL},
                      .prompt = 600U + static_cast<unsigned>(i),
                      .output = 5,
                      .session = static_cast<std::uint32_t>(i % 2),
                      .block_count = 2,
                      .first_block = t.blocks.size()});
    t.blocks.push_back(0);
    t.blocks.push_back(1U + static_cast<unsigned>(i));
  }
  return t;
}

std::vector<Recorded> play(Trace trace, ReplayOptions options, std::size_t most = 1'000'000, std::uint64_t seed = 5) {
  ReplaySource source(std::move(trace), options, seed);
  auto all = drain(source, most);
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_GE(all[i].arrival.at, all[i - 1].arrival.at) << i;
  return all;
}

TEST(Replay, UnscaledIsTheTraceItself) {
  const auto all = play(steady(4), {});
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[3].arrival.at.ns, 3'000'000'000);
  EXPECT_EQ(all[3].arrival.prompt.v, 603);
  EXPECT_EQ(all[3].arrival.session, 1U);
  EXPECT_EQ(all[3].blocks, (std::vector<std::uint32_t>{0, 4}));
}

TEST(Replay, TimeScaleStretchesTheTimesAndNothingElse) {
  const auto all = play(steady(4), {.time_scale = 0.25});
  EXPECT_EQ(all[3].arrival.at.ns, 750'000'000);
  EXPECT_EQ(all.size(), 4U);
}

TEST(Replay, RateScaleAboveOneAddsCopiesBetweenTheRows) {
  const int rows = 4000;
  const auto all = play(steady(rows), {.rate_scale = 2.5});
  // Two each and a third with chance 1/2: binomial, 4 standard errors.
  EXPECT_NEAR(static_cast<double>(all.size()), 2.5 * rows, 4 * std::sqrt(rows * 0.25));
  std::map<std::int64_t, int> per_row;
  for (const auto& r : all) {
    ++per_row[r.arrival.prompt.v];
    EXPECT_EQ(r.arrival.at.ns / 1'000'000'000, r.arrival.prompt.v - 600);  // within the second of its row
  }
  for (const auto& [prompt, count] : per_row) EXPECT_TRUE(count == 2 || count == 3) << prompt;
}

TEST(Replay, RateScaleBelowOneKeepsRowsByChanceAndTheirTimes) {
  const int rows = 4000;
  const auto all = play(steady(rows), {.rate_scale = 0.3});
  EXPECT_NEAR(static_cast<double>(all.size()), 0.3 * rows, 4 * std::sqrt(rows * 0.21));
  for (const auto& r : all) EXPECT_EQ(r.arrival.at.ns, (r.arrival.prompt.v - 600) * 1'000'000'000);
}

TEST(Replay, CopiesAndRoundsFindNoPrefixOfOneAnother) {
  const auto all = play(steady(10), {.rate_scale = 2, .loop = true}, 60);  // 3 rounds of 20
  std::map<std::uint32_t, int> first_block;  // every row of a copy shares the trace's block 0 with its own copy only
  std::set<std::uint32_t> second_block, sessions;
  for (const auto& r : all) {
    ++first_block[r.blocks[0]];
    EXPECT_TRUE(second_block.insert(r.blocks[1]).second);
    sessions.insert(r.arrival.session);
  }
  EXPECT_EQ(first_block.size(), 6U);
  for (const auto& [id, count] : first_block) EXPECT_EQ(count, 10) << id;
  EXPECT_EQ(sessions.size(), 12U);
}

TEST(Replay, ALoopGoesOnOneMeanGapAfterItsEnd) {
  const auto all = play(steady(3), {.loop = true}, 7);
  ASSERT_EQ(all.size(), 7U);
  EXPECT_EQ(all[3].arrival.at.ns, 3'000'000'000);
  EXPECT_EQ(all[6].arrival.at.ns, 6'000'000'000);
  EXPECT_EQ(all[6].arrival.prompt.v, 600);
}

TEST(Replay, ALoopOverASingleInstantGetsOn) {
  Trace t;
  for (int i = 0; i < 3; ++i) t.rows.push_back({.prompt = 1, .output = 1});
  const auto all = play(std::move(t), {.loop = true}, 9);
  EXPECT_GT(all[8].arrival.at, all[0].arrival.at);
}

TEST(Replay, ClassesOfTheTraceBecomeThoseOfTheExperimentByName) {
  WorkloadSpec spec;
  ASSERT_EQ(read_spec("trace: {path: t.csv}\nslo: [{name: chat}, {name: batch}]\n", spec), "");
  config::Diagnostics diagnostics;
  const auto source = make_source(
      spec, 1, files({{"t.csv", "arrival_s,input_tokens,output_tokens,slo_class\n0,1,1,batch\n1,1,1,chat\n"}}),
      diagnostics);
  ASSERT_NE(source, nullptr) << diagnostics.text();
  const auto all = drain(*source);
  EXPECT_EQ(all[0].arrival.slo_class, 1);
  EXPECT_EQ(all[1].arrival.slo_class, 0);
}

TEST(Replay, AShortenedPromptHasFewerPrefixBlocks) {
  WorkloadSpec spec;
  ASSERT_EQ(read_spec("trace: {path: t}\nprompt_max: 513\n", spec), "");
  config::Diagnostics diagnostics;
  const auto source = make_source(
      spec, 1,
      files({{"t", "{\"timestamp\": 0, \"input_length\": 2048, \"output_length\": 5, \"hash_ids\": [1, 2, 3, 4]}\n"}}),
      diagnostics);
  ASSERT_NE(source, nullptr) << diagnostics.text();
  EXPECT_EQ(drain(*source)[0].blocks, (std::vector<std::uint32_t>{1, 2}));
}

}  // namespace
}  // namespace faultline::workload
