// Closed forms of availability that the schedules of core/fault must show: what random faults do to a population,
// without the serving on top (tests/sim/driver/closed_forms_test.cpp has those that need whole runs). Each estimate
// comes with its 95 % interval over seeds; the tests accept 3.3 standard errors (99.9 %), since they have fixed seeds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>

#include "core/base/math.h"
#include "core/base/random.h"
#include "core/fault/loss.h"
#include "core/fault/outages.h"
#include "core/fault/schedule.h"
#include "core/stats/sample.h"
#include "core/stats/stopping.h"
#include "tests/unit/core/fault/nodes.h"

namespace faultline::fault {
namespace {

using testing::hours;
using testing::nodes;

FaultSpec crashes(double rate_per_hour, double repair_hours, double spread = 0) {
  FaultSpec f;
  f.id = "crash";
  f.kind = FaultKind::node_crash;
  f.target = "*";
  f.random.emplace();
  f.random->rate_per_hour = rate_per_hour;
  f.repair = hours(repair_hours) - Instant{0};
  f.repair_spread = spread;
  return f;
}

FaultSchedule draw(const FaultSpec& spec, const Candidates& with, double horizon_h, std::uint64_t seed,
                   bool given = false) {
  config::Diagnostics diagnostics;
  auto out = expand({spec}, {.seed = seed, .run_end = hours(horizon_h), .given_a_fault = given}, with, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return out;
}

double choose(std::int64_t n, std::int64_t k) {
  const auto f = [](std::int64_t x) { return std::lgamma(static_cast<double>(x) + 1); };
  return k < 0 || k > n ? 0 : std::exp(f(n) - f(k) - f(n - k));
}
double binomial(std::int64_t n, std::int64_t k, double p) {
  return choose(n, k) * std::pow(p, static_cast<double>(k)) * std::pow(1 - p, static_cast<double>(n - k));
}

#define EXPECT_WITHIN(moments, expected) \
  EXPECT_NEAR((moments).mean(), expected, (moments).half_width(3.3)) << "expected " << (expected)

// Form 4: a closed population of N units with unavailability u has Binomial(N, u) of them down, whatever the law of
// repair; for small u that is the Poisson law of an always-full population.
TEST(AvailabilityForms, UnitsDownAtOnceAreBinomialWhateverTheLawOfRepair) {
  constexpr int kUnits = 20;
  constexpr double kRate = 0.002, kRepair = 24;
  const double u = kRate * kRepair / (1 + kRate * kRepair);
  for (const double spread : {0.0, 1.0}) {
    std::vector<stats::Moments> share(5);
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      // The first repair times are left out by length: the run starts with everything up.
      const auto at_once =
          down_at_once(draw(crashes(kRate, kRepair, spread), nodes(kUnits), 40'000, seed), kUnits, hours(40'000));
      for (std::size_t k = 0; k < share.size(); ++k) share[k].add(at_once[k]);
    }
    for (std::size_t k = 0; k < share.size(); ++k) {
      const double exact = binomial(kUnits, static_cast<std::int64_t>(k), u);
      EXPECT_NEAR(share[k].mean(), exact, share[k].half_width(3.3) + exact * 0.002) << k << " down, spread " << spread;
    }
    const double mean = kUnits * kRate * kRepair;
    EXPECT_NEAR(share[2].mean() / (mean * mean / 2 * std::exp(-mean)), 1, 0.12);  // Poisson: to the order of u
  }
}

// Form 5, by brute force where it is common and by importance sampling where it is rare.
TEST(AvailabilityForms, KOfNIsTheBinomialTailAndImportanceSamplingFindsItWhereItIsRare) {
  constexpr int kUnits = 8;
  const auto tail = [](double u, int most) {
    double sum = 0;
    for (int k = most + 1; k <= kUnits; ++k) sum += binomial(kUnits, k, u);
    return sum;
  };
  const auto unavailable = [](double rate, double repair) { return rate * repair / (1 + rate * repair); };
  stats::Moments common;
  for (std::uint64_t seed = 1; seed <= 80; ++seed) {
    const auto at_once = down_at_once(draw(crashes(0.004, 12), nodes(kUnits), 20'000, seed), kUnits, hours(20'000));
    double down = 0;
    for (std::size_t k = 3; k <= kUnits; ++k) down += at_once[k];
    common.add(down);
  }
  EXPECT_WITHIN(common, tail(unavailable(0.004, 12), 2));

  // Two of eight down at once over 100 hours, one failure in 12,500 unit-hours: a run sees it with a chance of 2e-4.
  constexpr double kRate = 8e-5, kRepair = 1, kHorizon = 100, kBias = 25;
  stats::Moments weighted;
  int seen = 0;
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    const auto schedule = draw(crashes(kRate * kBias, kRepair), nodes(kUnits), kHorizon, seed);
    const auto at_once = down_at_once(schedule, kUnits, hours(kHorizon));
    const double down = 1 - at_once[0] - at_once[1];
    seen += down > 1e-12 ? 1 : 0;
    weighted.add(down > 1e-12 ? down * likelihood_ratio(schedule, kUnits, kRate, kBias, hours(kHorizon)) : 0);
  }
  // All units start up and stay so for a repair time: the share over the run is smaller by about repair / horizon.
  const double expected = tail(unavailable(kRate, kRepair), 1) * (1 - kRepair / kHorizon);
  std::printf("    two of eight down: %.3g +- %.1f %%, closed form %.3g; seen in %.1f %% of the runs\n",
              weighted.mean(), 100 * weighted.half_width(1.96) / weighted.mean(), expected, seen / 200.0);
  EXPECT_NEAR(weighted.mean(), expected, weighted.half_width(3.3));
  EXPECT_LT(weighted.half_width(1.96),
            0.3 * weighted.mean());  // brute force would see it in about three of these runs
}

// Form 6: spares for 99.9 % of N = 384 / g instances up, where a spare is a whole instance, fails like the others and
// is repaired in 24 h; and the same with pooled nodes of eight.
TEST(AvailabilityForms, SparesOfWholeInstancesCostMoreTheWiderTheyAre) {
  struct Line {
    int gpus, spares_low, spares_high;
    double overhead_low, overhead_high;
  };
  // At 2e-5 and 2e-4 failures per GPU-hour.
  const Line table[] = {{8, 2, 7, 0.042, 0.146},
                        {16, 3, 8, 0.125, 0.33},
                        {32, 3, 8, 0.25, 0.67},
                        {64, 3, 9, 0.50, 1.50},
                        {96, 3, 10, 0.75, 2.50}};
  for (const Line& line : table) {
    const int instances = 384 / line.gpus;
    for (const auto& [rate, wanted, overhead] :
         {std::tuple{2e-5, line.spares_low, line.overhead_low}, {2e-4, line.spares_high, line.overhead_high}}) {
      const auto available = [&, rate = rate](int spares) {
        stats::Moments up;
        const auto units = static_cast<std::uint32_t>(instances + spares);
        for (std::uint64_t seed = 1; seed <= 12; ++seed) {
          // A few thousand failures a seed.
          const double horizon = 4'000 / (units * rate * line.gpus);
          const auto at_once =
              down_at_once(draw(crashes(rate * line.gpus, 24), nodes(units), horizon, seed), units, hours(horizon));
          double enough = 0;
          for (int k = 0; k <= spares; ++k) enough += at_once[static_cast<std::size_t>(k)];
          up.add(enough);
        }
        return up;
      };
      const double u = rate * line.gpus * 24 / (1 + rate * line.gpus * 24);
      for (const int spares : {wanted - 1, wanted}) {
        double exact = 0;
        for (int k = 0; k <= spares; ++k) exact += binomial(instances + spares, k, u);
        const stats::Moments simulated = available(spares);
        EXPECT_NEAR(simulated.mean(), exact, simulated.half_width(4.4) + 1e-5)
            << line.gpus << " GPUs, " << spares << " spares";  // t, 11 degrees
        EXPECT_EQ(exact >= 0.999, spares == wanted) << line.gpus << " GPUs, " << spares << " spares: " << exact;
      }
      EXPECT_NEAR(static_cast<double>(wanted) * line.gpus / 384, overhead, 0.006) << line.gpus;
    }
  }
}

// Form 7: a pool of S spares whose unserved failures leave loses Erlang-B(S, load) of them, whatever the law of repair.
TEST(AvailabilityForms, APoolOfSparesRunsDryAsErlangB) {
  constexpr int kSpares = 4, kUnits = 2'000;
  constexpr double kRate = 5e-5, kRepair = 24;
  const double load = kUnits * kRate * kRepair;
  double erlang = 1;
  for (int s = 1; s <= kSpares; ++s) erlang = load * erlang / (s + load * erlang);
  for (const double spread : {0.0, 1.0}) {
    stats::Moments lost;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      std::multimap<Instant, int> out;  // spares in use, by their return
      int refused = 0, asked = 0;
      for (const ScheduledFault& f : draw(crashes(kRate, kRepair, spread), nodes(kUnits), 20'000, seed)) {
        const Instant at = std::get<Instant>(f.trigger);
        out.erase(out.begin(), out.upper_bound(at));
        ++asked;
        if (out.size() == kSpares) ++refused;
        else out.emplace(f.revert(), 1);
      }
      lost.add(static_cast<double>(refused) / asked);
    }
    std::printf("    pool of %d dry: %.4f +- %.4f, Erlang-B %.4f\n", kSpares, lost.mean(), lost.half_width(1.96),
                erlang);
    EXPECT_NEAR(lost.mean(), erlang,
                lost.half_width(3.3) + 0.003 * erlang);  // units in repair do not fail: 0.1 % less load
  }
}

// Form 13: an expert with c copies on distinct ranks of g is lost by f failures with probability C(g - c, f - c) / C(g,
// f).
TEST(AvailabilityForms, ExpertsAreLostWhereAllTheirCopiesFail) {
  const auto lost = [](int g, int c, int f, std::uint64_t draws) {
    stats::Moments m;
    for (std::uint64_t n = 0; n < draws; ++n) {
      Random r(3, "coverage", n);
      std::vector<int> ranks(static_cast<std::size_t>(g));
      for (int k = 0; k < g; ++k) ranks[static_cast<std::size_t>(k)] = k;
      for (int k = 0; k < f; ++k)
        std::swap(ranks[static_cast<std::size_t>(k)],
                  ranks[static_cast<std::size_t>(k) + r.below(static_cast<std::uint64_t>(g - k))]);
      int gone = 0;  // copies on ranks 0 … c - 1
      for (int k = 0; k < f; ++k) gone += ranks[static_cast<std::size_t>(k)] < c ? 1 : 0;
      m.add(gone == c ? 1 : 0);
    }
    return m;
  };
  EXPECT_WITHIN(lost(32, 2, 16, 40'000), choose(30, 14) / choose(32, 16));
  EXPECT_NEAR(choose(30, 14) / choose(32, 16), 0.242, 0.001);
  EXPECT_WITHIN(lost(32, 3, 16, 40'000), choose(29, 13) / choose(32, 16));
  EXPECT_EQ(lost(32, 2, 1, 10'000).mean(), 0);
}

// Form 14: more than r ranks down happens (g - r) l P(r down) times an hour; for l << mu about g!/(g-r-1)!/r!
// l^(r+1)/mu^r.
TEST(AvailabilityForms, ToleratedRanksAreExceededAtTheRateOfTheClosedForm) {
  constexpr int kRanks = 16;
  constexpr double kRate = 1e-3, kRepair = 10, kHorizon = 50'000;
  for (const int r : {1, 2}) {
    stats::Moments frequency;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      const auto at = exceeded(draw(crashes(kRate, kRepair), nodes(kRanks), kHorizon, seed),
                               static_cast<std::size_t>(r), hours(kHorizon));
      frequency.add(static_cast<double>(at.size()) / kHorizon);
    }
    const double u = kRate * kRepair / (1 + kRate * kRepair);
    const double exact = (kRanks - r) * kRate * binomial(kRanks, r, u);
    std::printf("    more than %d of 16 down: %.3g/h +- %.2g, closed form %.3g\n", r, frequency.mean(),
                frequency.half_width(1.96), exact);
    EXPECT_NEAR(frequency.mean(), exact, frequency.half_width(3.3) + 0.001 * exact);
    const double small = std::tgamma(kRanks + 1) / std::tgamma(kRanks - r) / std::tgamma(r + 1) *
                         std::pow(kRate, r + 1) * std::pow(kRepair, r);
    EXPECT_NEAR(small / exact, 1, 0.18);  // u = 1 %: (1 + u)^(g - 1) of it
  }
}

// Form 15: a share beta of the failures hits both of a pair: P(both down) = beta l R + ((1 - beta) l R)^2.
TEST(AvailabilityForms, CommonCausesTakePairsDownTogether) {
  constexpr double kRate = 0.001, kRepair = 10, kBeta = 0.2, kHorizon = 60'000;
  FaultSpec spec = crashes(kRate, kRepair);
  spec.random->common = {GroupKind::rack, kBeta};
  stats::Moments both, failures;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const auto schedule = draw(spec, nodes(2, 2), kHorizon, seed);
    both.add(down_at_once(schedule, 2, hours(kHorizon))[2]);
    failures.add(static_cast<double>(schedule.size()) / (2 * kHorizon));
  }
  const double lr = kRate * kRepair, expected = kBeta * lr + (1 - kBeta) * lr * (1 - kBeta) * lr;
  std::printf("    both down: %.3g +- %.2g, closed form %.3g\n", both.mean(), both.half_width(1.96), expected);
  EXPECT_NEAR(both.mean(), expected, both.half_width(3.3) + 2 * lr * expected);  // first order in l R
  // The rate of each component is what it says: what strikes a part that is down already is lost, to first order l R.
  EXPECT_NEAR(failures.mean(), kRate, failures.half_width(3.3) + 2 * lr * kRate);
}

// Form 16: dual ToR, both planes down, is (l R)^2 + beta l R; a single ToR is l R for every node below it.
TEST(AvailabilityForms, TwoTorsAreDownTogetherByChanceOrByCommonCause) {
  constexpr double kRate = 0.004, kRepair = 4, kHorizon = 60'000;
  const double lr = kRate * kRepair;
  for (const double beta : {0.0, 0.05}) {
    FaultSpec spec = crashes(kRate, kRepair);
    spec.random->common = {GroupKind::rack, beta};
    stats::Moments dual, single;
    for (std::uint64_t seed = 1; seed <= 80; ++seed) {
      dual.add(down_at_once(draw(spec, nodes(2, 2), kHorizon, seed), 2, hours(kHorizon))[2]);
      single.add(down_at_once(draw(spec, nodes(1), kHorizon, seed), 1, hours(kHorizon))[1]);
    }
    const double expected = lr * lr + beta * lr;
    EXPECT_NEAR(dual.mean(), expected, dual.half_width(3.3) + 2 * (lr + beta) * expected) << beta;
    EXPECT_NEAR(single.mean(), lr / (1 + lr), single.half_width(3.3) + lr * lr) << beta;
  }
}

// Form 17: packets through a go-back-N sender, one by one.
TEST(AvailabilityForms, GoBackNKeepsTheShareOfTheClosedForm) {
  for (const auto& [loss, window] : {std::pair{1e-4, 100}, {1e-3, 100}, {1e-2, 30}, {1e-1, 8}}) {
    stats::Moments share;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      Random r(seed, "go-back-n");
      std::int64_t sent = 0, delivered = 0;
      while (sent < 200'000) {
        if (r.chance(loss)) {
          sent += window;  // the packet and all behind it go again
        } else {
          ++sent;
          ++delivered;
        }
      }
      share.add(static_cast<double>(delivered) / static_cast<double>(sent));
    }
    EXPECT_NEAR(share.mean(), go_back_n_share(loss, window), share.half_width(3.3) + 2e-4) << loss;  // the last window
    EXPECT_NEAR(go_back_n_share(loss, window) * (1 + loss * window), 1, loss * window) << loss;
  }
}

/// Variance of the counts in equal windows over their mean: 1 for a Poisson process.
double dispersion(const FaultSchedule& schedule, double horizon, int windows) {
  std::vector<double> counts(static_cast<std::size_t>(windows));
  for (const auto& f : schedule) {
    const double h = seconds(std::get<Instant>(f.trigger)) / 3600;
    counts[std::min(counts.size() - 1, static_cast<std::size_t>(h / horizon * windows))] += 1;
  }
  stats::Moments m;
  for (const double c : counts) m.add(c);
  return m.variance() / m.mean();
}

// Form 18: the union of many renewal processes is nearly Poisson, so a bursty law of single units does not make a
// bursty fleet; shared risk does.
TEST(AvailabilityForms, ManyUnitsTogetherArePoissonUnlessTheyShareARisk) {
  constexpr double kHorizon = 10'000;
  const auto gaps_cv = [](const FaultSchedule& s) {
    stats::Moments gaps;
    for (std::size_t k = 1; k < s.size(); ++k)
      gaps.add(seconds(std::get<Instant>(s[k].trigger) - std::get<Instant>(s[k - 1].trigger)));
    return gaps.cv();
  };
  FaultSpec spec = crashes(2e-3, 0.01);
  spec.random->life = {GapDistribution::weibull, 0.5};
  stats::Moments one, many;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    FaultSpec alone = spec;
    alone.random->rate_per_hour = 0.4;
    one.add(gaps_cv(draw(alone, nodes(1), kHorizon, seed)));
    FaultSpec shared = spec;
    const FaultSchedule fleet = draw(shared, nodes(200), kHorizon, seed);
    // The start is not stationary: every unit is new, and new units of a shape below 1 fail more. Later half only.
    FaultSchedule later;
    for (const auto& f : fleet) {
      if (std::get<Instant>(f.trigger) > hours(kHorizon / 2)) later.push_back(f);
    }
    many.add(gaps_cv(later));
  }
  EXPECT_NEAR(one.mean(), std::sqrt(5.0), 0.1);  // sqrt(G(5) / G(3)^2 - 1)
  // Exactly, for n stationary units: a gap outlasts x where the unit that began it and the n - 1 others do, R(x) = S(x)
  // S_e(x)^(n-1) with S_e the survival of the time left. Weibull of shape 1/2 and scale s, y = sqrt(x / s): S =
  // exp(-y), S_e = (1 + y) exp(-y), mean life 2 s. E[gap^2] = 2 integral of x R(x) dx. 1 only in the limit of many
  // units.
  constexpr int kFleet = 200;
  constexpr double kScale = 250, kMeanGap = 2 * kScale / kFleet, kStep = 1e-5;
  double square = 0;
  for (double y = kStep / 2; y < 3; y += kStep) {
    const double r = std::exp(-y) * std::pow((1 + y) * std::exp(-y), kFleet - 1);
    square += 2 * kScale * y * y * r * 2 * kScale * y * kStep;
  }
  const double exact = std::sqrt(square / (kMeanGap * kMeanGap) - 1);
  std::printf("    gaps of %d units together: CV %.4f +- %.4f, exactly %.4f, Poisson 1\n", kFleet, many.mean(),
              many.half_width(3.3), exact);
  EXPECT_NEAR(many.mean(), exact, many.half_width(3.3));
  EXPECT_LT(many.half_width(3.3), 0.03);
  EXPECT_NEAR(exact, 1, 0.1);
  FaultSpec common = crashes(2e-3, 0.01);
  common.random->common = {GroupKind::rack, 0.5};
  stats::Moments calm, clustered;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    calm.add(dispersion(draw(crashes(2e-3, 0.01), nodes(200, 20), kHorizon, seed), kHorizon, 500));
    clustered.add(dispersion(draw(common, nodes(200, 20), kHorizon, seed), kHorizon, 500));
  }
  EXPECT_NEAR(calm.mean(), 1, 0.06);
  EXPECT_NEAR(clustered.mean(), 0.5 + 0.5 * 20, 1.5);  // half of the failures come in twenties
}

// Form 19: where a run sees a failure once in a thousand, conditioning on one gives the same answer from a thousandth
// of the runs. Checked against form 2 over a run that starts with everything up.
TEST(AvailabilityForms, RunsThatAreKnownToHaveAFaultGiveTheMeanLossOfAllRuns) {
  constexpr double kRate = 1e-5, kRepair = 5, kHorizon = 20;
  constexpr std::uint32_t kUnits = 5;  // rate * horizon = 1e-3
  config::Diagnostics diagnostics;
  const auto spec = crashes(kRate, kRepair);
  const double p = probability_of_a_fault({spec}, {.seed = 1, .run_end = hours(kHorizon)}, nodes(kUnits), diagnostics);
  EXPECT_NEAR(p, 1 - std::exp(-1e-3), 1e-12);
  stats::Moments lost;
  for (std::uint64_t seed = 1; seed <= 4'000; ++seed) {
    const auto schedule = draw(spec, nodes(kUnits), kHorizon, seed, true);
    ASSERT_GE(schedule.size(), 1u);
    const auto at_once = down_at_once(schedule, kUnits, hours(kHorizon));
    double down = 0;
    for (std::size_t k = 1; k <= kUnits; ++k) down += static_cast<double>(k) * at_once[k];
    lost.add(p * down);
  }
  // Mean time down of a unit that starts up, to first order: rate * (repair * (horizon - repair) + repair^2 / 2).
  const double expected = kUnits * kRate * (kRepair * (kHorizon - kRepair) + kRepair * kRepair / 2) / kHorizon;
  std::printf(
      "    units down on average: %.4g +- %.1f %%, closed form %.4g, from 4,000 runs that stand for 4 million\n",
      lost.mean(), 100 * lost.half_width(1.96) / lost.mean(), expected);
  EXPECT_NEAR(lost.mean(), expected, lost.half_width(3.3) + 1e-3 * expected);
  EXPECT_LT(lost.half_width(1.96), 0.1 * lost.mean());  // brute force needs about 1e5 runs for this
}

TEST(AvailabilityForms, OnlyExponentialRatesCanBeConditionedOn) {
  FaultSpec spec = crashes(1e-5, 5);
  spec.random->life = {GapDistribution::weibull, 0.5};
  config::Diagnostics diagnostics;
  expand({spec}, {.seed = 1, .run_end = hours(10), .given_a_fault = true}, nodes(2), diagnostics);
  EXPECT_NE(diagnostics.text().find(
                "error: random fault 'crash' cannot be drawn given that one strikes\n"
                "  that needs exponential rates over the whole of a run with an end, without 'common' and 'repeat'\n"),
            std::string::npos)
      << diagnostics.text();
}

}  // namespace
}  // namespace faultline::fault
