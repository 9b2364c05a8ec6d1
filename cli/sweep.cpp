// faultline sweep: one experiment under many settings and seeds, over the cores of this machine; resumable.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "cli/distributed.h"
#include "cli/run.h"
#include "cli/sweep_store.h"
#include "core/base/hash.h"
#include "core/experiment/deployment.h"
#include "core/experiment/sweep.h"
#include "core/report/cost_model.h"
#include "core/stats/stopping.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string file, out;
  std::vector<std::string> over, set;
  std::int64_t seeds = 0;
  int jobs = 0;
  bool json = false, quiet = false;
  std::optional<double> stop_within;     // relative half-width at which there are seeds enough
  std::string figure = "goodput tok/s";  // of this figure, at every point
  stats::StoppingRule rule;
};

/// One figure of every point, in the order of the seeds: what a stopping rule looks at.
using Series = std::vector<std::vector<double>>;

struct Replica {
  std::size_t point = 0;
  std::int64_t seed = 0;
  std::string key;
};

/// The figures that the table shows; absent ones are left out of a point's mean.
struct Figure {
  const char* name;
  std::vector<const char*> path;
};
const std::vector<Figure> kFigures{{"goodput tok/s", {"throughput", "goodput_tokens_per_s"}},
                                   {"failed", {"requests", "failed"}},
                                   {"retried", {"requests", "retried"}},
                                   {"lost GPU-s", {"faults", "*", "blast_radius", "capacity_loss_gpu_s"}},
                                   {"ready s", {"faults", "*", "phases_s", "ready"}},
                                   // Of fluid runs; a figure that no replica has is not shown.
                                   {"capacity req/s", {"capacity", "mean_requests_per_s"}},
                                   {"hit", {"requests", "hit"}},
                                   {"late", {"requests", "late"}},
                                   {"available", {"availability"}},
                                   {"within SLO", {"attainment"}},
                                   {"all up", {"all_instances_up"}},
                                   {"spare waits", {"spares", "waits"}},
                                   {"out 1M cost", {"cost", "per_1m_output_tokens"}}};

std::optional<double> value_at(const nlohmann::ordered_json& node, const std::vector<const char*>& path,
                               std::size_t at) {
  if (at == path.size()) return node.is_number() ? std::optional(node.get<double>()) : std::nullopt;
  if (std::string_view(path[at]) == "*") {  // the sum over the list
    std::optional<double> sum;
    for (const auto& element : node) {
      if (const auto v = value_at(element, path, at + 1)) sum = sum.value_or(0) + *v;
    }
    return sum;
  }
  const auto it = node.find(path[at]);
  return it == node.end() ? std::nullopt : value_at(*it, path, at + 1);
}

std::string interval(const experiment::Estimate& e) {
  if (e.count == 0) return "–";
  const int digits = std::abs(e.mean) >= 1000 ? 0 : std::abs(e.mean) >= 10 ? 1 : std::abs(e.mean) >= 1 ? 2 : 5;
  if (!std::isfinite(e.half_width)) return fmt::format("{:.{}f}", e.mean, digits);
  return fmt::format("{:.{}f} ±{:.{}f}", e.mean, digits, e.half_width, digits);
}

