#include "core/report/summary_json.h"

#include <gtest/gtest.h>

#include "tests/unit/core/metrics/record_builder.h"
#include "tests/unit/core/report/golden.h"

namespace faultline::report {
namespace {

using metrics::testing::failstop_run;
using metrics::testing::RunRecord;
using metrics::testing::steady_run;

nlohmann::ordered_json failstop_json() {
  const RunRecord run = failstop_run(), without = steady_run();
  return summary_json(
      make_report(run, &without, &without, {.gpu_price_per_hour = 2.5}, "", {{"decode GEMM", "table 3"}}));
}

TEST(SummaryJson, HasEveryFieldThatIsPromised) {
  const auto json = failstop_json();
  for (const char* path : {"/requests/arrived",
                           "/requests/completed",
                           "/requests/failed",
                           "/requests/rejected",
                           "/requests/retried",
                           "/requests/unaccounted",
                           "/requests/interrupted_but_completed",
                           "/latency/ttft_s/mean",
                           "/latency/ttft_s/p50",
                           "/latency/ttft_s/p90",
                           "/latency/ttft_s/p99",
                           "/latency/tpot_s/mean",
                           "/latency/tpot_s/p50",
                           "/latency/tpot_s/p90",
                           "/latency/tpot_s/p99",
                           "/throughput/input_tokens_per_s",
                           "/throughput/output_tokens_per_s",
                           "/throughput/goodput_tokens_per_s",
                           "/throughput/per_prefill_node",
                           "/throughput/per_decode_node",
                           "/faults/0/id",
                           "/faults/0/kind",
                           "/faults/0/target",
                           "/faults/0/at_s",
                           "/faults/0/blast_radius/targeted",
                           "/faults/0/blast_radius/structural_gpus_max",
                           "/faults/0/blast_radius/capacity_loss_gpu_s",
                           "/faults/0/blast_radius/own_gpu_s",
                           "/faults/0/blast_radius/collateral_gpu_s",
                           "/faults/0/blast_radius/amplification",
                           "/faults/0/blast_radius/instances_touched/direct",
                           "/faults/0/blast_radius/instances_touched/indirect",
                           "/faults/0/blast_radius/requests_failed",
                           "/faults/0/blast_radius/requests_retried",
                           "/faults/0/blast_radius/requests_delayed",
                           "/faults/0/blast_radius/tokens_recomputed",
                           "/faults/0/blast_radius/tokens_lost",
                           "/faults/0/blast_radius/goodput_loss_tokens",
                           "/faults/0/blast_radius/kv_bytes_lost",
                           "/faults/0/phases_s/detect",
                           "/faults/0/phases_s/decide",
                           "/faults/0/phases_s/drain",
                           "/faults/0/phases_s/reroute",
                           "/faults/0/phases_s/first_token",
                           "/faults/0/phases_s/t95",
                           "/faults/0/phases_s/restore",
                           "/simulator/wall_s",
                           "/simulator/cpu_s",
                           "/simulator/events",
                           "/simulator/flows",
                           "/simulator/requests_per_cpu_s",
                           "/simulator/peak_rss_bytes",
                           "/simulator/fidelity",
                           "/simulator/seed",
                           "/simulator/log_hash",
                           "/schema_version"}) {
    const nlohmann::ordered_json::json_pointer pointer(path);
    ASSERT_TRUE(json.contains(pointer)) << path;
    EXPECT_FALSE(json.at(pointer).is_null()) << path;
  }
}

TEST(SummaryJson, OfAFailStopIsAsReviewed) {
  const RunRecord run = failstop_run(), without = steady_run();
  testing::expect_golden("summary.json",
                         summary_text(make_report(run, &without, &without, {.gpu_price_per_hour = 2.5})));
}

TEST(SummaryJson, NamesTheCostModelAndWhatWasExtrapolated) {
  const RunRecord run = failstop_run();
  const auto use = summary_json(make_report(run, nullptr, nullptr))["cost_model"];
  EXPECT_EQ(use["name"], "mi300x");
  EXPECT_EQ(use["hardware"], "MI300X");
  EXPECT_EQ(use["hash"], "0123456789abcdef");
  EXPECT_EQ(use["software_date"], "2026-01-05");
  ASSERT_EQ(use["extrapolated"].size(), 2U);
  EXPECT_EQ(use["extrapolated"][0]["op"], "decode_attention");
  EXPECT_EQ(use["extrapolated"][0]["share_of_time"], 0.25);
  EXPECT_EQ(use["extrapolated"][1]["why"], "no rows");
  EXPECT_TRUE(summary_json(make_report(RunRecord(), nullptr, nullptr))["cost_model"]["hash"].is_null());
}

TEST(SummaryJson, WithoutAPairedRunCounterfactualFieldsAreNull) {
  const RunRecord run = failstop_run();
  const auto json = summary_json(make_report(run, nullptr, nullptr));
  const auto& radius = json["faults"][0]["blast_radius"];
  EXPECT_EQ(radius["basis"], "causal");
  EXPECT_EQ(radius["requests_failed"], 1);
  EXPECT_TRUE(radius["requests_delayed"].is_null());
  EXPECT_TRUE(radius["goodput_loss_tokens"].is_null());
  EXPECT_TRUE(json["faults"][0]["phases_s"]["t95"].is_null());
  EXPECT_TRUE(json["cost"]["per_1m_output_tokens"].is_null()) << "no price was given";
}

TEST(SummaryJson, ANullAmplificationHasAReason) {
  RunRecord run = failstop_run();
  run.capacity.clear();
  run.faults[0].own_gpus.clear();
  const auto json = summary_json(make_report(run, nullptr, nullptr));
  EXPECT_TRUE(json["faults"][0]["blast_radius"]["amplification"].is_null());
  EXPECT_EQ(json["faults"][0]["blast_radius"]["amplification_reason"],
            "the fault disables or disconnects no GPU directly");
}

TEST(SummaryJson, SurvivesNamesThatAreNotUtf8AndParsesBack) {
  RunRecord run = failstop_run();
  run.experiment = "bad \xff name \"quoted\"\n";
  run.faults[0].id = "x\x01\\";
  const std::string text = summary_text(make_report(run, nullptr, nullptr));
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["experiment"], "bad \xEF\xBF\xBD name \"quoted\"\n");
  EXPECT_EQ(json["faults"][0]["id"], "x\x01\\");
}

TEST(SummaryJson, IsTheSameTextForTheSameRun) {
  const RunRecord run = failstop_run(), without = steady_run();
  EXPECT_EQ(summary_text(make_report(run, &without, nullptr)), summary_text(make_report(run, &without, nullptr)));
}

}  // namespace
}  // namespace faultline::report
