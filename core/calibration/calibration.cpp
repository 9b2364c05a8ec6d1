#include "core/calibration/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "core/base/assert.h"
#include "core/base/hash.h"
#include "core/base/math.h"
#include "core/calibration/delimited.h"
#include "core/stats/sample.h"

namespace faultline::calibration {
namespace {

using config::Fields;

// Kernel of the residual surface, octaves: how far a cell speaks for its neighbours. Set by hand; not scanned. The
// withheld scores of docs/calibration.md were made with these values.
constexpr double kSizeWidth = 0.5;
constexpr double kFamilyWidth = 0.6;
constexpr double kShrink = 0.3;       // weight of "no correction"
constexpr double kOtherGroup = 0.15;  // weight of a cell of another precision, kernel or hardware
constexpr double kCellStep = 0.5;     // octaves of size in one cell
constexpr double kEnough = 0.05;      // weight below which a prediction counts as extrapolated

double cell_of(double x) { return std::floor(x / kCellStep + 0.5) * kCellStep; }

}  // namespace

void describe(Fields& f, FittedParameter& p) {
  f.required("name", p.name);
  f.required("value", p.value, config::kPositive);
  f.field("low", p.low, config::kNotNegative);
  f.field("high", p.high, config::kNotNegative);
  f.field("unit", p.unit);
  f.field("source", p.source);
  if (f.reading() && (p.value < p.low || p.value > p.high))
    f.error("value", "the value lies outside its interval low … high");
}

void describe(Fields& f, ResidualRow& r) {
  f.required("group", r.group);
  f.required("family", r.family);
  f.field("y", r.y);
  f.field("z", r.z);
  f.required("cells", r.cells);
}

void describe(Fields& f, ScoreRow& s) {
  f.required("check", s.check);
  f.required("family", s.family);
  f.required("bucket", s.bucket);
  f.required("count", s.count, config::kNotNegative);
  f.required("median", s.median);
  f.required("p90", s.p90);
  f.required("bias", s.bias);
}

void describe(Fields& f, FittedModel& m) {
  f.required("name", m.name);
  f.field("rows", m.rows);
  f.field("range", m.range);
  f.field("size_min", m.size_min);
  f.field("size_max", m.size_max);
  f.list("parameters", m.parameters, true);
  f.list("residuals", m.residuals);
  f.list("scores", m.scores);
  if (!f.reading()) return;
  const Model* model = find_model(m.name);
  if (model == nullptr) {
    std::vector<std::string> names;
    for (const Model& known : models()) names.push_back(known.name);
    f.error("name", "unknown model '" + m.name + "'", config::did_you_mean(m.name, names));
    return;
  }
  // A calibration lists every parameter in the model's order, so that a file is complete and comparable.
  bool same = model->parameters.size() == m.parameters.size();
  for (std::size_t i = 0; same && i < m.parameters.size(); ++i)
    same = model->parameters[i].name == m.parameters[i].name;
  if (!same) {
    std::vector<std::string> names;
    for (const auto& info : model->parameters) names.push_back(info.name);
    f.error("parameters", "model " + m.name + " needs exactly these parameters in this order",
            config::name_list(names, 40));
  }
}

void describe(Fields& f, Calibration& c) {
  f.required("name", c.name);
  f.required("hardware", c.hardware);
  f.field("software_date", c.software_date);
  f.list("data", c.data);
  f.field("note", c.note);
  f.list("models", c.models, true);
}

Calibration read_calibration(std::string_view text, const std::string& file, config::Diagnostics& diagnostics) {
  Calibration c;
  const config::Document document(text, file, diagnostics);
  if (document.root().IsDefined() && document.root().IsMap())
    config::read(document, document.root(), "calibration", c, diagnostics);
  else if (diagnostics.ok())
    diagnostics.error({file, 1, 1}, "expected a calibration: a mapping with 'name', 'hardware' and 'models'");
  return c;
}

std::string print_calibration(Calibration& calibration) {
  YAML::Emitter emitter;
  config::print(emitter, calibration);
  return std::string(emitter.c_str()) + "\n";
}

std::string content_hash(const Calibration& calibration) {
  std::uint64_t h = 0;
  const auto text = [&](std::string_view s) { h = hash_combine(h, hash_text(s)); };
  const auto value = [&](double v) { h = hash_combine(h, std::bit_cast<std::uint64_t>(v)); };
  for (const std::string* s : {&calibration.name, &calibration.hardware, &calibration.software_date, &calibration.note})
    text(*s);
  for (const std::string& s : calibration.data) text(s);
  for (const FittedModel& m : calibration.models) {
    text(m.name), text(m.range), value(static_cast<double>(m.rows)), value(m.size_min), value(m.size_max);
    for (const FittedParameter& p : m.parameters)
      text(p.name), value(p.value), value(p.low), value(p.high), text(p.unit), text(p.source);
    for (const ResidualRow& r : m.residuals) text(r.group), text(r.family), value(r.y), value(r.z), text(r.cells);
    for (const ScoreRow& s : m.scores) {
      text(s.check), text(s.family), text(s.bucket), value(static_cast<double>(s.count));
      value(s.median), value(s.p90), value(s.bias);
    }
  }
  return fmt::format("{:016x}", h);
}

Predictor::Predictor(const FittedModel& fitted) : model_(find_model(fitted.name)) {
  FAULTLINE_ASSERT(model_ != nullptr && model_->parameters.size() == fitted.parameters.size(), "model {}", fitted.name);
  for (const FittedParameter& p : fitted.parameters) parameters_.push_back(p.value);
  for (const ResidualRow& row : fitted.residuals) {
    auto group = std::find(groups_.begin(), groups_.end(), row.group);
    if (group == groups_.end()) group = groups_.insert(group, row.group);
    auto family = std::find(families_.begin(), families_.end(), row.family);
    if (family == families_.end()) family = families_.insert(family, row.family);
    const int g = static_cast<int>(group - groups_.begin()), f = static_cast<int>(family - families_.begin());
    std::string_view rest = row.cells;
    while (!rest.empty()) {
      const auto end = std::min(rest.find(' '), rest.size());
      const std::string_view cell = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const auto first = cell.find(':'), second = cell.rfind(':');
      if (first == std::string_view::npos || first == second) continue;
      const std::string_view ratio = cell.substr(first + 1, second - first - 1);
      const auto x = parse_number(cell.substr(0, first)), count = parse_number(cell.substr(second + 1));
      const auto r = parse_number(ratio.starts_with('+') ? ratio.substr(1) : ratio);
      if (x && r && count)
        cells_.push_back({{*x, row.y, row.z}, g, static_cast<float>(*r), static_cast<float>(*count), f});
    }
  }
}

int Predictor::group_index(const std::string& group) const {
  const auto at = std::find(groups_.begin(), groups_.end(), group);
  return at == groups_.end() ? -1 : static_cast<int>(at - groups_.begin());
}

Predictor::Prediction Predictor::predict(const std::string& group, const Coordinates& at, const Shape& shape) const {
  const double us = model_->us(parameters_, shape);
  if (cells_.empty()) return {us, true};
  const int g = group_index(group);
  double sum = 0, weight = 0;
  for (const Cell& cell : cells_) {
    const double dx = (cell.at[0] - at[0]) / kSizeWidth, dy = (cell.at[1] - at[1]) / kFamilyWidth,
                 dz = (cell.at[2] - at[2]) / kFamilyWidth;
    const double distance = dx * dx + dy * dy + dz * dz;
    if (distance > 40) continue;
    // Several rows in a cell speak louder, but not in proportion: they share kernel choices and runs.
    const double w = stable::exp(-0.5 * distance) * std::sqrt(static_cast<double>(std::min(cell.count, 4.0F))) *
                     (cell.group == g ? 1 : kOtherGroup);
    sum += w * static_cast<double>(cell.ratio);
    weight += w;
  }
  return {us * stable::exp(sum / (weight + kShrink)), weight < kEnough};
}

void Predictor::learn(const std::vector<const Case*>& cases) {
  struct Key {
    std::string group, family;
    double x, y, z;
    auto operator<=>(const Key&) const = default;
  };
  std::map<Key, std::vector<double>> cells;
  for (const Case* c : cases) {
    if (c->weight < 1) continue;
    cells[{c->group, c->family, cell_of(c->at[0]), c->at[1], c->at[2]}].push_back(
        stable::log(c->us / mechanism_us(c->shape)));
  }
  cells_.clear();
  groups_.clear();
  families_.clear();
  for (auto& [key, ratios] : cells) {
    std::sort(ratios.begin(), ratios.end());
    auto group = std::find(groups_.begin(), groups_.end(), key.group);
    if (group == groups_.end()) group = groups_.insert(group, key.group);
    auto family = std::find(families_.begin(), families_.end(), key.family);
    if (family == families_.end()) family = families_.insert(family, key.family);
    cells_.push_back({{key.x, key.y, key.z},
                      static_cast<int>(group - groups_.begin()),
                      static_cast<float>(stats::quantile(ratios, 0.5)),
                      static_cast<float>(ratios.size()),
                      static_cast<int>(family - families_.begin())});
  }
}

std::vector<ResidualRow> Predictor::residual_rows() const {
  std::vector<ResidualRow> rows;
  for (const Cell& cell : cells_) {
    const std::string& group = groups_[static_cast<std::size_t>(cell.group)];
    const std::string& family = families_[static_cast<std::size_t>(cell.family)];
    auto row = std::find_if(rows.begin(), rows.end(), [&](const ResidualRow& r) {
      return r.group == group && r.family == family && r.y == cell.at[1] && r.z == cell.at[2];
    });
    if (row == rows.end()) row = rows.insert(rows.end(), {group, family, cell.at[1], cell.at[2], {}});
    row->cells += fmt::format("{}{:g}:{:+.3f}:{:g}", row->cells.empty() ? "" : " ", cell.at[0],
                              static_cast<double>(cell.ratio), static_cast<double>(cell.count));
  }
  return rows;
}

}  // namespace faultline::calibration
