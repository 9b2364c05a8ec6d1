#include "core/metrics/summary.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/random.h"
#include "core/metrics/request.h"
#include "tests/unit/core/metrics/record_builder.h"

namespace faultline::metrics {
namespace {

using testing::at_s;
using testing::completed;
using testing::Outcome;
using testing::RunRecord;
using testing::steady_run;
using namespace literals;

TEST(RequestMetrics, TpotIsTheMeanGapToTheNearestNanosecond) {
  auto r = completed(5, 0.5, 0.1, 4, 0);
  EXPECT_EQ(ttft(r), 500_ms);
  EXPECT_EQ(tpot(r), 100_ms);
  EXPECT_EQ(latency(r), 800_ms);
  r.end = r.end + 1_ns;  // 300,000,001 / 3 = 100,000,000.33
  EXPECT_EQ(tpot(r), 100_ms);
  r.end = r.end + 1_ns;  // … .67
  EXPECT_EQ(tpot(r), 100_ms + 1_ns);
}

TEST(RequestMetrics, OneTokenHasNoTpotAndAnUnfinishedRequestHasNoLatency) {
  auto r = completed(5, 0.5, 0.1, 1, 0);
  EXPECT_FALSE(tpot(r).has_value());
  EXPECT_TRUE(latency(r).has_value());
  r.outcome = Outcome::unfinished;
  r.end = kNever;
  EXPECT_FALSE(latency(r).has_value());
  EXPECT_TRUE(ttft(r).has_value()) << "its first token did come";
}

TEST(RequestMetrics, TheSloIsMetAtItsLimitAndMissedOneNanosecondLater) {
  RunRecord run;
  run.slo_ttft = {500_ms};
  run.slo_tpot = {100_ms};
  auto r = completed(5, 0.5, 0.1, 4, 0);
  EXPECT_TRUE(met_slo(run, r));
  r.end = r.end + 1_ns;  // its rounded TPOT still reads 100 ms
  EXPECT_FALSE(met_slo(run, r));
  r.end = r.end - 1_ns;
  r.first_token = r.first_token + 1_ns;
  EXPECT_FALSE(met_slo(run, r));
  r.first_token = r.first_token - 1_ns;
  r.slo_class = 3;  // a class without limits
  EXPECT_TRUE(met_slo(run, r));
  r.outcome = Outcome::failed;
  EXPECT_FALSE(met_slo(run, r));
}

TEST(Distribution, UsesTheNearestRank) {
  const auto d = distribution_of({10, 1, 9, 2, 8, 3, 7, 4, 6, 5});
  EXPECT_EQ(d.count, 10);
  EXPECT_EQ(d.mean, 6_ns);  // 5.5, half up
  EXPECT_EQ(d.p50, 5_ns);
  EXPECT_EQ(d.p90, 9_ns);
  EXPECT_EQ(d.p99, 10_ns);
  EXPECT_EQ(d.max, 10_ns);
  EXPECT_EQ(distribution_of({42}).p50, 42_ns);
  EXPECT_EQ(distribution_of({42}).p99, 42_ns);
  EXPECT_EQ(distribution_of({}).count, 0);
}

TEST(Distribution, AgreesWithASortForAnyNumberOfSamples) {
  for (std::uint64_t n = 1; n < 250; ++n) {
    Random random(n, "distribution");
    std::vector<std::int64_t> samples(n);
    for (auto& s : samples) s = static_cast<std::int64_t>(random.below(40));  // with ties
    auto sorted = samples;
    std::sort(sorted.begin(), sorted.end());
    const auto d = distribution_of(samples);
    for (const auto& [percent, value] : {std::pair{50, d.p50}, {90, d.p90}, {99, d.p99}, {100, d.max}}) {
      // The definition: at least p per cent are not above it, fewer are below any smaller sample.
      const auto not_above = std::upper_bound(sorted.begin(), sorted.end(), value.v) - sorted.begin();
      const auto below = std::lower_bound(sorted.begin(), sorted.end(), value.v) - sorted.begin();
      ASSERT_GE(not_above * 100, static_cast<std::int64_t>(n) * percent) << "n=" << n << " p" << percent;
      ASSERT_LT(below * 100, static_cast<std::int64_t>(n) * percent) << "n=" << n << " p" << percent;
      ASSERT_EQ(value.v, percentile_of_sorted(sorted, percent));
    }
  }
}

TEST(Summary, OfASteadyRunIsAsComputedByHand) {
  const Summary s = summarise(steady_run(), {.gpu_price_per_hour = 2.0});
  EXPECT_EQ(s.requests.arrived, 198);
  EXPECT_EQ(s.requests.completed, 198);
  EXPECT_EQ(s.requests.unaccounted, 0);
  EXPECT_TRUE(s.violations.empty());
  EXPECT_EQ(s.ttft.p99, 1_s);
  EXPECT_EQ(s.tpot.mean, 100_ms);
  EXPECT_EQ(s.latency.p50, 2_s);
  EXPECT_EQ(s.throughput.output_tokens, 198 * 11);
  EXPECT_EQ(s.throughput.input_tokens, 198 * 100);
  EXPECT_EQ(s.throughput.goodput_tokens, 198 * 11);
  EXPECT_DOUBLE_EQ(s.throughput.output_tokens_per_s, 198 * 11 / 200.0);
  EXPECT_DOUBLE_EQ(*s.throughput.input_tokens_per_s_per_prefill_node, 99.0);
  EXPECT_DOUBLE_EQ(s.requests_per_cpu_s, 99.0);
  // 16 GPUs for 200 s = 0.889 GPU-h at 2 = 1.778 over 2,178 output tokens.
  EXPECT_DOUBLE_EQ(s.cost.gpu_hours, 16 * 200 / 3600.0);
  EXPECT_DOUBLE_EQ(*s.cost.per_1m_output_tokens, 16 * 200 / 3600.0 * 2 / (198 * 11 * 1e-6));
  EXPECT_DOUBLE_EQ(*s.cost.per_1m_all_tokens, 16 * 200 / 3600.0 * 2 / (198 * 111 * 1e-6));
}

TEST(Summary, CountsEachOutcomeWithItsCause) {
  RunRecord run = testing::failstop_run();
  run.requests[30].outcome = Outcome::rejected;
  run.requests[30].cause = Cause::overload;
  run.requests[30].output_delivered = 0;
  run.requests[31].outcome = Outcome::unfinished;
  run.requests[31].end = kNever;
  run.requests[31].output_delivered = 3;
  run.throughput.clear();
  const Summary s = summarise(run);
  EXPECT_EQ(s.requests.arrived, 198);
  EXPECT_EQ(s.requests.completed, 195);
  EXPECT_EQ(s.requests.failed, 1);
  EXPECT_EQ(s.requests.rejected, 1);
  EXPECT_EQ(s.requests.unfinished, 1);
  EXPECT_EQ(s.requests.retried, 2);
  EXPECT_EQ(s.requests.interrupted_but_completed, 1);
  EXPECT_EQ(s.requests.failed_by_cause.at("retries_exhausted"), 1);
  EXPECT_EQ(s.requests.rejected_by_cause.at("overload"), 1);
  EXPECT_EQ(s.requests.unaccounted, 0);
  EXPECT_EQ(s.throughput.output_tokens, 195 * 11 + 4 + 3);
  EXPECT_EQ(s.throughput.goodput_tokens, 194 * 11) << "the retried request missed its TTFT";
  EXPECT_EQ(s.tokens_lost, 6);
}

TEST(Summary, ARecordThatContradictsItsOutcomeIsUnaccounted) {
  const auto unaccounted = [](auto change) {
    RunRecord run = steady_run();
    change(run.requests[5]);
    const Summary s = summarise(run);
    EXPECT_EQ(
        s.requests.completed + s.requests.failed + s.requests.rejected + s.requests.unfinished + s.requests.unaccounted,
        s.requests.arrived);
    return s.requests.unaccounted == 1 ? s.violations.at(0) : "none";
  };
  EXPECT_EQ(unaccounted([](auto& r) { r.end = kNever; }), "request 5 completed without an end");
  EXPECT_EQ(unaccounted([](auto& r) { r.output_delivered = 10; }), "request 5 completed with tokens missing");
  EXPECT_EQ(unaccounted([](auto& r) { r.output_delivered = 12; }),
            "request 5 delivered a number of tokens outside what was asked for");
  EXPECT_EQ(unaccounted([](auto& r) { r.first_token = kNever; }), "request 5 completed without a first token in time");
  EXPECT_EQ(unaccounted([](auto& r) { r.cause = Cause::timeout; }), "request 5 completed with a cause of failure");
  EXPECT_EQ(unaccounted([](auto& r) { r.outcome = Outcome::failed; }), "request 5 failed without a cause");
  EXPECT_EQ(unaccounted([](auto& r) { r.outcome = Outcome::unfinished; }), "request 5 unfinished with an end");
  EXPECT_EQ(unaccounted([](auto& r) { r.end = at_s(1); }), "request 5 ends before it arrives");
  EXPECT_EQ(unaccounted([](auto& r) {
              r.outcome = Outcome::rejected;
              r.cause = Cause::overload;
            }),
            "request 5 rejected after tokens were delivered");
}

TEST(Summary, TokensOverTimeMustAgreeWithTokensDelivered) {
  RunRecord run = steady_run();
  run.throughput[50].output_tokens += 1;
  EXPECT_EQ(summarise(run).violations,
            std::vector<std::string>{"2179 output tokens over time, but 2178 delivered to requests"});
}

TEST(Summary, TokensGeneratedAgainMayBeInTheSeriesOverTime) {
  RunRecord run = testing::failstop_run();  // 100 tokens recomputed, 6 lost, 2,171 delivered
  EXPECT_TRUE(summarise(run).violations.empty());
  run.throughput[50].output_tokens += 106;
  EXPECT_TRUE(summarise(run).violations.empty());
  run.throughput[50].output_tokens += 1;
  EXPECT_EQ(summarise(run).violations,
            std::vector<std::string>{
                "2278 output tokens over time, but 2171 delivered to requests and at most 2277 generated"});
  run.throughput[50].output_tokens -= 108;
  EXPECT_EQ(summarise(run).violations.size(), 1u);
}

TEST(Summary, RequestsThatNeverArrivedAreNotCounted) {
  RunRecord run = steady_run();
  run.requests.emplace_back();  // a default record: the run ended before its arrival
  EXPECT_EQ(summarise(run).requests.arrived, 198);
}

TEST(Summary, GoodputIsSplitByClass) {
  RunRecord run = steady_run();
  run.slo_class_names = {"chat", "batch"};
  run.slo_ttft = {500_ms, kForever};
  run.slo_tpot = {kForever, kForever};
  for (std::size_t i = 0; i < run.requests.size(); i += 3) run.requests[i].slo_class = 1;
  const Summary s = summarise(run);
  ASSERT_EQ(s.slo_classes.size(), 2u);
  EXPECT_EQ(s.slo_classes[0].met, 0) << "a TTFT of 1 s misses 500 ms";
  EXPECT_EQ(s.slo_classes[1].met, 66);
  EXPECT_EQ(s.slo_classes[1].goodput_tokens, 66 * 11);
  EXPECT_EQ(s.throughput.goodput_tokens, 66 * 11);
}

TEST(Summary, AnEmptyRunHasNoRatesAndNoDivisionByZero) {
  RunRecord run;
  const Summary s = summarise(run, {.gpu_price_per_hour = 1});
  EXPECT_EQ(s.requests.arrived, 0);
  EXPECT_EQ(s.throughput.output_tokens_per_s, 0);
  EXPECT_FALSE(s.throughput.output_tokens_per_s_per_decode_node.has_value());
  EXPECT_FALSE(s.cost.per_1m_output_tokens.has_value());
}

}  // namespace
}  // namespace faultline::metrics
