// The state of a fluid run and what changes it; simulate() alone uses it. Instances are states, requests a flow: what
// takes and gives capacity are events, and between two of them everything is constant.
#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <vector>

#include "core/fluid/flow.h"
#include "core/fluid/health.h"
#include "core/fluid/simulate.h"

namespace faultline::fluid {

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr Duration kProbe{100'000'000};  // a healthy agent's answer, as in the step simulator

struct Group {
  std::uint32_t instance = 0, index = 0;
  control::GroupRole role = control::GroupRole::both;
  std::vector<std::uint32_t> nodes;
  std::uint32_t gpus = 0, gpus_per_node = 0;
  bool up = true;                // its workers run
  bool stalled = false;          // they wait on something dead, hung or cut off
  bool dead = false;             // a worker is gone: it ends with an incident even if the hardware comes back
  double slowdown = 1;           // by faults
  double shared = 1;             // by background traffic, at its largest batch: what it leaves is the healthy capacity
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
        health_(d),
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
  // How it begins: fleet_setup.cpp.
  void set_up();
  void share_links();
  void push(Instant at, Kind kind, std::uint32_t a, std::uint32_t b = 0, bool active = false) {
    if (at < end_) queue_.push({at, sequence_++, kind, a, b, active});
  }
  const RoleCapacity& role(const Group& g) const {
    return g.role == control::GroupRole::prefill  ? capacity_.prefill
           : g.role == control::GroupRole::decode ? capacity_.decode
                                                  : capacity_.both;
  }
  Instance& owner(const Group& g) { return instances_[g.instance]; }
  const Instance& owner(const Group& g) const { return instances_[g.instance]; }

  // What faults do to groups, until somebody notices: fleet_faults.cpp.
  void fault(std::uint32_t index, bool active);
  void strike(std::uint32_t index, bool active, const std::vector<std::uint32_t>& nodes);
  void refresh(std::uint32_t g);
  void notice(std::uint32_t g, std::uint32_t generation);
  void measured_incident(std::uint32_t index, const Measured& m);
  // What the fleet does about it, with spares and without: fleet_repair.cpp.
  void open_incident(std::uint32_t i, std::uint64_t groups);
  void decide(std::uint32_t i);
  void carry_out(std::uint32_t i);
  void start(std::uint32_t i, Duration delay);
  void ready(std::uint32_t i);
  void wait(std::uint32_t i);
  void node_usable(std::uint32_t node, bool at_once);
  void promote(std::uint32_t i);
  void take_place(std::uint32_t standby);
  Instant next_try(const Instance& x) const;
  bool can_serve(const Instance& x) const;
  std::vector<std::uint32_t> dead_nodes(const Instance& x) const;
  // What it costs: fleet_account.cpp.
  double use_of(const Group& g) const;
  double use_of(const RoleCapacity& r, double groups, const Instance& x) const;
  void hit(Group& g);
  /// Counts `n` requests on a group as interrupted, each with `tokens` made so far.
  void interrupt(const Group& g, double n, double tokens, double prompt);
  double came_while_hung(const Group& g, Duration after) const;
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

}  // namespace faultline::fluid
