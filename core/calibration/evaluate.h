// Scores a calibration on any measurements: by model, family and size bucket; families it has seen and families it has
// not apart; the worst rows with a reason.
#pragma once

#include <string>
#include <vector>

#include "core/calibration/calibration.h"

namespace faultline::calibration {

struct WorstCase {
  std::string model, family, place, reason;
  double measured_us = 0, predicted_us = 0;
};

struct Evaluation {
  std::vector<std::pair<std::string, ScoreRow>> scores;  // model, row; check is "known families" or "unseen families"
  std::vector<WorstCase> worst;
  std::vector<std::pair<std::string, std::int64_t>> skipped;
  std::vector<std::string> warnings;  // rows outside the range of the fit
};

/// Rows whose hardware is not that of the calibration are predicted with their own data sheet and named in a warning.
Evaluation evaluate(const Calibration& calibration, const CaseList& list);

/// Median and 90th percentile of |e|, median of e.
ScoreRow summarise(std::vector<double> log_errors, std::string check, std::string family, std::string bucket);

}  // namespace faultline::calibration
