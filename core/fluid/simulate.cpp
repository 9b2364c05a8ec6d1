#include "core/fluid/simulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <queue>

#include "core/base/assert.h"
#include "core/fluid/flow.h"
#include "core/fluid/health.h"

namespace faultline::fluid {
namespace {

using control::GroupRole;
using control::RecoveryAction;
using control::RestartUnit;
using fault::FaultKind;

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr Duration kProbe{100'000'000};  // a healthy agent's answer, as in the step simulator

struct Group {
  std::uint32_t instance = 0, index = 0;
  GroupRole role = GroupRole::both;
  std::vector<std::uint32_t> nodes;
  std::uint32_t gpus = 0, gpus_per_node = 0;
  bool up = true;        // its workers run
  bool stalled = false;  // they wait on something dead, hung or cut off
  bool dead = false;     // a worker is gone: it ends with an incident even if the hardware comes back
  double slowdown = 1;
  bool over = false;             // slowed so much that its steps exceed the TPOT limit
  double own_gpus = 0;           // GPUs that failed under it, until it runs again; of a slow one its lost share
  std::uint32_t generation = 0;  // of the pending notice
};

enum class Stage : std::uint8_t { none, deciding, starting, waiting };

struct Instance {
  std::vector<std::uint32_t> groups;
  std::uint32_t leader_node = 0;
  bool serving = true, warm = true, leader_lost = false;
  bool place = true;  // one of the places that are to serve (docs/metrics.md): its GPUs count as lost while it does not
  Stage stage = Stage::none;
  std::uint64_t failed = 0, starting = 0;  // by index of the group in the instance
  std::uint32_t generation = 0;
  Instant waiting_since{0}, fault_at{0};
  std::uint32_t blame = kNone;
  std::uint32_t replacement = kNone;
  double share = 0;  // of its capacity that was in use when its fault struck
  double capacity = 0, healthy = 0, lost_gpus = 0, own_gpus = 0;
  Instant since{0};
  bool down = false;  // counted among the serving instances that cannot serve
};

class Fleet {
 public:
  Fleet(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const Capacity& capacity,
        const Options& options)
      : spec_(spec),
        d_(d),
        capacity_(capacity),
        options_(options),
        end_{options.duration.v},
        health_(d.topology, d.faults),
        flow_(capacity.both.gpus > 0 || capacity.decode.requests_per_s < prefill_rate() ? 0 : capacity.ttft_slack_s,
              seconds(spec.router.queue_timeout)),
        group_of_node_(d.topology.layout.nodes) {
    set_up();
  }
  Result run();

 private:
  enum Kind : std::uint8_t {
    kFault,
    kNotice,
    kDecide,
    kReady,
    kRetry,
    kLoad,
    kBack,
    kSpareBack,
    kMeasuredEnd,
    kShutdown
  };
  struct Event {
    Instant at;
    std::uint64_t sequence;
    Kind kind;
    std::uint32_t a = 0, b = 0;
    bool active = false;
    bool operator>(const Event& o) const { return at != o.at ? at > o.at : sequence > o.sequence; }
  };

  static bool flaps(const fault::ScheduledFault& f) { return info(f.kind).parameters == fault::Parameters::flap; }
  double prefill_rate() const { return d_.prefill ? capacity_.prefill.requests_per_s * d_.prefill->groups : 0; }
  void set_up();
  void push(Instant at, Kind kind, std::uint32_t a, std::uint32_t b = 0, bool active = false) {
    if (at < end_) queue_.push({at, sequence_++, kind, a, b, active});
  }
  const RoleCapacity& role(const Group& g) const {
    return g.role == GroupRole::prefill  ? capacity_.prefill
           : g.role == GroupRole::decode ? capacity_.decode
                                         : capacity_.both;
  }
  Instance& owner(const Group& g) { return instances_[g.instance]; }

