#include <gtest/gtest.h>

#include "core/base/random.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

std::unique_ptr<ArrivalSource> source_of(const std::string& yaml, std::uint64_t seed,
                                         const config::FileReader& reader = files({})) {
  WorkloadSpec spec;
  EXPECT_EQ(read_spec(yaml, spec), "");
  config::Diagnostics diagnostics;
  auto source = make_source(spec, seed, reader, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return source;
}

constexpr const char* kYaml =
    "arrivals: {kind: poisson, rate: 4}\nrequests: 2000\nslo: [{name: a, share: 3}, {name: b}]\n";

TEST(Source, OneSeedGivesTheSameArrivalsAndAnotherSeedOthers) {
  const auto a = drain(*source_of(kYaml, 1)), b = drain(*source_of(kYaml, 1)), c = drain(*source_of(kYaml, 2));
  ASSERT_EQ(a.size(), 2000U);
  int same_time = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].arrival.at, b[i].arrival.at);
    EXPECT_EQ(a[i].arrival.prompt, b[i].arrival.prompt);
    EXPECT_EQ(a[i].arrival.output, b[i].arrival.output);
    EXPECT_EQ(a[i].arrival.slo_class, b[i].arrival.slo_class);
    same_time += a[i].arrival.at == c[i].arrival.at;
  }
  EXPECT_EQ(same_time, 0);
}

/// The arrivals as one number.
std::uint64_t hash_of(const std::vector<Recorded>& all) {
  std::uint64_t h = 0;
  for (const auto& r : all) {
    for (const auto v : {r.arrival.at.ns, r.arrival.prompt.v, r.arrival.output.v, std::int64_t{r.arrival.slo_class}}) {
      h = hash_combine(h, static_cast<std::uint64_t>(v));
    }
  }
  return h;
}

// The same numbers on every compiler, build and processor. After a wanted change of the draws, put in what the failure
// prints.
TEST(Source, ArrivalsAreTheSameBitsEverywhere) {
  const std::vector<std::pair<const char*, std::uint64_t>> golden{
      {"arrivals: {kind: poisson, rate: 4}\n", 2900673139553141974U},
      {"arrivals: {kind: constant, rate: 3}\nlengths: {kind: azure_code}\n", 7939715550077654558U},
      {"arrivals: {kind: gamma, rate: 4, cv: 3}\n", 11692551565791189211U},
      {"arrivals: {kind: weibull, rate: 4, cv: 3}\n", 17394050137452732944U},
      {"arrivals: {kind: onoff, rate_on: 9}\n", 15630020176202325134U},
      {"arrivals: {kind: diurnal, rate: 9, period: 1 min}\nlengths: {prompt: {kind: lognormal, mean: 900, p50: 500}, "
       "output: {kind: geometric, mean: 99}}\n",
       8110921011021729033U},
  };
  for (const auto& [yaml, expected] : golden) {
    EXPECT_EQ(
        hash_of(drain(*source_of(std::string(yaml) + "requests: 20_000\nslo: [{name: a, share: 3}, {name: b}]\n", 42))),
        expected)
        << yaml;
  }
}

TEST(Source, AnotherArrivalProcessLeavesLengthsAndClassesOfEachRequestAlone) {
  const auto a = drain(*source_of(kYaml, 7));
  const auto b = drain(*source_of(
      "arrivals: {kind: gamma, rate: 9, cv: 3}\nrequests: 2000\nslo: [{name: a, share: 3}, {name: b}]\n", 7));
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].arrival.prompt, b[i].arrival.prompt);
    EXPECT_EQ(a[i].arrival.output, b[i].arrival.output);
    EXPECT_EQ(a[i].arrival.slo_class, b[i].arrival.slo_class);
  }
}

TEST(Source, OtherLengthsAndClassesLeaveTheTimesAlone) {
  const auto a = drain(*source_of(kYaml, 7));
  const auto b =
      drain(*source_of("arrivals: {kind: poisson, rate: 4}\nrequests: 2000\nlengths: {prompt: {kind: fixed, tokens: "
                       "9}, output: {kind: geometric, mean: 30}}\n",
                       7));
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].arrival.at, b[i].arrival.at);
}

TEST(Source, ClassesHaveTheirShares) {
  int second = 0;
  for (const auto& r : drain(*source_of(kYaml, 11))) second += r.arrival.slo_class == 1;
  EXPECT_NEAR(second, 500, 4 * std::sqrt(2000 * 0.25 * 0.75));  // binomial, 4 standard errors
}

TEST(Source, DurationAndRequestsBothEndIt) {
  const auto by_time = drain(*source_of("arrivals: {kind: constant, rate: 10}\nduration: 5 s\n", 1));
  ASSERT_EQ(by_time.size(), 50U);  // at 0, 0.1 … 4.9 s; the one at 5 s is outside
  EXPECT_EQ(by_time.back().arrival.at.ns, 4'900'000'000);
  EXPECT_EQ(drain(*source_of("arrivals: {kind: constant, rate: 10}\nduration: 5 s\nrequests: 7\n", 1)).size(), 7U);
}

TEST(Source, ClampsHoldForEveryRequest) {
  for (const auto& r : drain(*source_of("requests: 3000\nprompt_max: 1000\noutput_max: 64\n", 3))) {
    EXPECT_LE(r.arrival.prompt.v, 1000);
    EXPECT_LE(r.arrival.output.v, 64);
    EXPECT_GE(r.arrival.output.v, 1);
  }
}

TEST(Source, AfterItsEndItStaysEnded) {
  const auto source = source_of("requests: 1\n", 1);
  Arrival a;
  EXPECT_TRUE(source->next(a));
  EXPECT_FALSE(source->next(a));
  EXPECT_FALSE(source->next(a));
}

TEST(Source, ResolvedSettingsReadBackToTheSameText) {
  for (
      const char* yaml :
      {"requests: 5\n", "arrivals: {kind: weibull, rate: 3, shape: 0.7}\nduration: 90 s\n",
       "arrivals: {kind: onoff, rate_on: 9, mean_on: 2 s}\nrequests: 9\nlengths: {prompt: {kind: lognormal, mean: 900, "
       "p50: 500, max: 8192}, output: {kind: uniform, min: 3, max: 70}}\n",
       "trace: {path: a.csv, time_scale: 0.5, loop: true}\nrequests: 9\nrate_scale: 2.5\nslo: [{name: x, ttft: 1 s}]\n",
       "arrivals: {kind: diurnal, rate: 3}\nlengths: {kind: trace, file: b.csv}\nrequests: 3\n"}) {
    SCOPED_TRACE(yaml);
    std::string printed[2], input = yaml;
    for (auto& out : printed) {
      WorkloadSpec spec;
      EXPECT_EQ(read_spec(input, spec), "");
      YAML::Emitter emitter;
      config::print(emitter, spec);
      out = input = emitter.c_str();
    }
    EXPECT_EQ(printed[0], printed[1]);
  }
}

}  // namespace
}  // namespace faultline::workload
