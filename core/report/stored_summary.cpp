#include "core/report/stored_summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/report/summary_json.h"

namespace faultline::report {
namespace {

config::Mark place_of(std::string_view text, std::size_t byte, const std::string& file) {
  const std::string_view before = text.substr(0, std::min(byte > 0 ? byte - 1 : 0, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n');
  const auto start = before.rfind('\n');
  const std::size_t column = start == std::string_view::npos ? before.size() : before.size() - start - 1;
  return {file, static_cast<int>(line) + 1, static_cast<int>(column) + 1};
}

/// Deep nesting would exhaust the stack of a recursive destructor and reader.
bool nested_deeper_than(std::string_view text, int most) {
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') {
      if (++depth > most) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

std::vector<double> of_faults(const Json& summary, const char* pointer) {
  std::vector<double> out;
  for (const Json& fault : summary.at("faults")) {
    if (const auto v = number_at(fault, pointer)) out.push_back(*v);
  }
  return out;
}

}  // namespace

std::optional<Json> read_summary(std::string_view text, const std::string& file, config::Diagnostics& diagnostics) {
  if (nested_deeper_than(text, 64)) {
    diagnostics.error({file, 0, 0}, "not a summary: nested deeper than 64 levels");
    return std::nullopt;
  }
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::parse_error& e) {
    diagnostics.error(place_of(text, e.byte, file), "not valid JSON",
                      "a summary.json that a run has written is expected");
    return std::nullopt;
  }
  const auto version = number_at(json, "/schema_version");
  if (!version) {
    diagnostics.error({file, 0, 0}, "not a summary: it has no 'schema_version'",
                      "a summary.json that a run has written is expected");
    return std::nullopt;
  }
  if (*version != kSummarySchemaVersion) {
    diagnostics.error({file, 0, 0},
                      fmt::format("schema version {}, this program reads version {}", *version, kSummarySchemaVersion));
    return std::nullopt;
  }
  for (const char* key : {"requests", "latency", "throughput", "cost", "simulator"}) {
    if (json.contains(key) && json[key].is_object()) continue;
    diagnostics.error({file, 0, 0}, fmt::format("not a summary: '{}' is missing", key));
    return std::nullopt;
  }
  if (!json.contains("faults") || !json["faults"].is_array()) {
    diagnostics.error({file, 0, 0}, "not a summary: 'faults' is missing");
    return std::nullopt;
  }
  return json;
}

std::optional<double> number_at(const Json& summary, const char* pointer) {
  const Json::json_pointer at(pointer);
  if (!summary.is_object() || !summary.contains(at)) return std::nullopt;
  const Json& v = summary.at(at);
  return v.is_number() ? std::optional(v.get<double>()) : std::nullopt;
}

std::optional<double> fault_sum(const Json& summary, const char* pointer) {
  const auto values = of_faults(summary, pointer);
  if (values.empty()) return std::nullopt;
  double sum = 0;
  for (const double v : values) sum += v;
  return sum;
}

std::optional<double> fault_max(const Json& summary, const char* pointer) {
  const auto values = of_faults(summary, pointer);
  return values.empty() ? std::nullopt : std::optional(*std::max_element(values.begin(), values.end()));
}

}  // namespace faultline::report
