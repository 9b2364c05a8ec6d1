// faultline backtest: incidents that happened, beside what step runs of the same fault predict for them.
#include <fmt/format.h>

#include "cli/distributed.h"
#include "cli/experiment_files.h"
#include "cli/replica_work.h"
#include "cli/run.h"
#include "core/experiment/fleets.h"
#include "core/plan/backtest.h"
#include "core/report/text.h"

namespace faultline::cli {
namespace {

struct Options {
  ExperimentOptions experiment;
  std::vector<std::string> incidents;
  std::int64_t seeds = 5;
  int jobs = 0;
  bool json = false;
};

int run(const Options& o) {
  const experiment::ExperimentSpec base = load_experiment(o.experiment).spec;
  experiment::needs_one_fleet(base, "faultline backtest");
  std::vector<plan::Incident> incidents;
  for (const std::string& file : o.incidents) {
    const auto more = plan::load_incidents(must_read_file(file), file, read_text);
    incidents.insert(incidents.end(), more.begin(), more.end());
  }
  std::vector<experiment::ExperimentSpec> specs;
  std::vector<ReplicaTask> replicas;
  for (std::size_t k = 0; k < incidents.size(); ++k) {
    specs.push_back(plan::experiment_around(base, incidents[k]));
    experiment::deploy(specs.back());  // unknown components are errors before the first run
    for (std::int64_t s = 0; s < o.seeds; ++s) replicas.push_back({k, base.seed + static_cast<std::uint64_t>(s)});
  }
  std::vector<std::vector<plan::Outcome>> predicted(incidents.size(),
                                                    std::vector<plan::Outcome>(static_cast<std::size_t>(o.seeds)));
  TaskRun tasks;
  for (std::size_t k = 0; k < replicas.size(); ++k) tasks.todo.push_back({k, {}});
  tasks.jobs = jobs_or_cores(o.jobs);
  catch_interrupts();
  tasks.done = [&](const Task& task, const std::string& summary) {
    const std::size_t k = task.number;
    predicted[replicas[k].spec][k % static_cast<std::size_t>(o.seeds)] =
        plan::outcome_of(nlohmann::json::parse(summary));
  };
  const auto failed = run_tasks(replica_work(
                                    specs, [&](std::size_t k) { return replicas[k]; }, false),
                                std::move(tasks));
  if (failed)
    throw std::runtime_error(fmt::format("a run of incident '{}' failed: {}",
                                         incidents[replicas[failed->task.number].spec].name, failed->error));
  if (interrupted) return 130;
  const plan::Backtest result = plan::backtest(incidents, predicted);
  if (o.json) {
    fmt::print("{}\n", plan::to_json(result).dump(2));
    return 0;
  }
  fmt::print("{:<20} {:<24} {:>12} {:>12} {:<24} {:>8}\n", "incident", "what", "observed", "predicted",
             "95 % of single events", "error");
  for (const plan::BacktestRow& r : result.rows) {
    const auto n = [](double v) { return report::number(v); };
    fmt::print("{:<20} {:<24} {:>12} {:>12} {:<24} {:>8}{}\n", r.incident, r.what, n(r.observed), n(r.predicted),
               fmt::format("[{}, {}]", n(r.low), n(r.high)),
               r.observed != 0 ? fmt::format("{:+.0f} %", 100 * (r.predicted / r.observed - 1)) : "–",
               r.low <= r.observed && r.observed <= r.high ? "" : "  outside");
  }
  for (const plan::BacktestTotal& t : result.totals) {
    fmt::print("{}: {} incident{}, bias {:+.1f} %, {} of {} observations inside the interval\n", t.what, t.count,
               t.count == 1 ? "" : "s", 100 * t.bias, t.inside, t.count);
  }
  if (result.totals.empty()) fmt::print("no incident states anything observed that a run predicts\n");
  return 0;
}

const Registration kBacktest{
    {.order = 22,
     .name = "backtest",
     .help = "Incidents that happened beside what the simulator predicts for them",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       add_experiment_options(app, o->experiment);
       app.add_option("--incident", o->incidents, "Incident file (YAML), repeatable")->required();
       app.add_option("--seeds", o->seeds, "Runs of each incident")
           ->check(CLI::Range(2, 10'000))
           ->capture_default_str();
       app.add_option("--jobs,-j", o->jobs, "Runs at a time (default: the cores)")->check(CLI::Range(1, 4096));
       app.add_flag("--json", o->json, "Print JSON");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
