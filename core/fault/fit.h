// A rate profile out of a site's own failure log. The log is a CSV of outages:
//
//   unit,start,end,cause
//   gpu-17,2025-03-01T04:00:00Z,2025-03-01T09:30:00Z,gpu.failstop
//   node-3,1234.5,,node.crash                     # hours since any origin; an empty end: not repaired yet
//
// Lives (from one repair of a unit to its next failure, cut off at the end of the observation) are fitted by maximum
// likelihood as exponential and as Weibull; the better one by Akaike's criterion is kept. Repairs are fitted as
// lognormal. Both fits are tested by a Kolmogorov-Smirnov distance whose p-value comes from a parametric bootstrap: the
// parameters are fitted to the same data, so tables of the distance do not hold.
#pragma once

#include <cstdint>
#include <istream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config/diagnostics.h"
#include "core/fault/rates.h"

namespace faultline::fault {

struct Outage {
  std::string unit;
  double start_h = 0;
  std::optional<double> end_h;
  std::string cause;
};

/// "1234.5" hours as they are, or hours from 1970 of an instant as ISO 8601 writes it: "2025-03-01T04:00:00Z" (seconds
/// and zone may be absent; UTC). nullopt for anything else.
std::optional<double> hours_of(std::string_view text);

/// Reads a log. Errors (missing columns, times that are no times, an end before its start) go to `diagnostics`.
std::vector<Outage> read_failure_log(std::istream& in, const std::string& file, config::Diagnostics& diagnostics);

struct FitOptions {
  std::string name = "site";
  std::string fleet;                       // becomes the profile's borrowed_from
  std::optional<std::int64_t> units;       // in the fleet, with those that never failed; nullopt: those in the log
  std::optional<double> from_h, until_h;   // observed; nullopt: from the first start to the last time in the log
  std::map<std::string, FaultKind> kinds;  // of causes that are not kinds themselves
  std::int64_t bootstrap = 200;            // replicas behind each p-value
  std::uint64_t seed = 1;
};

struct FittedSource {
  RateSource source;
  std::string cause;
  std::int64_t failures = 0;
  double exposure_h = 0;
  double exponential_log_likelihood = 0, weibull_log_likelihood = 0, weibull_shape = 1;
  double life_distance = 0, life_p = 0;  // of the law that was kept
  std::optional<double> repair_distance, repair_p;
};

struct Fit {
  RateProfile profile;
  std::vector<FittedSource> sources;
  std::vector<std::string> warnings;
};

/// Errors: an unknown cause (with the kinds that are known), fewer than two failures of any cause, more failing units
/// than there are units.
Fit fit_profile(const std::vector<Outage>& log, const std::string& file, const FitOptions& options,
                config::Diagnostics& diagnostics);

/// A word that says how a job ended and not what broke ("timeout", "NODE_FAIL", "unreachable").
bool is_outcome_label(const std::string& cause);

// The estimators by themselves. Lives and `complete` are parallel: false = still alive at that age.
struct WeibullFit {
  double shape = 1, scale_h = 0, log_likelihood = 0;
};
WeibullFit fit_weibull(const std::vector<double>& lives_h, const std::vector<bool>& complete);
/// Largest distance between the Kaplan-Meier estimate and the survival function of a Weibull law.
double kaplan_meier_distance(const std::vector<double>& lives_h, const std::vector<bool>& complete, double shape,
                             double scale_h);

}  // namespace faultline::fault
