// FleetManager: detection, recovery and scaling for the whole fleet. It hears of failures from instance leaders, node
// agents and heartbeats, decides, and carries recovery out: fence, stop, replace hardware, start, tell leader and
// routers.
//
// An incident (one per instance at a time; further symptoms join it):
//   detected -> (decision delay) -> [probing] -> starting -> ready
//                                       \-> waiting for repair -> starting …     (retry with back-off)
// Each group goes this way with those it restarts together with (the restart unit): where one waits for its hardware,
// the others start, and failures of others are decided meanwhile.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "core/control/autoscaler.h"
#include "core/control/controller.h"
#include "core/control/digest.h"
#include "core/control/failure_detector.h"
#include "core/control/instance.h"
#include "core/control/recovery_policy.h"
#include "core/control/specs.h"

namespace faultline::control {

/// Timers. Of an instance (its number in the low bits): its decision, hardware that it waits for, absent ranks; of the
/// fleet: scaling, health checks.
inline constexpr TimerKey kFleetDecideTimer = TimerKey{1} << 56, kFleetRetryTimer = TimerKey{2} << 56,
                          kFleetScaleTimer = TimerKey{3} << 56, kFleetAbsentTimer = TimerKey{4} << 56,
                          kFleetHealthTimer = TimerKey{5} << 56;

struct FleetSetup {
  struct Instance {
    std::vector<GroupSetup> groups;
    std::uint32_t leader_node = 0;
    bool serving = true;  // false: standby (spare, or not yet scaled up)
    bool warm = true;     // standby whose workers already run
    /// Instances of one fleet serve one model: a standby takes the place of its own fleet's only. Spare nodes are
    /// everybody's: what runs there loads its own weights.
    std::uint32_t fleet = 0;
    std::optional<RestartUnit> restart_unit{};  // none: that of all, below
  };
  std::vector<Instance> instances;
  std::vector<std::uint32_t> spare_nodes;
  std::uint32_t routers = 1;
  std::uint32_t nodes = 0;
  std::vector<std::uint32_t> rack_of, fabric_of;  // by node, for the substitution rule; empty: all the same
  RestartUnit restart_unit = RestartUnit::instance;
  DetectorSpec detector;
  RecoverySpec recovery;
  AutoscalerSpec autoscaler;
  Term term = 0;  // incarnation; above 0 it does not know what became of the fleet, and asks
};

class FleetManager final : public Controller {
 public:
  explicit FleetManager(FleetSetup setup);
  void step(Instant now, const Event& event, Commands& out) override;
  std::uint64_t digest() const override;
  std::uint64_t full_digest() const override;

 private:
  enum class Stage : std::uint8_t { none, deciding, probing, starting, waiting, pausing };
  struct Instance {
    std::vector<GroupSetup> groups;
    std::vector<Epoch> epochs;
    std::uint32_t leader_node = 0;
    bool leader_lost = false;
    bool serving = true;    // should take traffic when it can
    bool accepting = true;  // what routers were told last …
    bool told_serving = true;
    bool draining = false;
    bool warm = true;  // workers run (serving or warm standby)
    bool scaling_up = false;
    bool parked = false;          // down, or draining, for the maintenance of its nodes
    std::vector<GroupRole> home;  // roles as they were set up
    GroupMask switched = 0;       // groups that stand in for the other role
    bool returning = false;       // draining, to turn them back
    GroupMask up = 0;
    // the incident
    Stage stage = Stage::none;
    GroupMask failed = 0;    // since the plan was made
    GroupMask starting = 0;  // launched; each answers
    GroupMask waiting = 0;   // fenced, and started when their hardware is back or the back-off is over
    std::uint32_t rank = kUnknownRank;
    std::set<std::uint64_t> probes;
    Duration retry_wait;
    std::uint32_t replacement = kUnknownRank;  // the standby that takes its place
    std::int64_t load_tokens = 0;
    // elastic policies, by group
    std::vector<std::vector<std::uint32_t>> absent;   // ranks that take no part, ascending
    std::vector<std::vector<std::uint32_t>> leaving;  // absent once the survivors have formed the group anew
    std::vector<std::vector<std::uint32_t>> joining;  // being started beside it
    std::vector<std::vector<std::uint32_t>> ended;    // ranks whose processes are known to have ended
    std::vector<std::int64_t> missing;                // experts without a copy
    GroupMask restoring = 0;                          // missing experts are being copied beside the running group …
    GroupMask restored = 0;                           // … and are there: its next incarnation has them
    GroupMask fenced = 0;       // groups whose workers all ended: nobody survives there until they are up again
    bool was_degraded = false;  // since it was last whole
    Instant reformed{-1};       // last time that survivors formed a group without losing a rank
  };

