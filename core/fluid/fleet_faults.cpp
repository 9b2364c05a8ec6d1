// What faults do to groups: the truth of nodes carried on to what runs on them, until somebody notices.
#include <algorithm>
#include <bit>

#include "core/fluid/fleet.h"

namespace faultline::fluid {

using control::GroupRole;
using fault::FaultKind;

void Fleet::fault(std::uint32_t index, bool active) {
  const fault::ScheduledFault& f = d_.faults[index];
  if (active) {
    ++result_.faults;
    if (options_.measured != nullptr && !flaps(f)) {
      if (const auto m = options_.measured->find(f.kind); m != options_.measured->end()) {
        measured_incident(index, m->second);
        return;
      }
    }
    // A repair begins when a crew is free; a disturbance ends by itself.
    const bool hardware = !info(f.kind).process_only && f.kind != FaultKind::node_maintenance;
    if (f.kind == FaultKind::cooling_loss && f.shutdown_after != kForever)
      push(now_ + f.shutdown_after, kShutdown, index);
    if (f.length != kForever && !flaps(f)) {
      if (options_.repair_crews == 0 || !hardware) push(f.revert_at(now_), kFault, index, 0, false);
      else if (crews_free_ > 0) {
        --crews_free_;
        push(now_ + f.length, kFault, index, 1, false);
      } else {
        repair_queue_.push_back(index);
        result_.repair_queue_max =
            std::max<std::int64_t>(result_.repair_queue_max, static_cast<std::int64_t>(repair_queue_.size()));
      }
    }
  }
  strike(index, active, health_.set(index, active));
}

/// Carries a change of nodes' health on to their groups.
void Fleet::strike(std::uint32_t index, bool active, const std::vector<std::uint32_t>& nodes) {
  const fault::ScheduledFault& f = d_.faults[index];
  const double share = fleet_capacity_ > 0 ? std::min(1.0, rate_ / fleet_capacity_) : 0;
  std::vector<std::uint32_t> touched;
  for (const std::uint32_t n : nodes) {
    const NodeHealth h = health_.of(n);
    if (active && group_of_node_[n].empty() && h.down) {  // an idle spare that stops answering leaves the pool
      if (std::erase(spares_, n) > 0) ++result_.spare_failures;
    }
    if (active && h.down) {
      for (std::uint32_t g : group_of_node_[n]) {
        Instance& x = owner(groups_[g]);
        if (x.leader_node == n) x.leader_lost = true;
      }
    }
    for (const std::uint32_t g : group_of_node_[n]) touched.push_back(g);
    if (!active && !h.bad_hardware() && !h.cut && !h.hung) {
      known_bad_[n] = 0;
      node_usable(n, f.kind == FaultKind::node_crash || f.kind == FaultKind::node_maintenance ||
                         f.kind == FaultKind::rack_power || f.kind == FaultKind::cooling_loss);
    }
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const std::uint32_t g : touched) {
    Instance& x = owner(groups_[g]);
    if (active && x.stage == Stage::none) {
      account(groups_[g].instance);  // what was lost before belongs to the fault before
      x.blame = index;
      x.fault_at = now_;
      // A node that is taken out on purpose is drained: nothing runs on its instance any more when it goes.
      x.share = x.serving && f.kind != FaultKind::node_maintenance ? share : 0;
    }
    // A process dies, its GPU does not.
    const bool process = f.kind == FaultKind::process_crash || (f.kind == FaultKind::gpu_ecc && f.process_only);
    if (active && process && groups_[g].up) {
      const auto gpu = d_.topology.gpu_of(f.component);
      if (gpu && gpu->gpu < groups_[g].gpus_per_node) groups_[g].dead = true;
    }
    refresh(g);
  }
}

/// Brings a group in line with its nodes' health.
void Fleet::refresh(std::uint32_t id) {
  Group& g = groups_[id];
  if (!g.up) {
    account(g.instance);
    return;
  }
  const std::uint64_t used = g.gpus_per_node >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << g.gpus_per_node) - 1;
  bool dead = g.dead, lost_node = false, hung = false, cut = false;
  double slow = 1, rdma = 1, xgmi = 1;
  for (const std::uint32_t n : g.nodes) {
    const NodeHealth h = health_.of(n);
    dead |= (h.dead_gpus & used) != 0;
    lost_node |= h.down;
    hung |= h.hung;
    cut |= h.cut;
    slow = std::max(slow, h.slow);
    rdma = std::min(rdma, h.rdma);
    xgmi = std::min(xgmi, h.xgmi);
  }
  const bool wide = g.nodes.size() > 1;
  const auto pod = [&](std::uint32_t n) {
    return d_.topology.layout.pod_of_leaf(d_.topology.layout.leaf_of(NodeId{n}, 0, 0));
  };
  if (wide && !health_.uplinks_whole()) {
    for (const std::uint32_t n : g.nodes) {
      if (pod(n) != pod(g.nodes.front()))
        rdma = std::min({rdma, health_.uplinks_of(n), health_.uplinks_of(g.nodes.front())});
    }
  }
  if (rdma <= 0) cut = true;
  const bool bad = dead || hung || cut;
  int failed = 0;
  for (const std::uint32_t n : g.nodes) failed += std::popcount(health_.of(n).own_gpus & used);
  g.own_gpus = bad ? std::max(g.own_gpus, static_cast<double>(failed)) : slow > 1 ? 1 - 1 / slow : 0;
  if (bad && !g.stalled) {
    hit(g);
    g.stalled = true;
    Duration after = spec_.engine.process_exit_notice;
    if (lost_node) {
      // The agents' heartbeats stop; peers of a wide group notice the broken path sooner where their agent lives.
      after = spec_.detector.heartbeat_period * spec_.detector.heartbeats_missed;
      if (wide && !health_.of(g.nodes.front()).down) after = std::min(after, spec_.network.retransmission_budget());
    } else if (!dead && hung) {
      after = spec_.engine.collective_timeout;
    } else if (!dead) {
      after = spec_.network.retransmission_budget() * (wide ? 1 : spec_.detector.transfer_failures);
    }
    push(now_ + after, kNotice, id, ++g.generation);
  } else if (!bad && g.stalled) {
    g.stalled = false;
    ++g.generation;
  }
  g.dead = dead;
  // A barrier: the slowest GPU's own operations, and the scarcest path's exchange.
  const auto batch = static_cast<std::int64_t>(
      role(g).held_at(use_of(g)) / static_cast<double>(std::max<std::int64_t>(1, role(g).gpus)) + 0.5);
  double left = 1;  // by others
  for (const std::uint32_t n : g.nodes) {
    if (wide) left = std::min(left, health_.nics_left(n));
    if (wide && pod(n) != pod(g.nodes.front()))
      left = std::min({left, health_.uplinks_left(n), health_.uplinks_left(g.nodes.front())});
  }
  const double shared = role(g).slowdown(batch, 1, left, 1);
  g.shared = left < 1 ? role(g).slowdown(std::max<std::int64_t>(1, role(g).batch), 1, left, 1) : 1;
  const double total = bad ? shared : role(g).slowdown(batch, slow, wide ? rdma : 1, xgmi);
  g.slowdown = std::max(1.0, total / shared);
  g.over = total > 1 && g.role != GroupRole::prefill && total * role(g).step_at(batch) > capacity_.tpot_limit_s;
  account(g.instance);
}

