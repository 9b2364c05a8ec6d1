#include "cli/experiment_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "cli/campaign.h"
#include "core/config/diagnostics.h"
#include "core/config/document.h"
#include "core/experiment/document_kind.h"

namespace faultline::cli {

void add_experiment_options(CLI::App& app, ExperimentOptions& o) {
  app.add_option("experiment", o.file, "Experiment file (YAML)")->required();
  add_override_options(app, o);
}

void add_override_options(CLI::App& app, ExperimentOptions& o) {
  app.add_option("--set", o.set, "Set a field: --set fleet.instances=8 (repeatable)")
      ->allow_extra_args(false)
      ->take_all();
  app.add_option("--trace", o.trace, "Requests from a recorded trace instead of the experiment's generator");
  app.add_option("--seed", o.seed, "Seed of the run")->check(whole_number());
}

void add_campaign_options(CLI::App& app, ExperimentOptions& o) {
  app.add_option("--campaign", o.campaign, "Faults from this campaign file instead of the experiment's");
  app.add_option("--case", o.case_name, "Only this case of the campaign");
}

namespace {

/// Names as people order them: a run of digits counts as the number it is.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const auto number = [&](const std::string& s, std::size_t& k) {
        while (k < s.size() && s[k] == '0') ++k;
        const std::size_t begin = k;
        while (k < s.size() && digit(s[k])) ++k;
        return s.substr(begin, k - begin);
      };
      const std::string x = number(a, i), y = number(b, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
    }
  }
  if ((i == a.size()) != (j == b.size())) return i == a.size();
  return a < b;  // ep08 and ep8: any fixed order
}

std::string_view command_for_file(const std::string& file) {
  config::Diagnostics later;  // a file that cannot be parsed is reported when it is loaded
  const auto text = read_file(file);
  return experiment::command_for(config::Document(text.value_or(""), file, later).root());
}

}  // namespace

ExperimentFiles experiment_files(const std::vector<std::string>& given) {
  namespace fs = std::filesystem;
  ExperimentFiles found;
  std::string errors;
  for (const std::string& name : given) {
    std::error_code error;
    if (!fs::is_directory(name, error)) {
      found.files.push_back(name);
      continue;
    }
    std::vector<std::string> inside;
    for (const auto& entry : fs::directory_iterator(name, error)) {
      if (entry.path().extension() == ".yaml") inside.push_back((fs::path(name) / entry.path().filename()).string());
    }
    std::sort(inside.begin(), inside.end(), natural_less);
    const std::size_t before = found.files.size(), others_before = found.others.size();
    for (const std::string& file : inside) {
      const std::string_view command = command_for_file(file);
      if (command == "run") found.files.push_back(file);
      else found.others.push_back(fmt::format("faultline {} {}", command, file));
    }
    if (found.files.size() > before) continue;
    errors +=
        fmt::format("{}: error: {}\n", name,
                    error ? "cannot read the folder: " + error.message() : "no experiment (*.yaml) in this folder");
    for (std::size_t i = others_before; i < found.others.size(); ++i)
      errors += fmt::format("  what there is: {}\n", found.others[i]);
  }
  std::set<std::string> seen;
  for (const std::string& file : found.files) {
    if (!seen.insert(fs::path(file).lexically_normal().string()).second)
      errors += fmt::format("{}: error: named twice\n", file);
  }
  if (!errors.empty()) throw config::ConfigError(errors);
  return found;
}

std::optional<std::string> read_text(const std::string& path) { return read_file(path); }

LoadedExperiment load_experiment(const ExperimentOptions& o) {
  experiment::Overrides overrides;
  overrides.set = o.set;
  if (!o.trace.empty()) overrides.trace = o.trace;
  overrides.seed = o.seed;
  LoadedExperiment loaded{experiment::load(must_read_file(o.file), o.file, overrides, read_text)};
  if (o.campaign.empty()) {
    if (!o.case_name.empty()) throw config::ConfigError("error: --case needs --campaign\n");
    return loaded;
  }
  auto cases = load_cases(loaded.spec, o.campaign);
  std::vector<std::string> names;
  for (auto& c : cases) {
    if (c.name == o.case_name || (o.case_name.empty() && cases.size() == 1)) {
      loaded.spec.faults = std::move(c.faults);
      return loaded;
    }
    names.push_back(c.name);
  }
  if (o.case_name.empty())
    throw config::ConfigError(
        fmt::format("error: {} makes {} cases: choose one with --case\n", o.campaign, cases.size()));
  throw config::ConfigError(fmt::format("error: {} has no case '{}'\n  known cases: {} {}\n", o.campaign, o.case_name,
                                        config::name_list(names), config::did_you_mean(o.case_name, names)));
}

std::vector<report::Source> sources_of(const experiment::ExperimentSpec& spec) {
  std::vector<report::Source> sources;
  sources.push_back(
      {fmt::format("step times of {} on {}", spec.model.name, spec.device.name),
       spec.calibration
           ? fmt::format("operation models fitted to measurements, calibration '{}' for {}, docs/calibration.md",
                         spec.calibration->name, spec.calibration->hardware)
           : "roofline with stated efficiencies, docs/model.md; device: " + spec.device.source});
  sources.push_back({"model shape", spec.model.source});
  sources.push_back({fmt::format("engine profile '{}' {}", spec.engine.name, spec.engine.version),
                     "scheduler limits and restart phases as in the resolved experiment"});
  sources.push_back(
      {"network", "max-min fair sharing of links (SimGrid 3.32), RDMA failures after the retransmission budget"});
  return sources;
}

}  // namespace faultline::cli