  void group_failed(Instant now, std::uint32_t i, const GroupFailed& failed, Commands& out);
  void node_lost(Instant now, std::uint32_t node, Commands& out);
  void node_back(Instant now, std::uint32_t node, Commands& out);
  void leader_changed(Instant now, std::uint32_t i, bool lost, Commands& out);
  void transfer_failed(Instant now, const TransferFailed& failed, Commands& out);
  void probe_result(Instant now, const ProbeResult& result, Commands& out);
  void group_started(Instant now, const GroupStarted& started, Commands& out);
  /// The groups of an instance that have a rank on a node.
  static GroupMask groups_on(const Instance& x, std::uint32_t node);
  void hit_groups_on(Instant now, std::uint32_t node, Commands& out);
  void node_usable(Instant now, std::uint32_t node, Commands& out);
  void forget_probes(Instant now, std::uint32_t node, Commands& out);
  void retry(Instant now, std::uint32_t i, Commands& out);
  void bring_up(Instant now, std::uint32_t s, Commands& out);
  void open_incident(Instant now, std::uint32_t i, GroupMask groups, std::uint32_t rank, Commands& out);
  void decide(Instant now, std::uint32_t i, Commands& out);
  void carry_out(Instant now, std::uint32_t i, Commands& out);
  void start(Instant now, std::uint32_t i, GroupMask groups, Duration delay, bool warm, std::uint32_t rank,
             Commands& out);
  /// Arms the next attempt for the groups that wait.
  void wait(Instant now, std::uint32_t i, Commands& out);
  /// Groups whose start has failed, and those that restart together with them, wait.
  void give_up_start(Instant now, std::uint32_t i, GroupMask groups, Commands& out);
  void fence(std::uint32_t i, GroupMask groups, Commands& out) const;
  static Epoch newest_epoch(const Instance& x);
  /// What every start of a group says: where it runs, for which leader and in which epoch, in this manager's term.
  StartGroup start_of(const Instance& x, std::uint32_t i, std::uint32_t g, Epoch epoch) const;
  /// Of `groups`, those that cannot start now: they, or groups that restart with them, have a rank on a dead node, or
  /// the leader that they need has no node.
  GroupMask blocked(std::uint32_t i, GroupMask groups) const;
  /// Starts those of the waiting groups that have all they need.
  void unblock(Instant now, std::uint32_t i, Commands& out);
  void promote_standby(Instant now, std::uint32_t failed, Commands& out);
  void tell_routers(std::uint32_t i, Commands& out);
  void scale(Instant now, Commands& out);
  void check_health(Instant now, Commands& out);
  void drained(Instant now, std::uint32_t i, Commands& out);
  void maintenance(Instant now, const Maintenance& m, Commands& out);
  void maintained_node_lost(Instant now, std::uint32_t node, Commands& out);
  std::vector<std::uint32_t> dead_nodes(const Instance& x) const;
  /// For each dead node a spare that the substitution rule allows, or kUnknownRank; no spare twice.
  std::vector<std::uint32_t> spares_for(const std::vector<std::uint32_t>& dead) const;
  bool can_serve(const Instance& x) const;
  std::uint32_t find_standby(std::uint32_t fleet) const;
  std::uint32_t fleet_of(std::uint32_t i) const { return setup_.instances[i].fleet; }
  /// With the restart unit of the instance.
  RecoveryPolicy policy_of(std::uint32_t i) const {
    return {setup_.recovery, setup_.instances[i].restart_unit.value_or(setup_.restart_unit)};
  }

