#include "core/calibration/fit/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "core/base/hash.h"
#include "core/base/math.h"
#include "core/calibration/evaluate.h"
#include "core/calibration/fit/least_squares.h"

namespace faultline::calibration {
namespace {

using Cases = std::vector<const Case*>;

// At most `most` rows of a cell go to the optimiser, chosen by their hash: 15,000 rows of large sizes would say the
// same as 1,000. The weights then give every family and bucket the same say.
Cases thinned(const Cases& cases, std::int64_t most) {
  std::map<std::string, std::vector<std::pair<std::uint64_t, const Case*>>> cells;
  for (const Case* c : cases) {
    const auto cell = fmt::format("{}|{}|{:.0f}", c->group, c->family, c->at[0] * 2);
    cells[cell].emplace_back(
        hash_combine(hash_text(c->origin.mark.file), static_cast<std::uint64_t>(c->origin.mark.line)), c);
  }
  Cases out;
  for (auto& [name, rows] : cells) {
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < std::min(rows.size(), static_cast<std::size_t>(most)); ++i)
      out.push_back(rows[i].second);
  }
  return out;
}

std::vector<double> weights_of(const Cases& cases) {
  std::map<std::string, double> rows;
  for (const Case* c : cases) rows[c->family + c->bucket] += c->weight;
  std::vector<double> weights;
  for (const Case* c : cases)
    weights.push_back(std::sqrt(c->weight / std::max(1.0, std::sqrt(rows[c->family + c->bucket]))));
  return weights;
}

LeastSquaresResult optimise(const Model& model, const Cases& all, const std::vector<double>& start,
                            const FitOptions& options) {
  const Cases cases = thinned(all, options.rows_per_cell);
  const std::vector<double> weights = weights_of(cases);
  LeastSquares problem;
  problem.start = start;
  for (const ParameterInfo& info : model.parameters) {
    problem.prior.push_back(stable::log(info.prior));
    problem.prior_sigma.push_back(info.prior_sigma);
  }
  problem.rows = cases.size();
  problem.error = [&](std::span<const double> p, std::size_t row) {
    const Case& c = *cases[row];
    return weights[row] * stable::log(model.us(p, c.shape) / c.us);
  };
  return solve(problem);
}

std::vector<double> exponentials(const std::vector<double>& logs) {
  std::vector<double> out;
  for (const double x : logs) out.push_back(stable::exp(x));
  return out;
}

struct Scored {
  const Case* c;
  double error;
};

void add_scores(const std::vector<Scored>& scored, const std::string& check, std::vector<ScoreRow>& out) {
  std::map<std::pair<std::string, std::string>, std::vector<double>> cells;
  for (const Scored& s : scored) {
    cells[{"all", "all"}].push_back(s.error);
    cells[{"all", s.c->bucket}].push_back(s.error);
    if (check != "fitted") cells[{s.c->family, "all"}].push_back(s.error);  // in-sample errors of a family prove little
  }
  for (auto& [key, errors] : cells) out.push_back(summarise(errors, check, key.first, key.second));
}

// Refits parameters and residual table without `held` and scores the rows held back.
void score_withheld(const Model& model, const Cases& cases, const std::function<bool(const Case&)>& held,
                    const std::vector<double>& start, const FitOptions& options, std::vector<Scored>& out,
                    std::vector<std::vector<double>>* jackknife) {
  Cases train, test;
  for (const Case* c : cases) (held(*c) ? test : train).push_back(c);
  if (test.empty() || train.empty()) return;
  const std::vector<double> logs = optimise(model, train, start, options).value;
  if (jackknife != nullptr) jackknife->push_back(logs);
  Predictor predictor(model, exponentials(logs));
  predictor.learn(train);
  for (const Case* c : test)
    if (c->weight >= 1) out.push_back({c, stable::log(predictor.predict(*c).us / c->us)});
}

// Five significant digits: far finer than any interval, and a file that people can read.
double rounded(double x) {
  double scale = 1;
  while (x * scale < 1e4) scale *= 10;
  while (x * scale >= 1e5) scale /= 10;
  return std::round(x * scale) / scale;
}

FittedModel fit_model(const Model& model, const Cases& cases, const FitOptions& options) {
  FittedModel out;
  out.name = model.name;
  out.rows = static_cast<std::int64_t>(cases.size());
  std::vector<double> start;
  for (const ParameterInfo& info : model.parameters) start.push_back(stable::log(info.prior));
  if (cases.empty()) {
    for (const ParameterInfo& info : model.parameters) {
      out.parameters.push_back({info.name, info.prior, rounded(info.prior * stable::exp(-1.96 * info.prior_sigma)),
                                rounded(info.prior * stable::exp(1.96 * info.prior_sigma)), info.unit,
                                "prior: " + info.meaning});
    }
    out.range = "no rows: every value is a prior, every prediction extrapolated";
    return out;
  }
  const LeastSquaresResult best = optimise(model, cases, start, options);
  Predictor predictor(model, exponentials(best.value));
  predictor.learn(cases);
  out.residuals = predictor.residual_rows();

  std::vector<std::vector<double>> jackknife;
  std::vector<Scored> fitted, points, families;
  for (const Case* c : cases)
    if (c->weight >= 1) fitted.push_back({c, stable::log(predictor.predict(*c).us / c->us)});
  add_scores(fitted, "fitted", out.scores);
  if (options.validate) {
    for (int fold = 0; fold < options.point_folds; ++fold) {
      // All rows of one size go together: a repeat of a withheld size must not stay in the fit.
      const auto held = [&](const Case& c) {
        const auto key = hash_text(c.family + fmt::format("@{:.4f}/{:.4f}", c.at[0], c.at[1]));
        return static_cast<int>(key % static_cast<std::uint64_t>(options.point_folds)) == fold;
      };
      score_withheld(model, cases, held, best.value, options, points, nullptr);
    }
    add_scores(points, "points", out.scores);
    std::set<std::string> names;
    for (const Case* c : cases) names.insert(c->family);
    if (names.size() > 1) {
      // One fold a family; where there are very many, several families are withheld together, which is no easier.
      const std::vector<std::string> ordered(names.begin(), names.end());
      const std::size_t folds = std::min(ordered.size(), static_cast<std::size_t>(options.family_folds_max));
      for (std::size_t fold = 0; fold < folds; ++fold) {
        std::set<std::string> held;
        for (std::size_t i = fold; i < ordered.size(); i += folds) held.insert(ordered[i]);
        score_withheld(
            model, cases, [&](const Case& c) { return held.contains(c.family); }, best.value, options, families,
            &jackknife);
      }
      add_scores(families, "families", out.scores);
    }
  }
  for (std::size_t i = 0; i < model.parameters.size(); ++i) {
    const ParameterInfo& info = model.parameters[i];
    double sigma = best.sigma[i];
    if (jackknife.size() > 2) {
      double sum = 0;
      for (const auto& values : jackknife) sum += (values[i] - best.value[i]) * (values[i] - best.value[i]);
      const double n = static_cast<double>(jackknife.size());
      sigma = std::min(info.prior_sigma, std::max(sigma, std::sqrt(sum * (n - 1) / n)));
    }
    const double value = rounded(stable::exp(best.value[i]));
    const bool informed = sigma < 0.7 * info.prior_sigma;
    out.parameters.push_back(
        {info.name, value, rounded(value * stable::exp(-1.96 * sigma)), rounded(value * stable::exp(1.96 * sigma)),
         info.unit, (informed ? "fitted" : "mostly prior") + (info.meaning.empty() ? "" : ": " + info.meaning)});
  }
  double low = 1e300, high = -1e300;
  std::set<std::string> names;
  for (const Case* c : cases) {
    low = std::min(low, c->at[0]);
    high = std::max(high, c->at[0]);
    names.insert(c->family);
  }
  out.size_min = std::round(stable::exp(low * 0.6931471805599453));
  out.size_max = std::round(stable::exp(high * 0.6931471805599453));
  out.range =
      fmt::format("{} rows of {} families, size {:g} to {:g}", cases.size(), names.size(), out.size_min, out.size_max);
  return out;
}

}  // namespace

Calibration fit(const std::vector<Case>& cases, const FitOptions& options) {
  Calibration out;
  out.name = options.name;
  out.hardware = options.hardware;
  std::map<std::string, std::int64_t> files;
  for (const Case& c : cases) {
    const auto slash = c.origin.mark.file.rfind('/');
    ++files[slash == std::string::npos ? c.origin.mark.file : c.origin.mark.file.substr(slash + 1)];
    out.software_date = std::max(out.software_date, c.origin.date);
  }
  for (const auto& [file, count] : files) out.data.push_back(fmt::format("{}: {} rows", file, count));
  for (const Model& model : models()) {
    Cases mine;
    for (const Case& c : cases)
      if (c.model == model.name) mine.push_back(&c);
    out.models.push_back(fit_model(model, mine, options));
  }
  return out;
}

}  // namespace faultline::calibration
