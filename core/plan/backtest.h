// Incidents that happened, and what step runs of the same fault say of them. An incident file:
//
//   incidents:
//     - name: march-3
//       start: 14 h                  # on the metrics' time axis; any origin
//       end: 15 h                    # when the component was well again; absent: after the time looked at
//       kind: gpu.failstop
//       component: node-3.gpu-2      # as in a fault's target
//       metrics: march-3.csv         # optional: time_s, output_tokens_per_s [, failed_requests]
//       observed: {detect: 2 s, ready: 240 s, failed: 12, retried: 80}   # all optional
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/spec.h"

namespace faultline::plan {

struct Outcome {
  std::optional<double> detect_s, ready_s, failed, retried;
  std::optional<double> tokens_lost;  // output tokens not delivered in time, against the level before the incident
};

struct Incident {
  std::string name;
  Duration start{};
  std::optional<Duration> end;
  fault::FaultKind kind = fault::FaultKind::gpu_failstop;
  std::string component;
  std::string metrics;
  Outcome observed;
  config::Mark mark;
};
void describe(config::Fields& f, Outcome& s);
void describe(config::Fields& f, Incident& s);

/// Files of metrics are read through `reader`, relative to the incident file. Throws config::ConfigError.
std::vector<Incident> load_incidents(const std::string& text, const std::string& file,
                                     const config::FileReader& reader);

/// Output tokens missing from `start` to `end` (and ten minutes of return) against the mean of the ten minutes before.
/// Errors go to `diagnostics` with the line.
std::optional<double> tokens_missing(const std::string& csv, const std::string& file, double start_s,
                                     std::optional<double> end_s, config::Diagnostics& diagnostics);

/// The experiment with the incident as its only fault, at 60 s, and time enough to recover.
experiment::ExperimentSpec experiment_around(const experiment::ExperimentSpec& base, const Incident& incident);

/// Of a step run's summary.json.
Outcome outcome_of(const nlohmann::json& summary);

struct BacktestRow {
  std::string incident, what;
  double observed = 0, predicted = 0, low = 0,
         high = 0;  // interval of a single event: 95 % by Student's t over the seeds
};
struct BacktestTotal {
  std::string what;
  std::int64_t count = 0, inside = 0;
  double bias = 0;  // mean of predicted / observed - 1
};
struct Backtest {
  std::vector<BacktestRow> rows;
  std::vector<BacktestTotal> totals;
};
/// predicted[i]: one outcome a seed.
Backtest backtest(const std::vector<Incident>& incidents, const std::vector<std::vector<Outcome>>& predicted);
nlohmann::ordered_json to_json(const Backtest& b);

}  // namespace faultline::plan
