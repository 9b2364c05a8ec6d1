// What a run must show whatever the details: closed forms of availability, detection, hits, backlog and stragglers.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/base/random.h"
#include "core/stats/sample.h"
#include "tests/sim/driver/fixed_cost.h"
#include "tests/sim/driver/station.h"

namespace faultline {
namespace {

using namespace faultline::literals;

/// Instances of one group of `gpus` GPUs that fail at random and restart as a whole.
experiment::ExperimentSpec failing_fleet(int instances, int gpus, double rate_per_hour, std::uint64_t seed) {
  return test::spec_of(fmt::format(R"(
name: failing fleet
topology: {{name: nodes, nodes: {}, hosts: 1, node: ../../topologies/nodes/mi300x-8gpu.yaml, fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: {}, layout: {}PD, both: {{dp: {}, ep: {}}}, restart_unit: instance}}
router: {{queue_timeout: 100000 s, retry: {{attempts_max: 100}}}}
workload: {{arrivals: {{kind: constant, rate: 0.02}}, lengths: {{kind: independent, prompt: {{kind: fixed, tokens: 10}}, output: {{kind: fixed, tokens: 10}}}}, duration: 40000 s}}
faults: [{{kind: gpu.failstop, target: "node-*.gpu-*", random: {{rate_per_hour: {}, until: 40000 s}}, repair: 1 s}}]
)",
                                   instances * gpus / 8, instances, gpus / 8, gpus, gpus, rate_per_hour),
                       {.seed = seed});
}

struct Outages {
  double count = 0, down_s = 0, horizon_s = 0;  // over all instances; horizon: instances * run
};

Outages outages_of(const test::Outcome& o, int instances) {
  Outages all;
  all.horizon_s = seconds(o.run.end) * instances;
  std::map<std::uint32_t, std::map<std::int64_t, std::int64_t>> by_instance;  // [from] = to
  for (const auto& c : o.run.capacity) {
    if (c.usable == 0) by_instance[c.instance.v][c.from.ns] = std::max(by_instance[c.instance.v][c.from.ns], c.to.ns);
  }
  for (const auto& [instance, intervals] : by_instance) {
    std::int64_t end = -1;
    for (const auto& [from, to] : intervals) {
      if (from > end) ++all.count;
      all.down_s += static_cast<double>(std::max<std::int64_t>(0, to - std::max(from, end))) * 1e-9;
      end = std::max(end, to);
    }
  }
  return all;
}

// Closed forms 1, 2 and 3: an instance of g GPUs fails at rate g * l while it is up, is down for R each time, and so
// loses the share g l R / (1 + g l R) of its capacity: linear in g at first order, whatever the size of the fleet.
TEST(ClosedForms, AvailabilityFollowsFromRateWidthAndOutageAndNotFromTheSizeOfTheFleet) {
  constexpr double kRate = 0.25;  // per GPU and hour: an hour of a fleet shows as much as years at real rates
  for (const auto& [instances, gpus] : {std::pair{2, 8}, {4, 8}, {2, 16}, {4, 16}}) {
    SCOPED_TRACE(fmt::format("{} instances of {} GPUs", instances, gpus));
    const experiment::ExperimentSpec spec = failing_fleet(instances, gpus, kRate, 11);
    const test::Outcome o = test::simulate(spec);
    EXPECT_EQ(o.completed(), o.run.requests.size());
    const Outages seen = outages_of(o, instances);
    // Repaired at 1 s, so the first restart succeeds: exit notice, decision, restart, and at most a millisecond of
    // messages.
    const double outage =
        seconds(spec.engine.process_exit_notice + spec.recovery.decision_delay + spec.engine.restart_total());
    const double rate = kRate * gpus / 3600;
    const double expected = rate * (seen.horizon_s - seen.down_s);
    std::printf(
        "    %2d x %2d GPUs: %4.0f outages, expected %6.1f; mean outage %.3f s, phases sum to %.3f s; lost %.4f, "
        "closed form %.4f\n",
        instances, gpus, seen.count, expected, seen.down_s / seen.count, outage, seen.down_s / seen.horizon_s,
        rate * outage / (1 + rate * outage));
    EXPECT_NEAR(seen.count, expected, 3.3 * std::sqrt(expected));  // Poisson, 99.9%
    // A GPU that fails during a restart has it tried again: a chance of rate * outage to add less than two outages.
    EXPECT_GE(seen.down_s / seen.count, outage);
    EXPECT_NEAR(seen.down_s / seen.count, outage, 0.002 + 2 * rate * outage * outage);
    EXPECT_NEAR(seen.down_s / seen.horizon_s, rate * outage / (1 + rate * outage),
                3.3 * outage * std::sqrt(expected) / seen.horizon_s + 2 * (rate * outage) * (rate * outage));
  }
}

// ---- one instance as a station with room for every request: in service are L = rate * mean service ----

experiment::ExperimentSpec station(double rate, const std::string& output, const std::string& arrivals,
                                   const std::string& faults, std::uint64_t seed, double duration = 20) {
  experiment::ExperimentSpec spec =
      test::spec_of(test::text_of(test::Station{.arrivals = fmt::format("{{kind: {}, rate: {}}}", arrivals, rate),
                                                .output = output,
                                                .workload = fmt::format("duration: {} s", duration),
                                                .rest = "router: {queue_timeout: 100000 s}\nfaults: [" + faults + "]"}),
                    {.seed = seed});
  spec.engine.mixed_prefill = false;
  return spec;
}

// Closed forms 8 and 9. A failure hits the requests in service, L on average; each has been served for E[S^2] / (2
// E[S]) so far: half the mean for fixed lengths, the whole mean for exponential ones.
TEST(ClosedForms, AFailureHitsTheMeanNumberInServiceAndTheInspectionParadoxHolds) {
  for (const auto& [output, age] : {std::pair<std::string, double>{"{kind: fixed, tokens: 1000}", 500},
                                    {"{kind: exponential, mean: 1000}", 1000}}) {
    SCOPED_TRACE(output);
    stats::Moments hit, produced;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      const auto spec =
          station(30, output, "poisson", "{kind: gpu.failstop, target: node-0.gpu-0, at: 12 s, repair: 1 s}", seed);
      const test::Outcome o = test::simulate(spec, test::with_cost(spec, 1_ms));
      EXPECT_EQ(o.completed(), o.run.requests.size());
      int hits = 0;
      for (const auto& r : o.run.requests) {
        if (r.attempts < 2 || r.arrival.ns > 12'000'000'000) continue;
        ++hits;
        produced.add(r.tokens_recomputed - r.prompt_tokens);
      }
      hit.add(hits);
    }
    std::printf("    hit %.2f +- %.2f (L = 30), tokens generated before %.0f +- %.0f (closed form %.0f)\n", hit.mean(),
                hit.half_width(2.6), produced.mean(), produced.half_width(2.6), age);
    EXPECT_NEAR(hit.mean(), 30, hit.half_width(2.6) + 0.05);
    EXPECT_NEAR(produced.mean(), age, produced.half_width(2.6) + 2);
    EXPECT_LT(produced.half_width(2.6), 0.1 * age);
  }
}

// Closed form 11, without randomness: arrivals at a = 7/s, capacity c = 10/s, an outage of R.
TEST(ClosedForms, TheBacklogOfAnOutageGrowsToArrivalsTimesOutageAndDrainsAtTheSpareRate) {
  auto spec = station(7, "{kind: fixed, tokens: 101}", "constant",
                      "{kind: gpu.failstop, target: node-0.gpu-0, at: 20 s, repair: 1 s}", 1, 200);
  spec.engine.max_num_seqs = 1;
  const test::Outcome o = test::simulate(spec, test::with_cost(spec, 1_ms));
  ASSERT_EQ(o.completed(), o.run.requests.size());
  const double outage = seconds(o.run.faults[0].phases.ready - o.run.faults[0].at);
  double peak = 0, drained = 0;
  for (const auto& at : o.run.requests) {  // backlog seen by each arrival
    double waiting = 0;
    for (const auto& r : o.run.requests) waiting += r.arrival <= at.arrival && r.end > at.arrival ? 1 : 0;
    peak = std::max(peak, waiting);
    if (waiting > 1.5) drained = std::max(drained, seconds(at.arrival));
  }
  const double drain = drained - seconds(o.run.faults[0].phases.ready);
  std::printf("    outage %.2f s: peak %.0f, a R = %.1f; drained in %.1f s, a R / (c - a) = %.1f s\n", outage, peak,
              7 * outage, drain, 7 * outage / 3);
  EXPECT_NEAR(peak, 7 * outage, 3);       // the request in service and one arrival at each end
  EXPECT_NEAR(drain, 7 * outage / 3, 1);  // three requests more or less, at the spare rate of 3/s
}

// Closed form 12: the group is a barrier, so one rank slowed by s makes every step s times as long, whatever the width;
// and where all ranks vary, the step takes the largest of them: m H_g for exponential times of mean m.
TEST(ClosedForms, AStragglerSlowsItsGroupByItsOwnFactorWhateverTheWidth) {
  const auto spec = station(1, "{kind: fixed, tokens: 2}", "poisson", "", 1);
  const model::ModelShape qwen = failing_fleet(1, 8, 1, 1).model;
  for (const int g : {2, 8, 32}) {
    const model::StepPricer pricer(qwen, spec.device, {.dp = g, .ep = g},
                                   std::make_shared<test::FixedCost>(0_ns, 1_us));
    const std::vector<model::RankLoad> loads(static_cast<std::size_t>(g), model::RankLoad{4, 100});
    const double healthy = model::nanoseconds(pricer.step({}, loads, {}));
    std::vector<double> slow(static_cast<std::size_t>(g), 1.0);
    slow[1] = 2.5;
    EXPECT_NEAR(model::nanoseconds(pricer.step({}, loads, {.rank_slowdown = slow})), 2.5 * healthy, 1);
    stats::Moments steps;
    Random r(5, "straggler", static_cast<std::uint64_t>(g));
    double harmonic = 0;
    for (int k = 1; k <= g; ++k) harmonic += 1.0 / k;
    for (int k = 0; k < 20'000; ++k) {
      for (double& s : slow) s = std::max(0x1p-16, r.exponential(1.0));  // the least that a pricer takes
      steps.add(model::nanoseconds(pricer.step({}, loads, {.rank_slowdown = slow})) / healthy);
    }
    EXPECT_NEAR(steps.mean(), harmonic, steps.half_width(3.3) + 1e-4) << g << " ranks";
  }
}

// Closed form 10: with heartbeats of period p and m of them missed, a crash is noticed after a time uniform on
// [(m - 1) p, m p] plus the message's way; its mean is (m - 1/2) p.
TEST(ClosedForms, MissedHeartbeatsAreNoticedAfterAUniformTimeOfOnePeriod) {
  stats::Moments delay;
  double least = 1e9, most = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const int at_ms = 5'000 + static_cast<int>(Random(seed, "crash").below(2'000));
    auto spec = test::spec_of(fmt::format(R"(
name: silent node
topology: {{name: nodes, nodes: 4, hosts: 1, node: ../../topologies/nodes/mi300x-8gpu.yaml, fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 4}}}}
model: ../../topologies/models/dense-7b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 4, layout: 1PD, both: {{dp: 1, ep: 1}}}}
workload: {{arrivals: {{kind: constant, rate: 0.1}}, lengths: {{kind: independent, prompt: {{kind: fixed, tokens: 10}}, output: {{kind: fixed, tokens: 10}}}}, duration: 21 s}}
faults: [{{kind: node.crash, target: node-2, at: {} ms}}]
)",
                                          at_ms),
                              {.seed = seed});
    const test::Outcome o = test::simulate(spec);
    ASSERT_EQ(o.run.faults.size(), 1u);
    ASSERT_NE(o.run.faults[0].phases.detect, kNever);
    const double d = seconds(o.run.faults[0].phases.detect - o.run.faults[0].at);
    delay.add(d);
    least = std::min(least, d);
    most = std::max(most, d);
  }
  // Node and leader fall silent with phases of their own and the earlier of two uniform times counts: mean m - 1 + 1/3.
  std::printf("    detected after %.3f s +- %.3f, %.3f to %.3f s\n", delay.mean(), delay.half_width(2.6), least, most);
  EXPECT_GE(least, 2.0);
  EXPECT_LE(most, 3.0 + 0.001);
  EXPECT_NEAR(delay.mean(), 2 + 1.0 / 3, delay.half_width(2.6));
}

