// faultline plan: the cheapest fleet for a load, an SLO and an availability target, under several rate profiles.
//
// Every piece of work is a task whose input is JSON and whose result is kept under a hash of all it depends on. The
// planner asks for results; what is not known yet becomes the next round of tasks, and then it asks again. So rounds
// run on any number of cores or hosts, and a killed plan goes on from what is stored.
#include "cli/plan.h"

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/experiment_files.h"
#include "cli/profiles.h"
#include "cli/replica_work.h"
#include "cli/run.h"
#include "core/base/hash.h"
#include "core/experiment/fleets.h"
#include "core/report/cost_model.h"
#include "sim/engine/flow_net_module.h"

namespace faultline::cli {
namespace {

using nlohmann::json;

/// The summary of a step run in a process of its own (a task tries several).
std::optional<json> step_run(const experiment::ExperimentSpec& spec) {
  sim::ChildProcess child([&] { return replica_summary(spec, *experiment::deploy(spec), true); });
  const Result r = child.wait();
  if (!r.well()) return std::nullopt;
  return json::parse(r.bytes);
}

}  // namespace

Planner::Planner(const PlanOptions& options) : o_(options) {
  plan_ = plan::load_plan(must_read_file(o_.file), o_.file);
  experiment::Overrides overrides;
  overrides.set = o_.set;
  base_ = experiment::load(must_read_file(plan_.experiment), plan_.experiment, overrides, read_text);
  experiment::needs_one_fleet(base_, "faultline plan");
  if (!o_.profiles.empty()) plan_.profiles = o_.profiles;
  if (o_.target > 0) plan_.target = o_.target;
  if (o_.seeds > 0) plan_.seeds = o_.seeds;
  profiles_ = load_profiles(plan_.profiles);
  prices_text_ = o_.prices.empty() ? fmt::format("gpu_hour {}", base_.cost.gpu_hour) : must_read_file(o_.prices);
  prices_ = load_prices(o_.prices, base_);
  load_ = fluid::load_of(base_, read_text);
  if (load_.rate <= 0) throw config::ConfigError(plan_.experiment + ": error: the workload has no load to plan for\n");
  out_ = o_.out.empty() ? "out/" + plan_.name + ".plan.sqlite" : o_.out;
  make_settings();
}

void Planner::make_settings() {
  changes_.push_back({});
  if (!o_.no_sensitivity) {
    for (plan::Change& c : plan::changes()) changes_.push_back(std::move(c));
  }
  const auto shapes = plan::shapes_of(plan_, base_, load_);
  for (std::size_t c = 0; c < changes_.size(); ++c) {
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      if (c > 0 && p != profiles_.size() / 2) continue;  // assumptions are changed under the middle profile
      Setting s{plan_, base_, profiles_[p], load_, shapes, c, p, {}};
      plan::apply(changes_[c], s.plan, s.base, s.profile);
      s.load.rate *= changes_[c].load;
      if (changes_[c].tpot != 1) s.shapes = plan::shapes_of(s.plan, s.base, s.load);
      std::string text = experiment::resolved(s.base) + prices_text_ +
                         fmt::format("|{}|{}|{}|{}|", s.plan.target, s.plan.period.v, s.plan.seeds, s.plan.spares_max);
      for (const auto& source : s.profile.sources) {
        text += fmt::format("{} {} {} {} {};", source.id, name_of(source.kind), name_of(source.per),
                            source.rate_per_hour, source.repair ? source.repair->mean.v : 0);
      }
      s.hash = fmt::format("{:016x}", hash_text(text));
      settings_.push_back(std::move(s));
    }
  }
}

