// Robust non-linear least squares on the logarithm of the time, and honest scores: every number that says "withheld"
// comes from a refit that had not seen the rows it is scored on.
#pragma once

#include <string>
#include <vector>

#include "core/calibration/calibration.h"

namespace faultline::calibration {

struct FitOptions {
  std::string name = "calibration";
  std::string hardware = "MI300X";
  int point_folds = 5;             // withheld sizes of known families
  int family_folds_max = 50;       // withheld families
  std::int64_t rows_per_cell = 2;  // rows of one family and half octave used by the optimiser (all are scored)
  bool validate = true;
};

/// Fits every model that has cases; models without any keep their priors, marked as such. Deterministic.
/// Loss: soft L1 of log(predicted / measured) at 0.1; priors on the logarithms of the parameters. Intervals: the wider
/// of the curvature at the optimum and the jackknife over families, 95%.
Calibration fit(const std::vector<Case>& cases, const FitOptions& options);

}  // namespace faultline::calibration
