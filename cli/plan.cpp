// faultline plan: the cheapest fleet for a load, an SLO and an availability target, under several rate profiles.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "cli/distributed.h"
#include "cli/fluid_run.h"
#include "cli/profiles.h"
#include "cli/sweep_store.h"
#include "core/base/hash.h"
#include "core/plan/plan.h"
#include "core/report/cost_model.h"

namespace faultline::cli {
namespace {

using nlohmann::ordered_json;
using plan::Evaluated;

struct Options {
  std::string file, out, prices;
  std::vector<std::string> set, profiles;
  double target = 0;
  std::int64_t seeds = 0;
  int jobs = 0;
  bool json = false, quiet = false, no_sensitivity = false, no_verify = false;
};

/// One search: a shape under a profile, with one assumption changed or none.
struct Task {
  plan::PlanSpec plan;
  experiment::ExperimentSpec base;
  plan::ShapeChoice shape;
  fault::RateProfile profile;
  fluid::Load load;
  std::size_t profile_index = 0, change = 0, shape_index = 0;
  std::string key;
};

struct Verified {
  double attainment = 0;                 // of requests within the SLO, at the peak load, nothing failing
  double ready_s = -1, interrupted = 0;  // after one dead decode GPU
  double gpus = 0;
};

struct Outcome {
  std::vector<plan::Search> searches;                      // by shape
  std::vector<std::pair<std::size_t, Verified>> verified;  // shape, what its step runs showed; in order
  std::vector<std::string> refuted;
  std::optional<std::size_t> best;  // shape
  ordered_json cost_model;          // of the best fleet
};

class Planner {
 public:
  explicit Planner(const Options& o) : o_(o) {}
  int run();

 private:
  void load();
  void make_tasks();
  void search_all();
  void verify(Outcome& outcome, std::size_t profile);
  Verified step_runs(const Evaluated& e, std::size_t profile);
  std::optional<std::size_t> cheapest(const Outcome& outcome) const;
  void print(const std::vector<Outcome>& outcomes, const std::vector<std::pair<std::string, std::string>>& sensitivity,
             bool same) const;

