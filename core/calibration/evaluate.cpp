#include "core/calibration/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/base/math.h"
#include "core/calibration/delimited.h"
#include "core/stats/sample.h"

namespace faultline::calibration {
namespace {

// Why a row may be far off, from what the row and its neighbours say.
std::string reason_of(const Case& c, double error, bool known_family, bool extrapolated,
                      const std::map<std::string, std::vector<double>>& repeats) {
  const auto same = repeats.find(c.family + "@" + fmt::format("{:.4f}", c.at[0]));
  if (same != repeats.end() && same->second.size() > 1) {
    const auto [low, high] = std::minmax_element(same->second.begin(), same->second.end());
    if (*high / *low > 1.25) return fmt::format("measurements of this very shape differ by {:.2f}x", *high / *low);
  }
  if (extrapolated) return "no fitted data near: the mechanism alone";
  if (!known_family) return "a family that the fit has not seen";
  if (c.us < 8) return "a kernel of a few microseconds: launch and clock effects";
  return error > 0 ? "a faster kernel was chosen than the mechanism knows"
                   : "a slower kernel was chosen than at neighbouring sizes";
}

}  // namespace

ScoreRow summarise(std::vector<double> errors, std::string check, std::string family, std::string bucket) {
  ScoreRow row{.check = std::move(check),
               .family = std::move(family),
               .bucket = std::move(bucket),
               .count = static_cast<std::int64_t>(errors.size())};
  std::sort(errors.begin(), errors.end());
  row.bias = stats::quantile(errors, 0.5);
  for (double& e : errors) e = std::abs(e);
  std::sort(errors.begin(), errors.end());
  row.median = stats::quantile(errors, 0.5);
  row.p90 = stats::quantile(errors, 0.9);
  for (double* x : {&row.median, &row.p90, &row.bias}) *x = std::round(*x * 1e4) / 1e4;  // 0.01%: what reports print
  return row;
}

Evaluation evaluate(const Calibration& calibration, const CaseList& list) {
  Evaluation out;
  out.skipped = list.skipped;
  struct Scored {
    const Case* c;
    double error, us;
    std::string check;
    bool known, extrapolated;
  };
  std::vector<Scored> scored;
  std::map<std::string, std::vector<double>> repeats;
  std::map<std::string, std::int64_t> outside, without;
  for (const FittedModel& model : calibration.models) {
    const Predictor predictor(model);
    std::set<std::string> known;
    for (const ResidualRow& row : model.residuals) known.insert(row.family);
    for (const Case& c : list.cases) {
      if (c.model != model.name || c.weight < 1) continue;
      const auto prediction = predictor.predict(c);
      const bool is_known = known.contains(c.family), own = same_part(c.origin.hardware, calibration.hardware);
      std::string check = !own       ? std::string(kOtherHardware) + c.origin.hardware
                          : is_known ? "known families"
                                     : "unseen families";
      scored.push_back(
          {&c, stable::log(prediction.us / c.us), prediction.us, std::move(check), is_known, prediction.extrapolated});
      if (!own) continue;
      repeats[c.family + "@" + fmt::format("{:.4f}", c.at[0])].push_back(c.us);
      const double size = stable::exp(c.at[0] * 0.6931471805599453);
      if (model.rows > 0 && (size < model.size_min * 0.99 || size > model.size_max * 1.01)) ++outside[model.name];
      if (model.rows == 0) ++without[model.name];
    }
  }
  for (const auto& [name, count] : outside)
    out.warnings.push_back(fmt::format("{}: {} rows lie outside the sizes it was fitted on", name, count));
  for (const auto& [name, count] : without)
    out.warnings.push_back(fmt::format("{}: {} rows, but the model was never fitted (priors only)", name, count));

  // Model -> (check, family, first size of the bucket, bucket) -> errors, in a stable order.
  using Key = std::tuple<std::string, std::string, double, std::string>;
  std::map<std::string, std::map<Key, std::vector<double>>> cells;
  for (const Scored& s : scored) {
    auto& model = cells[s.c->model];
    const double first = parse_number(s.c->bucket.substr(0, s.c->bucket.find('-'))).value_or(0);
    model[{s.check, "all", 1e18, "all"}].push_back(s.error);
    model[{s.check, "all", first, s.c->bucket}].push_back(s.error);
    model[{s.check, s.c->family, 0, "all"}].push_back(s.error);
  }
  for (auto& [model, rows] : cells)
    for (auto& [key, errors] : rows)
      out.scores.emplace_back(model, summarise(errors, std::get<0>(key), std::get<1>(key), std::get<3>(key)));

  std::erase_if(scored, [](const Scored& s) { return s.check.starts_with(kOtherHardware); });
  std::stable_sort(scored.begin(), scored.end(),
                   [](const Scored& a, const Scored& b) { return std::abs(a.error) > std::abs(b.error); });
  for (std::size_t i = 0; i < std::min<std::size_t>(10, scored.size()); ++i) {
    const Scored& s = scored[i];
    out.worst.push_back({s.c->model, s.c->family, fmt::format("{}:{}", s.c->origin.mark.file, s.c->origin.mark.line),
                         reason_of(*s.c, s.error, s.known, s.extrapolated, repeats), s.c->us, s.us});
  }
  return out;
}

}  // namespace faultline::calibration
