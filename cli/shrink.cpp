// faultline shrink: a run that fails, reduced to the few faults that make it fail, and the one command that shows it.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/campaign.h"
#include "cli/case_runs.h"
#include "core/experiment/deployment.h"
#include "core/fault/shrink.h"

namespace faultline::cli {
namespace {

struct Options {
  ExperimentOptions experiment;
  std::vector<std::string> unless;
  bool json = false;
};

/// "requests.failed<=0": a path into the summary, an operator and a number. The run fails where it does not hold.
struct Check {
  std::string text;
  std::vector<std::string> path;
  bool at_most = true;
  double bound = 0;
};

Check check_of(const std::string& text) {
  const auto op = text.find_first_of("<>");
  Check c{.text = text};
  try {
    if (op == std::string::npos || op == 0 || text.at(op + 1) != '=') throw std::invalid_argument("operator");
    c.at_most = text[op] == '<';
    std::size_t used = 0;
    c.bound = std::stod(text.substr(op + 2), &used);
    if (used != text.size() - op - 2) throw std::invalid_argument("number");
  } catch (const std::exception&) {
    throw config::ConfigError(fmt::format(
        "error: --unless '{}': expected a figure of summary.json and a bound, such as 'requests.failed<=0'\n", text));
  }
  std::string part;
  for (const char ch : text.substr(0, op) + ".") {
    if (ch != '.') part += ch;
    else if (!part.empty()) c.path.push_back(std::exchange(part, {}));
  }
  return c;
}

/// Why a summary is one of a run that failed; empty for a good one.
std::string problem_of(const nlohmann::json& summary, const std::vector<Check>& checks, bool has_end) {
  if (!summary.at("violations").empty()) return summary.at("violations")[0].get<std::string>();
  const auto& requests = summary.at("requests");
  if (requests.at("unaccounted") != 0) return "requests are unaccounted for";
  if (!has_end && requests.at("unfinished") != 0) return "requests did not end";
  for (const Check& c : checks) {
    const nlohmann::json* node = &summary;
    for (const std::string& key : c.path) {
      const auto it = node->find(key);
      if (it == node->end())
        throw config::ConfigError(fmt::format("error: --unless '{}': summary.json has no '{}'\n", c.text, key));
      node = &*it;
    }
    if (!node->is_number())
      throw config::ConfigError(fmt::format("error: --unless '{}' is not a number in summary.json\n", c.text));
    const double v = node->get<double>();
    if (c.at_most ? v > c.bound : v < c.bound)
      return fmt::format("{} is {}", c.text.substr(0, c.text.find_first_of("<>")), v);
  }
  return "";
}

std::string problem_in_child(const experiment::ExperimentSpec& spec, const std::vector<Check>& checks) {
  const CaseResult result = run_case(spec, true);
  if (result.error.starts_with("the run")) return result.error;
  if (!result.error.empty()) throw config::ConfigError(result.error);
  return problem_of(nlohmann::json::parse(result.summary), checks, spec.end.has_value());
}

int run(const Options& o) {
  std::vector<Check> checks;
  for (const std::string& text : o.unless) checks.push_back(check_of(text));
  experiment::ExperimentSpec spec = load_experiment(o.experiment).spec;
  spec.faults = fault::scripted(experiment::deploy(spec)->faults);
  const std::size_t before = spec.faults.size();
  std::string problem = problem_in_child(spec, checks);
  if (problem.empty()) {
    fmt::print("nothing fails: every promise holds in this run ({} faults)\n", before);
    return 0;
  }
  int runs = 1;
  const auto small = fault::shrink<fault::FaultSpec>(spec.faults, [&](const std::vector<fault::FaultSpec>& faults) {
    experiment::ExperimentSpec one = spec;
    one.faults = faults;
    ++runs;
    const std::string p = problem_in_child(one, checks);
    if (!p.empty()) problem = p;
    return !p.empty();
  });
  const std::string faults = fault::yaml_of(small);
  std::string sets;
  for (const auto& s : o.experiment.set) {
    if (!s.starts_with("faults=")) sets += fmt::format(" --set '{}'", s);
  }
  const std::string command = fmt::format("faultline run {}{} --set 'faults={}' --seed {} --unpaired",
                                          o.experiment.file, sets, faults, spec.seed);
  if (o.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"problem", problem},
                                              {"faults_before", before},
                                              {"faults", small.size()},
                                              {"runs", runs},
                                              {"command", command}}
                           .dump(2));
  } else {
    fmt::print("{}\n{} of {} faults show it ({} runs):\n", problem, small.size(), before, runs);
    for (const auto& f : small) fmt::print("  {}\n", fault::yaml_of({f}));
    fmt::print("reproduce it with:\n  {}\n", command);
  }
  return 1;
}

const Registration kShrink{{.order = 16,
                            .name = "shrink",
                            .help = "Reduce a run that fails to the few faults that make it fail",
                            .setup = [](CLI::App& app) -> std::function<int()> {
                              auto o = std::make_shared<Options>();
                              add_experiment_options(app, o->experiment);
                              add_campaign_options(app, o->experiment);
                              app.add_option(
                                     "--unless", o->unless,
                                     "The run also fails unless this holds, such as 'requests.failed<=0' (repeatable)")
                                  ->allow_extra_args(false)
                                  ->take_all();
                              app.add_flag("--json", o->json, "Print JSON");
                              return [o] { return run(*o); };
                            }}};

}  // namespace
}  // namespace faultline::cli