  const Options& o_;
  plan::PlanSpec plan_;
  experiment::ExperimentSpec base_;
  std::vector<fault::RateProfile> profiles_;
  fluid::Prices prices_;
  std::string prices_text_;
  fluid::Load load_;
  std::vector<plan::ShapeChoice> shapes_;
  std::vector<plan::Change> changes_;
  std::vector<Task> tasks_;
  std::map<std::string, plan::Search> results_;
  std::unique_ptr<SweepStore> store_;
  std::string out_;
};

void Planner::load() {
  plan_ = plan::load_plan(must_read_file(o_.file), o_.file);
  experiment::Overrides overrides;
  overrides.set = o_.set;
  base_ = experiment::load(must_read_file(plan_.experiment), plan_.experiment, overrides, read_text);
  if (!o_.profiles.empty()) plan_.profiles = o_.profiles;
  if (o_.target > 0) plan_.target = o_.target;
  if (o_.seeds > 0) plan_.seeds = o_.seeds;
  profiles_ = load_profiles(plan_.profiles);
  prices_text_ = o_.prices.empty() ? fmt::format("gpu_hour {}", base_.cost.gpu_hour) : must_read_file(o_.prices);
  prices_ = o_.prices.empty() ? fluid::prices_of(base_.cost.gpu_hour, base_.topology.node.gpus)
                              : fluid::load_prices(prices_text_, o_.prices);
  load_ = fluid::load_of(base_, read_text);
  if (load_.rate <= 0) throw config::ConfigError(plan_.experiment + ": error: the workload has no load to plan for\n");
}

void Planner::make_tasks() {
  changes_.push_back({});
  if (!o_.no_sensitivity) {
    for (plan::Change& c : plan::changes()) changes_.push_back(std::move(c));
  }
  shapes_ = plan::shapes_of(plan_, base_, load_);
  for (std::size_t c = 0; c < changes_.size(); ++c) {
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      if (c > 0 && p != profiles_.size() / 2) continue;  // assumptions are changed under the middle profile
      plan::PlanSpec plan = plan_;
      experiment::ExperimentSpec base = base_;
      fault::RateProfile profile = profiles_[p];
      fluid::Load load = load_;
      plan::apply(changes_[c], plan, base, profile);
      load.rate *= changes_[c].load;
      const auto shapes = changes_[c].tpot == 1 ? shapes_ : plan::shapes_of(plan, base, load);
      std::string text = experiment::resolved(base) + prices_text_ +
                         fmt::format("|{}|{}|{}|{}|", plan.target, plan.period.v, plan.seeds, plan.spares_max);
      for (const auto& s : profile.sources) {
        text += fmt::format("{} {} {} {} {};", s.id, name_of(s.kind), name_of(s.per), s.rate_per_hour,
                            s.repair ? s.repair->mean.v : 0);
      }
      for (std::size_t s = 0; s < shapes.size(); ++s) {
        Task t{plan, base, shapes[s], profile, load, p, c, s, {}};
        t.key = fmt::format("plan-{:016x}", hash_text(text + shapes[s].shape.text()));
        tasks_.push_back(std::move(t));
      }
    }
  }
}

void Planner::search_all() {
  TaskRun run;
  if (job_rank() == 0) {
    store_ = std::make_unique<SweepStore>(out_);
    std::vector<std::string> keys;
    for (const Task& t : tasks_) keys.push_back(t.key);
    const auto found = store_->summaries(keys);
    for (std::size_t k = 0; k < tasks_.size(); ++k) {
      const auto at = found.find(tasks_[k].key);
      if (at != found.end()) results_[tasks_[k].key] = plan::search_from(nlohmann::json::parse(at->second));
      else run.todo.push_back(k);
    }
  }
  const std::size_t count = run.todo.size(), there = tasks_.size() - count;
  std::size_t done = 0;
  const auto began = std::chrono::steady_clock::now();
  const bool tty = isatty(STDERR_FILENO) != 0 && !o_.quiet;
  run.jobs = static_cast<std::size_t>(o_.jobs > 0 ? o_.jobs : std::max(1U, std::thread::hardware_concurrency()));
  run.done = [&](std::size_t k, const std::string& bytes) {
    store_->put(
        {tasks_[k].key, tasks_[k].shape.shape.text(), static_cast<std::int64_t>(tasks_[k].profile_index), bytes});
    results_[tasks_[k].key] = plan::search_from(nlohmann::json::parse(bytes));
    ++done;
  };
  run.progress = [&] {
    if (!tty) return;
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    const double left = done > 0 ? elapsed / static_cast<double>(done) * static_cast<double>(count - done) : 0;
    fmt::print(stderr, "\r{}/{} searches, {} were there already, {:.0f} s left   ", done, count, there, left);
  };
  Work work;
  work.run = [this](std::size_t k) {
    const Task& t = tasks_[k];
    return plan::to_json(plan::search(t.plan, t.base, t.shape, t.profile, prices_, t.load)).dump();
  };
  const auto failed = run_tasks(work, std::move(run));
  if (tty) fmt::print(stderr, "\r{:70}\r", "");
  if (failed)
    throw std::runtime_error(fmt::format("the search of {} under {} failed", tasks_[*failed].shape.shape.text(),
                                         tasks_[*failed].profile.name));
}

std::optional<std::size_t> Planner::cheapest(const Outcome& outcome) const {
  std::optional<std::size_t> best;
  for (std::size_t s = 0; s < outcome.searches.size(); ++s) {
    const auto& e = outcome.searches[s].best;
    if (e && (!best || e->per_hour < outcome.searches[*best].best->per_hour)) best = s;
  }
  return best;
}

/// Up to four instances at the plan's peak load a GPU, at step fidelity: with nothing failing, and with a dead decode
/// GPU.
Verified Planner::step_runs(const Evaluated& e, std::size_t profile) {
  experiment::ExperimentSpec spec = plan::experiment_of(plan_, base_, e.fleet, profiles_[profile]);
  const auto n = std::min<std::int64_t>(4, e.fleet.instances);
  spec.fidelity = experiment::Fidelity::step;
  spec.fleet.instances = static_cast<std::uint32_t>(n);
  spec.fleet.spare_nodes = std::min<std::uint32_t>(spec.fleet.spare_nodes, 1);
  spec.fleet.spare_instances = std::min<std::uint32_t>(spec.fleet.spare_instances, 1);
  const auto per_instance = static_cast<std::uint32_t>(e.fleet.nodes() / e.fleet.instances);
  spec.topology.nodes = per_instance * (spec.fleet.instances + spec.fleet.spare_instances) + spec.fleet.spare_nodes;
  spec.workload.trace.reset();
  spec.workload.arrivals = {};
  spec.workload.arrivals.rate =
      load_.rate * (1 + load_.amplitude) * static_cast<double>(n) / static_cast<double>(e.fleet.instances);
  spec.workload.rate_scale = 1;
  spec.workload.duration = Duration{240'000'000'000};
  spec.end = spec.workload.duration;
  spec.faults.clear();
  experiment::ExperimentSpec hit = spec;
  fault::FaultSpec f;
  f.id = "gpu";
  f.kind = fault::FaultKind::gpu_failstop;
  f.target = spec.fleet.layout.mixed > 0 ? "inst-0.m-0.gpu-0" : "inst-0.d-0.gpu-0";
  f.at = Instant{30'000'000'000};
  hit.faults = {f};
  const std::vector<experiment::ExperimentSpec> specs{spec, hit};
  std::vector<nlohmann::json> summaries(2);
  std::vector<std::string> keys;
  for (const auto& s : specs) keys.push_back(fmt::format("verify-{:016x}", hash_text(experiment::resolved(s))));
  const auto found = store_->summaries(keys);
  TaskPool pool(replica_work(specs, {{0, spec.seed}, {1, spec.seed}}, true), 2);
  for (std::size_t k = 0; k < 2; ++k) {
    if (const auto at = found.find(keys[k]); at != found.end()) summaries[k] = nlohmann::json::parse(at->second);
    else pool.add(k);
  }
  while (pool.turn(500, [&](std::size_t k, const std::string& bytes) {
    store_->put({keys[k], e.fleet.shape.text(), static_cast<std::int64_t>(spec.seed), bytes});
    summaries[k] = nlohmann::json::parse(bytes);
  })) {
  }
  Verified v;
  v.gpus = static_cast<double>(n * per_instance * base_.topology.node.gpus);
  if (pool.failed() || summaries[0].is_null()) return v;
  double met = 0, ended = 0;
  for (const auto& c : summaries[0]["slo_classes"]) {
    met += c["met"].get<double>();
    ended += c["arrived"].get<double>();
  }
  ended -= summaries[0]["requests"]["unfinished"].get<double>();
  v.attainment = ended > 0 ? std::min(1.0, met / ended) : 0;
  if (!summaries[1].is_null() && !summaries[1]["faults"].empty()) {
    const auto& ready = summaries[1]["faults"][0]["phases_s"]["ready"];
    if (ready.is_number()) v.ready_s = ready;
    v.interrupted =
        summaries[1]["requests"]["retried"].get<double>() + summaries[1]["requests"]["failed"].get<double>();
  }
  return v;
}

/// Step runs check the cheapest plans. One that they refute gets an instance more and is compared again.
void Planner::verify(Outcome& outcome, std::size_t profile) {
  outcome.best = cheapest(outcome);
  std::int64_t budget =
      o_.no_verify ? 0 : 20 * plan_.verify;  // step runs of a profile; most are shared by all profiles
  std::vector<bool> sure(outcome.searches.size(), false);
  std::int64_t wanted = plan_.verify;
  while (budget-- > 0 && wanted > 0 && !interrupted) {
    std::optional<std::size_t> next;  // the cheapest that no step run has confirmed
    for (std::size_t s = 0; s < outcome.searches.size(); ++s) {
      const auto& e = outcome.searches[s].best;
      if (e && !sure[s] && (!next || e->per_hour < outcome.searches[*next].best->per_hour)) next = s;
    }
    if (!next) break;
    plan::Search& search = outcome.searches[*next];
    const Verified v = step_runs(*search.best, profile);
    if (v.attainment >= std::min(plan_.target, 0.99)) {
      sure[*next] = true;
      --wanted;
      outcome.verified.emplace_back(*next, v);
      continue;
    }
    outcome.refuted.push_back(fmt::format("{} x {}: a step run at the peak load holds the SLO for {:.2f} %",
                                          search.best->fleet.instances, search.best->fleet.shape.text(),
                                          100 * v.attainment));
    const std::int64_t extra = search.best->fleet.instances - search.best->fleet.needed;
    const std::string key = fmt::format("more-{}-{}", tasks_[*next + profile * shapes_.size()].key, extra + 1);
    const auto found = store_->summaries({key});
    if (!found.empty()) {
      search = plan::search_from(nlohmann::json::parse(found.begin()->second));
    } else {
      search = plan::search(plan_, base_, shapes_[*next], profiles_[profile], prices_, load_, extra + 1);
      store_->put({key, shapes_[*next].shape.text(), 0, plan::to_json(search).dump()});
    }
  }
  outcome.best = cheapest(outcome);
}

std::string fleet_text(const Evaluated& e) {
  const auto& f = e.fleet;
  return fmt::format("{} x {}{}", f.instances, f.shape.text(),
                     f.spares > 0 ? fmt::format(", {} spare{}", f.spares, f.spares == 1 ? "" : "s") : ", no spares");
}

void Planner::print(const std::vector<Outcome>& outcomes,
                    const std::vector<std::pair<std::string, std::string>>& sensitivity, bool same) const {
  fmt::print("── plan {} ── {} on {}, {:.4g} requests/s (peak {:.4g}), {:.0f} in / {:.0f} out, target {:.4g} %\n",
             plan_.name, base_.model.name, base_.device.name, load_.rate, load_.rate * (1 + load_.amplitude),
             load_.prompt_mean, load_.output_mean, 100 * plan_.target);
  for (std::size_t p = 0; p < outcomes.size(); ++p) {
    const Outcome& o = outcomes[p];
    fmt::print("\n{}  ({})\n", profiles_[p].name, profiles_[p].borrowed_from);
    for (const std::string& r : o.refuted) fmt::print("  refuted     {}\n", r);
    if (!o.best) {
      fmt::print("  no fleet of these shapes holds the target\n");
      for (std::size_t s = 0; s < o.searches.size(); ++s)
        fmt::print("    {:<34} {}\n", shapes_[s].shape.text(), o.searches[s].refusal);
      continue;
    }
    const Evaluated& b = *o.searches[*o.best].best;
    const std::int64_t size = b.fleet.nodes() / b.fleet.instances;
    fmt::print("  {:<11} {}\n", same ? "fleet" : "cheapest", fleet_text(b));
    fmt::print("  size        {} serving nodes: {} instances for the load, {} of headroom ({} nodes)\n",
               b.fleet.nodes(), b.fleet.needed, b.fleet.instances - b.fleet.needed,
               (b.fleet.instances - b.fleet.needed) * size);
    fmt::print(
        "  price       {:.4g} {} an hour; 1M input tokens {:.4g}, 1M output tokens {:.4g}; without failures {:.4g} and "
        "{:.4g}\n",
        b.per_hour, prices_.currency, b.input_1m, b.output_1m, b.input_1m_clean, b.output_1m_clean);
    fmt::print(
        "  holds       {:.4f} % of the time with capacity, {:.4f} % of requests within the SLO; a month: {:.0f} hit, "
        "{:.0f} late, {:.0f} failed, {:.1f} GPU-h lost\n",
        100 * b.availability, 100 * b.attainment, b.hit_per_month, b.late_per_month, b.failed_per_month,
        b.lost_gpu_h_per_month);
    fmt::print("  prices      {}\n", report::cost_model_text(o.cost_model));
    const bool confirmed =
        std::any_of(o.verified.begin(), o.verified.end(), [&](const auto& v) { return v.first == *o.best; });
    if (!confirmed && !o_.no_verify)
      fmt::print("  unconfirmed no step run has confirmed this fleet: {} were made and refuted others (plan: verify)\n",
                 o.refuted.size());
    for (const auto& [s, v] : o.verified) {
      fmt::print(
          "  step run    {} on {:.0f} GPUs at the peak load: {:.2f} % within the SLO; a dead decode GPU: {}, {:.0f} "
          "requests interrupted\n",
          shapes_[s].shape.text(), v.gpus, 100 * v.attainment,
          v.ready_s >= 0 ? fmt::format("ready after {:.0f} s", v.ready_s) : "not ready within 210 s", v.interrupted);
    }
    std::vector<std::size_t> order;
    for (std::size_t s = 0; s < o.searches.size(); ++s) {
      if (s != *o.best) order.push_back(s);
    }
    const auto cost = [&](std::size_t s) { return o.searches[s].best ? o.searches[s].best->per_hour : 1e300; };
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t c) { return cost(a) < cost(c); });
    fmt::print("  others\n");
    for (const std::size_t s : order) {
      const auto& e = o.searches[s].best;
      if (!e) fmt::print("    {:<52} {}\n", shapes_[s].shape.text(), o.searches[s].refusal);
      else
        fmt::print("    {:<52} {:>+6.1f} %  {}\n", fleet_text(*e), 100 * (e->per_hour / b.per_hour - 1),
                   plan::why_it_lost(b, shapes_[*o.best], *e, shapes_[s]));
    }
  }
  if (!sensitivity.empty()) {
    fmt::print("\nwhat changes the answer (under {})\n", profiles_[profiles_.size() / 2].name);
    for (const auto& [name, text] : sensitivity) fmt::print("  {:<18} {}\n", name, text);
  }
  if (outcomes.size() > 1) {
    fmt::print("\n{}\n", same ? "The same fleet is the cheapest under every profile."
                              : "The cheapest fleet depends on the rate profile: there is no single winner. Measure "
                                "your own rates (faultline faults fit).");
  }
}

int Planner::run() {
  load();
  make_tasks();
  out_ = o_.out.empty() ? "out/" + plan_.name + ".plan.sqlite" : o_.out;
  if (const auto slash = out_.rfind('/'); slash != std::string::npos && job_rank() == 0)
    make_folder(out_.substr(0, slash));
  catch_interrupts();
  search_all();
  std::vector<Outcome> outcomes(profiles_.size());
  bool complete = true;
  for (const Task& t : tasks_) {
    const auto at = results_.find(t.key);
    complete = complete && at != results_.end();
    if (t.change == 0 && at != results_.end()) outcomes[t.profile_index].searches.push_back(at->second);
  }
  if (!complete) {
    fmt::print(stderr, "interrupted: {} of {} searches are done and kept in {}; the same command goes on from there\n",
               results_.size(), tasks_.size(), out_);
    return 130;
  }
  for (std::size_t p = 0; p < profiles_.size(); ++p) {
    verify(outcomes[p], p);
    if (!outcomes[p].best) continue;
    const auto spec =
        plan::experiment_of(plan_, base_, outcomes[p].searches[*outcomes[p].best].best->fleet, profiles_[p]);
    const auto deployment = experiment::deploy(spec);
    outcomes[p].cost_model =
        report::cost_model_json(fluid::cost_model_of(spec, *deployment, fluid::capacity_of(spec, *deployment, load_)));
  }
  bool same = true;
  for (const Outcome& o : outcomes) {
    same = same && o.best && outcomes[0].best &&
           o.searches[*o.best].best->fleet.shape.text() ==
               outcomes[0].searches[*outcomes[0].best].best->fleet.shape.text() &&
           o.searches[*o.best].best->fleet.instances == outcomes[0].searches[*outcomes[0].best].best->fleet.instances &&
           o.searches[*o.best].best->fleet.spares == outcomes[0].searches[*outcomes[0].best].best->fleet.spares;
  }
  // Compared with the plain search under the same profile: both without step runs.
  std::vector<std::pair<std::string, std::string>> sensitivity;
  const auto of_change = [&](std::size_t c) {
    Outcome o;
    for (const Task& t : tasks_) {
      if (t.change == c && t.profile_index == profiles_.size() / 2) o.searches.push_back(results_.at(t.key));
    }
    return o;
  };
  const Outcome plain = of_change(0);
  const auto plain_best = cheapest(plain);
  for (std::size_t c = 1; c < changes_.size(); ++c) {
    const Outcome o = of_change(c);
    const auto best = cheapest(o);
    if (!best || !plain_best) {
      sensitivity.emplace_back(changes_[c].name,
                               best ? fleet_text(*o.searches[*best].best) : "no fleet holds the target");
      continue;
    }
    const Evaluated &e = *o.searches[*best].best, &was = *plain.searches[*plain_best].best;
    const bool shape = e.fleet.shape.text() != was.fleet.shape.text();
    sensitivity.emplace_back(changes_[c].name,
                             fmt::format("{:<52} {:>+6.1f} %{}", fleet_text(e), 100 * (e.per_hour / was.per_hour - 1),
                                         shape ? "  another shape" : ""));
  }
  if (o_.json) {
    ordered_json out{{"plan", plan_.name},
                     {"target", plan_.target},
                     {"rate", load_.rate},
                     {"currency", prices_.currency},
                     {"profiles", ordered_json::array()},
                     {"same_winner", same}};
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      ordered_json row{{"profile", profiles_[p].name},
                       {"shapes", ordered_json::array()},
                       {"refuted", outcomes[p].refuted},
                       {"verified", ordered_json::array()}};
      row["cheapest"] =
          outcomes[p].best ? plan::to_json(*outcomes[p].searches[*outcomes[p].best].best) : ordered_json(nullptr);
      row["cost_model"] = outcomes[p].cost_model;
      for (std::size_t s = 0; s < shapes_.size(); ++s) {
        ordered_json shape = plan::to_json(outcomes[p].searches[s]);
        shape["shape"] = shapes_[s].shape.text();
        row["shapes"].push_back(std::move(shape));
      }
      for (const auto& [s, v] : outcomes[p].verified)
        row["verified"].push_back({{"shape", shapes_[s].shape.text()},
                                   {"attainment", v.attainment},
                                   {"ready_s", v.ready_s},
                                   {"interrupted", v.interrupted}});
      out["profiles"].push_back(std::move(row));
    }
    if (same) out["winner"] = out["profiles"][0]["cheapest"];
    for (const auto& [name, text] : sensitivity) out["sensitivity"].push_back({{"change", name}, {"cheapest", text}});
    fmt::print("{}\n", out.dump(2));
  } else {
    print(outcomes, sensitivity, same);
    fmt::print("\nwritten     {} ({} searches)\n", out_, tasks_.size());
  }
  return std::any_of(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return o.best.has_value(); }) ? 0 : 1;
}

