// What the fleet does about it: incidents, restarts, spare nodes and standby instances, waiting for repair.
#include <algorithm>

#include "core/fluid/fleet.h"

namespace faultline::fluid {

using control::GroupRole;
using control::RecoveryAction;
using control::RestartUnit;

bool Fleet::can_serve(const Instance& x) const {
  bool prefill = false, decode = false;
  for (const std::uint32_t id : x.groups) {
    const Group& g = groups_[id];
    if (!g.up || g.stalled) continue;
    prefill |= g.role != GroupRole::decode;
    decode |= g.role != GroupRole::prefill;
  }
  return prefill && decode && !x.leader_lost;
}

std::vector<std::uint32_t> Fleet::dead_nodes(const Instance& x) const {
  std::vector<std::uint32_t> dead;
  const bool spare = spec_.recovery.policy == RecoveryAction::spare_node;
  for (const std::uint32_t id : x.groups) {
    for (const std::uint32_t n : groups_[id].nodes) {
      const NodeHealth h = health_.of(n);
      // Hung and cut-off nodes fail their health probe, which only a policy with spares makes; the others try again.
      if (known_bad_[n] || h.bad_hardware() || (spare && (h.hung || h.cut)) ||
          (h.cut && groups_[id].nodes.size() > 1)) {
        if (std::find(dead.begin(), dead.end(), n) == dead.end()) dead.push_back(n);
      }
    }
  }
  return dead;
}

void Fleet::open_incident(std::uint32_t i, std::uint64_t groups) {
  Instance& x = instances_[i];
  if (!x.warm) return;
  x.failed |= groups;
  if (x.stage != Stage::none) return;  // joins the incident
  ++result_.incidents;
  if (spec_.recovery.policy == RecoveryAction::none) return;
  x.stage = Stage::deciding;
  Duration probe{0};
  if (spec_.recovery.policy == RecoveryAction::spare_node) {
    probe = kProbe;
    for (const std::uint32_t id : x.groups) {
      for (const std::uint32_t n : groups_[id].nodes) {
        if ((x.failed >> groups_[id].index & 1) && health_.of(n).hung) probe = spec_.detector.probe_timeout;
      }
    }
  }
  push(now_ + spec_.recovery.decision_delay + probe, kDecide, i, ++x.generation);
}

void Fleet::decide(std::uint32_t i) {
  Instance& x = instances_[i];
  if (x.stage != Stage::deciding) return;
  if (spec_.recovery.policy == RecoveryAction::spare_instance && x.replacement == kNone && x.serving) promote(i);
  carry_out(i);
}

void Fleet::promote(std::uint32_t failed) {
  for (std::uint32_t s = 0; s < instances_.size(); ++s) {
    Instance& r = instances_[s];
    if (r.serving || r.stage != Stage::none || (r.warm && !can_serve(r)) || !dead_nodes(r).empty()) continue;
    instances_[failed].replacement = s;
    if (r.warm) {
      r.serving = true;
      account(s);
    } else {
      r.warm = r.serving = true;
      r.stage = Stage::starting;
      r.starting = (std::uint64_t{1} << (r.groups.size() - 1) << 1) - 1;
      push(now_ + spec_.engine.restart_total(), kReady, s, ++r.generation);
    }
    // The failed one is the spare from here on: its capacity is no longer counted on. Its place is lost until the
    // standby serves in its stead.
    account(failed);
    instances_[failed].serving = false;
    if (instances_[s].stage == Stage::none) take_place(s);
    account(failed);
    return;
  }
}

/// A standby serves from now on: whose place it takes is no place any more.
void Fleet::take_place(std::uint32_t standby) {
  if (instances_[standby].place) return;
  instances_[standby].place = true;
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    if (instances_[i].replacement != standby) continue;
    instances_[i].place = false;
    account(i);
  }
}

void Fleet::carry_out(std::uint32_t i) {
  Instance& x = instances_[i];
  std::erase(waiting_, i);
  const std::vector<std::uint32_t> dead = dead_nodes(x);
  std::uint64_t scope = 0;
  const std::uint64_t failed = x.failed | x.starting, all = (std::uint64_t{1} << (x.groups.size() - 1) << 1) - 1;
  if (spec_.fleet.restart_unit == RestartUnit::instance || x.leader_lost) {
    scope = all;
  } else {
    for (const std::uint32_t a : x.groups) {
      for (const std::uint32_t b : x.groups) {
        if (!(failed >> groups_[b].index & 1)) continue;
        if (a == b || (spec_.fleet.restart_unit == RestartUnit::role && groups_[a].role == groups_[b].role))
          scope |= std::uint64_t{1} << groups_[a].index;
      }
    }
  }
  for (const std::uint32_t id : x.groups) {
    Group& g = groups_[id];
    if (!(scope >> g.index & 1)) continue;
    if (g.up && !g.stalled) hit(g);
    g.up = g.stalled = false;
    ++g.generation;
  }
  x.failed = 0;
  x.starting = scope;
  Duration delay{0};
  std::size_t missing = dead.size();
  if (spec_.recovery.policy == RecoveryAction::spare_node) {
    for (const std::uint32_t node : dead) {
      while (!spares_.empty()) {
        const std::uint32_t spare = spares_.front();
        spares_.erase(spares_.begin());
        const NodeHealth h = health_.of(spare);
        if (h.bad_hardware() || h.cut || h.hung) {  // found out by the check of its start
          known_bad_[spare] = 1;
          ++result_.spare_failures;
          delay += spec_.recovery.node_attach + spec_.engine.restart_process;
          continue;
        }
        for (const std::uint32_t id : x.groups)
          std::replace(groups_[id].nodes.begin(), groups_[id].nodes.end(), node, spare);
        if (x.leader_node == node) x.leader_node = spare;
        group_of_node_[spare] = std::move(group_of_node_[node]);
        group_of_node_[node].clear();
        --missing;
        break;
      }
    }
    if (missing < dead.size()) delay += spec_.recovery.node_attach;
  }
  account(i);
  if (missing > 0) {
    wait(i);
    return;
  }
  start(i, delay);
}

