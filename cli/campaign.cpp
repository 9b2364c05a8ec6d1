#include "cli/campaign.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/case_runs.h"
#include "cli/distributed.h"
#include "cli/sweep_store.h"
#include "core/base/hash.h"
#include "core/experiment/campaign.h"
#include "core/experiment/deployment.h"
#include "sim/faults/support.h"

namespace faultline::cli {
namespace {

using Json = nlohmann::ordered_json;

/// What one case cost: sums over the faults of its run, phases of the slowest.
struct Row {
  std::string name;
  std::int64_t faults = 0, failed = 0, retried = 0;
  double structural = 0, lost_gpu_s = 0, goodput_loss = 0;
  std::optional<double> detect, ready;
  std::string problem;  // a broken promise
};

double number(const Json& node, const char* key) {
  const auto it = node.find(key);
  return it != node.end() && it->is_number() ? it->get<double>() : 0;
}

void later(std::optional<double>& slot, const Json& phases, const char* key) {
  const auto it = phases.find(key);
  if (it != phases.end() && it->is_number()) slot = std::max(slot.value_or(0), it->get<double>());
}

Row row_of(const std::string& name, const Json& summary, bool has_end) {
  Row row{.name = name};
  for (const auto& f : summary.at("faults")) {
    if (!f.at("applied").get<bool>()) continue;
    row.faults += static_cast<std::int64_t>(std::max<std::size_t>(1, f.at("members").size()));
    const auto& radius = f.at("blast_radius");
    row.structural = std::max(row.structural, number(radius, "structural_gpus_max"));
    row.lost_gpu_s += number(radius, "capacity_loss_gpu_s");
    row.goodput_loss += number(radius, "goodput_loss_tokens");
    row.failed += static_cast<std::int64_t>(number(radius, "requests_failed"));
    row.retried += static_cast<std::int64_t>(number(radius, "requests_retried"));
    later(row.detect, f.at("phases_s"), "detect");
    later(row.ready, f.at("phases_s"), "ready");
  }
  const auto& requests = summary.at("requests");
  if (!summary.at("violations").empty()) row.problem = summary.at("violations")[0].get<std::string>();
  else if (number(requests, "unaccounted") != 0) row.problem = "requests are unaccounted for";
  else if (!has_end && number(requests, "unfinished") != 0) row.problem = "requests did not end";
  return row;
}

std::string seconds_text(const std::optional<double>& s) { return s ? fmt::format("{:.2f}", *s) : "–"; }

Json json_of(const Row& r) {
  Json out{{"case", r.name},
           {"faults", r.faults},
           {"structural_gpus_max", r.structural},
           {"capacity_loss_gpu_s", r.lost_gpu_s},
           {"goodput_loss_tokens", r.goodput_loss},
           {"requests_failed", r.failed},
           {"requests_retried", r.retried}};
  out["detect_s"] = r.detect ? Json(*r.detect) : Json();
  out["ready_s"] = r.ready ? Json(*r.ready) : Json();
  out["problem"] = r.problem.empty() ? Json() : Json(r.problem);
  return out;
}

void print_table(const std::vector<Row>& rows) {
  std::size_t width = 4;
  for (const Row& r : rows) width = std::max(width, r.name.size());
  fmt::print("{:<{}} {:>6} {:>7} {:>11} {:>13} {:>7} {:>7} {:>9} {:>9}\n", "case", width, "faults", "GPUs",
             "lost GPU-s", "goodput loss", "failed", "retried", "detect s", "ready s");
  for (const Row& r : rows) {
    fmt::print("{:<{}} {:>6} {:>7.0f} {:>11.1f} {:>13.0f} {:>7} {:>7} {:>9} {:>9}\n", r.name, width, r.faults,
               r.structural, r.lost_gpu_s, r.goodput_loss, r.failed, r.retried, seconds_text(r.detect),
               seconds_text(r.ready));
  }
}

}  // namespace

std::vector<fault::CampaignCase> load_cases(const experiment::ExperimentSpec& spec, const std::string& file) {
  config::Diagnostics diagnostics;
  const fault::CampaignSpec campaign = fault::read_campaign(must_read_file(file), file, read_text, diagnostics);
  diagnostics.throw_if_any();
  const auto can_apply = [](fault::FaultKind kind) { return sim::why_not_simulated(kind).empty(); };
  auto cases = experiment::campaign_cases(spec, campaign, can_apply, diagnostics);
  diagnostics.throw_if_any();
  return cases;
}

int run_campaign(const RunOptions& options) {
  ExperimentOptions base = options.experiment;
  const std::string file = base.campaign;
  base.campaign.clear();
  const experiment::ExperimentSpec spec = load_experiment(base).spec;
  const auto cases = load_cases(spec, file);
  if (cases.size() == 1) return run_one(options);  // a run like any other, with its full report
  std::vector<experiment::ExperimentSpec> specs;
  std::vector<std::string> keys;
  for (const fault::CampaignCase& c : cases) {
    specs.push_back(spec);
    specs.back().faults = c.faults;
    // Every case is checked before the first one runs.
    if (c.faults.size() < 100) experiment::deploy(specs.back());
    keys.push_back(fmt::format("{:016x}", hash_text(experiment::resolved(specs.back()))));
  }
  const std::string out = options.out.empty() ? "out/" + spec.name + "/campaign" : options.out;
  make_folder(out);
  SweepStore store(out + "/campaign.sqlite");
  std::vector<std::size_t> todo;
  for (std::size_t k = 0; k < cases.size(); ++k) {
    if (!store.has(keys[k])) todo.push_back(k);
  }
  catch_interrupts();
  std::vector<std::pair<std::size_t, std::string>> dead;
  std::size_t done = 0;
  {
    Progress progress("cases", options.quiet);
    run_cases(
        specs, todo, jobs_or_cores(0), options.unpaired,
        [&](std::size_t k, const CaseResult& result) {
          if (result.error.empty())
            store.put({keys[k], cases[k].name, static_cast<std::int64_t>(spec.seed), result.summary});
          else dead.emplace_back(k, result.error);
          ++done;
        },
        [&] { progress.show(done, todo.size(), cases.size() - todo.size()); });
  }

  const auto reproduce = [&](std::size_t k, const char* command) {
    std::string sets;
    for (const auto& s : options.experiment.set) sets += fmt::format(" --set '{}'", s);
    return fmt::format("faultline {} {} --campaign {} --case '{}' --seed {}{}", command, options.experiment.file, file,
                       cases[k].name, spec.seed, sets);
  };
  const auto found = store.summaries(keys);
  std::vector<Row> rows;
  Json result{{"experiment", spec.name},
              {"campaign", file},
              {"seed", spec.seed},
              {"cases", cases.size()},
              {"rows", Json::array()}};
  int status = 0;
  for (std::size_t k = 0; k < cases.size(); ++k) {
    const auto it = found.find(keys[k]);
    if (it == found.end()) continue;
    rows.push_back(row_of(cases[k].name, Json::parse(it->second), spec.end.has_value()));
    result["rows"].push_back(json_of(rows.back()));
    if (rows.back().problem.empty()) continue;
    status = 1;
    fmt::print(stderr, "faultline: error: {}: {}\n  reproduce it with: {}\n  shrink it with:    {}\n", cases[k].name,
               rows.back().problem, reproduce(k, "run"), reproduce(k, "shrink"));
  }
  for (const auto& [k, error] : dead) {
    status = 1;
    fmt::print(stderr, "faultline: error: {}: {}\n  reproduce it with: {}\n  shrink it with:    {}\n", cases[k].name,
               error, reproduce(k, "run"), reproduce(k, "shrink"));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.lost_gpu_s > b.lost_gpu_s; });
  write_file(out + "/campaign.json", result.dump(2) + "\n");
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
  } else if (!options.quiet) {
    print_table(rows);
    fmt::print("\n{} of {} cases, by GPU-seconds lost; written: {}/campaign.{{json,sqlite}}\n", rows.size(),
               cases.size(), out);
  }
  if (interrupted) fmt::print(stderr, "interrupted: what is done is kept; the same command goes on from there\n");
  return status != 0 ? status : interrupted ? 130 : 0;
}

}  // namespace faultline::cli
