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
  std::string campaign, case_name;  // a campaign file, and one of its cases (empty: its only one)
};

void add_experiment_options(CLI::App& app, ExperimentOptions& options);
void add_campaign_options(CLI::App& app, ExperimentOptions& options);
/// The same without the file, for commands that take several.
void add_override_options(CLI::App& app, ExperimentOptions& options);

struct ExperimentFiles {
  std::vector<std::string> files;
  std::vector<std::string>
      others;  // commands for the sweeps and plans that lie beside them: "faultline sweep a/b.yaml"
};
/// Experiment files from files and folders: a folder stands for the experiments among the *.yaml in it, in the order of
/// the numbers in their names (ep8 before ep16). Throws config::ConfigError for a folder without experiments and for a
/// file named twice.
ExperimentFiles experiment_files(const std::vector<std::string>& given);

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
