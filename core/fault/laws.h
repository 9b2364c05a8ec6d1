// How often and in which company a component fails: the law of its lifetimes and repairs, how unequal the units are,
// and what one failure brings with it. Shared by the faults of an experiment (spec.h) and by rate profiles (rates.h),
// drawn by schedule.h for whole runs and by the fluid model for years.
//
//   distribution: weibull, shape: 0.7
//   repair: {mean: 24 h, spread: 1.2}                 # lognormal; spread 0 = always the mean
//   lemons: {share: 0.02, factor: 20, tail: 2}        # 2 % of the units fail 20 times as often or more
//   common: {group: rail, share: 0.1}                 # one failure in ten strikes the whole rail
//   then: [{kind: gpu.ecc, probability: 0.85, delay: 50 ms}]
//   repeat: {probability: 0.3, within: 120 h}
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/base/random.h"
#include "core/config/fields.h"
#include "core/fault/kind.h"

namespace faultline::fault {

enum class GapDistribution : std::uint8_t { exponential, weibull };
constexpr std::array<std::string_view, 2> enum_names(const GapDistribution*) { return {"exponential", "weibull"}; }

/// Time from one repair of a unit to its next failure.
struct LifeLaw {
  GapDistribution distribution = GapDistribution::exponential;
  double shape = 1;  // weibull only; below 1 clusters events (measured fleets: 0.34 to 0.73)
  bool operator==(const LifeLaw&) const = default;
};
/// Seconds, of the given mean (> 0).
double draw_life_s(Random& random, const LifeLaw& law, double mean_s);

/// Time from a failure to its repair: lognormal, or fixed where spread is 0. The spread is the standard deviation of
/// the natural logarithm; Schroeder and Gibson (DSN 2006) found repair times of HPC nodes lognormal.
struct RepairLaw {
  Duration mean = kForever;  // kForever: not repaired within any run
  double spread = 0;
  bool operator==(const RepairLaw&) const = default;
};
void describe(config::Fields& f, RepairLaw& s);
/// At least 1 ns; kForever for a law without a repair.
Duration draw_repair(Random& random, const RepairLaw& law);

/// Unequal units: a share of them ("lemons") fails at least `factor` times as often as the rest, by a factor from a
/// Pareto law of exponent `tail`. The mean over all units is 1, so the rate stays the fleet's.
struct Lemons {
  double share = 0;  // 0: all units alike
  double factor = 1;
  double tail = 2;  // > 1; the smaller, the heavier
  bool operator==(const Lemons&) const = default;
};
void describe(config::Fields& f, Lemons& s);
/// Multiplies a unit's rate; a pure function of (seed, source, unit).
double frailty(const Lemons& lemons, std::uint64_t seed, std::string_view source, std::uint64_t unit);

/// Components that fail together. node, rail, leaf, rack and power follow the topology; a cooling loop is a number of
/// racks, a software version a number of equal cohorts of nodes (RiskGroups of schedule.h).
enum class GroupKind : std::uint8_t { node, rail, leaf, rack, power, cooling, version };
constexpr std::array<std::string_view, 7> enum_names(const GroupKind*) {
  return {"node", "rail", "leaf", "rack", "power", "cooling", "version"};
}

/// Beta-factor model: this share of a component's failures strikes its whole group at one instant. The component's own
/// rate does not change: a group as a whole fails at share * rate, each member alone at (1 - share) * rate.
struct CommonCause {
  GroupKind group = GroupKind::node;
  double share = 0;  // 0: none
  bool operator==(const CommonCause&) const = default;
};
void describe(config::Fields& f, CommonCause& s);

/// What a failure leads to, on the same component or on what contains it (the first that the kind can target).
struct ChainLink {
  FaultKind kind = FaultKind::placebo;
  double probability = 0;
  Duration delay{0};
  RepairLaw repair;             // kForever: as long as the failure that caused it
  double factor = 0, loss = 0;  // see Parameters in kind.h; 0 = absent
  bool operator==(const ChainLink&) const = default;
};
void describe(config::Fields& f, ChainLink& s);

/// Self-exciting: with this probability a repaired unit fails again, uniformly within the time (Summit, ICS 2024: most
/// repeats of a double-bit error came within 120 h).
struct Repeat {
  double probability = 0;  // below 1
  Duration within{0};
  bool operator==(const Repeat&) const = default;
};
void describe(config::Fields& f, Repeat& s);

}  // namespace faultline::fault
