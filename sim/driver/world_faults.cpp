// Making faults true. What follows from them is in health_of() and in the transfers.
#include <algorithm>

#include "core/base/assert.h"
#include "core/fault/loss.h"
#include "sim/driver/world.h"
#include "sim/faults/support.h"

namespace faultline::sim {

using fault::FaultKind;

namespace {

/// What a fault does: a contained memory error is a process that dies.
FaultKind effect_of(const fault::ScheduledFault& f) {
  return f.kind == FaultKind::gpu_ecc && f.process_only ? FaultKind::process_crash : f.kind;
}

}  // namespace

fault::Support World::supports(const fault::ScheduledFault& f) const {
  const std::string_view reason = why_not_simulated(f.kind);
  return {reason.empty(), std::string(reason)};
}

void World::transition(std::uint32_t index, bool active) {
  const fault::ScheduledFault& f = setup_.faults[index];
  record::FaultRecord& r = run_.faults[index];
  if (active && r.at == kNever) {
    r.at = now_;
    r.applied = true;
    const auto transitions = f.transitions(now_);
    for (std::size_t k = 1; k < transitions.size(); ++k)
      queue_.push(transitions[k].at, kTransition, index, transitions[k].active ? 1 : 0);
    if (!transitions.empty() && !transitions.back().active) r.reverted = transitions.back().at;
  }
  const Status status = active ? apply(f, now_) : revert(f, now_);
  if (setup_.truth) setup_.truth->append(now_, f.name, name_of(f.kind), f.target, active, status.cause());
  if (!status) {
    r.applied = false;
    r.not_applied_reason = std::string(name_of(status.cause()));
  }
}

void World::count_event(fault::CausalEvent event, std::uint32_t instance) {
  for (AfterCount& a : after_) {
    if (a.done) continue;
    const fault::ScheduledFault& f = setup_.faults[a.fault];
    const auto& trigger = std::get<fault::AfterEvent>(f.trigger);
    if (trigger.event != event) continue;
    if (fault::is_recovery(event)) {
      // Phases of the named fault's recovery only.
      if (instance >= setup_.instances.size()) continue;
      const std::uint32_t blamed = observer_.fault_of(instance);
      if (blamed == kNoFault || run_.faults[blamed].id != trigger.fault) continue;
    } else if (trigger.scope == fault::CausalScope::target && instance < setup_.instances.size() &&
               f.component.valid()) {
      const NodeId node = setup_.topology->node_of(f.component);
      bool member = !node.valid();
      for (std::uint32_t k = 0; k < group_count(instance) && !member; ++k) {
        const auto& nodes = group(instance, k).nodes;
        member = std::find(nodes.begin(), nodes.end(), node.v) != nodes.end();
      }
      if (!member) continue;
    }
    if (++a.seen < trigger.nth) continue;
    a.done = true;
    queue_.push(now_ + trigger.delay, kTransition, a.fault, 1);
  }
}

/// Blames a fault for what happens next on every instance that uses something it disabled.
void World::touch_affected(std::uint32_t fault) {
  const fault::ScheduledFault& f = setup_.faults[fault];
  record::FaultRecord& r = run_.faults[fault];
  if (!f.component.valid()) return;
  const topology::Topology& topology = *setup_.topology;
  const auto implied = topology.graph.implied(f.component);
  if (r.targeted_components == 0) {
    r.targeted_components = static_cast<std::uint32_t>(implied.size());
    // Own GPUs: those the fault disables, and those whose every way out of the node it cuts.
    for (const ComponentId c : implied) {
      if (topology.graph[c].kind == topology::Kind::gpu) r.own_gpus.push_back(c);
    }
    if (f.kind == FaultKind::gpu_hang || f.kind == FaultKind::gpu_slow || f.kind == FaultKind::pcie_degrade)
      r.own_gpus = {f.component};
    std::sort(r.own_gpus.begin(), r.own_gpus.end());
    r.own_gpus.erase(std::unique(r.own_gpus.begin(), r.own_gpus.end()), r.own_gpus.end());
  }
  std::vector<NodeId> nodes;
  for (const ComponentId c : implied) {
    if (const NodeId n = topology.node_of(c); n.valid()) nodes.push_back(n);
  }
  // A switch touches the nodes whose paths cross it: those with a cable on it; deeper tiers only where health changes.
  std::sort(nodes.begin(), nodes.end());
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    Group& x = groups_[g];
    const bool member = std::any_of(x.nodes.begin(), x.nodes.end(), [&](std::uint32_t n) {
      return std::binary_search(nodes.begin(), nodes.end(), NodeId{n});
    });
    if (!member) continue;
    for (std::uint32_t k = 0; k < group_count(x.instance); ++k) group(x.instance, k).blame = fault;
    observer_.touch(now_, x.instance, fault);
  }
}

