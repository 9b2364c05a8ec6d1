// Runs at fluid fidelity, for `run`, `sweep`, `plan`, `rank` and `backtest`.
#pragma once

#include <optional>
#include <string>

#include "cli/run.h"
#include "core/fluid/report.h"

namespace faultline::cli {

/// Everything a fluid run needs of an experiment, made once.
struct FluidModel {
  experiment::ExperimentSpec spec;
  std::unique_ptr<experiment::Deployment> deployment;
  fluid::Capacity capacity;
  fluid::MeasuredEffects measured;
  fluid::Prices prices;
  std::optional<fluid::StartState> state;
  fluid::Options options() const;
};

struct FluidInputs {
  std::string prices, state;                 // files; empty: none
  std::string cache = "out/effects.sqlite";  // measured effects
  bool quiet = true;
};
/// From step runs around the first fault of each kind that strikes an instance; what the cache holds is not run again.
fluid::MeasuredEffects measure_effects(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                                       const FluidInputs& inputs);

/// Throws config::ConfigError: what deploy() refuses and what fluid fidelity cannot answer.
std::unique_ptr<FluidModel> make_fluid(const experiment::ExperimentSpec& spec, const FluidInputs& inputs);

/// With and without faults.
nlohmann::ordered_json fluid_summary(const FluidModel& model);

/// One experiment of `fidelity: fluid`: simulates, writes the output folder, prints the report. `check` also runs it at
/// step fidelity and prints the difference. The exit status.
int run_fluid(const RunOptions& options, const experiment::ExperimentSpec& spec);

}  // namespace faultline::cli
