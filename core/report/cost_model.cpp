#include "core/report/cost_model.h"

#include <fmt/format.h>

#include "core/report/text.h"

namespace faultline::report {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kNamed = 4;  // operations in a line of text; the others are counted

std::string string_at(const Json& j, const char* key) {
  return j.is_object() && j.contains(key) && j[key].is_string() ? j[key].get<std::string>() : std::string();
}
double share_at(const Json& row) {
  return row.is_object() && row.contains("share_of_time") && row["share_of_time"].is_number()
             ? row["share_of_time"].get<double>()
             : 0;
}
const Json* rows_of(const Json& j) {
  return j.is_object() && j.contains("extrapolated") && j["extrapolated"].is_array() ? &j["extrapolated"] : nullptr;
}

}  // namespace

Json cost_model_json(const record::CostModelUse& use) {
  const auto or_null = [](const std::string& s) { return s.empty() ? Json(nullptr) : Json(s); };
  Json rows = Json::array();
  for (const auto& e : use.extrapolated) rows.push_back({{"op", e.op}, {"share_of_time", e.share}, {"why", e.why}});
  return {{"name", or_null(use.name)},
          {"hardware", or_null(use.hardware)},
          {"hash", or_null(use.hash)},
          {"software_date", or_null(use.software_date)},
          {"extrapolated", std::move(rows)}};
}

double extrapolated_share(const Json& cost_model) {
  double sum = 0;
  if (const Json* rows = rows_of(cost_model)) {
    for (const Json& row : *rows) sum += share_at(row);
  }
  return sum;
}

std::string cost_model_text(const Json& cost_model) {
  const std::string name = string_at(cost_model, "name"), hardware = string_at(cost_model, "hardware"),
                    date = string_at(cost_model, "software_date");
  if (name.empty()) return {};
  std::string text = date.empty() && string_at(cost_model, "hash").empty()
                         ? fmt::format("{} of {}, stated efficiencies", name, hardware)
                         : fmt::format("calibration '{}' ({}, {})", name, hardware,
                                       date.empty() ? std::string("undated rows") : "rows to " + date);
  const Json* rows = rows_of(cost_model);
  if (rows == nullptr || rows->empty()) return text + ": nothing extrapolated";
  text += fmt::format(": {} of the step time extrapolated:", percent(extrapolated_share(cost_model)));
  for (std::size_t i = 0; i < std::min(kNamed, rows->size()); ++i)
    text += fmt::format("{} {} {}", i == 0 ? "" : ",", string_at((*rows)[i], "op"), percent(share_at((*rows)[i])));
  if (rows->size() > kNamed) text += fmt::format(" and {} more", rows->size() - kNamed);
  return text;
}

}  // namespace faultline::report
