#include "core/workload/lengths.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/stats/sample.h"
#include "core/workload/histogram.h"
#include "core/workload/trace.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

constexpr std::uint64_t kSeed = 417;
constexpr int kDraws = 200'000;

struct Sample {
  stats::Moments prompt, output;
  std::vector<double> prompts, outputs;
};

Sample sample(const LengthsSpec& spec, const config::FileReader& reader = files({})) {
  std::printf("seed=%llu\n", static_cast<unsigned long long>(kSeed));
  config::Diagnostics diagnostics;
  const auto source = make_length_source(spec, kSeed, reader, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  Sample s;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const Lengths l = source->of(i);
    s.prompts.push_back(static_cast<double>(l.prompt.v));
    s.outputs.push_back(static_cast<double>(l.output.v));
    s.prompt.add(s.prompts.back());
    s.output.add(s.outputs.back());
  }
  std::sort(s.prompts.begin(), s.prompts.end());
  std::sort(s.outputs.begin(), s.outputs.end());
  return s;
}

Sample sample_prompt(const LengthSpec& prompt) { return sample({.kind = LengthsKind::independent, .prompt = prompt}); }

TEST(Lengths, FixedIsAlwaysTheSame) {
  const Sample s = sample_prompt({.kind = LengthKind::fixed, .tokens = Tokens{77}});
  EXPECT_EQ(s.prompts.front(), 77);
  EXPECT_EQ(s.prompts.back(), 77);
}

TEST(Lengths, UniformReachesBothBoundsAndHasTheirMean) {
  const Sample s = sample_prompt({.kind = LengthKind::uniform, .min = Tokens{10}, .max = Tokens{19}});
  EXPECT_EQ(s.prompts.front(), 10);
  EXPECT_EQ(s.prompts.back(), 19);
  EXPECT_NEAR(s.prompt.mean(), 14.5, s.prompt.half_width(4));
  EXPECT_NEAR(s.prompt.variance(), (100.0 - 1) / 12, 0.07);  // of ten equally likely values; four standard errors
}

TEST(Lengths, LognormalHasTheMeanAndMedianAsked) {
  const Sample s = sample_prompt({.kind = LengthKind::lognormal, .mean = 1155, .p50 = 800});
  EXPECT_NEAR(s.prompt.mean(), 1155, s.prompt.half_width(4));
  // Standard error of a median: 1 / (2 f(m) sqrt n), f(m) = 1 / (m sigma sqrt(2 pi)); sigma^2 = 2 ln(mean / median).
  const double sigma = std::sqrt(2 * std::log(1155.0 / 800));
  EXPECT_NEAR(stats::quantile(s.prompts, 0.5), 800,
              4 * 800 * sigma * std::sqrt(2 * 3.14159265) / 2 / std::sqrt(kDraws) + 0.5);
}

TEST(Lengths, LognormalBySigmaHasTheSpreadAsked) {
  const Sample s = sample_prompt({.kind = LengthKind::lognormal, .mean = 2000, .sigma = 0.5});
  EXPECT_NEAR(s.prompt.mean(), 2000, s.prompt.half_width(4));
  EXPECT_NEAR(s.prompt.cv(), std::sqrt(std::exp(0.25) - 1), 0.005);  // four standard errors, measured over 20 seeds
}

TEST(Lengths, ExponentialAndGeometricHaveTheMeanAsked) {
  const Sample e = sample_prompt({.kind = LengthKind::exponential, .mean = 500});
  EXPECT_NEAR(e.prompt.mean(), 500, e.prompt.half_width(4) + 0.001);  // clamping 0 to 1 adds 0.0005
  EXPECT_NEAR(e.prompt.cv(), 1, 0.01);
  const Sample g = sample_prompt({.kind = LengthKind::geometric, .mean = 4});
  EXPECT_NEAR(g.prompt.mean(), 4, g.prompt.half_width(4));
  EXPECT_NEAR(g.prompt.variance(), 12,
              0.3);  // (1 - p) / p^2 with p = 1/4; four standard errors, measured over 20 seeds
  EXPECT_EQ(g.prompts.front(), 1);
}

TEST(Lengths, ClampsHold) {
  const Sample s =
      sample_prompt({.kind = LengthKind::exponential, .mean = 500, .min = Tokens{100}, .max = Tokens{900}});
  EXPECT_EQ(s.prompts.front(), 100);
  EXPECT_EQ(s.prompts.back(), 900);
}

TEST(Lengths, EmpiricalDrawsInProportionToTheWeights) {
  const Sample s =
      sample({.kind = LengthsKind::independent, .prompt = {.kind = LengthKind::empirical, .file = "h.csv"}},
             files({{"h.csv", "tokens,weight\n10,1\n20,0\n30,3\n"}}));
  EXPECT_EQ(std::count(s.prompts.begin(), s.prompts.end(), 20), 0);
  EXPECT_NEAR(static_cast<double>(std::count(s.prompts.begin(), s.prompts.end(), 10)), kDraws / 4.0,
              4 * std::sqrt(kDraws * 3 / 16.0));
}

