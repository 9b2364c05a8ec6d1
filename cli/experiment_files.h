// Options that every command with an experiment takes, and loading it from the disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/experiment/spec.h"
#include "core/report/report.h"

namespace faultline::cli {

struct ExperimentOptions {
  std::string file;
  std::vector<std::string> set;
  std::string trace;
  std::optional<std::uint64_t> seed;
};

void add_experiment_options(CLI::App& app, ExperimentOptions& options);

struct LoadedExperiment {
  experiment::ExperimentSpec spec;
};
/// Throws config::ConfigError.
LoadedExperiment load_experiment(const ExperimentOptions& options);

/// The reader of the disk for core.
std::optional<std::string> read_text(const std::string& path);

/// Where the modelled numbers of an experiment come from.
std::vector<report::Source> sources_of(const experiment::ExperimentSpec& spec);

}  // namespace faultline::cli