/// GPUs that a dead NIC or switch cuts off from the fabric count as the fault's own: every port of their NIC is dark
/// and they may not use another. (A single link is not counted so: it has no GPU of its own.)
void World::add_disconnected(record::FaultRecord& r) {
  const topology::Topology& topology = *setup_.topology;
  const topology::Layout& layout = topology.layout;
  if (topology.spec.node.nic_failover) return;
  for (std::uint32_t n = 0; n < layout.nodes; ++n) {
    for (std::uint32_t g = 0; g < layout.gpus; ++g) {
      bool lit = false;
      for (std::uint32_t port = 0; port < layout.ports; ++port)
        lit |= truth_.links().up(layout.cable(NodeId{n}, layout.rail_of(g), port));
      if (!lit) r.own_gpus.push_back(topology.gpu({NodeId{n}, g}));
    }
  }
  std::sort(r.own_gpus.begin(), r.own_gpus.end());
  r.own_gpus.erase(std::unique(r.own_gpus.begin(), r.own_gpus.end()), r.own_gpus.end());
}

Status World::apply(const fault::ScheduledFault& f, Instant) {
  const topology::Topology& topology = *setup_.topology;
  touch_affected(f.id.v);
  active_[f.id.v] = true;
  switch (effect_of(f)) {
    case FaultKind::placebo:
      // Disables nothing, but is felt: the next step of one group ends a microsecond later, so that a placebo run
      // spreads the same small differences over the fleet as any changed route does.
      for (Group& g : groups_) {
        if (!g.workers || !g.exec->busy() || g.exec->stalled()) continue;
        g.exec->stall(now_);
        now_ = now_ + Duration{1'000};
        g.exec->resume(now_);
        now_ = now_ - Duration{1'000};
        schedule_end(g);
        break;
      }
      return ok();
    case FaultKind::gpu_correctable: return ok();  // a precursor: what follows is in the schedule
    case FaultKind::gpu_hang: truth_.set_hung(f.component, true); break;
    case FaultKind::gpu_slow: truth_.set_slow(f.component, f.id.v, f.factor); break;
    case FaultKind::gpu_sdc:
      for (const auto i : run_.faults[f.id.v].instances_direct) observer_.taint(i.v, f.id.v, true);
      return ok();
    case FaultKind::process_crash: truth_.set_down(f.component, true); break;
    case FaultKind::pcie_degrade: {
      const topology::NodeGpu gpu = *topology.gpu_of(f.component);
      truth_.set_link_factor(topology.nic(gpu.node, topology.layout.rail_of(gpu.gpu)), f.id.v, f.factor);
      break;
    }
    case FaultKind::link_degrade:
    case FaultKind::xgmi_degrade:
    case FaultKind::pfc_storm: truth_.set_link_factor(f.component, f.id.v, f.factor); break;
    case FaultKind::link_lossy: truth_.set_link_factor(f.component, f.id.v, lossy_share(f)); break;
    case FaultKind::link_oneway: truth_.set_one_way(f.component, true); break;
    case FaultKind::kv_fail: truth_.set_transfers_blocked(topology.node_of(f.component), true); break;
    case FaultKind::storage_slow: storage_slowdown_ = storage_slowdown(); return ok();
    case FaultKind::rollout_bad: ++bad_rollouts_; return ok();
    case FaultKind::node_maintenance:
      // The notice travels as an operator's command; the node goes when the drain's time is over, drained or not.
      tell_operator_plan(f, true);
      queue_.push(now_ + f.drain, kPowerOff, f.id.v, 0);
      return ok();
    case FaultKind::cooling_loss:
      for (const ComponentId gpu : gpus_in(f.component)) truth_.set_slow(gpu, f.id.v, f.factor);
      queue_.push(now_ + f.shutdown_after, kPowerOff, f.id.v, 0);
      break;
    case FaultKind::router_crash:
      for (std::uint32_t r = 0; r < fleet_; ++r) {
        if (f.target == "router-" + std::to_string(r) ||
            (entities_[r].host == f.component && f.target.rfind("router-", 0) != 0)) {
          crash(r, true);
          queue_.push(now_ + (f.length == kForever ? setup_.router_restart : f.length), kRouterBack, r, 0);
        }
      }
      return ok();
    default: power_down(f); break;
  }
  refresh_all();
  transfers_after_link_change();
  return ok();
}

/// A component and everything it implies is gone.
void World::power_down(const fault::ScheduledFault& f) {
  const topology::Topology& topology = *setup_.topology;
  const std::vector<ComponentId> changed = truth_.set_down(f.component, true);
  if (!topology::is_link(topology.graph[f.component].kind)) add_disconnected(run_.faults[f.id.v]);
  for (const ComponentId c : changed) {
    const topology::Kind kind = topology.graph[c].kind;
    if (kind == topology::Kind::node) drop_transfers_of(topology.node_of(c));
    if (kind != topology::Kind::node && kind != topology::Kind::host) continue;
    for (std::uint32_t e = 0; e < entities_.size(); ++e) {
      if (entities_[e].host == c) crash(e, false);
    }
  }
}

void World::power_up(const fault::ScheduledFault& f) {
  const topology::Topology& topology = *setup_.topology;
  for (const ComponentId c : truth_.set_down(f.component, false)) {
    const topology::Kind kind = topology.graph[c].kind;
    if (kind != topology::Kind::node && kind != topology::Kind::host) continue;
    for (std::uint32_t e = 0; e < entities_.size(); ++e) {
      // Agents, routers and the fleet manager come back with their host; leaders when their workers are started.
      if (entities_[e].host == c && !alive(e) && entities_[e].address.role != Role::instance) restart(e);
    }
  }
}

/// The operator's command to the fleet manager; it comes from outside the cluster and is not lost.
void World::tell_operator_plan(const fault::ScheduledFault& f, bool begins) {
  post_local(fleet_, control::Received{{Role::client, 0},
                                       control::Maintenance{setup_.topology->node_of(f.component).v, begins}});
}

/// The second stage of a planned maintenance or of a loss of cooling.
void World::power_off(std::uint32_t index) {
  if (!active_[index]) return;  // undone before
  powered_off_[index] = true;
  power_down(setup_.faults[index]);
  refresh_all();
  transfers_after_link_change();
}

double World::storage_slowdown() const {
  double product = 1;
  for (const fault::ScheduledFault& f : setup_.faults)
    product *= f.kind == FaultKind::storage_slow && active_[f.id.v] ? f.factor : 1;
  return product;
}

std::vector<ComponentId> World::gpus_in(ComponentId component) const {
  std::vector<ComponentId> gpus;
  for (const ComponentId c : setup_.topology->graph.implied(component)) {
    if (setup_.topology->graph[c].kind == topology::Kind::gpu) gpus.push_back(c);
  }
  return gpus;
}

/// Go-back-N over a round trip through a spine, in packets of the largest RoCE MTU (4096 B). Losses beyond what the
/// formula leaves are kept at a millionth: the link is up.
double World::lossy_share(const fault::ScheduledFault& f) const {
  const topology::TopologySpec& spec = setup_.topology->spec;
  const Duration one_way = spec.node.nic.latency * 2 + spec.fabric.switch_latency * 3 + spec.fabric.wire_latency * 4;
  const auto& link = setup_.topology->graph.link(setup_.topology->graph.links_of(f.component).front());
  const double window = std::max(1.0, static_cast<double>(link.capacity.v) * 2 * seconds(one_way) / 4096);
  return std::clamp(fault::go_back_n_share(f.loss, window), 1e-6, 1.0);
}

Status World::revert(const fault::ScheduledFault& f, Instant) {
  const topology::Topology& topology = *setup_.topology;
  active_[f.id.v] = false;
  switch (effect_of(f)) {
    case FaultKind::placebo:
    case FaultKind::gpu_correctable:
    case FaultKind::router_crash: return ok();
    case FaultKind::gpu_hang:
      if (truth_.hung(f.component)) truth_.set_hung(f.component, false);
      break;
    case FaultKind::gpu_slow: truth_.set_slow(f.component, f.id.v, 1); break;
    case FaultKind::gpu_sdc:
      for (const auto i : run_.faults[f.id.v].instances_direct) observer_.taint(i.v, f.id.v, false);
      return ok();
    case FaultKind::process_crash: truth_.set_down(f.component, false); break;
    case FaultKind::pcie_degrade: {
      const topology::NodeGpu gpu = *topology.gpu_of(f.component);
      truth_.set_link_factor(topology.nic(gpu.node, topology.layout.rail_of(gpu.gpu)), f.id.v, 1);
      break;
    }
    case FaultKind::link_degrade:
    case FaultKind::link_lossy:
    case FaultKind::xgmi_degrade:
    case FaultKind::pfc_storm: truth_.set_link_factor(f.component, f.id.v, 1); break;
    case FaultKind::link_oneway: truth_.set_one_way(f.component, false); break;
    case FaultKind::kv_fail: truth_.set_transfers_blocked(topology.node_of(f.component), false); break;
    case FaultKind::storage_slow: storage_slowdown_ = storage_slowdown(); return ok();
    case FaultKind::rollout_bad: --bad_rollouts_; return ok();
    case FaultKind::node_maintenance:
      if (powered_off_[f.id.v]) power_up(f);
      // Given free once it answers: a millisecond after its agent has told everybody that it is back.
      queue_.push(now_ + setup_.timing.control_latency * 2 + Duration{1'000'000}, kPowerOff, f.id.v, 1);
      break;
    case FaultKind::cooling_loss:
      for (const ComponentId gpu : gpus_in(f.component)) truth_.set_slow(gpu, f.id.v, 1);
      if (powered_off_[f.id.v]) power_up(f);
      break;
    default: power_up(f); break;
  }
  refresh_all();
  transfers_after_link_change();
  return ok();
}

void World::probe(std::uint32_t agent, const control::RunProbe& p) {
  const Entity& e = entities_[agent];
  const topology::Topology& topology = *setup_.topology;
  probes_.push_back({agent, incarnation(agent), p.token});
  // A healthy GPU answers at once; one that hangs costs the whole time-out.
  bool hangs = false;
  for (std::uint32_t g = 0; g < topology.layout.gpus; ++g)
    hangs |= truth_.hung(topology.gpu({NodeId{e.address.index}, g}));
  queue_.push(now_ + (hangs ? p.timeout : Duration{100'000'000}), kProbe,
              static_cast<std::uint32_t>(probes_.size() - 1), 0);
}

}  // namespace faultline::sim
