// Groups that go on without some of their ranks, ranks that come back, and experts that move: what the engine's workers
// do, in simulated time. Who leaves and when is the fleet manager's decision (core/control/fleet_elastic.cpp); what
// moves from where, and how long that takes, is core/control/expert_repair.h.
#include <algorithm>

#include "core/base/assert.h"
#include "sim/driver/world.h"

namespace faultline::sim {

using control::StartGroup;

bool World::rank_of_gpu_absent(const Group& g, std::size_t node, std::uint32_t gpu) const {
  const std::size_t per_node = g.ranks * g.gpus_per_rank / g.nodes.size();
  return gpu < per_node && g.is_absent(static_cast<std::uint32_t>((node * per_node + gpu) / g.gpus_per_rank));
}

std::vector<bool> World::by_rank(const Group& g, const std::vector<std::uint32_t>& ranks) const {
  std::vector<bool> out;
  if (!ranks.empty()) out.resize(g.ranks);
  for (const std::uint32_t r : ranks) out[r] = true;
  return out;
}

std::vector<bool> World::by_gpu(const Group& g, const std::vector<bool>& ranks) const {
  std::vector<bool> out(std::size_t{g.ranks} * g.gpus_per_rank);
  for (std::size_t k = 0; k < out.size() && !ranks.empty(); ++k) out[k] = ranks[k / g.gpus_per_rank];
  return out;
}

void World::launch_survivors(Launch l) {
  const StartGroup& s = l.start;
  Group& g = group(s.instance.v, s.group);
  Duration time = s.delay;
  if (s.kind == StartGroup::Kind::join) {
    time += setup_.elastic.rank_start;
  } else if (s.kind == StartGroup::Kind::restore) {
    const control::ExpertPlanner* experts = shape_of(g).experts;
    FAULTLINE_ASSERT(experts != nullptr && g.placement != nullptr, "group {} has no experts", s.group);
    const std::vector<bool> gone = by_gpu(g, by_rank(g, s.absent));
    l.checked = experts->can_repair(gone);  // enough slots are left
    if (l.checked) l.change = experts->reform(*g.placement, gone, now_, true);
    time += l.change.time.total();
  } else {
    // A step that waits on the dead has not failed yet where heartbeats are quicker than the transport: it ends here.
    if (g.exec->busy()) end_step(g, Cause::canceled, control::kUnknownRank);
    const control::ExpertPlanner* experts = shape_of(g).experts;
    FAULTLINE_ASSERT(experts != nullptr && g.placement != nullptr, "group {} has no experts", s.group);
    g.launching = std::max(g.launching, s.epoch);
    g.waiting = true;
    g.fail_pending = false;
    const std::vector<bool> gone = by_gpu(g, by_rank(g, s.absent));
    const bool repair = s.kind == StartGroup::Kind::survivors && experts->can_repair(gone);
    if (repair && g.staged && g.staged_without == by_rank(g, s.absent)) {
      l.change = std::move(*g.staged);  // every byte is there already
      l.change.time = {};
    } else {
      l.change = experts->reform(*g.placement, gone, now_, repair);
    }
    g.staged.reset();
    time += setup_.elastic.reconfigure + l.change.time.total();
    account_instance(g.instance);
  }
  launches_.push_back(std::move(l));
  queue_.push(now_ + time, kLaunch, static_cast<std::uint32_t>(launches_.size() - 1), 0);
}

/// The processes of the joining ranks are up, if their hardware is.
void World::launch_join(std::uint32_t index) {
  const Launch& l = launches_[index];
  const StartGroup& s = l.start;
  const Group& g = group(s.instance.v, s.group);
  std::vector<bool> others(g.ranks, true);
  for (const std::uint32_t r : s.joining) others[r] = false;
  const std::uint32_t bad = bad_node_of(s.nodes, false, g, others);
  for (const std::uint32_t r : s.joining) {
    for (std::uint32_t k = 0; k < g.gpus_per_rank && bad == control::kUnknownRank; ++k) {
      const std::uint32_t per_node = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(s.nodes.size());
      const std::uint32_t gpu = r * g.gpus_per_rank + k;  // a new process resets its GPU
      truth_.clear_hang(setup_.topology->gpu(nth_gpu(g, s.nodes[gpu / per_node], gpu % per_node)));
    }
  }
  const Cause cause = bad == control::kUnknownRank ? Cause::none : Cause::device_lost;
  dispatch(l.agent, control::LaunchEnded{s.instance, s.group, s.epoch, cause, bad, true, 0});
}

/// Experts that nobody had are in the survivors' memory, beside those that serve.
void World::experts_restored(std::uint32_t index) {
  Launch& l = launches_[index];
  const StartGroup s = l.start;
  Group& g = group(s.instance.v, s.group);
  const bool there = l.checked && g.workers && !g.waiting && g.epoch == s.epoch;
  if (there) {
    g.staged = std::move(l.change);
    g.staged_without = by_rank(g, s.absent);
  }
  dispatch(l.agent, control::LaunchEnded{s.instance, s.group, s.epoch, there ? Cause::none : Cause::canceled,
                                         control::kUnknownRank, true, 0});
}

/// The group's ranks are on these nodes from now on.
void World::move_group(Group& g, const std::vector<std::uint32_t>& nodes) {
  const std::uint32_t index = g.number;
  for (const std::uint32_t n : g.nodes) std::erase(groups_on_node_[n], index);
  g.nodes = nodes;
  for (const std::uint32_t n : g.nodes) groups_on_node_[n].push_back(index);
}

void World::survivors_formed(std::uint32_t index) {
  Launch& l = launches_[index];
  const StartGroup s = l.start;
  Group& g = group(s.instance.v, s.group);
  if (s.epoch < g.launching) return;  // somebody else left meanwhile
  const std::vector<bool> absent = by_rank(g, s.absent);
  const std::uint32_t bad = bad_node_of(s.nodes, true, g, absent);
  if (bad != control::kUnknownRank || !g.workers) {
    dispatch(l.agent, control::LaunchEnded{s.instance, s.group, s.epoch, Cause::device_lost, bad, false, 0});
    return;
  }
  for (const std::uint32_t r : s.absent) {  // their processes are ended, which resets what hung
    for (std::uint32_t k = 0; k < g.gpus_per_rank; ++k) truth_.clear_hang(setup_.topology->gpu(gpu_of(g, r, k)));
  }
  set_usable(g, g.usable, true);  // the interval of the old ranks ends here
  if (g.nodes != s.nodes) move_group(g, s.nodes);
  g.absent = absent;
  g.waiting = g.dead = g.fail_pending = false;
  g.epoch = s.epoch;
  g.head = l.agent - first_node_;
  g.agent_incarnation = incarnation(l.agent);
  g.missing = l.change.missing;
  g.rebalancing = false;
  set_experts(g, std::make_shared<const model::ExpertPlacement>(std::move(l.change.placement)), l.change.imbalance);
  measure_paths(g);
  refresh(g);
  account_instance(s.instance.v);
  dispatch(l.agent,
           control::LaunchEnded{s.instance, s.group, s.epoch, Cause::none, control::kUnknownRank, false, g.missing});
}

/// All workers of a group start anew: everybody takes part, experts are loaded where the balancer wants them now.
void World::begin_whole(Group& g) {
  g.head = g.nodes.front();
  g.absent.clear();
  g.waiting = g.rebalancing = false;
  g.missing = 0;
  g.staged.reset();
  if (const auto* experts = shape_of(g).experts) {
    auto change = experts->reform(*g.placement, std::vector<bool>(std::size_t{g.ranks} * g.gpus_per_rank), now_, true);
    set_experts(g, std::make_shared<const model::ExpertPlacement>(std::move(change.placement)), change.imbalance);
  }
}

void World::set_experts(Group& g, std::shared_ptr<const model::ExpertPlacement> placement, double imbalance) {
  g.placement = std::move(placement);
  const auto& shape = shape_of(g);
  // In steps of 1/256, so that drift does not price every group anew each time.
  const auto steps = static_cast<std::int64_t>(imbalance * 256 + 0.5);
  const model::ParallelPlan plan = shape.experts->plan_of(by_gpu(g, g.absent), static_cast<double>(steps) / 256);
  const model::ParallelPlan& base = shape.pricer->plan();
  const bool as_built = plan.absent_gpus == 0 && static_cast<std::int64_t>(base.expert_imbalance * 256 + 0.5) ==
                                                     static_cast<std::int64_t>(plan.expert_imbalance * 256 + 0.5);
  if (as_built) {
    g.exec->set_pricer(now_, *shape.pricer);
  } else {
    auto& pricer = pricers_[{static_cast<std::int64_t>(g.shape), plan.absent_gpus, plan.absent_nodes, steps}];
    if (!pricer) pricer = shape.price(plan);
    g.exec->set_pricer(now_, *pricer);
  }
  if (g.exec->busy()) schedule_end(g);
}

/// The load prefers other experts from now on: groups step at another imbalance until they are rebalanced.
void World::expert_drift() {
  Duration period{0};
  for (Group& g : groups_) {
    const auto* experts = shape_of(g).experts;
    if (experts == nullptr) continue;
    period = experts->popularity_spec().drift_period;
    set_experts(g, g.placement, experts->imbalance(*g.placement, by_gpu(g, g.absent), now_));
  }
  queue_.push(now_ + period, kExpertDrift, 0, 0);
}

/// Every group stands still while its experts move to where the present popularity wants them.
void World::rebalance() {
  Duration period{0};
  for (std::uint32_t k = 0; k < groups_.size(); ++k) {
    Group& g = groups_[k];
    const auto* experts = shape_of(g).experts;
    if (experts == nullptr) continue;
    period = experts->balance().rebalance_period;
    const std::vector<bool> gone = by_gpu(g, g.absent);
    if (!g.workers || g.waiting || g.rebalancing || g.exec->stalled() || !experts->can_repair(gone)) continue;
    auto change = experts->reform(*g.placement, gone, now_, true);
    if (change.count.moved_bytes() == 0) continue;
    g.rebalancing = true;
    g.rebalance = ++generation_;
    g.exec->stall(now_);
    g.generation = ++generation_;
    ++run_.rebalances;
    run_.rebalance_bytes += change.count.moved_bytes();
    g.missing = 0;
    g.placement = std::make_shared<const model::ExpertPlacement>(std::move(change.placement));
    account_instance(g.instance);
    queue_.push(now_ + change.time.total(), kRebalanced, k, g.rebalance);
  }
  queue_.push(now_ + period, kRebalance, 0, 0);
}

void World::rebalanced(std::uint32_t index, std::uint64_t generation) {
  Group& g = groups_[index];
  if (!g.rebalancing || g.rebalance != generation) return;
  g.rebalancing = false;
  const auto* experts = shape_of(g).experts;
  set_experts(g, g.placement, experts->imbalance(*g.placement, by_gpu(g, g.absent), now_));
  refresh(g);
}

}  // namespace faultline::sim