TEST(Lengths, FromATraceKeepThePairsTogether) {
  config::Diagnostics diagnostics;
  const auto source = make_length_source(
      {.kind = LengthsKind::trace, .file = "t.csv"}, kSeed,
      files({{"t.csv", "arrival_s,input_tokens,output_tokens\n0,10,1\n1,20,2\n2,30,3\n"}}), diagnostics);
  ASSERT_NE(source, nullptr);
  std::set<std::int64_t> seen;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Lengths l = source->of(i);
    EXPECT_EQ(l.prompt.v, 10 * l.output.v);
    seen.insert(l.output.v);
  }
  EXPECT_EQ(seen.size(), 3U);
}

TEST(Lengths, OfARequestDependOnItsIndexOnly) {
  config::Diagnostics diagnostics;
  const auto a = make_length_source({}, kSeed, files({}), diagnostics),
             b = make_length_source({}, kSeed, files({}), diagnostics);
  std::vector<Lengths> forward(100);
  for (std::size_t i = 0; i < 100; ++i) forward[i] = a->of(i);
  for (std::size_t i = 100; i-- > 0;) {
    EXPECT_EQ(b->of(i).prompt, forward[i].prompt);
    EXPECT_EQ(b->of(i).output, forward[i].output);
  }
}

TEST(Lengths, AzureConversationHasItsPublishedMeans) {
  const Sample s = sample({.kind = LengthsKind::azure_conversation});
  EXPECT_NEAR(s.prompt.mean(), 1155, s.prompt.half_width(4));
  EXPECT_NEAR(s.output.mean(), 211, s.output.half_width(4));
}

/// Largest distance of the distribution functions of two ascending samples.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const double x = std::min(a[i], b[j]);
    while (i < a.size() && a[i] <= x) ++i;
    while (j < b.size() && b[j] <= x) ++j;
    worst = std::max(worst, std::abs(static_cast<double>(i) / static_cast<double>(a.size()) -
                                     static_cast<double>(j) / static_cast<double>(b.size())));
  }
  return worst;
}

void expect_fit(LengthsKind kind, const std::string& file, double prompt_factor, double output_factor,
                double prompt_max, double output_max) {
  const std::string path = trace_folder() + file;
  config::Diagnostics diagnostics;
  const auto trace = read_trace({.path = path}, disk, diagnostics);
  ASSERT_TRUE(trace) << diagnostics.text();
  std::vector<double> prompts, outputs;
  for (const TraceRow& row : trace->rows) {
    prompts.push_back(row.prompt);
    outputs.push_back(row.output);
  }
  std::sort(prompts.begin(), prompts.end());
  std::sort(outputs.begin(), outputs.end());
  // The fit describes the rows; the factors move it to other means. Undo them to compare.
  Sample s = sample({.kind = kind});
  for (double& x : s.prompts) x /= prompt_factor;
  for (double& x : s.outputs) x /= output_factor;
  const double prompt_distance = distance(s.prompts, prompts), output_distance = distance(s.outputs, outputs);
  std::printf("distance prompt %.4f output %.4f\n", prompt_distance, output_distance);
  EXPECT_LT(prompt_distance, prompt_max);
  EXPECT_LT(output_distance, output_max);
}

// Bounds: the distances that azure_lengths.cpp states, and room for what undoing the factors adds: whole tokens, and
// the clamp (1% of the code trace's prompts lie at its longest, 7,437). The code trace's outputs, some 13 tokens, are
// compared as they are, since a factor of 1.02 does not move whole tokens.
TEST(Lengths, AzureConversationFitsTheTrace) {
  SKIP_WITHOUT_DATA(trace_folder() + "azure2023_conv.csv");
  const auto& m = azure_conversation_lengths();
  expect_fit(LengthsKind::azure_conversation, "azure2023_conv.csv", m.prompt_factor, m.output_factor, 0.045, 0.035);
}

TEST(Lengths, AzureCodeFitsTheTrace) {
  SKIP_WITHOUT_DATA(trace_folder() + "azure2023_code.csv.gz");
  const auto& m = azure_code_lengths();
  expect_fit(LengthsKind::azure_code, "azure2023_code.csv.gz", m.prompt_factor, 1, 0.055, 0.04);
}

TEST(Lengths, AzureCodeHasTheMeansOfItsRows) {
  const Sample s = sample({.kind = LengthsKind::azure_code});
  EXPECT_NEAR(s.prompt.mean(), 2040.1, s.prompt.half_width(4));
  EXPECT_NEAR(s.output.mean(), 27.6, s.output.half_width(4));
}

}  // namespace
}  // namespace faultline::workload