  void fault(std::uint32_t index, bool active);
  void strike(std::uint32_t index, bool active, const std::vector<std::uint32_t>& nodes);
  void refresh(std::uint32_t g);
  void notice(std::uint32_t g, std::uint32_t generation);
  void open_incident(std::uint32_t i, std::uint64_t groups);
  void decide(std::uint32_t i);
  void carry_out(std::uint32_t i);
  void start(std::uint32_t i, Duration delay);
  void ready(std::uint32_t i);
  void wait(std::uint32_t i);
  void node_usable(std::uint32_t node, bool at_once);
  void promote(std::uint32_t i);
  void take_place(std::uint32_t standby);
  void measured_incident(std::uint32_t index, const Measured& m);
  Instant next_try(const Instance& x) const;
  bool can_serve(const Instance& x) const;
  std::vector<std::uint32_t> dead_nodes(const Instance& x) const;
  double use_of(const Group& g) const;
  void hit(Group& g);
  void account(std::uint32_t i);
  void advance(Instant to);
  FaultCost* cost(std::uint32_t fault) { return fault == kNone ? nullptr : &result_.costs[fault]; }

  const experiment::ExperimentSpec& spec_;
  const experiment::Deployment& d_;
  const Capacity& capacity_;
  const Options& options_;
  Instant now_{0}, end_;
  Health health_;
  Flow flow_;
  std::vector<Group> groups_;
  std::vector<Instance> instances_;
  std::vector<std::vector<std::uint32_t>> group_of_node_;
  std::vector<std::uint32_t> spares_;
  std::vector<std::uint8_t> known_bad_;  // by node: a start check or a lost agent has told
  std::vector<std::uint32_t> waiting_;   // instances
  std::vector<std::uint32_t> impaired_;  // instances with less than their capacity, to blame a queue
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
  std::vector<std::uint32_t> repair_queue_;
  std::int64_t crews_free_ = 0;
  std::uint64_t sequence_ = 0;
  double fleet_capacity_ = 0, rate_ = 0;
  std::uint32_t down_ = 0;  // serving instances that cannot serve
  double spare_wait_s_ = 0, hit_tokens_ = 0;
  Result result_;
};

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
  result_.capacity_healthy = result_.capacity_min = fleet_capacity_;
  result_.headroom_min = 1e300;
  rate_ = options_.state && options_.state->load ? *options_.state->load : capacity_.load.at(0);
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
    const double rate = runs ? role(g).requests_per_s / g.slowdown : 0;
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
  if (wide && !health_.uplinks_whole()) {
    const auto pod = [&](std::uint32_t n) {
      return d_.topology.layout.pod_of_leaf(d_.topology.layout.leaf_of(NodeId{n}, 0, 0));
    };
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
  g.over = false;
  g.slowdown = bad ? 1 : role(g).slowdown(batch, slow, wide ? rdma : 1, xgmi);
  if (g.slowdown > 1 && g.role != GroupRole::prefill)
    g.over = g.slowdown * role(g).step_at(batch) > capacity_.tpot_limit_s;
  account(g.instance);
}

void Fleet::notice(std::uint32_t id, std::uint32_t generation) {
  Group& g = groups_[id];
  if (generation != g.generation || !g.stalled || !g.up) return;
  Instance& x = owner(g);
  if (FaultCost* c = cost(x.blame); c && c->detect_s < 0) c->detect_s = seconds(now_ - x.fault_at);
  open_incident(g.instance, std::uint64_t{1} << g.index);
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

Result Fleet::run() {
  std::uint64_t count = 0;
  while (!queue_.empty()) {
    const Event e = queue_.top();
    queue_.pop();
    advance(e.at);
    if ((++count & 0xfff) == 0 && options_.progress && !options_.progress(seconds(now_) / seconds(end_))) {
      end_ = now_;
      break;
    }
    switch (e.kind) {
      case kFault:
        fault(e.a, e.active);
        if (!e.active && e.b == 1) {  // its crew takes the next repair
          ++crews_free_;
          if (!repair_queue_.empty()) {
            const std::uint32_t next = repair_queue_.front();
            repair_queue_.erase(repair_queue_.begin());
            --crews_free_;
            push(now_ + d_.faults[next].length, kFault, next, 1, false);
          }
        }
        break;
      case kNotice: notice(e.a, e.b); break;
      case kDecide:
        if (e.b == instances_[e.a].generation) decide(e.a);
        break;
      case kReady:
        if (e.b == instances_[e.a].generation) ready(e.a);
        break;
      case kRetry:
        if (e.b == instances_[e.a].generation && instances_[e.a].stage == Stage::waiting) carry_out(e.a);
        break;
      case kLoad:
        rate_ = capacity_.load.at(seconds(now_));
        push(now_ + Duration{static_cast<std::int64_t>(capacity_.load.period_s / 48 * 1e9)}, kLoad, 0);
        break;
      case kBack:
        known_bad_[e.a] = 0;
        node_usable(e.a, true);
        break;
      case kShutdown: strike(e.a, true, health_.shut_down(e.a)); break;
      case kSpareBack: spares_.push_back(e.a); break;
      case kMeasuredEnd: {
        Instance& x = instances_[e.a];
        if (e.b != x.generation) break;
        account(e.a);
        for (const std::uint32_t id : x.groups) groups_[id].slowdown = 1;
        x.stage = Stage::none;
        account(e.a);
        break;
      }
    }
  }
  advance(end_);
  for (std::uint32_t i = 0; i < instances_.size(); ++i) account(i);
  result_.duration_s = seconds(end_);
  if (result_.duration_s > 0) {
    result_.capacity_mean /= result_.duration_s;
    result_.spares_mean /= result_.duration_s;
  }
  if (result_.spare_waits > 0) result_.spare_wait_mean_s = spare_wait_s_ / static_cast<double>(result_.spare_waits);
  if (result_.headroom_min > 1e299) result_.headroom_min = 0;
  // A hit request begins again: its first token comes too late for any usual TTFT limit.
  result_.good = std::max(0.0, result_.arrived - result_.hit - result_.late - result_.rejected);
  result_.good_tokens =
      std::max(0.0, (result_.arrived - result_.late - result_.rejected) * capacity_.load.output_mean - hit_tokens_);
  result_.output_tokens = (result_.arrived - result_.failed - result_.rejected) * capacity_.load.output_mean;
  result_.input_tokens = (result_.arrived - result_.failed - result_.rejected) * capacity_.load.prompt_mean;
  result_.failed += result_.rejected;
  result_.events = count;
  std::vector<FaultCost> applied;
  for (const FaultCost& c : result_.costs) {
    if (std::get<Instant>(d_.faults[c.fault].trigger) < end_) applied.push_back(c);
  }
  result_.costs = std::move(applied);
  return std::move(result_);
}

}  // namespace

std::optional<Duration> duration_of(const experiment::ExperimentSpec& spec) {
  return spec.end ? spec.end : spec.workload.duration;
}

void check(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const MeasuredEffects* measured,
           config::Diagnostics& diagnostics) {
  if (!duration_of(spec)) diagnostics.error(spec.fleet_mark, "fluid fidelity needs 'end' or 'workload.duration'");
  if (spec.autoscaler.enabled)
    diagnostics.error(spec.fleet_mark, "fluid fidelity has no autoscaler",
                      "set autoscaler.enabled: false, or fidelity: step");
  switch (spec.recovery.policy) {
    case RecoveryAction::none:
    case RecoveryAction::restart:
    case RecoveryAction::spare_node:
    case RecoveryAction::spare_instance: break;
    default:
      if (measured == nullptr) {
        diagnostics.error(spec.fleet_mark, "fluid fidelity has no closed form for this recovery.policy",
                          "set fluid.effects: step, which measures it by step runs");
      }
  }
  std::string last;
  for (const auto& f : d.faults) {
    if (measured != nullptr && measured->contains(f.kind)) continue;
    const std::string reason = Health::refusal(d.topology, f);
    if (!reason.empty() && reason != last) diagnostics.error(f.mark, fmt::format("fault '{}' {}", f.name, reason));
    last = reason;
  }
}

Result simulate(const experiment::ExperimentSpec& spec, const experiment::Deployment& d, const Capacity& capacity,
                const Options& options) {
  FAULTLINE_ASSERT(options.duration > Duration{0}, "duration={}", options.duration.v);
  return Fleet(spec, d, capacity, options).run();
}

}  // namespace faultline::fluid
