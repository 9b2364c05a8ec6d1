#include "core/plan/backtest.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <charconv>
#include <cmath>
#include <sstream>

#include "core/stats/sample.h"

namespace faultline::plan {
namespace {

constexpr Duration kFaultAt{60'000'000'000};
constexpr double kWindow_s = 600;  // before, for the level; after the end, for the return

struct Reading {
  std::vector<Incident> incidents;
};
void describe(config::Fields& f, Reading& r) { f.list("incidents", r.incidents, true); }

std::optional<double> number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r' || text.back() == '\t')) text.remove_suffix(1);
  double v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(v)) return std::nullopt;
  return v;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
  for (std::string& c : cells) {
    while (!c.empty() && (c.back() == '\r' || c.back() == ' ')) c.pop_back();
    while (!c.empty() && c.front() == ' ') c.erase(c.begin());
  }
  return cells;
}

struct Figure {
  const char* what;
  std::optional<double> Outcome::*value;
};
constexpr Figure kFigures[] = {{"detected after, s", &Outcome::detect_s},
                               {"ready after, s", &Outcome::ready_s},
                               {"requests failed", &Outcome::failed},
                               {"requests retried", &Outcome::retried},
                               {"output tokens lost", &Outcome::tokens_lost}};

}  // namespace

void describe(config::Fields& f, Outcome& s) {
  std::optional<Duration> detect, ready;
  f.field("detect", detect, config::kNotNegative);
  f.field("ready", ready, config::kNotNegative);
  if (detect) s.detect_s = seconds(*detect);
  if (ready) s.ready_s = seconds(*ready);
  f.field("failed", s.failed, config::kNotNegative);
  f.field("retried", s.retried, config::kNotNegative);
  f.field("tokens_lost", s.tokens_lost);
}

void describe(config::Fields& f, Incident& s) {
  f.required("name", s.name);
  f.required("start", s.start, config::kNotNegative);
  f.field("end", s.end, config::kPositive);
  f.required("kind", s.kind);
  f.required("component", s.component);
  f.field("metrics", s.metrics);
  f.object("observed", s.observed);
  if (!f.reading()) return;
  s.mark = f.mark("component");
  if (s.end && *s.end <= s.start) f.error("end", "end: it is not after the start");
  const auto parameters = fault::info(s.kind).parameters;
  if (parameters != fault::Parameters::none)
    f.error("kind",
            fmt::format("{} takes parameters that an incident does not state: give it as a fault of an experiment",
                        name_of(s.kind)));
}

std::optional<double> tokens_missing(const std::string& csv, const std::string& file, double start_s,
                                     std::optional<double> end_s, config::Diagnostics& diagnostics) {
  std::stringstream in(csv);
  std::string line;
  std::getline(in, line);
  const auto head = cells_of(line);
  const auto column = [&](const char* name) {
    return static_cast<std::size_t>(std::find(head.begin(), head.end(), name) - head.begin());
  };
  const std::size_t time = column("time_s"), rate = column("output_tokens_per_s");
  if (time == head.size() || rate == head.size()) {
    diagnostics.error({file, 1, 1}, "expected columns 'time_s' and 'output_tokens_per_s'");
    return std::nullopt;
  }
  std::vector<std::pair<double, double>> points;
  for (int number_of_line = 2; std::getline(in, line); ++number_of_line) {
    if (line.empty() || line == "\r") continue;
    const auto cells = cells_of(line);
    const auto t = time < cells.size() ? number(cells[time]) : std::nullopt,
               v = rate < cells.size() ? number(cells[rate]) : std::nullopt;
    if (!t || !v) {
      diagnostics.error({file, number_of_line, 1}, "expected numbers in 'time_s' and 'output_tokens_per_s'");
      return std::nullopt;
    }
    if (!points.empty() && *t <= points.back().first) {
      diagnostics.error({file, number_of_line, 1}, "time_s does not increase");
      return std::nullopt;
    }
    points.emplace_back(*t, *v);
  }
  stats::Moments before;
  for (const auto& [t, v] : points) {
    if (t >= start_s - kWindow_s && t < start_s) before.add(v);
  }
  if (before.count() == 0) {
    diagnostics.error({file, 0, 0},
                      fmt::format("no metrics in the {:.0f} s before the incident at {:.0f} s: nothing to compare with",
                                  kWindow_s, start_s));
    return std::nullopt;
  }
  double missing = 0;
  for (std::size_t k = 0; k + 1 < points.size(); ++k) {
    const auto& [t, v] = points[k];
    if (t < start_s || t >= end_s.value_or(start_s) + kWindow_s) continue;
    missing += (before.mean() - v) * (points[k + 1].first - t);
  }
  return missing;
}

