#include "core/report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/report/text.h"

namespace faultline::report {
namespace {

using Flat = std::vector<std::pair<std::string, Json>>;

/// Lists of named things are keyed by their names, so that a fault that only one run has does not shift the others.
std::string key_of(const Json& element, std::size_t index) {
  for (const char* name : {"id", "name", "what"}) {
    if (element.is_object() && element.contains(name) && element[name].is_string())
      return element[name].get<std::string>();
  }
  return fmt::format("{}", index);
}

void flatten(const Json& value, const std::string& path, Flat& out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, child] : value.items()) flatten(child, path.empty() ? key : path + "." + key, out);
  } else if (value.is_array() && !value.empty()) {
    for (std::size_t i = 0; i < value.size(); ++i)
      flatten(value[i], fmt::format("{}[{}]", path, key_of(value[i], i)), out);
  } else {
    out.emplace_back(path, value);
  }
}

bool is_of_machine(std::string_view field) {
  for (const std::string_view f :
       {"simulator.wall_s", "simulator.cpu_s", "simulator.requests_per_cpu_s", "simulator.peak_rss_bytes"}) {
    if (field == f) return true;
  }
  return false;
}

std::string value_text(const Json& v) {
  if (v.is_null()) return "–";
  if (v.is_number_float()) return number(v.get<double>());
  if (v.is_number_unsigned() && v.get<std::uint64_t>() > 999'999'999'999'999ULL)
    return fmt::format("{}", v.get<std::uint64_t>());
  if (v.is_number_integer()) return with_commas(v.get<std::int64_t>());
  if (v.is_string()) return printable(v.get<std::string>());
  return printable(v.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string change_text(const Json& a, const Json& b) {
  if (!a.is_number() || !b.is_number()) return {};
  const double x = a.get<double>(), y = b.get<double>();
  if (x == 0) return y == 0 ? "" : "new";
  const double change = (y - x) / std::abs(x) * 100;
  if (std::abs(change) >= 1000) return fmt::format("x {}", number(y / x));
  return fmt::format("{:+.{}f} %", change, std::abs(change) < 0.1 ? 3 : 1);
}

}  // namespace

std::vector<Difference> differences(const Json& a, const Json& b) {
  Flat left, right;
  flatten(a, "", left);
  flatten(b, "", right);
  std::map<std::string, const Json*> of_right;
  for (const auto& [field, value] : right) of_right.emplace(field, &value);
  std::vector<Difference> out;
  for (const auto& [field, value] : left) {
    const auto found = of_right.find(field);
    Difference d{field, value, found == of_right.end() ? Json() : *found->second, false, is_of_machine(field)};
    d.equal = found != of_right.end() && d.a == d.b;
    out.push_back(std::move(d));
    if (found != of_right.end()) of_right.erase(found);
  }
  for (const auto& [field, value] : right) {
    if (of_right.contains(field)) out.push_back({field, Json(), value, false, is_of_machine(field)});
  }
  return out;
}

bool same_run(const std::vector<Difference>& differences) {
  return std::all_of(differences.begin(), differences.end(),
                     [](const Difference& d) { return d.equal || d.of_machine; });
}

std::string differences_text(const std::string& name_a, const std::string& name_b, const std::vector<Difference>& list,
                             bool all, int columns) {
  struct Row {
    std::string field, a, b, change;
  };
  std::vector<Row> rows;
  std::size_t equal = 0, differing = 0;
  for (const Difference& d : list) {
    d.equal ? ++equal : d.of_machine ? 0 : ++differing;
    if (!d.equal || all)
      rows.push_back({printable(d.field), value_text(d.a), value_text(d.b), d.equal ? "=" : change_text(d.a, d.b)});
  }
  const auto width = static_cast<std::size_t>(std::max(columns, 60));
  constexpr std::size_t kValue = 13, kChange = 10;
  const std::size_t field = width - 2 * kValue - kChange - 3;
  std::string out =
      fmt::format("A  {}\nB  {}\n", fit(printable(name_a), std::min(width_of(printable(name_a)), width - 3)),
                  fit(printable(name_b), std::min(width_of(printable(name_b)), width - 3)));
  if (!rows.empty()) {
    out += '\n' + fit("field", field) + ' ' + fit("A", kValue, true) + ' ' + fit("B", kValue, true) + ' ' +
           fit("change", kChange, true) + '\n';
  }
  for (const Row& r : rows) {
    // A long path keeps its end, which names the figure.
    std::string name = r.field;
    if (const std::size_t w = width_of(name); w > field) {
      std::size_t cut = name.size() - std::min(name.size(), field - 1);
      while (cut < name.size() && (static_cast<unsigned char>(name[cut]) & 0xC0) == 0x80) ++cut;
      name = "…" + name.substr(cut);
    }
    out += fit(name, field) + ' ' + fit(r.a, kValue, true) + ' ' + fit(r.b, kValue, true) + ' ' +
           fit(r.change, kChange, true) + '\n';
  }
  out += differing == 0 ? fmt::format("\nthe same run: {} fields are equal\n", equal)
                        : fmt::format("\n{} fields differ, {} are equal\n", differing, equal);
  return out;
}

Json differences_json(const std::string& name_a, const std::string& name_b, const std::vector<Difference>& list) {
  Json rows = Json::array();
  for (const Difference& d : list) {
    if (!d.equal) rows.push_back({{"field", d.field}, {"a", d.a}, {"b", d.b}, {"of_machine", d.of_machine}});
  }
  return {{"a", name_a}, {"b", name_b}, {"same_run", same_run(list)}, {"differences", std::move(rows)}};
}

}  // namespace faultline::report
