// What a schedule of faults does to a population: how many of its components are down at once, for how long, and with
// which weight a schedule counts that was drawn at raised rates.
#pragma once

#include <cstddef>
#include <vector>

#include "core/fault/schedule.h"

namespace faultline::fault {

/// Share of [0, end) during which exactly k components are down, for k = 0 … components. Only faults that take
/// something down count (a slowed part is up); a fault that stays is down to the end. Time: n log n.
std::vector<double> down_at_once(const FaultSchedule& schedule, std::size_t components, Instant end);

/// Instants at which a component goes down although `most` others are down already: the moments in which a redundancy
/// that tolerates `most` is exceeded.
std::vector<Instant> exceeded(const FaultSchedule& schedule, std::size_t most, Instant end);

/// Importance sampling: the likelihood of a schedule at the true rates over that at `bias` times these rates, for
/// `components` that fail at `rate_per_hour` each (exponential). Multiply any figure of the run by it; the mean over
/// runs is then that at the true rates. Best where the bias makes a few faults a run.
double likelihood_ratio(const FaultSchedule& schedule, std::size_t components, double rate_per_hour, double bias,
                        Instant end);

}  // namespace faultline::fault