// Closed form 8, by length: a request of service time w meets a failure with probability 1 - exp(-rate * w).
TEST(ClosedForms, TheChanceToBeHitGrowsWithTheLengthOfARequest) {
  constexpr double kRate = 1.0 / 200;      // failures per second of the one GPU
  for (const int steps : {20, 80, 320}) {  // of 100 ms
    SCOPED_TRACE(steps);
    const double w = 0.1 * steps;
    const auto spec = station(
        0.02, fmt::format("{{kind: fixed, tokens: {}}}", steps + 1), "poisson",
        fmt::format(
            "{{kind: gpu.failstop, target: node-0.gpu-0, random: {{rate_per_hour: {}, until: 300000 s}}, repair: 1 s}}",
            kRate * 3600),
        static_cast<std::uint64_t>(steps), 300'000);
    const test::Outcome o = test::simulate(spec, test::with_cost(spec, 100_ms));
    // Arrivals while the instance is down wait and are not in service; the failure is noticed 10 ms later.
    const auto up_at = [&](Instant t) {
      return std::none_of(o.run.capacity.begin(), o.run.capacity.end(),
                          [t](const auto& c) { return c.usable == 0 && c.from <= t && t < c.to; });
    };
    double count = 0, hit = 0;
    for (const auto& r : o.run.requests) {
      if (!up_at(r.arrival)) continue;
      ++count;
      hit += r.attempts > 1 ? 1 : 0;
    }
    // Who was hit is served again, until it has been hit in every attempt that the router allows.
    EXPECT_EQ(o.count(record::Outcome::unfinished), 0u);
    for (const auto& r : o.run.requests) {
      if (r.outcome == record::Outcome::completed) continue;
      EXPECT_EQ(r.attempts, spec.router.retry.attempts_max) << "given up too early";
    }
    const double expected = 1 - std::exp(-kRate * w);
    // One failure hits all that are in service, 0.02 w on average: hits come in groups, which widens the interval.
    const double tolerance = 3.3 * std::sqrt(expected * (1 - expected) / count * (1 + 2 * 0.02 * w));
    std::printf("    %4.0f s: %.0f of %.0f hit = %.4f, closed form %.4f +- %.4f\n", w, hit, count, hit / count,
                expected, tolerance);
    EXPECT_GT(count, 3'000);
    EXPECT_NEAR(hit / count, expected, tolerance);
  }
}

// Closed form 10, on use: what nobody uses nobody misses. A hang is noticed at the next request plus the time-out.
TEST(ClosedForms, AHangIsNoticedAtTheNextUsePlusTheTimeOut) {
  for (const int at_ms : {12'500, 15'000, 19'990, 27'125}) {
    SCOPED_TRACE(at_ms);
    const auto spec = station(0.1, "{kind: fixed, tokens: 10}", "constant",
                              fmt::format("{{kind: gpu.hang, target: node-0.gpu-0, at: {} ms}}", at_ms), 1, 60);
    const test::Outcome o = test::simulate(spec, test::with_cost(spec, 1_ms));
    ASSERT_EQ(o.completed(), o.run.requests.size());
    ASSERT_TRUE(o.run.faults[0].applied);
    Instant use = kNever;
    for (const auto& r : o.run.requests) {
      if (r.arrival > o.run.faults[0].at) use = std::min(use, r.arrival);
    }
    ASSERT_NE(use, kNever);
    ASSERT_NE(o.run.faults[0].phases.detect, kNever);
    const Duration late = o.run.faults[0].phases.detect - use - spec.engine.collective_timeout;
    std::printf("    hang at %.3f s, next use %.3f s, noticed %.6f s after it (time-out %.1f s)\n", at_ms * 1e-3,
                seconds(use), seconds(o.run.faults[0].phases.detect - use), seconds(spec.engine.collective_timeout));
    EXPECT_GE(late.v, 0);
    EXPECT_LE(late.v, 2'000'000);  // the request's way to the instance and the report's way back
  }
}

/// One instance of g GPUs that serves one request after another, a decode step taking some microseconds of device time.
experiment::ExperimentSpec barrier(int g, double seconds_apart, double duration, const std::string& faults) {
  experiment::ExperimentSpec spec = test::spec_of(fmt::format(R"(
name: barrier
topology: {{name: nodes, nodes: {}, hosts: 1, node: ../../topologies/nodes/mi300x-8gpu.yaml, fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 1, layout: {}PD, both: {{dp: {}, ep: {}}}, restart_unit: instance}}
workload: {{arrivals: {{kind: constant, rate: {}}}, lengths: {{kind: independent, prompt: {{kind: fixed, tokens: 1}}, output: {{kind: fixed, tokens: 101}}}}, duration: {} s}}
faults: [{}]
)",
                                                              g / 8, g / 8, g, g, 1 / seconds_apart, duration, faults));
  spec.engine.mixed_prefill = false;
  return spec;
}

/// Decode time of each request, from its first token to its end without the last report's way to the router.
std::vector<double> decode_times(const test::Outcome& o, Duration control_latency) {
  std::vector<double> all;
  for (const auto& r : o.run.requests) all.push_back(seconds(r.end - r.first_token - control_latency));
  return all;
}

// Closed form 12 through whole runs: the group is a barrier. A gpu.slow of factor s on the rank that serves makes every
// step s times as long, whatever the width; on a rank without a request it stretches what that rank takes part in, the
// experts.
TEST(ClosedForms, ASlowGpuSlowsAWholeRunByItsOwnFactorWhateverTheWidth) {
  constexpr double kFactor = 2.5;
  for (const int g : {8, 16, 32}) {
    for (const bool serving : {true, false}) {
      SCOPED_TRACE(fmt::format("{} GPUs, the slow one {}", g, serving ? "serves" : "has no request"));
      const std::size_t rank =
          serving ? 0 : static_cast<std::size_t>(g) - 3;  // the first of idle ranks gets the request
      const auto spec =
          barrier(g, 2, 20,
                  fmt::format("{{kind: gpu.slow, target: node-{}.gpu-{}, factor: {}, at: 9 s, duration: 100 s}}",
                              rank / 8, rank % 8, kFactor));
      const test::Outcome o = test::simulate(spec, test::with_cost(spec, 0_ns, 1_us));
      ASSERT_EQ(o.completed(), o.run.requests.size());
      const model::StepPricer pricer(spec.model, spec.device, {.dp = g, .ep = g},
                                     std::make_shared<test::FixedCost>(0_ns, 1_us));
      std::vector<model::RankLoad> loads(static_cast<std::size_t>(g));
      loads[0] = {1, 50};
      std::vector<double> slowdown(static_cast<std::size_t>(g), 1.0);
      slowdown[rank] = kFactor;
      const double ratio = model::nanoseconds(pricer.step({}, loads, {.rank_slowdown = slowdown})) /
                           model::nanoseconds(pricer.step({}, loads, {}));
      const auto times = decode_times(o, spec.timing.control_latency);
      ASSERT_GE(times.size(), 9u);
      std::printf("    %2d GPUs, slow rank %2zu: steps %.6f times as long, by the plan %.6f\n", g, rank,
                  times.back() / times.front(), ratio);
      if (serving) {
        EXPECT_NEAR(ratio, kFactor, 1e-9);
      } else {
        EXPECT_GT(ratio, 1.1);
        EXPECT_LT(ratio, kFactor - 0.1);
      }
      for (std::size_t k = 0; k < times.size(); ++k) {
        // 100 steps of about a millisecond, each end rounded to a nanosecond
        EXPECT_NEAR(times[k] / times.front(), o.run.requests[k].arrival.ns < 9'000'000'000 ? 1 : ratio, 1e-6)
            << "request " << k;
      }
    }
  }
}

}  // namespace
}  // namespace faultline
