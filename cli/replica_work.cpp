#include "cli/replica_work.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/fluid_run.h"
#include "core/report/summary_json.h"
#include "sim/driver/replicas.h"
#include "sim/driver/simulate.h"
#include "sim/engine/flow_net_module.h"

namespace faultline::cli {
namespace {

constexpr std::size_t kPreparedMax = 64;  // deployments kept: a large topology takes some megabytes

struct Shared {
  std::vector<experiment::ExperimentSpec> specs;
  std::function<ReplicaTask(std::size_t)> replica;
  std::map<std::size_t, std::unique_ptr<experiment::Deployment>> prepared;
};

}  // namespace

std::string replica_summary(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                            bool unpaired) {
  std::vector<sim::ReplicaJob> jobs;
  if (!deployment.faults.empty() && !unpaired) jobs.push_back({.with_faults = false});
  sim::Replicas others(spec, deployment, read_text, jobs);
  const record::RunRecord run = sim::simulate(spec, deployment, read_text, {});
  const auto pair = others.collect();
  metrics::Options options;
  options.gpu_price_per_hour = spec.cost.gpu_hour;
  const report::Report report = report::make_report(run, pair.empty() ? nullptr : &pair[0], nullptr, options);
  nlohmann::ordered_json json = report::summary_json(report);
  for (const char* key : {"wall_s", "cpu_s", "requests_per_cpu_s", "peak_rss_bytes"}) json["simulator"].erase(key);
  if (spec.sampling.draw != fault::Draw::plain) json["weight"] = deployment.weight;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Work replica_work(std::vector<experiment::ExperimentSpec> specs, std::function<ReplicaTask(std::size_t)> replica,
                  bool unpaired) {
  auto shared = std::make_shared<Shared>(Shared{std::move(specs), std::move(replica), {}});
  Work work;
  work.prepare = [shared](const Task& task) {
    const std::size_t spec = shared->replica(task.number).spec;
    if (shared->specs[spec].fidelity == experiment::Fidelity::fluid || shared->prepared.contains(spec)) return;
    sim::load_flow_net();
    if (shared->prepared.size() >= kPreparedMax) shared->prepared.clear();
    try {
      shared->prepared[spec] = experiment::deploy(shared->specs[spec]);
    } catch (const config::ConfigError&) {
      shared->prepared[spec] = nullptr;  // the task meets the same error, and is the one that it is of
    }
  };
  work.run = [shared, unpaired](const Task& task) {
    const ReplicaTask r = shared->replica(task.number);
    experiment::ExperimentSpec& spec = shared->specs[r.spec];
    spec.seed = r.seed;
    if (spec.fidelity == experiment::Fidelity::fluid) {
      const auto model = make_fluid(spec, {});
      nlohmann::ordered_json json = fluid_summary(*model);
      if (spec.sampling.draw != fault::Draw::plain) json["weight"] = model->deployment->weight;
      return json.dump();
    }
    auto& deployment = shared->prepared[r.spec];
    if (deployment) experiment::reseed(*deployment, spec);
    else deployment = experiment::deploy(spec);
    return replica_summary(spec, *deployment, unpaired);
  };
  return work;
}

}  // namespace faultline::cli
