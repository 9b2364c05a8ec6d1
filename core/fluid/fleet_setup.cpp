// How a fluid run begins: groups and instances of the deployment, its faults, the state it starts from.
#include <algorithm>

#include "core/fluid/fleet.h"

namespace faultline::fluid {

void Fleet::set_up() {
  const auto& l = d_.topology.layout;
  for (std::uint32_t i = 0; i < d_.fleet.instances.size(); ++i) {
    const auto& setup = d_.fleet.instances[i];
    Instance x;
    x.leader_node = setup.leader_node;
    x.serving = x.place = setup.serving;
    x.warm = setup.warm;
    for (std::uint32_t k = 0; k < setup.groups.size(); ++k) {
      Group g;
      g.instance = i;
      g.index = k;
      g.role = setup.groups[k].role;
      g.nodes = setup.groups[k].nodes;
      g.gpus = static_cast<std::uint32_t>(role(g).gpus);
      g.gpus_per_node = std::min(l.gpus, g.gpus / static_cast<std::uint32_t>(g.nodes.size()));
      g.up = setup.warm;
      const auto id = static_cast<std::uint32_t>(groups_.size());
      for (const std::uint32_t n : g.nodes) group_of_node_[n].push_back(id);
      x.groups.push_back(id);
      groups_.push_back(std::move(g));
    }
    instances_.push_back(std::move(x));
  }
  spares_ = d_.fleet.spare_nodes;
  known_bad_.assign(l.nodes, 0);
  crews_free_ = options_.repair_crews;
  result_.duration_s = seconds(options_.duration);
  result_.instances = static_cast<std::int64_t>(d_.placement.instances.size());
  const auto record = d_.describe_run(spec_);
  result_.gpus = record.gpus;
  result_.spare_gpus = record.spare_gpus;
  result_.down_s.assign(2, 0);
  for (Instance& x : instances_) {
    x.healthy = capacity_.instance_requests_per_s;
    if (x.serving && can_serve(x)) {
      x.capacity = x.healthy;
      fleet_capacity_ += x.capacity;
    }
  }
  rate_ = options_.state && options_.state->load ? *options_.state->load : capacity_.load.at(0);
  if (!d_.background.empty()) share_links();
  result_.capacity_healthy = result_.capacity_min = fleet_capacity_;
  result_.headroom_min = 1e300;
  result_.costs.resize(d_.faults.size());
  for (std::uint32_t f = 0; f < d_.faults.size(); ++f) result_.costs[f].fault = f;
  if (options_.with_faults) {
    for (std::uint32_t f = 0; f < d_.faults.size(); ++f) {
      const Instant at = std::get<Instant>(d_.faults[f].trigger);
      if (flaps(d_.faults[f])) {
        for (const auto& t : d_.faults[f].transitions(at)) push(t.at, kFault, f, 0, t.active);
      } else {
        push(at, kFault, f, 0, true);
      }
    }
  }
  if (capacity_.load.amplitude > 0)
    push(Instant{static_cast<std::int64_t>(capacity_.load.period_s / 48 * 1e9)}, kLoad, 0);
  if (const StartState* s = options_.state) {
    for (const InstanceDown& down : s->instances_down) {
      Instance& x = instances_[down.instance];
      for (const std::uint32_t g : x.groups) groups_[g].up = false;
      x.starting = (std::uint64_t{1} << (x.groups.size() - 1) << 1) - 1;
      x.stage = Stage::starting;
      push(Instant{down.back_in.v}, kReady, down.instance, ++x.generation);
      account(down.instance);
    }
    for (const Cordoned& c : s->cordoned) {
      std::erase(spares_, c.id.v);
      known_bad_[c.id.v] = 1;
      push(Instant{c.back_in.v}, kBack, c.id.v);
      for (const std::uint32_t g : group_of_node_[c.id.v]) {
        Instance& x = owner(groups_[g]);
        groups_[g].up = false;
        groups_[g].dead = true;
        x.failed |= std::uint64_t{1} << groups_[g].index;
        if (x.stage == Stage::none) {
          x.stage = Stage::deciding;
          push(Instant{spec_.recovery.decision_delay.v}, kDecide, groups_[g].instance, ++x.generation);
        }
        account(groups_[g].instance);
      }
    }
    for (std::uint32_t k = 0; k < s->spares_used && !spares_.empty(); ++k) {
      push(Instant{s->spares_back_in.v}, kSpareBack, spares_.back());
      spares_.pop_back();
    }
  }
}

/// Background traffic slows exchanges from the start. What it leaves is the healthy capacity, unless the TPOT limit is
/// missed: then everything such an instance serves is late.
void Fleet::share_links() {
  const double share = fleet_capacity_ > 0 ? std::min(1.0, rate_ / fleet_capacity_) : 0;
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    x.share = x.serving ? share : 0;
    bool over = false;
    for (const std::uint32_t g : x.groups) {
      refresh(g);
      over |= groups_[g].over;
    }
    if (x.serving && x.capacity > 0 && !over) x.healthy = x.capacity;
    account(i);
  }
}

}  // namespace faultline::fluid
