// Waiting times of the whole simulator (router, instance, executor) against queueing theory. FixedCost (fixed_cost.h)
// makes an instance of one GPU with max_num_seqs = c a station of c servers with one queue: a request waits until one
// of the c slots is free (its time to first token, prefill takes no time) and is then served for (output - 1) steps of
// 1 ms. Output lengths near 1,000 make service times of 1 s, exponential but for rounding to whole steps.
#include <gtest/gtest.h>

#include <cmath>

#include "core/stats/sample.h"
#include "tests/sim/driver/fixed_cost.h"
#include "tests/sim/driver/station.h"

namespace faultline {
namespace {

using namespace faultline::literals;

struct Estimate {
  double mean, half_width;
};

/// Mean wait over independent runs, the first tenth of each left out; 99% interval from the spread between runs.
Estimate mean_wait(double rate, const std::string& output, std::int64_t servers, int runs) {
  stats::Moments between;
  for (int k = 0; k < runs; ++k) {
    experiment::ExperimentSpec spec =
        test::spec_of(test::text_of(test::Station{.arrivals = fmt::format("{{kind: poisson, rate: {}}}", rate),
                                                  .output = output,
                                                  .rest = "router: {queue_timeout: 100000 s}"}),
                      {.seed = 1'000 + static_cast<std::uint64_t>(k)});
    spec.engine.max_num_seqs = servers;
    spec.engine.mixed_prefill = false;
    const test::Outcome o = test::simulate(spec, test::with_cost(spec, 1_ms));
    EXPECT_EQ(o.completed(), 5'000u);
    stats::Moments waits;
    for (std::size_t i = 500; i < o.run.requests.size(); ++i)
      waits.add(seconds(o.run.requests[i].first_token - o.run.requests[i].arrival));
    between.add(waits.mean());
  }
  return {between.mean(), between.half_width(2.6)};
}

// A request that comes within a step waits for its end (mean 0.5 ms at most), lengths are rounded, and the first token
// needs no step: together below 3 ms of a service of 1 s; waits scale by at most 1 / (1 - utilisation).
void expect_wait(const Estimate& e, double theory, double utilisation) {
  std::printf("    mean wait %.4f s +- %.4f, theory %.4f s\n", e.mean, e.half_width, theory);
  EXPECT_NEAR(e.mean, theory, e.half_width + 0.003 / (1 - utilisation));
  EXPECT_LT(e.half_width, 0.08 * theory) << "too few runs to say anything";
}

constexpr const char* kExponential = "{kind: exponential, mean: 1000}";

TEST(Queueing, OneServerWithExponentialServiceIsMM1) {
  constexpr double rho = 0.6;
  expect_wait(mean_wait(rho, kExponential, 1, 30), rho / (1 - rho), rho);
}

TEST(Queueing, OneServerWithFixedServiceIsMD1) {
  constexpr double rho = 0.7;
  expect_wait(mean_wait(rho, "{kind: fixed, tokens: 1001}", 1, 20), rho / (2 * (1 - rho)), rho);
}

TEST(Queueing, SeveralSlotsAreTheServersOfMMc) {
  constexpr int c = 4;
  constexpr double rho = 0.75, a = c * rho;
  double term = 1, sum = 0;  // Erlang C: the chance that all servers are busy
  for (int k = 0; k < c; ++k) sum += term, term *= a / (k + 1);
  const double all_busy = term / (1 - rho) / (sum + term / (1 - rho));
  expect_wait(mean_wait(a, kExponential, c, 60), all_busy / (c - a), rho);
}

}  // namespace
}  // namespace faultline
