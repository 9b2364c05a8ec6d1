// Recorded traffic through a failure: nothing fails, nothing is rejected, nothing is unaccounted for. Whole
// traces, but for the first 20,000 requests of ServeGen's day, which is whole with FAULTLINE_SLOW_TESTS=1. Skips
// visibly where the recordings, which are not part of the repository, are absent (next to it in shared/data, or where
// FAULTLINE_DATA points).
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

struct TraceCase {
  const char* experiment;
  const char* file;
  std::int64_t requests;  // of the default run; 0: all
};

class RealTraces : public ::testing::TestWithParam<TraceCase> {};

TEST_P(RealTraces, EndWithoutALossThroughTheFailureOfAGpu) {
  const char* data = std::getenv("FAULTLINE_DATA");
  const std::string folder = data ? data : std::string(FAULTLINE_SOURCE_DIR) + "/../shared/data";
  const std::string trace = folder + "/traces/requests/" + GetParam().file;
  if (!std::filesystem::exists(trace)) GTEST_SKIP() << "no recording at " << trace;
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/experiments/traces/" + GetParam().experiment + ".yaml";
  experiment::Overrides overrides{.trace = trace};
  const char* slow = std::getenv("FAULTLINE_SLOW_TESTS");
  if (GetParam().requests > 0 && (slow == nullptr || std::string_view(slow) != "1")) {
    overrides.set = {fmt::format("workload.requests={}", GetParam().requests)};
  }
  const test::Outcome o =
      test::simulate(experiment::load(test::read_file(path).value(), path, overrides, test::read_file));
  ASSERT_GT(o.run.requests.size(), 100u);
  std::printf("    %zu requests in %.0f s simulated, %.1f CPU s\n", o.run.requests.size(), seconds(o.run.end),
              o.run.stats.cpu_s);
  EXPECT_TRUE(o.run.faults.at(0).applied);
  EXPECT_LT(o.run.faults[0].at, o.run.requests.back().arrival) << "the fault came after the last arrival";
  EXPECT_NE(o.run.faults[0].phases.detect, kNever);
  EXPECT_EQ(o.completed(), o.run.requests.size());
  std::size_t retried = 0;
  for (const auto& r : o.run.requests) retried += r.attempts > 1 ? 1 : 0;
  EXPECT_GT(retried, 0u) << "the fault hit no request";
}

INSTANTIATE_TEST_SUITE_P(All, RealTraces,
                         ::testing::Values(TraceCase{"azure_conversation", "azure2023_conv.csv", 0},
                                           TraceCase{"azure_code", "azure2023_code.csv.gz", 0},
                                           TraceCase{"mooncake_conversation", "mooncake_conversation.jsonl.gz", 0},
                                           TraceCase{"servegen_deepseek_r1", "servegen_deepseek_r1", 20'000}),
                         [](const auto& test_case) { return std::string(test_case.param.experiment); });

}  // namespace
}  // namespace faultline
