// Detection and recovery of one fault of each kind from step runs of a small fleet with the same plan, engine, policy
// and load a GPU: measured once per (fault kind, policy, plan) and kept in a file.
#include <fmt/format.h>

#include <set>

#include "cli/fluid_run.h"
#include "cli/sweep_store.h"
#include "core/base/hash.h"
#include "sim/driver/replicas.h"

namespace faultline::cli {
namespace {

constexpr std::uint32_t kInstances = 3;  // the hit one, and others that take its load
constexpr Duration kFaultAt{60'000'000'000};

/// The small experiment; its fault strikes the same place of instance 0 as the real one does of its own.
experiment::ExperimentSpec around(const experiment::ExperimentSpec& spec, const experiment::Deployment& d,
                                  const fault::ScheduledFault& f) {
  experiment::ExperimentSpec one = spec;
  one.name = fmt::format("effect of {}", name_of(f.kind));
  one.question = one.answer = "";
  one.fidelity = experiment::Fidelity::step;
  one.fleet.instances = std::min(kInstances, spec.fleet.instances);
  one.fleet.spare_nodes = std::min<std::uint32_t>(2, spec.fleet.spare_nodes);
  one.fleet.spare_instances = std::min<std::uint32_t>(1, spec.fleet.spare_instances);
  const std::uint32_t nodes = spec.fleet.layout.prefill + spec.fleet.layout.decode + spec.fleet.layout.mixed;
  one.topology.nodes =
      std::min(spec.topology.nodes, nodes * (one.fleet.instances + one.fleet.spare_instances) + one.fleet.spare_nodes);
  one.workload.rate_scale = spec.workload.rate_scale * one.fleet.instances / spec.fleet.instances;
  one.workload.requests.reset();
  one.workload.duration = Duration{2 * kFaultAt.v} + spec.engine.collective_timeout + 3 * spec.engine.restart_total() +
                          spec.recovery.node_attach;
  one.end = one.workload.duration;
  fault::FaultSpec fault;
  fault.id = "fault";
  fault.kind = f.kind;
  const topology::Names names(d.topology, d.placement);
  std::string target = names.by_use(f.component);
  if (const auto dot = target.find('.'); target.starts_with("inst-") && dot != std::string::npos)
    target = "inst-0" + target.substr(dot);
  else if (target.starts_with("inst-")) target = "inst-0";
  else if (target.starts_with("spare-")) target = spec.fleet.layout.mixed > 0 ? "inst-0.m-0" : "inst-0.d-0";
  fault.target = target;
  fault.at = Instant{kFaultAt.v};
  if (f.length != kForever && info(f.kind).takes_duration) fault.duration = f.length;
  const auto parameters = info(f.kind).parameters;
  if (parameters == fault::Parameters::slowdown || parameters == fault::Parameters::share) fault.factor = f.factor;
  if (parameters == fault::Parameters::flap) {
    fault.down = f.down;
    fault.up = f.up;
    fault.cycles = f.cycles;
  }
  one.faults = {fault};
  return one;
}

fluid::Measured measure(const experiment::ExperimentSpec& one) {
  const auto deployment = experiment::deploy(one);
  sim::Replicas runs(one, *deployment, read_text, {{.with_faults = true}});
  const auto records = runs.collect();
  const metrics::Impacts impacts = metrics::compare(records[0], nullptr, nullptr);
  fluid::Measured m;
  for (const metrics::FaultImpact& f : impacts.faults) {
    if (!f.applied()) continue;
    if (f.phases.detect != kNever) m.detect_s = seconds(f.phases.detect - f.at);
    m.ready_s = f.phases.ready != kNever ? seconds(f.phases.ready - f.at) : 0;
    m.lost_gpu_s = f.capacity_loss.gpu_seconds();
    m.hit = static_cast<double>(f.requests_hit);
    m.failed = static_cast<double>(f.requests_hit_failed);
  }
  return m;
}

}  // namespace

fluid::MeasuredEffects measure_effects(const experiment::ExperimentSpec& spec, const experiment::Deployment& d,
                                       const FluidInputs& inputs) {
  fluid::MeasuredEffects effects;
  std::set<fault::FaultKind> tried;
  if (const auto slash = inputs.cache.rfind('/'); slash != std::string::npos)
    make_folder(inputs.cache.substr(0, slash));
  SweepStore store(inputs.cache);
  for (const fault::ScheduledFault& f : d.faults) {
    const NodeId node = f.component.valid() ? d.topology.node_of(f.component) : NodeId{};
    if (!node.valid() || d.placement.use[node.v].role == topology::NodeRole::unused || !tried.insert(f.kind).second)
      continue;
    const experiment::ExperimentSpec one = around(spec, d, f);
    const std::string key = fmt::format("effect-{:016x}", hash_text(experiment::resolved(one)));
    auto stored = store.summaries({key});
    if (stored.empty()) {
      if (!inputs.quiet)
        fmt::print(stderr, "measuring {} by a step run of {} instances\n", name_of(f.kind), one.fleet.instances);
      const fluid::Measured m = measure(one);
      const nlohmann::json json{{"detect_s", m.detect_s},
                                {"ready_s", m.ready_s},
                                {"lost_gpu_s", m.lost_gpu_s},
                                {"hit", m.hit},
                                {"failed", m.failed}};
      store.put({key, one.name, static_cast<std::int64_t>(spec.seed), json.dump()});
      stored[key] = json.dump();
    }
    const auto json = nlohmann::json::parse(stored[key]);
    const fluid::Measured m{json.at("detect_s"), json.at("ready_s"), json.at("lost_gpu_s"), json.at("hit"),
                            json.at("failed")};
    // A fault that stops nothing keeps its closed form: there is nothing to recover from.
    if (m.ready_s > 0) effects[f.kind] = m;
  }
  return effects;
}

}  // namespace faultline::cli
