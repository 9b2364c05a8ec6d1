// The same scenario at fluid and at step fidelity: what both say, side by side.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/fluid/result.h"
#include "core/metrics/impact.h"

namespace faultline::fluid {

struct ComparisonRow {
  std::string what;
  std::optional<double> fluid, step;
  /// (fluid - step) / step; empty where a value is missing or the step run's is 0.
  std::optional<double> difference() const;
};

/// `step`: the summary of the run with faults, `impacts` against its paired run.
std::vector<ComparisonRow> compare(const Result& with, const Result& without, const metrics::Summary& step,
                                   const metrics::Impacts& impacts);
nlohmann::ordered_json comparison_json(const std::vector<ComparisonRow>& rows);
std::string comparison_text(const std::vector<ComparisonRow>& rows);

}  // namespace faultline::fluid
