// What it costs: requests hit, capacity over time, the queue, and who is to blame.
#include <algorithm>

#include "core/fluid/fleet.h"

namespace faultline::fluid {

using control::GroupRole;

/// Share of the group's capacity in use when its instance's fault struck. The scarcer role sets the instance's rate;
/// the other role's groups run below their own limit.
double Fleet::use_of(const Group& g) const {
  const RoleCapacity& r = role(g);
  const double groups = g.role == GroupRole::prefill  ? d_.prefill->groups
                        : g.role == GroupRole::decode ? d_.decode->groups
                                                      : d_.both->groups;
  return r.requests_per_s > 0
             ? instances_[g.instance].share * capacity_.instance_requests_per_s / (r.requests_per_s * groups)
             : 0;
}

/// Requests on a group when it stops, by Little's law.
void Fleet::hit(Group& g) {
  const Instance& x = owner(g);
  if (!g.up) return;
  const double n = role(g).held_at(use_of(g));
  result_.hit += n;
  // Who is in decode at a random moment has longer outputs than who arrives: E[S^2] / E[S].
  hit_tokens_ += n * (g.role == GroupRole::prefill ? capacity_.load.output_mean : 2 * capacity_.load.output_age);
  if (FaultCost* c = cost(x.blame)) c->hit += n;
  if (spec_.engine.gateway_replays) {
    result_.retried += n;
    const double again = g.role == GroupRole::prefill ? capacity_.load.prompt_mean / 2
                                                      : capacity_.load.prompt_mean + capacity_.load.output_age;
    result_.tokens_recomputed += n * again;
  } else {
    result_.failed += n;
    if (FaultCost* c = cost(x.blame)) c->failed += n;
    if (g.role != GroupRole::prefill) result_.tokens_lost += n * capacity_.load.output_age;
  }
}

/// Brings the sums in line with an instance whose state changed.
void Fleet::account(std::uint32_t i) {
  Instance& x = instances_[i];
  const double dt = seconds(now_ - x.since);
  if (dt > 0) {
    result_.lost_gpu_s += x.lost_gpus * dt;
    result_.own_gpu_s += x.own_gpus * dt;
    if (FaultCost* c = cost(x.blame)) {
      c->lost_gpu_s += x.lost_gpus * dt;
      c->own_gpu_s += x.own_gpus * dt;
    }
  }
  x.since = now_;
  const bool serves = can_serve(x);
  double prefill = 0, decode = 0, both = 0, lost = 0, own = 0;
  for (const std::uint32_t id : x.groups) {
    const Group& g = groups_[id];
    const bool runs = g.up && !g.stalled;
    const double rate = runs ? role(g).requests_per_s / (g.shared * g.slowdown) : 0;
    (g.role == GroupRole::prefill ? prefill : g.role == GroupRole::decode ? decode : both) += rate;
    lost += !serves || !runs ? g.gpus : g.gpus * (1 - 1 / g.slowdown);
    own += g.own_gpus;
  }
  const bool was_down = x.down;
  fleet_capacity_ -= x.capacity;
  x.capacity = !x.serving || !serves ? 0 : both > 0 ? both : std::min(prefill, decode);
  fleet_capacity_ += x.capacity;
  if (fleet_capacity_ < 1e-9) fleet_capacity_ = 0;
  x.down = x.serving && x.capacity == 0;
  down_ = down_ + (x.down ? 1U : 0U) - (was_down ? 1U : 0U);
  x.lost_gpus = x.place && x.blame != kNone ? lost : 0;
  x.own_gpus = std::min(own, lost);
  const bool impaired = x.serving && x.capacity < x.healthy * (1 - 1e-12);
  const auto at = std::find(impaired_.begin(), impaired_.end(), i);
  if (impaired && at == impaired_.end()) impaired_.push_back(i);
  if (!impaired && at != impaired_.end()) impaired_.erase(at);
}

void Fleet::advance(Instant to) {
  const double dt = seconds(to - now_);
  now_ = to;
  if (dt <= 0) return;
  const Flow::Step s = flow_.advance(dt, rate_, fleet_capacity_);
  result_.arrived += s.arrived;
  result_.late += s.late;
  result_.rejected += s.rejected;
  result_.short_s += s.short_s;
  result_.queue_s += s.queue_s;
  result_.capacity_mean += fleet_capacity_ * dt;
  result_.capacity_min = std::min(result_.capacity_min, fleet_capacity_);
  if (rate_ > 0) result_.headroom_min = std::min(result_.headroom_min, fleet_capacity_ / rate_);
  if (result_.down_s.size() <= down_) result_.down_s.resize(down_ + 1, 0);
  result_.down_s[down_] += dt;
  result_.spares_mean += static_cast<double>(spares_.size()) * dt;
  if (spares_.empty()) result_.no_spare_s += dt;
  if (s.late <= 0 && fleet_capacity_ > 0) {  // no queue, but some are served too slowly
    for (const std::uint32_t i : impaired_) {
      const Instance& x = instances_[i];
      const bool over = std::any_of(x.groups.begin(), x.groups.end(),
                                    [&](std::uint32_t g) { return groups_[g].up && groups_[g].over; });
      if (!over) continue;
      const double late = s.arrived * x.capacity / fleet_capacity_;
      result_.late += late;
      if (FaultCost* c = cost(x.blame)) c->late += late;
    }
  }
  if ((s.late > 0 || s.rejected > 0) && !impaired_.empty()) {
    double lost = 0;
    for (const std::uint32_t i : impaired_) lost += instances_[i].healthy - instances_[i].capacity;
    for (const std::uint32_t i : impaired_) {
      const double share = (instances_[i].healthy - instances_[i].capacity) / lost;
      if (FaultCost* c = cost(instances_[i].blame)) {
        c->late += s.late * share;
        c->failed += s.rejected * share;
      }
    }
  }
}

}  // namespace faultline::fluid
