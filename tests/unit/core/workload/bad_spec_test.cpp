// Every malformed `workload:` setting gives its exact message.
#include <gtest/gtest.h>

#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

std::string errors_of(const std::string& yaml) {
  WorkloadSpec spec;
  return read_spec(yaml, spec);
}
/// Errors of `arrivals` of a workload that is well otherwise.
std::string arrivals(const std::string& yaml) { return errors_of("requests: 1\narrivals: " + yaml + "\n"); }
std::string prompt(const std::string& yaml) {
  return errors_of("requests: 1\nlengths: {output: {kind: fixed}, prompt: " + yaml + "}\n");
}

TEST(BadWorkload, WithoutAnEnd) {
  EXPECT_EQ(errors_of("arrivals: {rate: 4}\n"),
            "w.yaml:1:1: error: a generated workload needs an end: 'requests' or 'duration'\n");
}
TEST(BadWorkload, LoopWithoutAnEnd) {
  EXPECT_EQ(errors_of("trace: {path: a, loop: true}\n"),
            "w.yaml:1:8: error: a trace with 'loop: true' needs an end: 'requests' or 'duration'\n");
}
TEST(BadWorkload, TraceWithoutAPath) {
  EXPECT_EQ(errors_of("trace: {time_scale: 2}\n"), "w.yaml:1:8: error: 'workload.trace': missing key 'path'\n");
}
TEST(BadWorkload, TraceOfAnUnknownFormat) {
  EXPECT_EQ(
      errors_of("trace: {path: a, format: mooncak}\n"),
      "w.yaml:1:26: error: format: expected one of detect, azure, mooncake, servegen, burstgpt, csv, got 'mooncak'\n"
      "  (did you mean 'mooncake'?)\n");
}
TEST(BadWorkload, TraceStandingStill) {
  EXPECT_EQ(errors_of("trace: {path: a, time_scale: 0}\n"),
            "w.yaml:1:30: error: time_scale: must be at least 1e-06, got '0'\n");
}
TEST(BadWorkload, TraceTickWithoutAUnit) {
  EXPECT_EQ(errors_of("trace: {path: a, tick: 3}\n"),
            "w.yaml:1:24: error: tick: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, d), "
            "got '3'\n");
}
TEST(BadWorkload, UnknownZeroTokenRule) {
  EXPECT_EQ(errors_of("trace: {path: a, zero_tokens: drop}\n"),
            "w.yaml:1:31: error: zero_tokens: expected one of one, skip, error, got 'drop'\n");
}
TEST(BadWorkload, UnknownKey) {
  EXPECT_EQ(errors_of("requests: 1\nrequest_rate: 4\n"),
            "w.yaml:2:1: error: unknown key 'request_rate' in 'workload'\n"
            "  known keys: trace, arrivals, lengths, prefixes, requests, duration, rate_scale, prompt_max, output_max, "
            "slo\n");
}
TEST(BadWorkload, PrefixesOfATrace) {
  EXPECT_EQ(errors_of("trace: {path: a}\nprefixes: {count: 3}\n"),
            "w.yaml:2:11: error: prefixes: only generated prompts take them; a trace has its own or none\n");
}
TEST(BadWorkload, PrefixesWithMoreBlocksThanThereAreIds) {
  EXPECT_EQ(errors_of("requests: 1\nprefixes: {count: 100000, tokens: 100000, block_tokens: 1}\n"),
            "w.yaml:2:35: error: tokens: the prefixes have more than 2^31 blocks together\n");
}
TEST(BadWorkload, NoPrefix) {
  EXPECT_EQ(errors_of("requests: 1\nprefixes: {count: 0}\n"),
            "w.yaml:2:19: error: count: must be at least 1, got '0'\n");
}
TEST(BadWorkload, NoRequests) {
  EXPECT_EQ(errors_of("requests: 0\n"), "w.yaml:1:11: error: requests: must be at least 1, got '0'\n");
}
TEST(BadWorkload, NegativeDuration) {
  EXPECT_EQ(errors_of("requests: 1\nduration: -1 s\n"),
            "w.yaml:2:11: error: duration: must be greater than 0, got '-1 s'\n");
}
TEST(BadWorkload, RateScaleOfZero) {
  EXPECT_EQ(errors_of("requests: 1\nrate_scale: 0\n"),
            "w.yaml:2:13: error: rate_scale: must be at least 0.0001, got '0'\n");
}
TEST(BadWorkload, UnknownArrivalKind) {
  EXPECT_EQ(
      arrivals("{kind: poison}"),
      "w.yaml:2:18: error: kind: expected one of poisson, constant, gamma, weibull, onoff, diurnal, got 'poison'\n"
      "  (did you mean 'poisson'?)\n");
}
TEST(BadWorkload, RateOfZero) {
  EXPECT_EQ(arrivals("{rate: 0}"), "w.yaml:2:18: error: rate: must be at least 1e-06, got '0'\n");
}
TEST(BadWorkload, RateThatIsNotANumber) {
  EXPECT_EQ(arrivals("{rate: .nan}"), "w.yaml:2:18: error: rate: expected a number, got '.nan'\n");
}
TEST(BadWorkload, KeyOfAnotherArrivalKind) {
  EXPECT_EQ(arrivals("{kind: poisson, cv: 2}"),
            "w.yaml:2:27: error: unknown key 'cv' in 'workload.arrivals'\n  known keys: kind, rate\n");
}
TEST(BadWorkload, GammaTooBursty) {
  EXPECT_EQ(arrivals("{kind: gamma, cv: 99}"), "w.yaml:2:29: error: cv: must be at most 10, got '99'\n");
}
TEST(BadWorkload, WeibullWithShapeAndVariation) {
  EXPECT_EQ(arrivals("{kind: weibull, cv: 2, shape: 0.5}"),
            "w.yaml:2:41: error: give 'cv' or 'shape' of the Weibull gaps, not both: each fixes the other\n");
}
TEST(BadWorkload, BurstsThatBringNothing) {
  EXPECT_EQ(arrivals("{kind: onoff, rate_on: 0}"),
            "w.yaml:2:34: error: an on/off cycle must bring at least 0.001 requests on average, this one brings 0\n"
            "  requests a cycle = rate_on * mean_on + rate_off * mean_off\n");
}
TEST(BadWorkload, BurstOfNoLength) {
  EXPECT_EQ(arrivals("{kind: onoff, mean_on: 0 s}"), "w.yaml:2:34: error: mean_on: must be at least 1 us, got '0 s'\n");
}
TEST(BadWorkload, DiurnalSwingBelowZero) {
  EXPECT_EQ(arrivals("{kind: diurnal, amplitude: 1.5}"),
            "w.yaml:2:38: error: amplitude: must be at most 1, got '1.5'\n");
}
TEST(BadWorkload, DiurnalWithoutAPeriod) {
  EXPECT_EQ(arrivals("{kind: diurnal, period: 0 s}"), "w.yaml:2:35: error: period: must be at least 1 ms, got '0 s'\n");
}
TEST(BadWorkload, LengthOfZeroTokens) {
  EXPECT_EQ(prompt("{kind: fixed, tokens: 0}"), "w.yaml:2:64: error: tokens: must be at least 1, got '0'\n");
}
TEST(BadWorkload, LognormalWithoutASpread) {
  EXPECT_EQ(prompt("{kind: lognormal, mean: 9}"),
            "w.yaml:2:49: error: a lognormal length needs 'mean' and one of 'p50' (its median) and 'sigma'\n");
}
TEST(BadWorkload, LognormalWithTwoSpreads) {
  EXPECT_EQ(prompt("{kind: lognormal, mean: 9, p50: 5, sigma: 1}"),
            "w.yaml:2:84: error: a lognormal length needs 'mean' and one of 'p50' (its median) and 'sigma'\n");
}
TEST(BadWorkload, LognormalMedianAboveItsMean) {
  EXPECT_EQ(prompt("{kind: lognormal, mean: 9, p50: 10}"),
            "w.yaml:2:74: error: the median of a lognormal is never above its mean (9), got 10\n");
}
TEST(BadWorkload, ClampsTheWrongWayRound) {
  EXPECT_EQ(prompt("{kind: uniform, min: 9, max: 8}"), "w.yaml:2:63: error: min (9) is above max (8)\n");
}
TEST(BadWorkload, EmpiricalWithoutAFile) {
  EXPECT_EQ(prompt("{kind: empirical}"), "w.yaml:2:42: error: 'workload.lengths.prompt': missing key 'file'\n");
}
TEST(BadWorkload, PromptWithoutOutput) {
  EXPECT_EQ(errors_of("requests: 1\nlengths: {prompt: {kind: fixed}}\n"),
            "w.yaml:2:10: error: 'workload.lengths': missing key 'output'\n");
}
TEST(BadWorkload, LengthsOfAFolderOfClients) {
  EXPECT_EQ(errors_of("requests: 1\nlengths: {kind: trace, file: a, format: servegen}\n"),
            "w.yaml:2:41: error: a ServeGen folder has no rows to draw from; use it as 'trace'\n");
}
TEST(BadWorkload, NoLatencyClass) {
  EXPECT_EQ(errors_of("requests: 1\nslo: []\n"), "w.yaml:2:6: error: expected 1 to 256 latency classes, got 0\n");
}
TEST(BadWorkload, ClassWithoutAName) {
  EXPECT_EQ(errors_of("requests: 1\nslo: [{ttft: 1 s}]\n"), "w.yaml:2:7: error: 'slo[0]': missing key 'name'\n");
}
TEST(BadWorkload, ClassTwice) {
  EXPECT_EQ(errors_of("requests: 1\nslo: [{name: a}, {name: a}]\n"), "w.yaml:2:6: error: class 'a' appears twice\n");
}
TEST(BadWorkload, SharesOfZero) {
  EXPECT_EQ(errors_of("requests: 1\nslo: [{name: a, share: 0}]\n"),
            "w.yaml:2:6: error: the shares of the classes add up to 0\n");
}
TEST(BadWorkload, PromiseOfZero) {
  EXPECT_EQ(errors_of("requests: 1\nslo: [{name: a, ttft: 0 s}]\n"),
            "w.yaml:2:23: error: ttft: must be greater than 0, got '0 s'\n");
}
TEST(BadWorkload, LoopSetFromOutsideIsStoppedToo) {  // a trace given on the command line does not pass describe()
  WorkloadSpec spec;
  spec.trace = TraceSpec{.path = "a.csv", .loop = true};
  config::Diagnostics diagnostics;
  EXPECT_EQ(make_source(spec, 1, files({}), diagnostics), nullptr);
  EXPECT_EQ(diagnostics.text(), "a.csv: error: needs an end: 'requests' or 'duration'\n");
}

}  // namespace
}  // namespace faultline::workload
