#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/replica_work.h"
#include "cli/run.h"
#include "cli/sweep.h"
#include "core/base/hash.h"
#include "core/experiment/deployment.h"
#include "core/report/cost_model.h"

namespace faultline::cli {
namespace {

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

}  // namespace

std::optional<double> Figure::of(const nlohmann::ordered_json& summary) const { return value_at(summary, path, 0); }

const std::vector<Figure>& figures() {
  static const std::vector<Figure> all{{"goodput tok/s", {"throughput", "goodput_tokens_per_s"}},
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
  return all;
}

/// Every point is checked before the first replica starts.
Sweep::Sweep(const SweepOptions& options) : o_(options) {
  sweep_ = experiment::load_sweep(must_read_file(o_.file), o_.file, o_.over, read_text);
  const std::string base = must_read_file(sweep_.experiment);
  for (const auto& point : sweep_.points) {
    experiment::Overrides overrides;
    overrides.set = o_.set;
    overrides.set.insert(overrides.set.end(), point.set.begin(), point.set.end());
    specs_.push_back(experiment::load(base, sweep_.experiment, overrides, read_text));
    experiment::deploy(specs_.back());
    if (specs_.back().sampling.draw != fault::Draw::plain) variants_ = 2;
  }
  for (std::size_t p = 0; p < sweep_.points.size() && variants_ > 1; ++p) {
    experiment::ExperimentSpec quiet = specs_[p];
    quiet.sampling = {};
    std::erase_if(quiet.faults, [](const fault::FaultSpec& f) { return f.random.has_value(); });
    specs_.push_back(std::move(quiet));
  }
  if (!o_.baseline.empty()) {
    std::vector<std::string> names;
    for (const auto& point : sweep_.points) names.push_back(point.name);
    const auto at = std::find(names.begin(), names.end(), o_.baseline);
    if (at == names.end())
      throw config::ConfigError(fmt::format("error: --baseline: unknown point '{}'\n  points: {} {}\n", o_.baseline,
                                            config::name_list(names), config::did_you_mean(o_.baseline, names)));
    baseline_ = static_cast<std::size_t>(at - names.begin());
  }
  out_ = o_.out.empty() ? "out/" + sweep_.name + ".sqlite" : o_.out;
  if (!o_.stop_within) return;
  std::vector<std::string> names;
  for (const Figure& f : figures()) names.emplace_back(f.name);
  if (std::find(names.begin(), names.end(), o_.figure) != names.end()) return;
  throw config::ConfigError(fmt::format("error: --figure: unknown figure '{}'\n  known figures: {} {}\n", o_.figure,
                                        config::name_list(names), config::did_you_mean(o_.figure, names)));
}

/// Replicas are numbered seed by seed, so that a sweep that is stopped is balanced.
Sweep::Replica Sweep::replica(std::size_t number) const {
  const std::size_t points = sweep_.points.size();
  Replica r;
  r.point = number % points;
  r.variant = number / points % variants_;
  r.seed = sweep_.first_seed + static_cast<std::int64_t>(number / (points * variants_));
  experiment::ExperimentSpec spec = specs_[r.variant * points + r.point];
  spec.seed = static_cast<std::uint64_t>(r.seed);
  r.key = fmt::format("{:016x}", hash_text(experiment::resolved(spec)));
  return r;
}

/// Replicas of seeds [first, last) that the results file lacks.
std::vector<Task> Sweep::missing(std::int64_t first, std::int64_t last) {
  std::vector<Task> tasks;
  const std::size_t a_seed = specs_.size();
  for (std::size_t k = static_cast<std::size_t>(first) * a_seed; k < static_cast<std::size_t>(last) * a_seed; ++k) {
    if (store_->has(replica(k).key)) ++there_;
    else tasks.push_back({k, {}});
  }
  return tasks;
}

std::optional<std::vector<std::optional<double>>> Sweep::values(std::size_t point, std::int64_t s,
                                                                nlohmann::ordered_json* cost_model) const {
  std::vector<nlohmann::ordered_json> summaries;
  for (std::size_t v = 0; v < variants_; ++v) {
    const std::size_t number = (static_cast<std::size_t>(s) * variants_ + v) * sweep_.points.size() + point;
    const auto text = store_->summary(replica(number).key);
    if (!text) return std::nullopt;
    summaries.push_back(nlohmann::ordered_json::parse(*text));
  }
  if (cost_model != nullptr && summaries[0].contains("cost_model")) {
    const nlohmann::ordered_json model = summaries[0]["cost_model"];
    if (cost_model->is_null() || report::extrapolated_share(model) > report::extrapolated_share(*cost_model))
      *cost_model = model;
  }
  std::vector<std::optional<double>> out;
  for (const Figure& f : figures()) {
    std::optional<double> value = f.of(summaries[0]);
    if (variants_ > 1 && summaries[0].contains("weight")) {
      // A sum over faults that a run without any does not have is 0; so is a loss.
      const auto base = f.of(summaries[1]);
      const bool sum = std::string_view(f.path.front()) == "faults";
      if (base || value || sum) {
        const double b = base.value_or(0);
        value = b + summaries[0]["weight"].get<double>() * (value.value_or(0) - b);
      }
    }
    out.push_back(value);
  }
  return out;
}

/// Seeds after which the figure's interval is narrow enough at every point: a matter of the values in the order of
/// their seeds, not of who was done first, so that it is the same on any number of cores and hosts.
std::int64_t Sweep::needed() const {
  std::size_t figure = 0;
  while (o_.figure != figures()[figure].name) ++figure;
  std::int64_t most = 0;
  for (std::size_t p = 0; p < sweep_.points.size(); ++p) {
    std::vector<double> series;
    for (std::int64_t s = 0; s < asked_; ++s) {
      const auto v = values(p, s);
      if (v && (*v)[figure]) series.push_back(*(*v)[figure]);
    }
    most = std::max(most, stats::stops_after(series, o_.rule).value_or(asked_ + 1));
  }
  return most;
}

/// All points get the same seeds, so that they stay paired.
std::vector<Task> Sweep::next_round() {
  if (!o_.stop_within) {
    if (asked_ > 0) return {};
    asked_ = o_.seeds > 0 ? o_.seeds : sweep_.seeds;
    return missing(0, asked_);
  }
  const std::int64_t most = std::max(o_.rule.most, o_.rule.least);
  for (;;) {  // a round that is stored already needs no work
    if (asked_ > 0 && (asked_ >= most || needed() <= asked_)) return {};
    const std::int64_t first = asked_;
    asked_ = asked_ == 0 ? o_.rule.least : std::min(most, asked_ + std::max<std::int64_t>(2, asked_ / 4));
    if (auto tasks = missing(first, asked_); !tasks.empty()) return tasks;
  }
}

void Sweep::report_failure(const FailedTask& failed) const {
  const Replica r = replica(failed.task.number);
  std::string sets;
  for (const auto& s : o_.set) sets += fmt::format(" --set '{}'", s);
  for (const auto& s : sweep_.points[r.point].set) sets += fmt::format(" --set '{}'", s);
  if (r.variant == 1) sets += " --set 'sampling={}' --set 'faults=[]'";
  fmt::print(stderr, "{}\nfaultline: error: a replica failed; reproduce it with:\n  faultline run {} --seed {}{}\n",
             failed.error, sweep_.experiment, r.seed, sets);
}

int Sweep::run() {
  if (const auto folder = std::filesystem::path(out_).parent_path(); !folder.empty() && job_rank() == 0)
    make_folder(folder.string());
  // Under MPI only the leader has the file; the other ranks run what it hands out.
  TaskRun tasks;
  std::optional<Progress> progress;
  if (job_rank() == 0) {
    store_ = std::make_unique<SweepStore>(out_);
    progress.emplace("replicas", o_.quiet);
  }
  catch_interrupts();
  tasks.jobs = jobs_or_cores(o_.jobs);
  tasks.more = [&] { return next_round(); };
  tasks.done = [&](const Task& task, const std::string& summary) {
    const Replica r = replica(task.number);
    store_->put({r.key, sweep_.points[r.point].name + (r.variant == 1 ? " (base)" : ""), r.seed, summary});
    ++done_;
  };
  tasks.progress = [&] { progress->show(done_, static_cast<std::size_t>(asked_) * specs_.size() - there_, there_); };
  const auto replica_of = [this](std::size_t number) {
    const std::size_t points = sweep_.points.size();
    return ReplicaTask{number % specs_.size(),
                       static_cast<std::uint64_t>(sweep_.first_seed) + number / (points * variants_)};
  };
  const auto failed = run_tasks(replica_work(specs_, replica_of, false), std::move(tasks));
  progress.reset();
  if (failed) report_failure(*failed);
  std::int64_t seeds = asked_;
  if (o_.stop_within && !failed && !interrupted) {
    const std::int64_t enough = needed();
    const bool narrow = enough <= asked_ && enough < o_.rule.most;
    seeds = std::min(enough, asked_);
    if (!o_.json) {
      fmt::print("{} seeds: {} is {}known to {:.1f} % at every point\n", seeds, o_.figure, narrow ? "" : "not yet ",
                 100 * *o_.stop_within);
    }
  }
  print(seeds);
  if (interrupted) fmt::print(stderr, "interrupted: what is done is kept; the same command goes on from there\n");
  return failed ? 1 : interrupted ? 130 : 0;
}

}  // namespace faultline::cli