/// With `series`, nothing is printed but progress and errors.
int run_sweep(const Options& options, Series* series = nullptr) {
  const experiment::SweepSpec sweep =
      experiment::load_sweep(must_read_file(options.file), options.file, options.over, read_text);
  const std::int64_t seeds = options.seeds > 0 ? options.seeds : sweep.seeds;
  const std::string base = must_read_file(sweep.experiment);
  // Every point is checked before the first replica starts.
  std::vector<experiment::ExperimentSpec> specs;
  for (const auto& point : sweep.points) {
    experiment::Overrides overrides;
    overrides.set = options.set;
    overrides.set.insert(overrides.set.end(), point.set.begin(), point.set.end());
    specs.push_back(experiment::load(base, sweep.experiment, overrides, read_text));
    experiment::deploy(specs.back());
  }
  std::vector<Replica> replicas;
  std::vector<std::string> keys;
  for (std::int64_t s = 0; s < seeds; ++s) {  // seed by seed, so that a sweep that is stopped is balanced
    for (std::size_t p = 0; p < specs.size(); ++p) {
      specs[p].seed = static_cast<std::uint64_t>(sweep.first_seed + s);
      Replica r{p, sweep.first_seed + s, fmt::format("{:016x}", hash_text(experiment::resolved(specs[p])))};
      keys.push_back(r.key);
      replicas.push_back(std::move(r));
    }
  }
  const std::string out = options.out.empty() ? "out/" + sweep.name + ".sqlite" : options.out;
  if (const auto folder = std::filesystem::path(out).parent_path(); !folder.empty()) make_folder(folder.string());
  // Under MPI only the leader has the file; the other ranks run what it hands out.
  std::unique_ptr<SweepStore> store;
  TaskRun tasks;
  if (job_rank() == 0) {
    store = std::make_unique<SweepStore>(out);
    for (std::size_t k = 0; k < replicas.size(); ++k) {
      if (!store->has(replicas[k].key)) tasks.todo.push_back(k);
    }
  }
  catch_interrupts();
  tasks.jobs =
      static_cast<std::size_t>(options.jobs > 0 ? options.jobs : std::max(1U, std::thread::hardware_concurrency()));
  std::vector<ReplicaTask> replica_tasks;
  for (const Replica& r : replicas) replica_tasks.push_back({r.point, static_cast<std::uint64_t>(r.seed)});
  std::size_t done = 0;
  const auto began = std::chrono::steady_clock::now();
  const bool tty = isatty(STDERR_FILENO) != 0;
  const std::size_t missing = tasks.todo.size();
  tasks.done = [&](std::size_t task, const std::string& summary) {
    const Replica& r = replicas[task];
    store->put({r.key, sweep.points[r.point].name, r.seed, summary});
    ++done;
  };
  tasks.progress = [&] {
    if (!tty || options.quiet) return;
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    const double left = done ? elapsed / static_cast<double>(done) * static_cast<double>(missing - done) : 0;
    fmt::print(stderr, "\r{}/{} replicas, {} were there already, {:.0f} s left   ", done, missing,
               replicas.size() - missing, left);
  };
  const std::optional<std::size_t> failed_task =
      run_tasks(replica_work(specs, std::move(replica_tasks), false), std::move(tasks));
  const bool failed = failed_task.has_value();
  if (tty && !options.quiet) fmt::print(stderr, "\r{:70}\r", "");
  if (failed) {
    const Replica& r = replicas[*failed_task];
    std::string sets;
    for (const auto& s : options.set) sets += fmt::format(" --set '{}'", s);
    for (const auto& s : sweep.points[r.point].set) sets += fmt::format(" --set '{}'", s);
    fmt::print(stderr, "\nfaultline: error: a replica failed; reproduce it with:\n  faultline run {} --seed {}{}\n",
               sweep.experiment, r.seed, sets);
  }

  const auto found = store->summaries(keys);
  if (series) series->assign(specs.size(), {});
  nlohmann::ordered_json result{
      {"sweep", sweep.name}, {"experiment", sweep.experiment},    {"seeds", seeds},
      {"computed", done},    {"kept", replicas.size() - missing}, {"points", nlohmann::json::array()}};
  if (!options.json && !series) {
    fmt::print("{}: {} points, {} seeds; means with 95 % intervals over seeds\n", sweep.name, specs.size(), seeds);
  }
  for (std::size_t p = 0; p < specs.size(); ++p) {
    std::vector<std::vector<double>> values(kFigures.size());
    std::int64_t count = 0;
    nlohmann::ordered_json cost_model;  // of the point's replica with the most extrapolated time
    for (const Replica& r : replicas) {
      if (r.point != p) continue;
      const auto it = found.find(r.key);
      if (it == found.end()) continue;
      ++count;
      const auto summary = nlohmann::ordered_json::parse(it->second);
      if (summary.contains("cost_model") && (cost_model.is_null() || report::extrapolated_share(summary["cost_model"]) >
                                                                         report::extrapolated_share(cost_model)))
        cost_model = summary["cost_model"];
      for (std::size_t f = 0; f < kFigures.size(); ++f) {
        if (const auto v = value_at(summary, kFigures[f].path, 0)) values[f].push_back(*v);
        if (series && options.figure == kFigures[f].name) (*series)[p] = values[f];
      }
    }
    if (series) continue;
    nlohmann::ordered_json row{{"point", sweep.points[p].name}, {"replicas", count}};
    if (!options.json) fmt::print("\n{}  ({} replicas)\n", sweep.points[p].name, count);
    for (std::size_t f = 0; f < kFigures.size(); ++f) {
      const experiment::Estimate e = experiment::estimate(values[f]);
      row[kFigures[f].name] = {
          {"count", e.count},
          {"mean", e.count ? nlohmann::json(e.mean) : nlohmann::json()},
          {"half_width_95", std::isfinite(e.half_width) ? nlohmann::json(e.half_width) : nlohmann::json()}};
      if (!options.json && (e.count > 0 || f < 5)) fmt::print("  {:<14} {:>24}\n", kFigures[f].name, interval(e));
    }
    row["cost_model"] = cost_model;
    if (!options.json && report::extrapolated_share(cost_model) > 0)
      fmt::print("  {}\n", report::cost_model_text(cost_model));
    result["points"].push_back(row);
  }
  if (series) return failed ? 1 : interrupted ? 130 : 0;
  if (options.json) fmt::print("{}\n", result.dump(2));
  else
    fmt::print("\nwritten     {} ({} replicas, {} of them were there already)\n", out, found.size(),
               replicas.size() - missing);
  if (interrupted) fmt::print(stderr, "interrupted: what is done is kept; the same command goes on from there\n");
  return failed ? 1 : interrupted ? 130 : 0;
}