void Fleet::wait(std::uint32_t i) {
  Instance& x = instances_[i];
  if (x.stage != Stage::waiting) {
    x.waiting_since = now_;
    if (spec_.recovery.policy == RecoveryAction::spare_node) ++result_.spare_waits;
  }
  x.stage = Stage::waiting;
  ++x.generation;
  waiting_.push_back(i);
  // A spare that is there already: only bad ones were tried.
  if (spec_.recovery.policy == RecoveryAction::spare_node && !spares_.empty())
    push(next_try(x), kRetry, i, x.generation);
}

/// The instance tries again after retry_interval, doubling up to retry_interval_max: the first such instant from now
/// on.
Instant Fleet::next_try(const Instance& x) const {
  Instant t = x.waiting_since;
  Duration gap = spec_.recovery.retry_interval;
  const Duration most = spec_.recovery.retry_interval_max;
  // Where only a try can tell that the node is good, each failed one also costs the start of its processes.
  const Duration attempt = spec_.recovery.policy == RecoveryAction::spare_node ? kProbe : spec_.engine.restart_process;
  while (gap < most && t < now_) {
    t = t + gap + attempt;
    gap = std::min(gap * 2, most);
  }
  if (t < now_) t = t + (most + attempt) * ((now_ - t + most + attempt - Duration{1}) / (most + attempt));
  return t;
}

void Fleet::node_usable(std::uint32_t node, bool at_once) {
  if (group_of_node_[node].empty()) {
    const auto& l = d_.placement.use[node];
    const bool ours = l.role != topology::NodeRole::unused;
    if (ours && std::find(spares_.begin(), spares_.end(), node) == spares_.end()) spares_.push_back(node);
    for (const std::uint32_t i : waiting_) push(next_try(instances_[i]), kRetry, i, instances_[i].generation);
    return;
  }
  for (const std::uint32_t g : group_of_node_[node]) {
    const std::uint32_t i = groups_[g].instance;
    Instance& x = instances_[i];
    if (x.stage != Stage::waiting) continue;
    push(at_once ? now_ : next_try(x), kRetry, i, x.generation);
  }
}

void Fleet::start(std::uint32_t i, Duration delay) {
  Instance& x = instances_[i];
  if (x.stage == Stage::waiting) {
    const double waited = seconds(now_ - x.waiting_since);
    if (spec_.recovery.policy == RecoveryAction::spare_node) spare_wait_s_ += waited;
    if (FaultCost* c = cost(x.blame)) c->spare_wait_s += waited;
  }
  x.stage = Stage::starting;
  push(now_ + delay + spec_.engine.restart_total(), kReady, i, ++x.generation);
}

void Fleet::ready(std::uint32_t i) {
  Instance& x = instances_[i];
  for (const std::uint32_t id : x.groups) {
    if (!(x.starting >> groups_[id].index & 1)) continue;
    for (const std::uint32_t n : groups_[id].nodes) health_.clear_hang(n);
  }
  if (!dead_nodes(x).empty()) {  // hardware went bad during the start
    carry_out(i);
    return;
  }
  const std::uint64_t started = x.starting;
  x.starting = 0;
  x.stage = Stage::none;
  x.leader_lost = false;
  for (const std::uint32_t id : x.groups) {
    Group& g = groups_[id];
    if (!(started >> g.index & 1)) continue;
    g.up = true;
    g.dead = g.stalled = false;
    g.own_gpus = 0;
    refresh(id);
  }
  if (x.replacement != kNone) {  // it is the spare now
    x.place = false;
    x.replacement = kNone;
  }
  if (x.serving) take_place(i);
  if (FaultCost* c = cost(x.blame); c && c->ready_s < 0) c->ready_s = seconds(now_ - x.fault_at);
  account(i);
  if (const std::uint64_t more = x.failed & ~started) {
    x.failed = 0;
    open_incident(i, more);
  } else {
    x.failed = 0;
  }
}

}  // namespace faultline::fluid
