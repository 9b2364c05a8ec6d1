// Prediction beside observation: a simulated run and a live run of one experiment, figure by figure, each with the
// difference that is allowed. Both are summaries (stored_summary.h) and what their logs say.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/report/stored_summary.h"

namespace faultline::report {

struct TwinLine {
  std::string what;                 // "requests retried", "node: detected"
  std::string predicted, observed;  // as printed; "-" where there is none
  std::string allowed;              // "3", "50 ms"; empty: shown only
  bool within = true;
};

/// What the logs of a run add to its summary: instances that lost an attempt of a request or were found failed.
using InstancesHit = std::set<std::uint32_t>;

/// Requests failed and retried within max(3, 5 %) of the prediction; phases from symptom to ready within 10 % or 50 ms
/// of it; the same instances hit, where both are known. Faults are matched by id.
std::vector<TwinLine> twin_lines(const Json& predicted, const Json& observed,
                                 const std::optional<InstancesHit>& predicted_hit,
                                 const std::optional<InstancesHit>& observed_hit);
bool all_within(const std::vector<TwinLine>& lines);
std::string twin_text(const std::string& predicted, const std::string& observed, const std::vector<TwinLine>& lines);
Json twin_json(const std::string& predicted, const std::string& observed, const std::vector<TwinLine>& lines);

/// A summary of a live run.
bool is_live(const Json& summary);

}  // namespace faultline::report