/// Adds seeds until the figure's interval is narrow enough at every point. All points get the same seeds, so that they
/// stay paired; the number follows from the values in the order of their seeds, not from who was done first.
int run_until_narrow(Options options) {
  std::vector<std::string> names;
  for (const Figure& f : kFigures) names.emplace_back(f.name);
  if (std::find(names.begin(), names.end(), options.figure) == names.end()) {
    throw config::ConfigError(fmt::format("error: --figure: unknown figure '{}'\n  known figures: {} {}\n",
                                          options.figure, config::name_list(names),
                                          config::did_you_mean(options.figure, names)));
  }
  if (job_size() > 1)
    throw config::ConfigError("error: --stop-within adds seeds in rounds, on one machine: give --seeds under MPI\n");
  options.rule.relative_half_width = *options.stop_within;
  options.rule.most = std::max(options.rule.most, options.rule.least);
  for (options.seeds = options.rule.least;;
       options.seeds = std::min(options.rule.most, options.seeds + std::max<std::int64_t>(2, options.seeds / 4))) {
    Series series;
    if (const int status = run_sweep(options, &series); status != 0) return status;
    std::int64_t needed = 0;
    for (const auto& values : series) {
      const auto stop = stats::stops_after(values, options.rule);
      needed = std::max(needed, stop.value_or(options.seeds + 1));
    }
    if (needed > options.seeds && options.seeds < options.rule.most) continue;
    const bool narrow = needed <= options.seeds && needed < options.rule.most;
    options.seeds = std::min(needed, options.seeds);
    if (!options.json) {
      fmt::print("{} seeds: {} is {}known to {:.1f} % at every point\n", options.seeds, options.figure,
                 narrow ? "" : "not yet ", 100 * *options.stop_within);
    }
    return run_sweep(options);
  }
}

const Registration kSweep{
    {.order = 15,
     .name = "sweep",
     .help = "Run an experiment under many settings and seeds; resumable",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       app.add_option("sweep", o->file, "Sweep or experiment file (YAML)")->required();
       app.add_option("--over", o->over, "An axis: --over 'fleet.instances=[2, 4, 8]' (repeatable)")
           ->allow_extra_args(false)
           ->take_all();
       app.add_option("--set", o->set, "Set a field in every point (repeatable)")->allow_extra_args(false)->take_all();
       app.add_option("--seeds", o->seeds, "Replicas of each point")->check(CLI::Range(1, 10'000'000));
       app.add_option("--stop-within", o->stop_within,
                      "Add seeds until the figure's 95 % interval is within this share of its mean, such as 0.05")
           ->check(CLI::Range(1e-4, 10.0))
           ->excludes("--seeds");
       app.add_option("--figure", o->figure, "The figure of --stop-within")->needs("--stop-within");
       app.add_option("--least", o->rule.least, "Seeds before --stop-within may stop")->check(CLI::Range(2, 100'000));
       app.add_option("--most", o->rule.most, "Seeds at which --stop-within gives up")
           ->check(CLI::Range(2, 10'000'000));
       app.add_option("--jobs,-j", o->jobs, "Replicas at a time (default: the cores)")->check(CLI::Range(1, 4096));
       app.add_option("--out", o->out, "Results file (SQLite; default: out/<name>.sqlite)");
       app.add_flag("--json", o->json, "Print JSON instead of the table");
       app.add_flag("--quiet,-q", o->quiet, "No progress");
       return [o] { return o->stop_within ? run_until_narrow(*o) : run_sweep(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
