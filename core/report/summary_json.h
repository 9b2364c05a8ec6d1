// summary.json: what docs/metrics.md describes, in a fixed order of keys.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "core/report/report.h"

namespace faultline::report {

/// Changes when a field is renamed, removed or redefined; new fields do not change it.
inline constexpr int kSummarySchemaVersion = 1;

nlohmann::ordered_json summary_json(const Report& report);
/// The same as text, indented by two, ending with a newline. Names that are not UTF-8 are repaired.
std::string summary_text(const Report& report);

}  // namespace faultline::report
