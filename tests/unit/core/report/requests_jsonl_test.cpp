#include "core/report/requests_jsonl.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <limits>
#include <sstream>

#include "tests/unit/core/metrics/record_builder.h"

namespace faultline::report {
namespace {

using metrics::testing::RunRecord;

TEST(RequestsJsonl, HasOneLineARequestWithExactTimes) {
  RunRecord run = metrics::testing::failstop_run();
  run.requests.resize(23);
  run.requests[20].arrival = Instant{20'000'000'001};
  std::istringstream lines(requests_jsonl(run));
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) all.push_back(line);
  ASSERT_EQ(all.size(), 23u);
  EXPECT_EQ(
      all[20],
      R"({"id":20,"arrival_s":20.000000001,"prompt_tokens":100,"output_tokens":11,"delivered_tokens":11,"instance":1,)"
      R"("ttft_s":4.999999999,"tpot_s":0.100000000,"end_s":26.000000000,"outcome":"completed","cause":"none","attempts":2,)"
      R"("tokens_recomputed":100,"tokens_lost":0,"slo_met":false,"slo":"chat","hit":["gpu"]})");
  EXPECT_EQ(
      all[22],
      R"({"id":22,"arrival_s":22.000000000,"prompt_tokens":100,"output_tokens":11,"delivered_tokens":4,"instance":0,)"
      R"("ttft_s":1.000000000,"tpot_s":null,"end_s":26.000000000,"outcome":"failed","cause":"retries_exhausted","attempts":3,)"
      R"("tokens_recomputed":0,"tokens_lost":6,"slo_met":false,"slo":"chat","hit":["gpu"]})");
}

TEST(RequestsJsonl, TheLongestLineFitsAndHostileNamesStayInTheirStrings) {
  RunRecord run;
  run.slo_class_names = {"c\"\n\xff</script>"};
  for (int i = 0; i < 70; ++i) {
    record::FaultRecord f;
    f.id = std::string(200, 'f') + "\"" + std::to_string(i);
    run.faults.push_back(f);
  }
  record::RequestRecord r;
  r.arrival = Instant{std::numeric_limits<std::int64_t>::min() + 1};
  r.first_token = Instant{-1};
  r.end = Instant{std::numeric_limits<std::int64_t>::max() - 1};
  r.prompt_tokens = r.output_tokens = r.output_delivered = std::numeric_limits<std::int32_t>::min();
  r.tokens_recomputed = r.tokens_lost = std::numeric_limits<std::int32_t>::min();
  r.instance = InstanceId{InstanceId::kInvalid - 1};
  r.attempts = 255;
  r.outcome = record::Outcome::unfinished;
  r.cause = Cause::retries_exhausted;
  r.hit_by = ~std::uint64_t{0};
  run.requests = {r};
  const auto json = nlohmann::json::parse(requests_jsonl(run));
  EXPECT_EQ(json["hit"].size(), 64u);
  EXPECT_EQ(json["hit"][0], std::string(200, 'f') + "\"0");
  EXPECT_EQ(json["slo"], "c\"\n\xEF\xBF\xBD</script>");
}

TEST(RequestsJsonl, WhatDidNotHappenIsNull) {
  RunRecord run;
  run.requests.emplace_back();
  const auto json = nlohmann::json::parse(requests_jsonl(run));
  for (const char* key : {"arrival_s", "instance", "ttft_s", "tpot_s", "end_s"})
    EXPECT_TRUE(json[key].is_null()) << key;
  EXPECT_EQ(json["outcome"], "unfinished");
}

}  // namespace
}  // namespace faultline::report
