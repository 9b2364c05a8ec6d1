// What it costs: requests hit, capacity over time, the queue, and who is to blame.
#include <algorithm>
#include <cmath>

#include "core/base/math.h"
#include "core/fluid/fleet.h"

namespace faultline::fluid {

using control::GroupRole;

/// Share of the group's capacity in use when its instance's fault struck. The scarcer role sets the instance's rate;
/// the other role's groups run below their own limit.
double Fleet::use_of(const Group& g) const {
  const double groups = g.role == GroupRole::prefill  ? d_.prefill->groups
                        : g.role == GroupRole::decode ? d_.decode->groups
                                                      : d_.both->groups;
  return use_of(role(g), groups, instances_[g.instance]);
}

double Fleet::use_of(const RoleCapacity& r, double groups, const Instance& x) const {
  return r.requests_per_s > 0 ? x.share * capacity_.instance_requests_per_s / (r.requests_per_s * groups) : 0;
}

/// Requests on a group when it stops, by Little's law.
void Fleet::hit(Group& g) {
  if (!g.up) return;
  const bool prefill = g.role == GroupRole::prefill;
  const Load& load = capacity_.load;
  interrupt(g, role(g).held_at(use_of(g)), prefill ? 0 : load.output_age,
            prefill ? load.prompt_mean / 2 : load.prompt_mean);
}

void Fleet::interrupt(const Group& g, double n, double tokens, double prompt) {
  const Instance& x = owner(g);
  result_.hit += n;
  // Who is in decode at a random moment has longer outputs than who arrives: E[S^2] / E[S].
  hit_tokens_ += n * (tokens > 0 ? 2 * tokens : capacity_.load.output_mean);
  if (FaultCost* c = cost(x.blame)) c->hit += n;
  if (spec_.engine.gateway_replays) {
    result_.retried += n;
    result_.tokens_recomputed += n * (prompt + tokens);
  } else {
    result_.failed += n;
    if (FaultCost* c = cost(x.blame)) c->failed += n;
    result_.tokens_lost += n * tokens;
  }
}

namespace {

/// Typical maximum, in standard deviations, of a stationary Gaussian process with exponential correlation (what the
/// number of requests in service nearly is) over so many correlation times: u with times * u * phi(u) = exp(-gamma),
/// the mean of the Gumbel law of its upcrossings (Pickands 1969). 0 where that is less than one.
double peak_over(double times) {
  constexpr double kLevel = 0.5614594835668851 * 2.5066282746310002;  // exp(-gamma) * sqrt(2 pi)
  const auto above = [&](double u) { return times * u * stable::exp(-u * u / 2) > kLevel; };
  if (!above(1)) return 0;
  double low = 1, high = 10;
  for (int round = 0; round < 50; ++round) (above((low + high) / 2) ? low : high) = (low + high) / 2;
  return low;
}

}  // namespace

/// Nobody knows that it hangs, so requests are sent there on, until it holds as much as each of those that serve.
/// Routers count outstanding tokens. The others carry its share besides their own, so the level at which they hold is
/// that of n / (n - 1) of the use before: more requests, and each for longer, because steps are longer at the larger
/// batch. That level goes up and down; what hangs gives nothing back, so it is filled to the highest that it has been.
/// It is filled with requests as they arrive, which are smaller than those that one meets in decode (long ones stay
/// longer): tokens are made up for by more of them. Round robin goes on.
double Fleet::came_while_hung(const Group& g, Duration after) const {
  const double use = use_of(g), all = use * role(g).requests_per_s * seconds(after);
  if (spec_.router.policy == control::RoutePolicy::round_robin) return all;
  const auto others = static_cast<double>(std::count_if(groups_.begin(), groups_.end(), [&](const Group& x) {
    return &x != &g && x.role == g.role && x.up && !x.stalled && owner(x).serving && can_serve(owner(x));
  }));
  const Load& load = capacity_.load;
  if (others == 0 || load.prompt_mean + load.output_mean <= 0) return all;
  const double more = (others + 1) / others;
  const auto rise = [&](const RoleCapacity& r, double u) {  // beyond its capacity a queue grows all the time
    return r.held_at(u * more) - r.held_at(u) + std::max(0.0, u * more - 1) * r.requests_per_s * seconds(after);
  };
  if (g.role == GroupRole::prefill) return std::min(all, rise(role(g), use));
  double tokens = rise(role(g), use) * load.tokens_in_decode;
  if (g.role == GroupRole::decode) {  // what the others have in prefill counts, too; here it has moved on to decode
    const double groups = d_.prefill->groups;
    tokens += rise(capacity_.prefill, use_of(capacity_.prefill, groups, instances_[g.instance])) *
              load.tokens_in_prefill * groups / d_.decode->groups;
  }
  // All that the others hold together is a Poisson number of requests, evened out between them.
  const double held = role(g).held_at(use * more), rate = use * more * role(g).requests_per_s;
  if (held > 0 && rate > 0 && load.output_mean > 0) {
    const double correlation_s = held / rate * load.output_age / load.output_mean;  // of the number in service
    tokens += std::sqrt(held / others * load.square_in_decode) * peak_over(seconds(after) / correlation_s);
  }
  return std::min(all, tokens / (load.prompt_mean + load.output_mean));
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
