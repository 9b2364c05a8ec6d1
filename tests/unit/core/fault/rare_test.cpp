// Rare faults drawn on purpose and weighed: the means are those of closed forms 1 to 5, where drawing faults as they
// come would see none. Estimates are accepted within 3.3 standard errors (99.9 %), since the seeds are fixed.
#include "core/fault/rare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/fault/outages.h"
#include "core/stats/sample.h"
#include "tests/unit/core/fault/nodes.h"

namespace faultline::fault {
namespace {

using testing::hours;
using testing::nodes;

FaultSpec crashes(std::string id, std::string target, double rate_per_hour, double repair_hours) {
  FaultSpec f;
  f.id = std::move(id);
  f.kind = FaultKind::node_crash;
  f.target = std::move(target);
  f.random.emplace();
  f.random->rate_per_hour = rate_per_hour;
  f.repair = hours(repair_hours) - Instant{0};
  return f;
}

constexpr std::uint32_t kUnits = 8;
constexpr double kRate = 1e-6, kRepair = 2, kHorizon = 100;  // 8e-4 faults a run

Sample drawn(const std::vector<FaultSpec>& specs, SamplingSpec sampling, std::uint64_t seed) {
  config::Diagnostics diagnostics;
  Sample s = sample(specs, sampling, {.seed = seed, .run_end = hours(kHorizon)}, nodes(kUnits), diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return s;
}

double down_hours(const FaultSchedule& schedule) {
  double sum = 0;
  for (const auto& f : schedule)
    sum += seconds(std::min(hours(kHorizon), f.revert()) - std::get<Instant>(f.trigger)) / 3600;
  return sum;
}

// Forms 1 to 3: failures of a series system come at the sum of the rates, and each costs its outage.
TEST(RareFaults, DrawnOnConditionTheyCostWhatClosedFormsSay) {
  const std::vector<FaultSpec> specs{crashes("a", "*", kRate, kRepair), crashes("b", "node-3", 4 * kRate, kRepair)};
  const double total = (kUnits + 4) * kRate;
  stats::Moments count, down;
  for (std::uint64_t seed = 1; seed <= 4'000; ++seed) {
    const Sample s = drawn(specs, {.draw = Draw::given_a_fault}, seed);
    ASSERT_GE(s.schedule.size(), 1U) << seed;
    EXPECT_NEAR(s.weight, 1 - std::exp(-total * kHorizon), 1e-12);
    count.add(s.weight * static_cast<double>(s.schedule.size()));
    down.add(s.weight * down_hours(s.schedule));
  }
  // A unit that is down does not fail: of the order of the unavailability, 2e-6. A fault in the last two hours is cut
  // off.
  EXPECT_NEAR(count.mean(), total * kHorizon, count.half_width(3.3) + 1e-5 * total * kHorizon);
  const double expected = total * kRepair * (kHorizon - kRepair / 2);
  EXPECT_NEAR(down.mean(), expected, down.half_width(3.3) + 1e-5 * expected);
  EXPECT_LT(down.half_width(1.96), 0.01 * down.mean()) << "conditioning leaves only the spread of the outages";
}

// Forms 4 and 5: two of eight down at once, once in a thousand million runs of this length.
TEST(RareFaults, RaisedRatesFindTwoAtOnceAndWeighThemRight) {
  stats::Moments both, weight, count;
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    const Sample s = drawn({crashes("a", "*", kRate, kRepair)}, {.draw = Draw::raised, .raise = 2'000}, seed);
    const auto share = down_at_once(s.schedule, kUnits, hours(kHorizon));
    both.add(s.weight * (1 - share[0] - share[1]));
    weight.add(s.weight);
    count.add(s.weight * static_cast<double>(s.schedule.size()));
  }
  // 28 pairs; the earlier of two overlapping outages begins anywhere, the later within a repair time. Up at the start.
  const double expected = 28 * kRate * kRate * kRepair * kRepair * (1 - kRepair / kHorizon);
  EXPECT_NEAR(both.mean(), expected, both.half_width(3.3) + 0.01 * expected);
  EXPECT_LT(both.half_width(1.96), 0.25 * both.mean());
  EXPECT_NEAR(weight.mean(), 1, weight.half_width(3.3));
  EXPECT_NEAR(count.mean(), kUnits * kRate * kHorizon, count.half_width(3.3));
}

TEST(RareFaults, ARaiseOfOneWeighsEveryRunOnce) {
  const auto specs = std::vector<FaultSpec>{crashes("a", "*", 0.01, kRepair)};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Sample plain = drawn(specs, {}, seed), raised = drawn(specs, {.draw = Draw::raised, .raise = 1}, seed);
    EXPECT_EQ(plain.schedule.size(), raised.schedule.size());
    EXPECT_DOUBLE_EQ(raised.weight, 1);
    EXPECT_DOUBLE_EQ(plain.weight, 1);
  }
}

TEST(RareFaults, AWeightTakesScriptedFaultsAndConsequencesForGranted) {
  FaultSpec scripted = crashes("script", "node-1", kRate, kRepair);
  scripted.random.reset();
  scripted.at = hours(5);
  const std::vector<FaultSpec> with{crashes("a", "*", kRate, kRepair), scripted};
  const SamplingSpec raised{.draw = Draw::raised, .raise = 50};
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    EXPECT_DOUBLE_EQ(drawn(with, raised, seed).weight, drawn({with[0]}, raised, seed).weight) << seed;
}

TEST(RareFaults, LawsWithMemoryAreRefusedByName) {
  FaultSpec ageing = crashes("ageing", "*", kRate, kRepair);
  ageing.random->life.distribution = GapDistribution::weibull;
  ageing.random->life.shape = 0.7;
  for (const Draw draw : {Draw::given_a_fault, Draw::raised}) {
    config::Diagnostics diagnostics;
    sample({ageing}, {.draw = draw}, {.seed = 1, .run_end = hours(10)}, nodes(2), diagnostics);
    EXPECT_NE(diagnostics.text().find("random fault 'ageing' cannot be drawn"), std::string::npos)
        << diagnostics.text();
  }
}

}  // namespace
}  // namespace faultline::fault
