// faultline bench fluid: a year of a large fleet at fluid fidelity, and many replicas of a small one at step fidelity.
// Figures only; nothing is asserted.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/distributed.h"
#include "cli/fluid_run.h"
#include "cli/replica_work.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string fleet = "experiments/bench/fluid_100k_gpus.yaml",
              scenario = "experiments/bench/replicas_3_instances.yaml";
  int replicas = 200, jobs = 1;
  bool json = false;
};

double cpu_s(int who) {
  rusage u{};
  getrusage(who, &u);
  const auto s = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return s(u.ru_utime) + s(u.ru_stime);
}

int run(const Options& o) {
  const auto load = [](const std::string& file) {
    ExperimentOptions e;
    e.file = file;
    return load_experiment(e).spec;
  };
  const double before = cpu_s(RUSAGE_SELF);
  const auto model = make_fluid(load(o.fleet), {});
  const fluid::Result year = fluid::simulate(model->spec, *model->deployment, model->capacity, model->options());
  const double fluid_cpu = cpu_s(RUSAGE_SELF) - before;

  const experiment::ExperimentSpec scenario = load(o.scenario);
  const double children = cpu_s(RUSAGE_CHILDREN), self = cpu_s(RUSAGE_SELF);
  const auto began = std::chrono::steady_clock::now();
  std::int64_t requests = 0, faults = 0;
  TaskRun tasks;
  for (std::size_t k = 0; k < static_cast<std::size_t>(o.replicas); ++k) tasks.todo.push_back({k, {}});
  tasks.jobs = static_cast<std::size_t>(o.jobs);
  tasks.done = [&](const Task&, const std::string& summary) {
    const auto json = nlohmann::json::parse(summary);
    requests += json["requests"]["arrived"].get<std::int64_t>();
    for (const auto& f : json["faults"]) faults += static_cast<std::int64_t>(f["members"].size());
  };
  const auto replica = [&](std::size_t k) { return ReplicaTask{0, scenario.seed + k}; };
  if (run_tasks(replica_work({scenario}, replica, true), std::move(tasks)))
    throw std::runtime_error("a benchmark replica failed");
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const double replica_cpu = (cpu_s(RUSAGE_CHILDREN) - children + cpu_s(RUSAGE_SELF) - self) / o.replicas;
  double average[1] = {0};
  const double load_average = getloadavg(average, 1) == 1 ? average[0] : -1;
  if (o.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"load_average", load_average},
                                              {"fluid",
                                               {{"gpus", year.gpus + year.spare_gpus},
                                                {"simulated_days", year.duration_s / 86'400},
                                                {"faults", year.faults},
                                                {"cpu_s", fluid_cpu},
                                                {"goal_cpu_s", 60}}},
                                              {"replicas",
                                               {{"count", o.replicas},
                                                {"jobs", o.jobs},
                                                {"requests", requests},
                                                {"faults", faults},
                                                {"cpu_ms_each", replica_cpu * 1e3},
                                                {"goal_cpu_ms_each", 60},
                                                {"wall_s", wall}}}}
                           .dump(2));
    return 0;
  }
  fmt::print("load {:.1f}\n{:<12} {} GPUs, {:.0f} days, {} faults: {:.2f} CPU-s with start-up (goal 60)\n",
             load_average, "fluid", year.gpus + year.spare_gpus, year.duration_s / 86'400, year.faults, fluid_cpu);
  fmt::print(
      "{:<12} {} of {} with {:.0f} requests and {:.1f} faults each: {:.1f} CPU-ms each (goal 60: 10,000 in 10 "
      "CPU-minutes), {:.1f} s wall with {} at a time\n",
      "replicas", o.replicas, scenario.name, static_cast<double>(requests) / o.replicas,
      static_cast<double>(faults) / o.replicas, replica_cpu * 1e3, wall, o.jobs);
  return 0;
}

const Registration kBenchFluid{
    {.order = 71,
     .name = "bench fluid",
     .help = "A year of 100,000 GPUs, and replicas of a small fleet",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       app.add_option("--fleet", o->fleet, "Experiment at fluid fidelity")->capture_default_str();
       app.add_option("--scenario", o->scenario, "Experiment of the replicas")->capture_default_str();
       app.add_option("--replicas", o->replicas, "How many")->check(CLI::Range(1, 1'000'000))->capture_default_str();
       app.add_option("--jobs,-j", o->jobs, "Replicas at a time")->check(CLI::Range(1, 4096))->capture_default_str();
       app.add_flag("--json", o->json, "Print JSON");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