  // fleet_elastic.cpp
  /// Carries the incident out on the survivors. False: not with this policy, or not with what is left.
  bool reform(Instant now, std::uint32_t i, Commands& out);
  void pause_groups(std::uint32_t i, GroupMask groups, Commands& out);
  void group_paused(Instant now, std::uint32_t i, const GroupPaused& paused, Commands& out);
  void survivors_started(Instant now, std::uint32_t i, const GroupStarted& started, Commands& out);
  void rank_joined(std::uint32_t i, const GroupStarted& started, Commands& out);
  void look_at_absent(Instant now, std::uint32_t i, Commands& out);
  void try_join(std::uint32_t i, Commands& out);
  void ranks_ended(std::uint32_t node);
  /// Of the groups on a node, those that have a rank there that takes part.
  GroupMask serving_on(const Instance& x, std::uint32_t node) const;
  void forget_absent(Instance& x, GroupMask groups);
  /// True where a GPU is unusable that was not.
  bool node_hardware(std::uint32_t node, std::uint32_t unusable_gpus);
  bool has_absent(const Instance& x) const;
  std::vector<std::uint32_t> dead_ranks(const Instance& x, std::size_t g) const;

  void restore_masked(Instance& x, std::uint32_t i, std::uint32_t g, Commands& out) const;
  void place_spares(std::uint32_t i, Commands& out);

  // fleet_roles.cpp
  /// While one role of the instance waits for hardware, groups of the other take it over.
  void switch_roles(Instant now, std::uint32_t i, Commands& out);
  void switch_groups(Instant now, std::uint32_t i, GroupMask groups, const std::vector<GroupRole>& to, Commands& out);
  /// The lost groups are up: the instance drains, so that the others can be turned back.
  void begin_return(std::uint32_t i, Commands& out);
  /// True: it was drained for that, and was turned back or has lost a group again.
  bool returned(Instant now, std::uint32_t i, Commands& out);
  void forget_switch(std::uint32_t i, Commands& out);
  GroupRole told_role(const Instance& x, std::size_t g) const;

  // fleet_rebuild.cpp: an incarnation after the first
  struct Answers {
    std::set<Address> awaited;
    std::map<std::uint32_t, AgentState> agents;
    std::map<std::uint32_t, LeaderState> leaders;
    std::map<std::uint32_t, RouterState> routers;
    std::vector<Event> later;  // to be handled once the fleet is known
  };
  /// Watches everybody, claims the fleet under its term and asks what there is.
  void claim(Commands& out);
  void gather(Instant now, const Event& event, Commands& out);
  void rebuild(Instant now, Commands& out);
  void resolve_places(const std::vector<GroupMask>& placed, std::set<std::uint32_t>& unused);
  void rebuild_instance(std::uint32_t i, GroupMask& placed, GroupMask& failed);
  /// Places that nobody fills: their instances were parked. Those whose nodes are back are to serve (returned).
  std::vector<std::uint32_t> rebuild_parked(std::vector<GroupMask>& failed, Commands& out);
  bool maintained(const Instance& x) const;
  void send_update(std::uint32_t router, std::uint32_t i, Commands& out) const;

  std::uint64_t hash_of(std::size_t i, const Instance& x) const;

  FleetSetup setup_;
  FailureDetector detector_;
  RecoveryPolicy policy_;
  Autoscaler autoscaler_;
  std::vector<Instance> instances_;
  std::vector<std::uint32_t> spare_nodes_;
  std::map<std::uint64_t, std::uint32_t> probes_;         // token -> node
  std::set<std::uint32_t> maintenance_;                   // nodes that the operator takes down
  std::map<std::uint32_t, std::uint32_t> unusable_gpus_;  // node -> GPUs that failed their last probe or reach nobody
  std::set<std::uint32_t> attaching_;                     // spare nodes that have not been started on yet
  std::uint64_t tokens_ = 0;
  std::optional<Answers> answers_;  // while it asks
};

}  // namespace faultline::control
