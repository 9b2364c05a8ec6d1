// When requests come: an endless sequence of instants that never decrease, one implementation per ArrivalKind.
#pragma once

#include <memory>

#include "core/base/quantity.h"
#include "core/workload/spec.h"

namespace faultline::workload {

class ArrivalTimes {
 public:
  virtual ~ArrivalTimes() = default;
  /// The next arrival; stays at kNever beyond the end of the time axis (292 years).
  virtual Instant next() = 0;
};

/// Renewal processes (poisson, gamma, weibull) have their first arrival one gap after 0; `constant` has its first at 0
/// and then one each 1/rate with no drift. `onoff` begins on. Gap i is keyed by i ("workload/gap"), so no other draw of
/// the run moves it. `rate_scale` multiplies every rate.
std::unique_ptr<ArrivalTimes> make_arrival_times(const ArrivalsSpec& spec, double rate_scale, std::uint64_t seed);

/// The shape of a Weibull distribution with this standard deviation / mean; cv in 0.02 … 20 (asserted), relative error
/// below 1e-9. Solves cv^2 + 1 = G(1 + 2/k) / G(1 + 1/k)^2 by bisection.
double weibull_shape_of_cv(double cv);
/// Mean of a Weibull distribution of scale 1: G(1 + 1/shape).
double weibull_mean(double shape);

}  // namespace faultline::workload
