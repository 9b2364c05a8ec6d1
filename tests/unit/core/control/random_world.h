// A cluster in memory, just real enough to drive routers, leaders, agents and the fleet manager together: messages take
// random times but keep their order per pair, steps and transfers take random times and may fail, nodes crash and come
// back, GPUs break and are repaired, routers crash. Everything follows from (seed, options).
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/control/fleet.h"
#include "core/control/instance.h"
#include "core/control/node_agent.h"
#include "core/control/router.h"

namespace faultline::control::testing {

struct WorldOptions {
  std::uint64_t seed = 1;
  RestartUnit unit = RestartUnit::instance;
  RecoveryAction policy = RecoveryAction::restart;
  bool scaling = false;
  bool replicate = false;    // copies of decoding sequences on neighbours
  bool spares = false;       // spare nodes for policies that can do without
  int fleet_crashes = 0;     // of the fleet manager, which is started again a moment later
  int faults = 8;            // node crashes, broken GPUs, router crashes, in random order
  std::uint32_t kept = ~0U;  // bit k: fault k happens; the others stay as they are without it
  int requests = 150;        // while the faults happen; a second load follows when everything is repaired
};

class RandomWorld {
 public:
  explicit RandomWorld(WorldOptions options);
  /// Runs until nothing is left to happen. Empty, or what went wrong.
  std::string run();
  /// Every event and its commands as text, for a look at a failure.
  void trace(std::function<void(const std::string&)> sink) { trace_ = std::move(sink); }
  std::uint64_t steps() const { return steps_; }
  std::uint64_t completed() const { return completed_; }
  std::uint64_t resumed() const { return resumed_; }
  std::uint64_t cached() const { return cached_; }  // prompt tokens that prefix caches held
  std::uint64_t cache_lost() const { return cache_lost_; }
  std::uint64_t role_switches() const { return role_switches_; }
  std::uint64_t replaced() const { return replaced_; }
  std::uint64_t restored() const { return restored_; }

 private:
  struct Entity {
    std::unique_ptr<Controller> controller;
    std::uint32_t host = 0;  // node; kNoHost for routers and the fleet manager
    std::uint32_t incarnation = 0;
    bool alive = true;
    std::map<TimerKey, std::uint64_t> timers;  // generation
    std::set<Address> watchers;
  };
  struct Group {
    std::vector<std::uint32_t> nodes;
    Epoch epoch = 0, launching = 0;  // launching: of the newest start that was asked for
    bool workers = false, interrupted = false, decode = false;
    Instant ended{-1};                      // when its workers last did
    GroupRole role = GroupRole::as_set_up;  // as the last start asked
    bool missing = false;                   // experts without a copy (policy mask)
    bool failed = false;                    // survivors wait (elastic policies)
    std::set<std::uint32_t> absent;         // ranks that take no part
    std::uint32_t head = 0, ranks = 1;
    bool elastic = false;
    std::uint32_t node_of(std::uint32_t rank) const { return nodes[rank * nodes.size() / ranks]; }
    bool present_on(std::uint32_t node) const {
      for (std::uint32_t r = 0; r < ranks; ++r) {
        if (!absent.contains(r) && node_of(r) == node) return true;
      }
      return false;
    }
    OpId op;
    std::int64_t steps_max = 0;
    std::uint64_t generation = 0;
  };
  using Action = std::function<void()>;
  static constexpr std::uint32_t kNoHost = ~0U;

  void at(Instant when, Action action) { queue_.emplace(std::pair{when, ++sequence_}, std::move(action)); }
  Duration between(Duration a, Duration b) {
    return a + Duration{static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>((b - a).v) + 1))};
  }
  std::unique_ptr<Controller> make(Address a, bool first);
  void deliver(Address from, Address to, Event event);
  void feed(Address to, const Event& event);
  void execute(Address from, const Command& command);
  void crash(Address a);
  void restart(Address a);
  void node_down(std::uint32_t node);
  void node_up(std::uint32_t node);
  bool healthy(std::uint32_t node) const { return !down_.contains(node) && !broken_.contains(node); }
  void submit(Address agent, const SubmitStep& s);
  void end_step(std::uint32_t i, std::uint32_t g, Cause cause, std::int64_t steps);
  void schedule_end(std::uint32_t i, std::uint32_t g);
  void kill(std::uint32_t i, std::uint32_t g);
  void stop_workers(Group& g) {
    if (g.workers) g.ended = now_;
    g.workers = false;
  }
  void launch(Address agent, const StartGroup& start);
  void launch_survivors(Address agent, const StartGroup& start);
  void arrive(int request);
  void plan_fault(int k);
  std::string settled() const;
  void fail(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
  }

  WorldOptions options_;
  Random random_;
  std::vector<InstanceSetup> instances_;
  FleetSetup fleet_;
  std::map<Address, Entity> entities_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Group> groups_;
  std::multimap<std::pair<Instant, std::uint64_t>, Action> queue_;
  std::map<std::pair<Address, Address>, Instant> last_;  // delivery, for the order per pair
  std::map<OpId, bool> writes_;                          // in flight; true = canceled
  std::set<std::uint32_t> down_, broken_;
  std::map<std::uint32_t, std::uint32_t> router_of_;  // requests that have not ended
  std::map<std::uint32_t, std::int32_t> output_of_;
  std::set<std::uint32_t> ended_;
  bool calm_ = false;  // no more faults: everything must succeed
  Instant now_{0};
  std::uint64_t sequence_ = 0, steps_ = 0, completed_ = 0;
  std::uint64_t resumed_ = 0, cached_ = 0, cache_lost_ = 0, role_switches_ = 0, replaced_ = 0, restored_ = 0;
  Instant managed_since_{0};  // by this incarnation of the fleet manager
  std::string failure_;
  std::function<void(const std::string&)> trace_;
};

}  // namespace faultline::control::testing
