#include "cli/experiment_files.h"

#include <fmt/format.h>

namespace faultline::cli {

void add_experiment_options(CLI::App& app, ExperimentOptions& o) {
  app.add_option("experiment", o.file, "Experiment file (YAML)")->required();
  app.add_option("--set", o.set, "Set a field: --set fleet.instances=8 (repeatable)")->allow_extra_args(false)->take_all();
  app.add_option("--trace", o.trace, "Requests from a recorded trace instead of the experiment's generator");
  app.add_option("--seed", o.seed, "Seed of the run");
}

std::optional<std::string> read_text(const std::string& path) { return read_file(path); }

LoadedExperiment load_experiment(const ExperimentOptions& o) {
  experiment::Overrides overrides;
  overrides.set = o.set;
  if (!o.trace.empty()) overrides.trace = o.trace;
  overrides.seed = o.seed;
  return {experiment::load(must_read_file(o.file), o.file, overrides, read_text)};
}

std::vector<report::Source> sources_of(const experiment::ExperimentSpec& spec) {
  std::vector<report::Source> sources;
  sources.push_back({fmt::format("step times of {} on {}", spec.model.name, spec.device.name),
                     "roofline with stated efficiencies, docs/model.md; device: " + spec.device.source});
  sources.push_back({"model shape", spec.model.source});
  sources.push_back({fmt::format("engine profile '{}' {}", spec.engine.name, spec.engine.version), "scheduler limits and restart phases as in the resolved experiment"});
  sources.push_back({"network", "max-min fair sharing of links (SimGrid 3.32), RDMA failures after the retransmission budget"});
  return sources;
}

}  // namespace faultline::cli
