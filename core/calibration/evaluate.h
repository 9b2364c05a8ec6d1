// Scores a calibration on any measurements: by model, family and size bucket; families it has seen, families it has
// not and rows of other hardware apart; the worst rows with a reason.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/calibration/calibration.h"

namespace faultline::calibration {

inline constexpr std::string_view kOtherHardware = "other hardware: ";

struct WorstCase {
  std::string model, family, place, reason;
  double measured_us = 0, predicted_us = 0;
};

struct Evaluation {
  std::vector<std::pair<std::string, ScoreRow>> scores;  // model, row; check: see evaluate()
  std::vector<WorstCase> worst;                          // at most ten
  std::vector<std::pair<std::string, std::int64_t>> skipped;
  std::vector<std::string> warnings;  // rows outside the range of the fit
};

/// A score's check is "known families", "unseen families" or "other hardware: TAG". Rows of other hardware are
/// predicted with the data sheet of their own part and never counted with those of the calibration's.
Evaluation evaluate(const Calibration& calibration, const CaseList& list);

/// Median and 90th percentile of |e|, median of e.
ScoreRow summarise(std::vector<double> log_errors, std::string check, std::string family, std::string bucket);

}  // namespace faultline::calibration