const Registration kPlan{
    {.order = 20,
     .name = "plan",
     .help = "The cheapest fleet for a load, an SLO and an availability target",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       app.add_option("plan", o->file, "Plan or experiment file (YAML)")->required();
       app.add_option("--set", o->set, "Set a field of the experiment (repeatable)")
           ->allow_extra_args(false)
           ->take_all();
       app.add_option("--profiles", o->profiles, "Rate profiles: names under faults/profiles, or files")
           ->delimiter(',');
       app.add_option("--target", o->target, "Share of requests within the SLO, and of time with capacity")
           ->check(CLI::Range(0.5, 0.999999));
       app.add_option("--prices", o->prices, "Price file (default: the experiment's price of a GPU-hour)");
       app.add_option("--seeds", o->seeds, "Years (or periods) simulated of each fleet")->check(CLI::Range(1, 10'000));
       app.add_option("--jobs,-j", o->jobs, "Searches at a time (default: the cores)")->check(CLI::Range(1, 4096));
       app.add_option("--out", o->out, "Results file (SQLite; default: out/<name>.plan.sqlite)");
       app.add_flag("--no-sensitivity", o->no_sensitivity, "Do not ask what changes the answer");
       app.add_flag("--no-verify", o->no_verify, "No step runs of the cheapest plans");
       app.add_flag("--json", o->json, "Print JSON");
       app.add_flag("--quiet,-q", o->quiet, "No progress");
       return [o] { return Planner(*o).run(); };
     }}};

}  // namespace
}  // namespace faultline::cli