/// The step run that a shape is calibrated with, at so many times its closed form's capacity. Nothing fails in it: what
/// it depends on are the shape, the limits, the engine and the lengths, not the price of a restart.
experiment::ExperimentSpec Planner::calibration_run(const Setting& setting, const plan::ShapeChoice& shape,
                                                    double factor) const {
  const double peak = load_.rate * (1 + load_.amplitude);
  plan::Fleet fleet;
  fleet.shape = shape.shape;
  fleet.instances = plan::step_instances(1 + static_cast<std::int64_t>(peak / shape.requests_per_s));
  const double rate = factor * shape.requests_per_s * static_cast<double>(fleet.instances);
  auto spec = plan::step_experiment(setting.plan, setting.base, fleet, fleet.instances, rate, false);
  const control::EngineSpec any;
  spec.engine.restart_process = any.restart_process;
  spec.engine.restart_weights = any.restart_weights;
  spec.engine.restart_compile = any.restart_compile;
  spec.engine.restart_graph_capture = any.restart_graph_capture;
  spec.engine.restart_warmup = any.restart_warmup;
  return spec;
}

/// Runs in a process of its own. Inputs: {do: calibrate, setting, shape}, {do: search, setting, shape, factor, extra}
/// and {do: check, setting, shape, instances, rate, spares}.
std::string Planner::run_task(const Task& task) const {
  const json in = json::parse(task.input);
  const Setting& setting = settings_[in.value("setting", std::size_t{0})];
  plan::ShapeChoice shape = setting.shapes[in["shape"].get<std::size_t>()];
  const std::string what = in["do"];
  plan::Fleet fleet;
  fleet.shape = shape.shape;
  if (what == "search") {
    shape.factor = in["factor"];
    shape.requests_per_s *= shape.factor;
    return plan::to_json(plan::search(setting.plan, setting.base, shape, setting.profile, prices_, setting.load,
                                      in["extra"].get<std::int64_t>()))
        .dump();
  }
  if (what == "calibrate") {
    return plan::to_json(plan::calibrate(plan_.within_slo,
                                         [&](double factor) -> std::optional<double> {
                                           const auto summary = step_run(calibration_run(setting, shape, factor));
                                           if (!summary) return std::nullopt;
                                           return plan::within_slo(*summary);
                                         }))
        .dump();
  }
  fleet.instances = in["instances"];
  fleet.spares = in["spares"];
  const std::int64_t n = plan::step_instances(fleet.instances);
  json out{{"attainment", 0.0}, {"ready_s", -1.0}, {"interrupted", 0.0}};
  if (const auto clean = step_run(plan::step_experiment(plan_, base_, fleet, n, in["rate"], false)))
    out["attainment"] = plan::within_slo(*clean);
  if (const auto hit = step_run(plan::step_experiment(plan_, base_, fleet, n, in["rate"], true));
      hit && !(*hit)["faults"].empty()) {
    const json& ready = (*hit)["faults"][0]["phases_s"]["ready"];
    if (ready.is_number()) out["ready_s"] = ready;
    out["interrupted"] = (*hit)["requests"]["retried"].get<double>() + (*hit)["requests"]["failed"].get<double>();
  }
  return out.dump();
}

std::string Planner::key_of(const Task& task) const {
  json in = json::parse(task.input);
  const Setting& setting = settings_[in.value("setting", std::size_t{0})];
  const plan::ShapeChoice& choice = setting.shapes[in["shape"].get<std::size_t>()];
  const std::string shape = choice.shape.text();
  in.erase("setting");
  in.erase("shape");
  const std::string what = in["do"];
  // A changed assumption that a calibration does not see has that of the plan itself; a changed limit has its own.
  if (what == "calibrate") {
    return fmt::format(
        "{}-{:016x}", what,
        hash_text(experiment::resolved(calibration_run(setting, choice, 1)) + fmt::format("|{}", plan_.within_slo)));
  }
  // Step runs know neither the profile nor the prices.
  const std::string rest = what == "search"
                               ? setting.hash
                               : experiment::resolved(base_) + fmt::format("|{}|{}", plan_.within_slo, load_.rate);
  return fmt::format("{}-{:016x}", what, hash_text(rest + shape + in.dump()));
}

std::optional<json> Planner::ask(const json& input) {
  Task task{0, input.dump()};
  std::string& key = keys_[task.input];
  if (key.empty()) key = key_of(task);
  if (const auto at = known_.find(key); at != known_.end()) return at->second;
  if (const auto stored = store_->summary(key)) {
    ++there_;
    return known_[key] = json::parse(*stored);
  }
  if (asked_.insert(key).second) round_.push_back(std::move(task));
  return std::nullopt;
}

