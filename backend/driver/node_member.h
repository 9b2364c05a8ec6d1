// The driver of a node agent: the ports behind its commands. Executor = worker processes of this node and, for groups
// whose head it is, what the engine does when one of them ends, hangs or falls silent. Transport = KvPort.
//
// A worker process holds all ranks of one group on one node, so a dead rank takes the ranks beside it along, and which
// of them it was is not known. Its ends come as a real engine's would:
//   its process ends                  noticed after process_exit_notice (the parent polls its children)    device_lost
//   a node of the group falls silent  the exchange waits longer than a retransmission budget               peer_lost
//   no step ends (a rank hangs)       after collective_timeout                                             timeout
#pragma once

#include <map>
#include <set>

#include "backend/driver/kv_port.h"
#include "backend/driver/member.h"
#include "core/control/node_agent.h"

namespace faultline::live {

class NodeMember final : public Member {
 public:
  NodeMember(const Cluster& cluster, Address self, std::uint32_t incarnation);

 private:
  using Time = LiveClock::Time;
  using Key = std::pair<std::uint32_t, std::uint32_t>;  // instance, group

  /// A worker process of this node.
  struct Worker {
    GroupId id;
    std::uint32_t index = 0, head = 0;
    pid_t pid = 0;
    transport::Fd control;
    WorkerPage* page = nullptr;
    std::uint32_t slot = 0;  // on the board
  };
  /// A group whose head this node is.
  struct Led {
    enum class State : std::uint8_t { stopped, launching, running } state = State::stopped;
    control::StartGroup start;
    bool initial = false;
    // launching
    Instant spawn_at{0}, check_at{0}, end_at{0};
    Time give_up{};
    bool spawned = false, checked = false, leader_up = false;
    struct Node {
      bool up = false, joined = false, gone = false;
      Cause cause = Cause::none;
      WorkerInfo info;
    };
    std::vector<Node> nodes;
    // running
    OpId op;
    bool prefill = false;
    Instant stalled_at = kNever,
            stall_ends = kNever;    // its exchange waits since, and is given up unless all nodes answer
    std::set<std::uint32_t> there;  // nodes that have
    Instant submitted{0};
    Instant fail_at = kNever;
    Cause fail_cause = Cause::none;
    std::uint32_t epoch() const { return start.epoch; }
  };

  // node_member.cpp
  void execute(control::Command& command) override;
  void packet(Address from, Packet& packet) override;
  bool prepare() override;
  void add_descriptors(std::vector<pollfd>& fds) override;
  void work() override;
  Time next_work() const override;
  void tell(std::uint32_t node, Packet packet);
  void tell_members(const Led& led, const Packet& packet);
  void probe(const control::RunProbe& run);
  void start_leader(std::uint32_t instance, std::uint32_t asked_by);

  // node_groups.cpp: groups that are led here
  void launch(const control::StartGroup& start, bool initial);
  void launch_work(Led& led);
  Time give_up(const Led& led, Instant planned) const;
  void end_launch(Led& led, Cause cause, std::uint32_t bad_node);
  void submit(const control::SubmitStep& s);
  void op_ended(Led& led, std::int64_t steps, Cause cause);
  void fail_later(Led& led, Duration after, Cause cause);
  void fail(Led& led, Cause cause);
  void kill_group(const Key& key);
  void led_packet(Address from, const Packet& packet);
  void report(Worker& worker, const WorkerReport& report);
  void watchdog(Led& led);
  Instant silence_ends(const Led& led) const;
  Led* led(const GroupId& id);

  // node_workers.cpp: processes of this node
  void spawn(std::uint32_t head, const SpawnWorker& order);
  void kill_workers(const GroupId& id);
  void end_worker(const Key& key, bool tell_head);
  void take_reports();
  void order(const Key& key, const WorkerOrder& order);
  bool hardware_fails(std::uint32_t gpus) const;

  KvPort kv_;
  std::map<Key, Worker> workers_;
  std::map<Key, Led> led_;
  std::deque<std::pair<Address, Packet>> own_;  // packets to ourselves
  struct Probe {
    std::uint64_t token;
    Instant at;
  };
  std::vector<Probe> probes_;
  std::map<std::uint32_t, pid_t> leaders_;                          // our children
  std::set<std::pair<std::uint32_t, std::uint32_t>> leader_asked_;  // instance, node that waits for it
  bool prepared_ = false;
};

}  // namespace faultline::live
