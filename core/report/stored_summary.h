// Reading summary.json back, for comparisons of runs that are over.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/diagnostics.h"

namespace faultline::report {

using Json = nlohmann::ordered_json;

/// Parses and checks the text of a summary.json. Text that is no JSON, no summary or of another schema version is an
/// error at its place in `file`; then the result is empty.
std::optional<Json> read_summary(std::string_view text, const std::string& file, config::Diagnostics& diagnostics);

/// The number at a JSON pointer, or empty where it is absent, null or no number.
std::optional<double> number_at(const Json& summary, const char* pointer);
/// Over all applied faults: the sum, or the largest; empty if no fault has a number there. `pointer` is within a fault.
std::optional<double> fault_sum(const Json& summary, const char* pointer);
std::optional<double> fault_max(const Json& summary, const char* pointer);

}  // namespace faultline::report