std::vector<Incident> load_incidents(const std::string& text, const std::string& file,
                                     const config::FileReader& reader) {
  config::Diagnostics diagnostics;
  const config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  Reading reading;
  config::read(document, document.root(), "", reading, diagnostics);
  diagnostics.throw_if_any();
  const auto slash = file.rfind('/');
  for (Incident& i : reading.incidents) {
    if (i.metrics.empty()) continue;
    const std::string path =
        i.metrics.starts_with('/') || slash == std::string::npos ? i.metrics : file.substr(0, slash + 1) + i.metrics;
    const auto csv = reader(path);
    if (!csv) {
      diagnostics.error(i.mark, fmt::format("metrics of '{}': cannot read '{}'", i.name, path));
      continue;
    }
    const auto missing = tokens_missing(*csv, path, seconds(i.start),
                                        i.end ? std::optional(seconds(*i.end)) : std::nullopt, diagnostics);
    if (missing && !i.observed.tokens_lost) i.observed.tokens_lost = *missing;
  }
  diagnostics.throw_if_any();
  return reading.incidents;
}

experiment::ExperimentSpec experiment_around(const experiment::ExperimentSpec& base, const Incident& incident) {
  experiment::ExperimentSpec spec = base;
  spec.fidelity = experiment::Fidelity::step;
  fault::FaultSpec f;
  f.id = incident.name;
  f.kind = incident.kind;
  f.target = incident.component;
  f.target_mark = f.mark = incident.mark;
  f.at = Instant{kFaultAt.v};
  Duration lasts{0};
  if (incident.end && fault::info(incident.kind).takes_duration) {
    lasts = *incident.end - incident.start;
    f.duration = lasts;
  }
  spec.faults = {f};
  // The restart begins at the latest when the component is back; longer outages are looked at for an hour.
  const Duration hour{3'600'000'000'000};
  spec.end = 2 * kFaultAt + std::min(lasts, hour) + spec.engine.collective_timeout + 2 * spec.engine.restart_total() +
             spec.recovery.node_attach + spec.recovery.retry_interval_max;
  spec.workload.duration = spec.end;
  spec.workload.requests.reset();
  return spec;
}

Outcome outcome_of(const nlohmann::json& summary) {
  Outcome o;
  for (const auto& f : summary.at("faults")) {
    if (!f.value("applied", false)) continue;
    const auto get = [](const nlohmann::json& from, const char* key) {
      return from.contains(key) && from[key].is_number() ? std::optional(from[key].get<double>()) : std::nullopt;
    };
    o.detect_s = get(f["phases_s"], "detect");
    o.ready_s = get(f["phases_s"], "ready");
    o.failed = get(f["blast_radius"], "requests_failed");
    o.retried = get(f["blast_radius"], "requests_retried");
    o.tokens_lost = get(f["blast_radius"], "goodput_loss_tokens");
  }
  return o;
}

Backtest backtest(const std::vector<Incident>& incidents, const std::vector<std::vector<Outcome>>& predicted) {
  Backtest out;
  for (const Figure& figure : kFigures) {
    BacktestTotal total{figure.what, 0, 0, 0};
    std::int64_t with_bias = 0;
    for (std::size_t i = 0; i < incidents.size(); ++i) {
      const auto& observed = incidents[i].observed.*(figure.value);
      if (!observed) continue;
      stats::Moments m;
      for (const Outcome& o : predicted[i]) {
        if (o.*(figure.value)) m.add(*(o.*(figure.value)));
      }
      if (m.count() < 2) continue;
      const boost::math::students_t t(static_cast<double>(m.count() - 1));
      const double half =
          boost::math::quantile(t, 0.975) * m.deviation() * std::sqrt(1 + 1 / static_cast<double>(m.count()));
      const BacktestRow row{incidents[i].name, figure.what, *observed, m.mean(), m.mean() - half, m.mean() + half};
      ++total.count;
      if (row.low <= row.observed && row.observed <= row.high) ++total.inside;
      if (row.observed != 0) {
        total.bias += row.predicted / row.observed - 1;
        ++with_bias;
      }
      out.rows.push_back(row);
    }
    if (with_bias > 0) total.bias /= static_cast<double>(with_bias);
    if (total.count > 0) out.totals.push_back(total);
  }
  std::stable_sort(out.rows.begin(), out.rows.end(), [&](const BacktestRow& a, const BacktestRow& b) {
    const auto place = [&](const std::string& name) {
      return std::find_if(incidents.begin(), incidents.end(), [&](const Incident& i) { return i.name == name; }) -
             incidents.begin();
    };
    return place(a.incident) < place(b.incident);
  });
  return out;
}

nlohmann::ordered_json to_json(const Backtest& b) {
  nlohmann::ordered_json out{{"rows", nlohmann::ordered_json::array()}, {"totals", nlohmann::ordered_json::array()}};
  for (const BacktestRow& r : b.rows) {
    out["rows"].push_back({{"incident", r.incident},
                           {"what", r.what},
                           {"observed", r.observed},
                           {"predicted", r.predicted},
                           {"low", r.low},
                           {"high", r.high},
                           {"inside", r.low <= r.observed && r.observed <= r.high}});
  }
  for (const BacktestTotal& t : b.totals)
    out["totals"].push_back({{"what", t.what}, {"incidents", t.count}, {"bias", t.bias}, {"inside", t.inside}});
  return out;
}

}  // namespace faultline::plan