/// Every shape of every setting gets its factor; settings that a calibration cannot tell apart share it (key_of).
bool Planner::calibrate() {
  bool complete = true;
  for (std::size_t k = 0; k < settings_.size(); ++k) {
    outcomes_[k].shapes = settings_[k].shapes;
    for (std::size_t s = 0; s < outcomes_[k].shapes.size(); ++s) {
      plan::ShapeChoice& shape = outcomes_[k].shapes[s];
      if (!shape.refusal.empty() || o_.no_verify) continue;
      const auto result = ask({{"do", "calibrate"}, {"setting", k}, {"shape", s}});
      complete = complete && result.has_value();
      if (!result) continue;
      const plan::Calibration found = plan::calibration_from(*result);
      shape.factor = found.factor;
      shape.requests_per_s *= shape.factor;
      shape.refusal = found.refusal;
    }
  }
  return complete;
}

bool Planner::search(std::size_t k, PlanOutcome& outcome) {
  bool complete = true;
  for (std::size_t s = 0; s < outcome.shapes.size(); ++s) {
    plan::Search search;
    search.refusal = outcome.shapes[s].refusal;
    if (search.refusal.empty()) {
      const auto result =
          ask({{"do", "search"}, {"setting", k}, {"shape", s}, {"factor", outcome.shapes[s].factor}, {"extra", 0}});
      complete = complete && result.has_value();
      if (result) search = plan::search_from(*result);
    }
    outcome.searches.push_back(std::move(search));
  }
  return complete;
}

/// Step runs check the cheapest fleets. One that they refute gets an instance more and is compared again.
bool Planner::check(std::size_t k, PlanOutcome& outcome) {
  const double peak = load_.rate * (1 + load_.amplitude);
  std::set<std::size_t> sure;
  while (!o_.no_verify && static_cast<std::int64_t>(sure.size()) < plan_.verify) {
    std::optional<std::size_t> next;  // the cheapest that no step run has confirmed
    for (std::size_t s = 0; s < outcome.searches.size(); ++s) {
      const auto& e = outcome.searches[s].best;
      if (e && !sure.contains(s) && (!next || e->per_hour < outcome.searches[*next].best->per_hour)) next = s;
    }
    if (!next) break;
    plan::Search& search = outcome.searches[*next];
    const plan::Fleet& fleet = search.best->fleet;
    const std::int64_t n = plan::step_instances(fleet.instances);
    const double rate = peak * static_cast<double>(n) / static_cast<double>(fleet.instances);
    const auto result = ask({{"do", "check"},
                             {"setting", k},
                             {"shape", *next},
                             {"instances", fleet.instances},
                             {"spares", fleet.spares},
                             {"rate", rate}});
    if (!result) return false;
    const std::int64_t per_instance = fleet.nodes() / fleet.instances;
    const Checked checked{result->at("attainment"), result->at("ready_s"), result->at("interrupted"),
                          static_cast<double>(n * per_instance * base_.topology.node.gpus)};
    if (checked.attainment >= plan_.within_slo) {
      sure.insert(*next);
      outcome.confirmed.emplace_back(*next, checked);
      continue;
    }
    outcome.refuted.push_back(fmt::format("{}: a step run at the peak load holds the SLO for {:.2f} %",
                                          fleet_text(*search.best), 100 * checked.attainment));
    const auto more = ask({{"do", "search"},
                           {"setting", k},
                           {"shape", *next},
                           {"factor", outcome.shapes[*next].factor},
                           {"extra", fleet.instances - fleet.needed + 1}});
    if (!more) return false;
    search = plan::search_from(*more);
  }
  outcome.best = cheapest(outcome);
  return true;
}

bool Planner::advance() {
  round_.clear();
  asked_.clear();
  outcomes_.assign(settings_.size(), {});
  if (!calibrate()) return false;
  bool complete = true;
  for (std::size_t k = 0; k < settings_.size(); ++k) {
    bool there = search(k, outcomes_[k]);
    if (there && settings_[k].change == 0) there = check(k, outcomes_[k]);
    if (there && settings_[k].change > 0) outcomes_[k].best = cheapest(outcomes_[k]);
    complete = complete && there;
  }
  return complete;
}