void Fleet::notice(std::uint32_t id, std::uint32_t generation) {
  Group& g = groups_[id];
  if (generation != g.generation || !g.stalled || !g.up) return;
  Instance& x = owner(g);
  if (FaultCost* c = cost(x.blame); c && c->detect_s < 0) c->detect_s = seconds(now_ - x.fault_at);
  if (x.blame != kNone && d_.faults[x.blame].kind == FaultKind::gpu_hang)
    interrupt(g, came_while_hung(g, now_ - x.fault_at), 0, capacity_.load.prompt_mean);
  open_incident(g.instance, std::uint64_t{1} << g.index);
}

/// What step runs showed, instead of the mechanism: the instance loses the measured share of its GPUs until ready.
void Fleet::measured_incident(std::uint32_t index, const Measured& m) {
  const fault::ScheduledFault& f = d_.faults[index];
  const NodeId node = f.component.valid() ? d_.topology.node_of(f.component) : NodeId{};
  if (!node.valid() || group_of_node_[node.v].empty()) return;
  const std::uint32_t i = groups_[group_of_node_[node.v].front()].instance;
  Instance& x = instances_[i];
  if (x.stage != Stage::none || m.ready_s <= 0) return;
  account(i);
  x.blame = index;
  x.fault_at = now_;
  x.stage = Stage::starting;
  double gpus = 0;
  for (const std::uint32_t id : x.groups) gpus += groups_[id].gpus;
  const double lost = std::min(gpus * 0.999, m.lost_gpu_s / m.ready_s);
  for (const std::uint32_t id : x.groups) groups_[id].slowdown = gpus / (gpus - lost);
  result_.hit += m.hit;
  hit_tokens_ += m.hit * 2 * capacity_.load.output_age;
  result_.failed += m.failed;
  result_.retried += m.hit - m.failed;
  ++result_.incidents;
  result_.tokens_recomputed += (m.hit - m.failed) * (capacity_.load.prompt_mean + capacity_.load.output_age);
  FaultCost& c = result_.costs[index];
  c.hit = m.hit;
  c.failed = m.failed;
  c.detect_s = m.detect_s;
  c.ready_s = m.ready_s;
  account(i);
  push(now_ + duration_from_seconds(m.ready_s), kMeasuredEnd, i, ++x.generation);
}

}  // namespace faultline::fluid
