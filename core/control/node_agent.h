// NodeAgent: one per node. Owns the node's Executor and Transport on behalf of the instances that have ranks there:
// checks epochs, runs steps for groups whose head it is, pushes KV with retries and a deadline, starts and stops
// workers, probes the node's GPUs. Every RunStep and PushKv that reaches it is answered exactly once.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>

#include "core/control/controller.h"
#include "core/control/digest.h"
#include "core/control/specs.h"

namespace faultline::control {

struct TransferSpec {
  Duration deadline = 30_s;    // of one push, retries included; then Cause::timeout
  std::int32_t tries_max = 3;  // each may take another rail or path
  Duration retry_delay = 10_ms;
};
void describe(config::Fields&, TransferSpec&);

struct NodeAgentSetup {
  std::uint32_t node = 0;
  DetectorSpec detector;
  TransferSpec transfer;
};

class NodeAgent final : public Controller {
 public:
  explicit NodeAgent(NodeAgentSetup setup) : setup_(std::move(setup)) {}
  void step(Instant now, const Event& event, Commands& out) override;
  std::uint64_t digest() const override { return whole(digest_); }
  std::uint64_t full_digest() const override;

 private:
  using GroupKey = std::pair<std::uint32_t, std::uint32_t>;  // instance, group
  struct Group {
    Epoch epoch = 0;
    bool running = false;  // has an op at the executor
    OpId op;
    bool stopped = false;
    bool led = false;                  // has had work from its leader
    std::vector<std::uint32_t> nodes;  // as it was started; empty: it ran before this agent did
    std::uint32_t leader_node = 0;
    std::vector<std::uint32_t> absent;  // ranks that take no part
    bool survivors = false;             // the others kept their processes
    GroupRole role = GroupRole::as_set_up;
  };
  struct Push {
    PushKv push;
    std::uint32_t instance = 0;
    Instant deadline;
    std::uint32_t tries = 0;
    OpId posted;  // the attempt at the transport; invalid while waiting for a retry
    bool canceled = false;
  };

  void run_step(std::uint32_t instance, const RunStep& run, Commands& out);
  void step_ended(const StepEnded& ended, Commands& out);
  void push_kv(Instant now, std::uint32_t instance, const PushKv& push, Commands& out);
  void write_ended(Instant now, const WriteEnded& ended, Commands& out);
  void post(Push& push, Commands& out);
  void end_push(std::unordered_map<OpId, Push>::iterator it, Cause cause, Commands& out);
  void stop_group(const GroupKey& key, Epoch epoch, Commands& out);
  void fire(Instant now, Commands& out);
  void arm(Commands& out);

  bool current(Term term);
  AgentState state(Term term) const;
  std::uint64_t whole(const Digest& entries) const {
    return hash_combine(entries.value(), entry_hash(26, term_, armed_.ns, ops_));
  }
  static std::uint64_t hash_of(const StartGroup& s) {
    return entry_hash(25, s.instance.v, s.group, s.epoch, s.leader_node);
  }
  std::uint64_t hash_of(const GroupKey& key, const Group& g) const;
  std::uint64_t hash_of(const Push& p) const;

  NodeAgentSetup setup_;
  std::map<GroupKey, Group> groups_;
  std::map<GroupKey, StartGroup> launching_;  // the newest start of a group, until it has ended
  Term term_ = 0;                             // of the fleet manager
  std::unordered_map<OpId, std::pair<GroupKey, Epoch>>
      steps_;                                       // op at the executor -> group, and the epoch it belongs to
  std::unordered_map<OpId, Push> pushes_;           // by the leader's op
  std::unordered_map<OpId, OpId> attempts_;         // op at the transport -> the leader's op
  std::deque<std::pair<Instant, OpId>> deadlines_;  // in order: the deadline is a constant after the start
  std::map<std::pair<Instant, OpId>, bool> retries_;
  Instant armed_ = kNever;
  std::uint64_t ops_ = 0;
  Digest digest_;
};

}  // namespace faultline::control