std::optional<std::size_t> cheapest(const PlanOutcome& outcome) {
  std::optional<std::size_t> best;
  for (std::size_t s = 0; s < outcome.searches.size(); ++s) {
    const auto& e = outcome.searches[s].best;
    if (e && (!best || e->per_hour < outcome.searches[*best].best->per_hour)) best = s;
  }
  return best;
}

int Planner::run() {
  TaskRun tasks;
  std::optional<Progress> progress;
  if (job_rank() == 0) {
    if (const auto slash = out_.rfind('/'); slash != std::string::npos) make_folder(out_.substr(0, slash));
    store_ = std::make_unique<SweepStore>(out_);
    progress.emplace("tasks (calibrations, searches, checks)", o_.quiet);
  }
  catch_interrupts();
  bool complete = false;
  tasks.jobs = jobs_or_cores(o_.jobs);
  tasks.more = [&] {
    complete = advance();
    open_ = done_ + round_.size();
    return round_;
  };
  tasks.done = [&](const Task& task, const std::string& bytes) {
    const std::string& key = keys_.at(task.input);
    store_->put({key, task.input, 0, bytes});
    known_[key] = json::parse(bytes);
    ++done_;
  };
  tasks.progress = [&] { progress->show(done_, open_, there_); };
  Work work;
  work.prepare = [](const Task&) { sim::load_flow_net(); };
  work.run = [this](const Task& task) { return run_task(task); };
  const auto failed = run_tasks(work, std::move(tasks));
  progress.reset();
  if (failed) throw std::runtime_error(fmt::format("{} failed: {}", failed->task.input, failed->error));
  if (!complete) {
    fmt::print(stderr, "interrupted: {} results are done and kept in {}; the same command goes on from there\n",
               done_ + there_, out_);
    return 130;
  }
  for (std::size_t p = 0; p < profiles_.size(); ++p) {
    PlanOutcome& o = outcomes_[p];
    if (!o.best) continue;
    const auto spec = plan::experiment_of(plan_, base_, o.searches[*o.best].best->fleet, profiles_[p]);
    const auto deployment = experiment::deploy(spec);
    o.cost_model =
        report::cost_model_json(fluid::cost_model_of(spec, *deployment, fluid::capacity_of(spec, *deployment, load_)));
  }
  if (o_.json) {
    fmt::print("{}\n", print_json());
  } else {
    print();
    fmt::print("\nwritten     {} ({} results, {} of them were there already)\n", out_, done_ + there_, there_);
  }
  for (const PlanOutcome& o : outcomes_) {
    if (o.best) return 0;
  }
  return 1;
}

namespace {

const Registration kPlan{
    {.order = 20,
     .name = "plan",
     .help = "The cheapest fleet for a load, an SLO and an availability target",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<PlanOptions>();
       app.add_option("plan", o->file, "Plan or experiment file (YAML)")->required();
       app.add_option("--set", o->set, "Set a field of the experiment (repeatable)")
           ->allow_extra_args(false)
           ->take_all();
       add_profiles_option(app, o->profiles);
       app.add_option("--target", o->target, "Share of requests that failures leave, and of time with capacity")
           ->check(CLI::Range(0.5, 0.999999));
       add_prices_option(app, o->prices);
       app.add_option("--seeds", o->seeds, "Years (or periods) simulated of each fleet")->check(CLI::Range(1, 10'000));
       app.add_option("--jobs,-j", o->jobs, "Searches at a time (default: the cores)")->check(CLI::Range(1, 4096));
       app.add_option("--out", o->out, "Results file (SQLite; default: out/<name>.plan.sqlite)");
       app.add_flag("--no-sensitivity", o->no_sensitivity, "Do not ask what changes the answer");
       app.add_flag("--no-verify", o->no_verify, "No step runs: closed forms only");
       app.add_flag("--json", o->json, "Print JSON");
       app.add_flag("--quiet,-q", o->quiet, "No progress");
       return [o] { return Planner(*o).run(); };
     }}};

}  // namespace
}  // namespace faultline::cli
