// World: the simulated cluster. It owns the controllers, carries their messages, timers, steps and transfers, makes
// faults true, and lets symptoms reach controllers only as and when a real system would notice them.
//
//   arrivals -> router -> instance leader -> node agents -> group executors (timers)
//                                                        -> transfers (flows on FlowNet)
//   fault schedule -> truth (components down, slow) -> stalled groups, broken flows, dead processes -> late symptoms
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/control/expert_repair.h"
#include "core/control/fleet.h"
#include "core/control/instance.h"
#include "core/control/node_agent.h"
#include "core/control/router.h"
#include "core/experiment/deployment.h"
#include "core/fault/actuator.h"
#include "core/fault/schedule.h"
#include "core/ports/message_net.h"
#include "core/record/event_log.h"
#include "core/record/observer.h"
#include "core/record/run_record.h"
#include "core/record/truth_log.h"
#include "core/topology/paths.h"
#include "core/topology/placement.h"
#include "core/workload/arrival.h"
#include "sim/engine/event_queue.h"
#include "sim/engine/flow_net.h"
#include "sim/engine/write_engine.h"
#include "sim/executor/group_executor.h"
#include "sim/faults/truth.h"

namespace faultline::sim {

using record::kNoFault;
using record::Observer;

/// Everything a run needs, resolved. References must outlive the world.
struct WorldSetup {
  const topology::Topology* topology = nullptr;
  const topology::Placement* placement = nullptr;
  std::vector<control::InstanceSetup> instances;  // serving ones first, then standby
  control::FleetSetup fleet;
  control::RouterSetup router;  // index and accepting are filled in by the world
  control::NodeAgentSetup agent;
  struct GroupShape {
    const model::StepPricer* pricer = nullptr;
    std::uint32_t gpus_per_rank = 1;
    std::uint32_t layers = 1;
    const control::ExpertPlanner* experts = nullptr;  // null: the experts never move
    std::function<std::unique_ptr<model::StepPricer>(const model::ParallelPlan&)> price;
  };
  /// By group index, the same for every instance of a fleet; the fleets one after the other.
  std::vector<std::vector<GroupShape>> fleets;
  std::vector<std::uint32_t> fleet_of;  // by instance; empty: there is one fleet
  control::TimingSpec timing;
  Duration retransmission_budget;  // a broken RDMA path is reported this long after the break
  control::ElasticSpec elastic;
  Duration router_restart;  // a crashed router process is back after this
  fault::FaultSchedule faults;
  std::vector<experiment::Deployment::Background> background;  // links that others use, too
  workload::ArrivalSource* arrivals = nullptr;
  std::uint64_t seed = 0;
  Instant end_limit = kNever;
  record::EventLogWriter* log = nullptr;
  record::TruthLog* truth = nullptr;
  bool check_every_step = false;  // digests and conservation laws of the controllers, after each of their steps
  /// Called about every 2^14 events; false interrupts the run (what is done is kept).
  std::function<bool(Instant now, std::uint64_t requests_done)> progress;
};

class World final : public fault::FaultActuator,
                    private ports::MessageNet<control::Message>::Owner,
                    private WriteEngine::Owner {
 public:
  /// `run` receives the record; its description fields (gpus, SLO, …) are the caller's.
  World(WorldSetup setup, record::RunRecord& run);
  ~World() override;
  /// Runs to the end: every request has ended and no more arrive, or the limit, or an interrupt.
  void run();

  // FaultActuator
  fault::Support supports(const fault::ScheduledFault& fault) const override;
  Status apply(const fault::ScheduledFault& fault, Instant now) override;
  Status revert(const fault::ScheduledFault& fault, Instant now) override;

 private:
  enum Kind : std::uint32_t {
    kMessage,
    kTimer,
    kGroupEnd,
    kGroupFail,
    kArrival,
    kTransition,
    kRequest,
    kLaunch,
    kProbe,
    kTransferStart,
    kTransferDone,
    kTransferCanceled,
    kWriteGivesUp,
    kRouterBack,
    kRouterNotice,
    kPowerOff,
    kExpertDrift,
    kRebalance,
    kRebalanced,
  };
  struct Timer {
    TimerKey key;
    std::uint64_t generation;
  };
  struct Entity {
    Address address;
    std::unique_ptr<control::Controller> controller;
    ComponentId host;  // node or host component it runs on
    std::vector<Timer> timers;
  };
  struct Envelope {
    std::uint32_t to = 0;
    control::Event event;
    std::uint32_t incarnation = 0;  // of the receiver, where the message dies with the connection
  };
  /// The process that holds a request's connection.
  struct Connection {
    std::uint32_t router = 0, incarnation = 0;
  };
  struct Group {
    std::unique_ptr<GroupExecutor> exec;
    std::vector<std::uint32_t> nodes;
    control::GroupRole role = control::GroupRole::both;
    std::uint32_t instance = 0, index = 0;
    std::uint32_t number = 0;  // among all groups
    std::uint32_t shape = 0;   // index into shapes_
    std::uint32_t ranks = 1, gpus_per_rank = 1;
    std::uint32_t first_gpu = 0;  // on each of its nodes
    control::Epoch epoch = 0;
    control::Epoch launching = 0;  // of the newest start that was asked for
    bool workers = false;          // processes run
    // A process of the group is gone, until the next launch, even if its GPU or node comes back before anybody notices.
    bool dead = false;
    Cause dead_cause = Cause::none;
    std::uint32_t dead_rank = control::kUnknownRank;
    std::uint32_t agent_incarnation =
        0;                         // of the first node's agent, which started the workers and hears of their ends
    std::uint64_t generation = 0;  // of the pending end event
    std::uint64_t fail_generation = 0;
    bool fail_pending = false;
    Cause fail_cause = Cause::none;
    std::uint32_t fail_rank = control::kUnknownRank;
    double healthy_path_load = 0;  // over links that are whole and its own
    double shared_rdma = 1;        // what background traffic leaves the exchange while nothing fails
    double usable = 1;
    Instant usable_since{0};
    std::uint32_t blame = kNoFault;
    OpId last_op;  // that ended, and the decode steps it had done: its report may still be on its way
    std::int64_t last_steps = 0;
    OpId given_up;  // its leader does not wait for it any more, and this is what it had done by then
    std::int64_t given_up_steps = 0;
    // Expert parallelism without some ranks (world_elastic.cpp).
    std::uint32_t head = 0;       // node whose agent runs the group's steps
    std::vector<bool> absent;     // by rank; empty: all take part
    bool waiting = false;         // a rank died: the others wait for what the fleet manager decides
    bool rebalancing = false;     // stands still while its experts move
    std::uint64_t rebalance = 0;  // generation
    std::shared_ptr<const model::ExpertPlacement> placement;
    /// Experts copied beside the running group, for the same ranks without the same others.
    std::optional<control::ExpertPlanner::Change> staged;
    std::vector<bool> staged_without;
    std::int64_t missing = 0;  // experts without a copy: its tokens are degraded
    bool is_absent(std::uint32_t rank) const { return !absent.empty() && absent[rank]; }
  };
  struct Transfer {
    OpId op;
    std::uint32_t agent = 0;  // entity that posted it
    std::uint32_t agent_incarnation = 0;
    control::PushKv push;
    std::uint32_t instance = 0;
    NodeId from_node, to_node;
    WriteEngine::Write write = WriteEngine::kNone;  // while its bytes move
    Duration tail;                                  // last layer's bytes after the step's end
    bool step_done = false, flow_done = false, live = false;
    std::uint64_t generation = 0;
  };
  struct Launch {
    control::StartGroup start;
    std::uint32_t agent = 0, agent_incarnation = 0;
    bool checked = false;
    control::ExpertPlanner::Change change;  // of survivors
  };

  // world.cpp: the loop, processes, messages
  std::uint32_t entity_of(Address a) const;
  void add_entity(Address a, std::unique_ptr<control::Controller> c, ComponentId host);
  void start_entity(std::uint32_t e);
  void post_local(std::uint32_t to, control::Event event);
  void dispatch(std::uint32_t e, const control::Event& event);
  void execute(std::uint32_t e, control::Command& command);
  void drain_local();
  void handle(const QueuedEvent& e);
  void handle_until(Instant t);
  void next_arrival();
  void arrive();
  const control::InstanceController& leader(std::uint32_t instance) const {
    return static_cast<const control::InstanceController&>(*entities_[first_instance_ + instance].controller);
  }
  std::int64_t unreported_steps(std::uint32_t instance, std::uint32_t g);
  control::Commands held_by(std::uint32_t instance);
  void give_up(Group& g, OpId op, std::int64_t steps);
  void step_that_may_lose(std::uint32_t e, const control::Event& event);
  void correct_losses();
  void cut_streams(std::uint32_t router);
  void crash(std::uint32_t e, bool process_only);
  void restart(std::uint32_t e);
  std::unique_ptr<control::Controller> make_instance(std::uint32_t i, bool up) const;
  bool finished() const;
  /// Entities are the members of the message net, under the same numbers.
  bool alive(std::uint32_t e) const { return messages_.alive(e); }
  std::uint32_t incarnation(std::uint32_t e) const { return messages_.incarnation(e); }
  Instant message_time() const override { return now_; }
  void wake_at(Instant at, std::uint32_t token) override { queue_.push(at, kMessage, token, 0); }
  void received(ports::Member to, ports::Member from, control::Message&& message) override;
  void changed(ports::Member watcher, ports::Member peer, ports::PeerChange to, Cause cause) override;
  void vanished(ports::Member, ports::Member) override {}  // heartbeats tell

  // world_groups.cpp: steps and workers
  Group& group(std::uint32_t instance, std::uint32_t g) { return groups_[first_group_[instance] + g]; }
  std::uint32_t group_count(std::uint32_t instance) const {
    return first_group_[instance + 1] - first_group_[instance];
  }
  const WorldSetup::GroupShape& shape_of(const Group& g) const { return *shapes_[g.shape]; }
  const control::EngineSpec& engine_of(std::uint32_t instance) const { return setup_.instances[instance].engine; }
  std::uint32_t fleet_of(std::uint32_t instance) const {
    return setup_.fleet_of.empty() ? 0 : setup_.fleet_of[instance];
  }
  void submit_step(std::uint32_t agent, const control::SubmitStep& s);
  void end_step(Group& g, Cause cause, std::uint32_t rank);
  void schedule_end(Group& g);
  void group_end(std::uint32_t index, std::uint64_t generation);
  void group_fail(std::uint32_t index, std::uint64_t generation);
  void fail_later(Group& g, Duration after, Cause cause, std::uint32_t rank);
  void kill_group(std::uint32_t instance, std::uint32_t g, control::Epoch epoch);
  void note_dead_ranks(Group& g);
  void count_places(const control::InstanceUpdate& update);
  bool maintained(std::uint32_t instance) const;
  void launch(std::uint32_t agent, const control::StartGroup& start);
  void launch_step(std::uint32_t index);
  void refresh(Group& g);
  void refresh_groups_on(std::span<const NodeId> nodes);
  void refresh_all();
  struct Health {
    bool workers_dead = false, node_lost = false, stalled = false;
    Cause cause = Cause::none;
    std::uint32_t rank = control::kUnknownRank;
    Duration notice;
    bool silent = false;  // nobody is left to report it
    double rdma = 1, xgmi = 1;
    std::vector<double> slow;
  };
  Health health_of(const Group& g);
  /// The agent that started the group's workers still runs.
  bool agent_listens(const Group& g) const;
  double path_load(const Group& g, const topology::LinkState& links, bool& broken);
  /// Whenever a group's nodes change: what its exchange has there while nothing fails.
  void measure_paths(Group& g);
  void account_usable(Group& g);
  void set_usable(Group& g, double usable, bool close = false);
  double usable_of(const Group& g) const;
  void account_instance(std::uint32_t instance);
  topology::NodeGpu gpu_of(const Group& g, std::uint32_t rank, std::uint32_t shard) const;
  /// The k-th of the group's GPUs on a node of its.
  static topology::NodeGpu nth_gpu(const Group& g, std::uint32_t node, std::uint32_t k) {
    return {NodeId{node}, g.first_gpu + k};
  }
  std::uint32_t bad_node_of(const std::vector<std::uint32_t>& nodes, bool check_paths, const Group& g,
                            const std::vector<bool>& absent);

  // world_elastic.cpp: groups without some of their ranks, experts that move
  std::vector<bool> by_rank(const Group& g, const std::vector<std::uint32_t>& ranks) const;
  std::vector<bool> by_gpu(const Group& g, const std::vector<bool>& ranks) const;
  void launch_survivors(Launch launch);
  void launch_join(std::uint32_t index);
  void experts_restored(std::uint32_t index);
  void move_group(Group& g, const std::vector<std::uint32_t>& nodes);
  void survivors_formed(std::uint32_t index);
  void begin_whole(Group& g);
  void set_experts(Group& g, std::shared_ptr<const model::ExpertPlacement> placement, double imbalance);
  void expert_drift();
  void rebalance();
  void rebalanced(std::uint32_t index, std::uint64_t generation);
  bool rank_of_gpu_absent(const Group& g, std::size_t node, std::uint32_t gpu) const;

  // world_transfers.cpp: KV pushes
  void post_write(std::uint32_t agent, const control::PostWrite& w);
  void cancel_write(OpId op);
  void start_flow(std::uint32_t t);
  bool choose_path(Transfer& t, std::vector<topology::LinkIndex>& path, Bytes& bytes);
  void step_bound(OpId step, bool done);
  void share_with_exchange(topology::LinkIndex link);
  void flows_done(Instant now, std::span<const FlowId> flows);
  void maybe_complete(std::uint32_t t);
  void end_transfer(std::uint32_t t, Cause cause);
  void set_capacities();
  void transfers_after_link_change();
  void drop_transfers_of(NodeId node);
  // The write engine asks and answers by index into transfers_.
  Instant write_time() const override { return now_; }
  void wake_at(Instant at, WriteEngine::Write write, std::uint64_t stamp) override {
    queue_.push(at, kWriteGivesUp, write, stamp);
  }
  bool route(std::uint32_t transfer, std::vector<topology::LinkIndex>& path, Bytes& bytes) override;
  bool peer_up(std::uint32_t transfer) const override;
  void written(std::uint32_t transfer) override;
  void gave_up(std::uint32_t transfer) override;

  // world_faults.cpp
  void transition(std::uint32_t fault, bool active);
  void power_down(const fault::ScheduledFault& f);
  void power_up(const fault::ScheduledFault& f);
  void power_off(std::uint32_t fault);
  void tell_operator_plan(const fault::ScheduledFault& f, bool begins);
  double storage_slowdown() const;
  std::vector<ComponentId> gpus_in(ComponentId component) const;
  double lossy_share(const fault::ScheduledFault& f) const;
  void probe(std::uint32_t agent, const control::RunProbe& p);
  void touch_affected(std::uint32_t fault);
  void add_disconnected(record::FaultRecord& r);
  void count_event(fault::CausalEvent event, std::uint32_t instance);

  WorldSetup setup_;
  record::RunRecord& run_;
  std::vector<const WorldSetup::GroupShape*> shapes_;  // of all fleets
  std::vector<model::StepSamples> samples_;            // by shape, of all instances
  Observer observer_;
  Truth truth_;
  topology::PathTable paths_;
  topology::LinkState whole_links_, shared_links_;  // without faults: bare, and with background traffic
  std::unique_ptr<FlowNet> net_;
  EventQueue queue_;
  Instant now_{0};
  ports::MessageNet<control::Message> messages_;
  std::vector<Entity> entities_;
  std::uint32_t routers_ = 0, fleet_ = 0, first_instance_ = 0, first_node_ = 0;
  std::vector<std::uint32_t> first_group_;     // by instance, and the number of all groups at the end
  std::vector<bool> counted_;                  // by instance: its GPUs are capacity that the fleet is to have
  std::vector<std::uint32_t> to_be_replaced_;  // instances whose standby is not there yet
  std::vector<Group> groups_;
  std::vector<std::vector<std::uint32_t>> groups_on_node_;
  std::deque<Envelope> local_;
  std::vector<Envelope> requests_;  // on their way from a client to a router
  std::vector<std::uint32_t> free_requests_;
  std::vector<Transfer> transfers_;
  std::vector<std::uint32_t> free_transfers_;
  std::optional<WriteEngine> writes_;            // there where net_ is
  std::vector<topology::LinkIndex> other_path_;  // scratch
  std::unordered_map<OpId, std::uint32_t> transfer_of_op_;
  std::unordered_map<OpId, std::vector<std::uint32_t>> transfers_of_step_;
  std::vector<Launch> launches_;
  struct Probe {
    std::uint32_t agent, incarnation;
    std::uint64_t token;
  };
  std::vector<Probe> probes_;
  std::unordered_map<RequestId, Connection> router_of_;  // only while the request has not ended
  control::Commands commands_;
  std::vector<std::pair<RequestId, std::int32_t>> corrected_;  // what losses in commands_ had produced
  workload::Arrival arrival_;
  bool more_arrivals_ = false, interrupted_ = false;
  std::uint64_t arrivals_ = 0, steps_ = 0, events_ = 0, generation_ = 0;
  std::uint32_t next_router_ = 0;
  struct AfterCount {
    std::uint32_t fault;
    std::int64_t seen = 0;
    bool done = false;
  };
  std::vector<AfterCount> after_;
  std::vector<bool> active_,
      powered_off_;                // by fault; powered_off_: the second stage of a maintenance or a cooling loss
  std::int64_t bad_rollouts_ = 0;  // in force
  double storage_slowdown_ = 1;
  bool stop_ = false;
  /// By shape, absent GPUs, absent nodes, imbalance in 1/256.
  std::map<std::array<std::int64_t, 4>, std::unique_ptr<model::StepPricer>> pricers_;
};

}  // namespace faultline::sim
