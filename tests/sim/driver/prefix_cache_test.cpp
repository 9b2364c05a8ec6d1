// Prefix caches in whole runs: what they save, what they must not change, and what a fault costs them.
#include <gtest/gtest.h>

#include <filesystem>
#include <unordered_set>

#include "core/metrics/summary.h"
#include "core/workload/spec.h"
#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/station.h"
#include "tests/sim/driver/tiny_fleet.h"

namespace faultline {
namespace {

/// `prefixes` is what differs.
std::string station(const std::string& prefixes) {
  return test::text_of(test::Station{.engine = "vllm",
                                     .prompt = "{kind: uniform, min: 20, max: 400}",
                                     .output = "{kind: fixed, tokens: 40}",
                                     .workload = "requests: 600\n  " + prefixes,
                                     .rest = "seed: 3"});
}

test::Outcome run(const std::string& text, bool cache) {
  experiment::ExperimentSpec spec = test::spec_of(text);
  spec.engine.prefix_cache = cache;
  return test::simulate(spec);
}

std::int64_t prefilled(const record::RunRecord& run) {
  std::int64_t tokens = 0;
  for (const auto& bin : run.throughput) tokens += bin.prefill_tokens;
  return tokens;
}
std::int64_t prompts(const record::RunRecord& run) {
  std::int64_t tokens = 0;
  for (const auto& r : run.requests) tokens += r.prompt_tokens;
  return tokens;
}

TEST(PrefixCacheRun, SharedBeginningsAreComputedOnceAndTheFirstTokenComesSooner) {
  const std::string text = station("prefixes: {count: 5, tokens: 2048, zipf: 1}");
  const test::Outcome with = run(text, true), without = run(text, false);
  ASSERT_EQ(with.completed(), 600U);
  ASSERT_EQ(without.completed(), 600U);
  const record::PrefixCacheUse& c = with.run.prefix_cache;
  EXPECT_EQ(c.asked, prompts(with.run));
  EXPECT_EQ(c.lost, 0);
  EXPECT_EQ(prefilled(with.run), prompts(with.run) - c.hit);
  EXPECT_EQ(prefilled(without.run), prompts(without.run));
  EXPECT_EQ(without.run.prefix_cache.asked, 0);
  // Everybody but the first of each prefix could find it; a few come while it is still being computed.
  EXPECT_LE(c.hit, (600 - 5) * 2048);
  EXPECT_GE(c.hit, (600 - 5 - 12) * 2048);
  const double ttft = seconds(metrics::summarise(with.run).ttft.mean),
               before = seconds(metrics::summarise(without.run).ttft.mean);
  std::printf("    mean TTFT %.1f ms, without a cache %.1f ms\n", ttft * 1e3, before * 1e3);
  EXPECT_LT(ttft, 0.7 * before);
}

TEST(PrefixCacheRun, WhereNoPromptIsKnownTheCacheChangesNothing) {
  const test::Outcome with = run(station(""), true), without = run(station(""), false);
  ASSERT_EQ(with.completed(), 600U);
  EXPECT_EQ(with.run.stats.log_hash, without.run.stats.log_hash);
  EXPECT_EQ(with.run.prefix_cache.asked, 0);
}

TEST(PrefixCacheRun, AFaultTakesWhatWasKeptAndTheLogReplays) {
  const experiment::ExperimentSpec spec = test::spec_of(test::text_of(test::TinyFleet{
      .seed = "5",
      .rate = "4",
      .output_max = 300,
      .workload = "prefixes: {count: 8, tokens: 1500, zipf: 0.5, share: 0.8}",
      .duration = "60 s",
      .end = "400 s",
      .rest = "router: {policy: prefix_affinity}\n"
              "faults: [{id: fault, kind: gpu.failstop, target: inst-0.p-0.gpu-0, at: 20 s, duration: 5 s}]"}));
  const test::Outcome o = test::simulate(spec);
  ASSERT_TRUE(o.run.faults.at(0).applied);
  EXPECT_EQ(o.completed(), o.run.requests.size());
  EXPECT_GT(o.run.prefix_cache.hit, 0);
  EXPECT_GT(o.run.prefix_cache.lost, 8 * 1'500);
  const auto deployment = experiment::deploy(spec);
  EXPECT_GE(o.run.faults[0].kv_bytes_lost, (deployment->kv_bytes_per_token * o.run.prefix_cache.lost).v);
  EXPECT_TRUE(metrics::summarise(o.run).violations.empty());
  const experiment::ReplayResult replayed = experiment::replay(o.log, test::read_file);
  EXPECT_TRUE(replayed.matches) << replayed.who << "\n" << replayed.difference;
  for (const auto& r : o.run.requests) EXPECT_GE(r.tokens_recomputed, 0);
}

/// Share of the prompts' tokens that a cache would have that forgets nothing and computes in no time: the leading
/// blocks that an earlier request had, whole blocks of the engine, and never the last token.
double infinite_share(workload::ArrivalSource& source, std::int64_t block) {
  std::unordered_set<std::uint32_t> seen;  // an id of this recording stands for everything before it, too
  std::int64_t hit = 0, all = 0;
  workload::Arrival a;
  while (source.next(a)) {
    std::int64_t known = 0;
    while (known < std::ssize(a.prefix_blocks) && seen.contains(a.prefix_blocks[static_cast<std::size_t>(known)]))
      ++known;
    seen.insert(a.prefix_blocks.begin(), a.prefix_blocks.end());
    const std::int64_t prompt = a.prompt.v;
    hit += std::min(std::min(known * a.prefix_block_tokens, prompt) / block, (prompt - 1) / block) * block;
    all += prompt;
  }
  return static_cast<double>(hit) / static_cast<double>(all);
}

/// One instance with memory for everything, the hour stretched until it is not overloaded. What is missing: requests
/// that come while the one before them is still computed, or go to another rank that has less to do.
TEST(PrefixCacheRun, OnARecordedHourTheHitsComeNearThoseOfAnInfiniteCache) {
  const char* data = std::getenv("FAULTLINE_DATA");
  const std::string folder = data ? data : std::string(FAULTLINE_SOURCE_DIR) + "/../shared/data";
  const std::string trace = folder + "/traces/requests/mooncake_conversation.jsonl.gz";
  if (!std::filesystem::exists(trace)) GTEST_SKIP() << "no recording at " << trace;
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/experiments/traces/mooncake_conversation.yaml";
  experiment::ExperimentSpec spec = experiment::load(
      test::read_file(path).value(), path,
      {.set = {"fleet.instances=1", "fleet.spare_nodes=0", "faults=[]", "workload.trace.time_scale=40"},
       .trace = trace},
      test::read_file);
  spec.device.memory = Bytes{std::int64_t{4096} << 30};
  config::Diagnostics diagnostics;
  const auto source = workload::make_source(spec.workload, spec.seed, test::read_file, diagnostics);
  ASSERT_TRUE(source != nullptr) << diagnostics.text();
  const double bound = infinite_share(*source, spec.engine.block_tokens);
  // The books of so large a cache are long: they are not checked after every step here.
  const record::RunRecord run = record::decode_run(test::in_child([&] {
    sim::SimulateOptions options;
    options.check_every_step = false;
    return record::encode_run(sim::simulate(spec, *experiment::deploy(spec), test::read_file, options));
  }));
  ASSERT_GT(run.prefix_cache.asked, 0);
  const double share = static_cast<double>(run.prefix_cache.hit) / static_cast<double>(run.prefix_cache.asked);
  std::printf("    %.1f %% of the prompt tokens cached, %.1f %% if nothing were forgotten; %.1f CPU s\n", 100 * share,
              100 * bound, run.stats.cpu_s);
  EXPECT_EQ(run.prefix_cache.evicted, 0);
  EXPECT_LE(share, bound);
  EXPECT_GT(share, 0.93 * bound);
}

}  // namespace
}  // namespace faultline
