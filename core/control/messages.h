// The control plane's vocabulary: messages between the roles, events into a state machine, commands out of it.
// Each type lists its members once in fields(); writing, reading and hashing a log go through that.
#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/base/cause.h"
#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/model/load.h"
#include "core/ports/clock.h"
#include "core/ports/messenger.h"

namespace faultline::control {

using Epoch = std::uint32_t;      // incarnation of a group; work of an older one is refused
using Term = std::uint32_t;       // incarnation of the fleet manager; its peers refuse commands of an older one
using GroupMask = std::uint64_t;  // bit g = group g of an instance
/// as_set_up, in messages alone: the role that the group has in its instance's set-up.
enum class GroupRole : std::uint8_t { prefill, decode, both, as_set_up };
inline constexpr std::uint32_t kUnknownRank = ~std::uint32_t{0};
inline constexpr std::size_t kGroupsMax = 64;

#define FAULTLINE_FIELDS(...) \
  template <class F>          \
  void fields(F&& f) {        \
    f(__VA_ARGS__);           \
  }                           \
  template <class F>          \
  void fields(F&& f) const {  \
    f(__VA_ARGS__);           \
  }

// ---- messages -------------------------------------------------------------------------------------------------------

/// What is known of a prompt's content: ids of its leading blocks of block_tokens tokens. Prompts whose first k ids are
/// equal begin with the same k blocks (workload::Arrival); of the last one only the part within `tokens` is described.
struct PrefixChain {
  std::uint32_t block_tokens = 0;
  std::int32_t tokens = 0;
  std::vector<std::uint32_t> blocks{};
  FAULTLINE_FIELDS(block_tokens, tokens, blocks)
};
/// Fields of a request with its prefix: the chain is there where the key is, so that a log without them has no byte for
/// it.
#define FAULTLINE_FIELDS_WITH_PREFIX(...) \
  template <class F>                      \
  void fields(F&& f) {                    \
    f(__VA_ARGS__, prefix_key);           \
    if (prefix_key != 0) f(prefix);       \
  }                                       \
  template <class F>                      \
  void fields(F&& f) const {              \
    f(__VA_ARGS__, prefix_key);           \
    if (prefix_key != 0) f(prefix);       \
  }

/// router -> instance. One attempt of a request; `attempt` counts from 0.
struct SubmitRequest {
  RequestId request;
  std::uint32_t attempt = 0;
  std::int32_t prompt = 0, output = 0;
  std::uint64_t prefix_key = 0;  // hash of the prompt's first block; 0 = unknown
  PrefixChain prefix{};
  FAULTLINE_FIELDS_WITH_PREFIX(request, attempt, prompt, output)
};
/// instance -> router. Terminal for the attempt. `accepting`: the instance can take another request now.
struct AttemptEnded {
  RequestId request;
  std::uint32_t attempt = 0;
  Cause cause = Cause::none;  // none = all tokens produced
  std::int32_t produced = 0;
  bool accepting = true;
  FAULTLINE_FIELDS(request, attempt, cause, produced, accepting)
};
/// instance -> every router, at most once per signal interval.
struct LoadReport {
  std::int64_t outstanding_tokens = 0;
  FAULTLINE_FIELDS(outstanding_tokens)
};
/// fleet -> router. `serving`: it is to take traffic when it can (else it is a standby); routers keep it for the fleet
/// manager's next incarnation.
struct InstanceUpdate {
  InstanceId instance;
  bool accepting = false;
  bool serving = true;
  Term term = 0;
  FAULTLINE_FIELDS(instance, accepting, serving, term)
};

/// One prefill pass (with or without a decode step of the running batch) or a decode run; leader -> head node agent.
struct RunStep {
  OpId op;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  std::int64_t steps_max = 1;  // decode runs only
  std::vector<model::PrefillItem> items;
  std::vector<model::RankLoad> loads;  // [dp], empty in a pure prefill step
  FAULTLINE_FIELDS(op, group, epoch, steps_max, items, loads)
};
struct InterruptRun {
  OpId op;
  std::uint32_t group = 0;
  FAULTLINE_FIELDS(op, group)
};
/// head node agent -> leader. Exactly one for every RunStep that reached a live agent.
struct StepReport {
  OpId op;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  std::int64_t steps = 0;
  Cause cause = Cause::none;
  std::uint32_t suspect_rank = kUnknownRank;
  FAULTLINE_FIELDS(op, group, epoch, steps, cause, suspect_rank)
};
/// leader -> agent of the source rank's node: push the KV of one prompt chunk, layer by layer while `step` computes it.
struct PushKv {
  OpId op;
  OpId step;               // invalid: the bytes are there already (a replica of decoding sequences)
  std::uint32_t slot = 0;  // the leader's handle, returned in KvReport
  std::uint32_t from_group = 0, from_rank = 0, to_group = 0, to_rank = 0, to_node = 0;
  Epoch from_epoch = 0, to_epoch = 0;
  Bytes bytes;
  FAULTLINE_FIELDS(op, step, slot, from_group, from_rank, to_group, to_rank, to_node, from_epoch, to_epoch, bytes)
};
struct KvReport {
  OpId op;
  std::uint32_t slot = 0;
  Cause cause = Cause::none;
  std::uint32_t tries = 1;
  FAULTLINE_FIELDS(op, slot, cause, tries)
};

/// leader -> fleet.
struct GroupFailed {
  std::uint32_t group = 0;
  Epoch epoch = 0;
  Cause cause = Cause::none;
  std::uint32_t suspect_rank = kUnknownRank;
  FAULTLINE_FIELDS(group, epoch, cause, suspect_rank)
};
/// agent or leader -> fleet: a KV transfer between two nodes failed after its retries.
struct TransferFailed {
  std::uint32_t from_node = 0, to_node = 0;
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(from_node, to_node, cause)
};
struct Drained {
  FAULTLINE_FIELDS()
};
/// fleet -> leader: the groups of `mask` are dead until GroupReady; epochs below `epoch` are stale.
struct FenceGroups {
  GroupMask mask = 0;
  Epoch epoch = 0;
  Cause cause = Cause::none;
  Term term = 0;
  FAULTLINE_FIELDS(mask, epoch, cause, term)
};
struct GroupReady {
  std::uint32_t group = 0;
  Epoch epoch = 0;
  std::uint32_t head_node = 0;
  std::vector<std::uint32_t> nodes;     // in rank order
  std::vector<std::uint32_t> absent{};  // ranks that take no part
  Term term = 0;
  GroupRole role = GroupRole::as_set_up;
  FAULTLINE_FIELDS(group, epoch, head_node, nodes, absent, term, role)
};
struct Drain {
  bool drain = true;
  Term term = 0;
  FAULTLINE_FIELDS(drain, term)
};

/// fleet -> agent of the group's head node: (re)start the workers of a group on these nodes.
struct StartGroup {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  std::vector<std::uint32_t> nodes;
  std::uint32_t leader_node = 0;
  Duration delay;                     // attach time of new hardware, before the start phases
  bool warm = false;                  // weights and graphs are already there
  std::uint32_t rank = kUnknownRank;  // only this rank restarts; the others wait for it
  /// survivors: the ranks that are not absent keep their processes and KV and form the group anew; without repair,
  /// experts that no survivor has stay missing. join: `joining` start beside the running group (nothing else changes).
  /// restore: experts that nobody has are copied beside the running group, for its next incarnation.
  enum class Kind : std::uint8_t { whole, survivors, survivors_unrepaired, join, restore };
  bool beside() const { return kind == Kind::join || kind == Kind::restore; }
  Kind kind = Kind::whole;
  std::vector<std::uint32_t> absent{}, joining{};
  Term term = 0;
  GroupRole role = GroupRole::as_set_up;
  bool keep_weights = false;  // the GPUs hold them still: every phase of the start but their load
  FAULTLINE_FIELDS(instance, group, epoch, nodes, leader_node, delay, warm, rank, kind, absent, joining, term, role,
                   keep_weights)
};
struct StopGroup {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;  // this and older incarnations
  Term term = 0;
  FAULTLINE_FIELDS(instance, group, epoch, term)
};
/// agent -> fleet.
struct GroupStarted {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  Cause cause = Cause::none;
  std::uint32_t bad_node = kUnknownRank;  // node whose hardware failed the start check
  bool joined = false;                    // answers StartGroup::Kind::join or restore
  std::int64_t missing_experts = 0;       // (layer, expert) pairs that no rank of the group has
  FAULTLINE_FIELDS(instance, group, epoch, cause, bad_node, joined, missing_experts)
};
/// fleet -> leader: stop `group` at the next step boundary, drop what its absent ranks hold, keep the rest for the
/// incarnation `epoch`.
struct PauseGroup {
  std::uint32_t group = 0;
  Epoch epoch = 0;
  std::vector<std::uint32_t> absent;
  Term term = 0;
  FAULTLINE_FIELDS(group, epoch, absent, term)
};
/// leader -> fleet: done; nothing of the group runs.
struct GroupPaused {
  std::uint32_t group = 0;
  Epoch epoch = 0;
  FAULTLINE_FIELDS(group, epoch)
};
/// fleet -> agent -> fleet.
struct ProbeNode {
  std::uint64_t token = 0;
  FAULTLINE_FIELDS(token)
};
struct ProbeResult {
  std::uint64_t token = 0;
  std::uint32_t bad_gpus = 0;  // bit i = GPU i failed its health check
  bool network_ok = true;
  std::uint32_t cut_gpus = 0;  // bit i = GPU i is well but reaches no other node
  FAULTLINE_FIELDS(token, bad_gpus, network_ok, cut_gpus)
};
/// operator -> fleet: a node is going to be taken down, or is back for good.
struct Maintenance {
  std::uint32_t node = 0;
  bool begins = true;
  FAULTLINE_FIELDS(node, begins)
};

/// A fleet manager that was started again -> agents, leaders, routers: from now on it decides. Each answers with its
/// state.
struct ClaimFleet {
  Term term = 0;
  FAULTLINE_FIELDS(term)
};
/// What an agent knows of a group: the start it was asked for last, and what became of it.
struct GroupAtAgent {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  bool launching = false;            // asked for, not yet ended
  bool running = false;              // its workers were not stopped since
  std::vector<std::uint32_t> nodes;  // empty: never started by this agent
  std::uint32_t leader_node = 0;
  std::vector<std::uint32_t> absent{};  // ranks that take no part
  bool survivors = false;               // the others kept their processes
  GroupRole role = GroupRole::as_set_up;
  FAULTLINE_FIELDS(instance, group, epoch, launching, running, nodes, leader_node, absent, survivors, role)
};
/// agent -> fleet: in order of instance and group.
struct AgentState {
  Term term = 0;
  std::vector<GroupAtAgent> groups;
  FAULTLINE_FIELDS(term, groups)
};
struct GroupAtLeader {
  Epoch epoch = 0;
  bool up = false;
  std::vector<std::uint32_t> nodes;
  std::vector<std::uint32_t> absent{};  // ranks that take no part
  bool failed = false;                  // it has stopped, and nobody has fenced it: who survives keeps what it holds
  GroupRole role = GroupRole::as_set_up;
  FAULTLINE_FIELDS(epoch, up, nodes, absent, failed, role)
};
/// leader -> fleet: every group of the instance.
struct LeaderState {
  Term term = 0;
  bool draining = false;
  std::int64_t outstanding_tokens = 0;
  std::vector<GroupAtLeader> groups;
  FAULTLINE_FIELDS(term, draining, outstanding_tokens, groups)
};
struct InstanceAtRouter {
  bool accepting = false, serving = false;
  FAULTLINE_FIELDS(accepting, serving)
};
/// router -> fleet: every instance.
struct RouterState {
  Term term = 0;
  std::vector<InstanceAtRouter> instances;
  FAULTLINE_FIELDS(term, instances)
};

// New alternatives go to the end: the index is part of the log's format.
using Message = std::variant<SubmitRequest, AttemptEnded, LoadReport, InstanceUpdate, RunStep, InterruptRun, StepReport,
                             PushKv, KvReport, GroupFailed, TransferFailed, Drained, FenceGroups, GroupReady, Drain,
                             StartGroup, StopGroup, GroupStarted, ProbeNode, ProbeResult, Maintenance, PauseGroup,
                             GroupPaused, ClaimFleet, AgentState, LeaderState, RouterState>;

// ---- events ---------------------------------------------------------------------------------------------------------

struct Received {
  Address from;
  Message message;
  FAULTLINE_FIELDS(from, message)
};
/// A client hands a request to a router.
struct RequestArrived {
  RequestId request;
  std::int32_t prompt = 0, output = 0;
  std::uint8_t slo_class = 0;
  std::uint64_t prefix_key = 0;
  PrefixChain prefix{};
  FAULTLINE_FIELDS_WITH_PREFIX(request, prompt, output, slo_class)
};
struct TimerFired {
  TimerKey key = 0;
  FAULTLINE_FIELDS(key)
};
struct PeerChanged {
  enum class To : std::uint8_t { suspected, lost, back };
  Address peer;
  To to{};
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(peer, to, cause)
};
/// Executor's answer.
struct StepEnded {
  OpId op;
  std::int64_t steps = 0;
  Cause cause = Cause::none;
  std::uint32_t suspect_rank = kUnknownRank;
  FAULTLINE_FIELDS(op, steps, cause, suspect_rank)
};
/// Transport's answer.
struct WriteEnded {
  OpId op;
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(op, cause)
};
/// The world's answer to LaunchGroup and RunProbe.
struct LaunchEnded {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  Cause cause = Cause::none;
  std::uint32_t bad_node = kUnknownRank;
  bool joined = false;
  std::int64_t missing_experts = 0;
  FAULTLINE_FIELDS(instance, group, epoch, cause, bad_node, joined, missing_experts)
};
struct ProbeEnded {
  std::uint64_t token = 0;
  std::uint32_t bad_gpus = 0;
  bool network_ok = true;
  std::uint32_t cut_gpus = 0;
  FAULTLINE_FIELDS(token, bad_gpus, network_ok, cut_gpus)
};
/// The workers of a group ended while it had nothing to do.
struct WorkersExited {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  Cause cause = Cause::none;
  std::uint32_t rank = kUnknownRank;
  FAULTLINE_FIELDS(instance, group, epoch, cause, rank)
};
/// An instance ended with the streams it served: what a router had passed on of one of them. Comes before the instance
/// is reported lost, and only to routers that migrate.
struct StreamCut {
  RequestId request;
  std::uint32_t attempt = 0;
  std::int32_t produced = 0;
  FAULTLINE_FIELDS(request, attempt, produced)
};
/// First event of an incarnation.
struct Started {
  FAULTLINE_FIELDS()
};

using Event = std::variant<Received, RequestArrived, TimerFired, PeerChanged, StepEnded, WriteEnded, LaunchEnded,
                           ProbeEnded, Started, WorkersExited, StreamCut>;

// ---- commands -------------------------------------------------------------------------------------------------------

struct Send {
  Address to;
  Message message;
  FAULTLINE_FIELDS(to, message)
};
struct ArmTimer {
  TimerKey key = 0;
  Instant deadline;
  FAULTLINE_FIELDS(key, deadline)
};
struct DisarmTimer {
  TimerKey key = 0;
  FAULTLINE_FIELDS(key)
};
struct Watch {
  Address peer;
  FAULTLINE_FIELDS(peer)
};
struct Unwatch {
  Address peer;
  FAULTLINE_FIELDS(peer)
};
/// To the Executor of a group (agents only).
struct SubmitStep {
  InstanceId instance;
  RunStep step;
  FAULTLINE_FIELDS(instance, step)
};
struct InterruptStep {
  OpId op;
  InstanceId instance;
  std::uint32_t group = 0;
  FAULTLINE_FIELDS(op, instance, group)
};
struct AbortGroup {  // ends whatever the group runs; its terminal event still comes
  InstanceId instance;
  std::uint32_t group = 0;
  FAULTLINE_FIELDS(instance, group)
};
/// To the Transport: one hand-off of a prompt chunk, bound to the step that computes it.
struct PostWrite {
  OpId op;
  InstanceId instance;
  PushKv push;
  std::uint32_t attempt = 0;
  FAULTLINE_FIELDS(op, instance, push, attempt)
};
struct CancelWrite {
  OpId op;
  FAULTLINE_FIELDS(op)
};
struct LaunchGroup {
  StartGroup start;
  FAULTLINE_FIELDS(start)
};
struct KillGroup {
  InstanceId instance;
  std::uint32_t group = 0;
  Epoch epoch = 0;
  FAULTLINE_FIELDS(instance, group, epoch)
};
struct RunProbe {
  std::uint64_t token = 0;
  Duration timeout;
  FAULTLINE_FIELDS(token, timeout)
};

/// Notes tell observers what happened; nothing in the control plane reads them.
struct NoteFirstToken {
  RequestId request;
  InstanceId instance;
  std::uint32_t group = 0;
  FAULTLINE_FIELDS(request, instance, group)
};
/// Terminal for the request, from its router.
struct NoteRequestEnded {
  RequestId request;
  Cause cause = Cause::none;
  bool rejected = false;
  std::int32_t delivered = 0;
  FAULTLINE_FIELDS(request, cause, rejected, delivered)
};
/// An attempt that ended badly: what it had computed.
struct NoteAttemptLost {
  RequestId request;
  InstanceId instance;
  std::int32_t prefilled = 0, produced = 0;
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(request, instance, prefilled, produced, cause)
};
struct NoteAttempt {
  RequestId request;
  InstanceId instance;
  std::uint32_t attempt = 0;
  std::int32_t resumed = 0;  // tokens that the client keeps from earlier attempts (migration)
  FAULTLINE_FIELDS(request, instance, attempt, resumed)
};
enum class Phase : std::uint8_t {
  symptom,
  detect,
  decide,
  drain,
  reroute,
  replace,
  ready,
  fence,
  repair_state,
  degraded,
  rejoin,
  rebalance,
  restore,
  role_switch
};
struct NotePhase {
  Phase phase{};
  InstanceId instance;  // affected; invalid = a node or path alone
  GroupMask groups = 0;
  std::uint32_t node = kUnknownRank;
  std::uint8_t action = 0;  // RecoveryAction, with Phase::decide
  FAULTLINE_FIELDS(phase, instance, groups, node, action)
};
/// KV of decoding sequences has a copy at a neighbour, and its leader knows.
struct NoteReplicated {
  InstanceId instance;
  Bytes bytes;
  FAULTLINE_FIELDS(instance, bytes)
};
/// A sequence whose rank was lost goes on from its copy, which holds all but the last `again` of its tokens.
struct NoteResumed {
  RequestId request;
  InstanceId instance;
  std::int32_t produced = 0, again = 0;
  FAULTLINE_FIELDS(request, instance, produced, again)
};
/// Prefix caches of an instance. With a request: it was admitted, `asked` tokens of its prompt were looked for, the
/// first `hit` of them were there and are not computed again. Without: `evicted` tokens made room, or the memory that
/// held `lost` tokens for later is gone.
struct NotePrefixCache {
  RequestId request;
  InstanceId instance;
  std::int64_t asked = 0, hit = 0, evicted = 0, lost = 0;
  FAULTLINE_FIELDS(request, instance, asked, hit, evicted, lost)
};
using Command = std::variant<Send, ArmTimer, DisarmTimer, Watch, Unwatch, SubmitStep, InterruptStep, AbortGroup,
                             PostWrite, CancelWrite, LaunchGroup, KillGroup, RunProbe, NoteFirstToken, NoteRequestEnded,
                             NoteAttemptLost, NoteAttempt, NotePhase, NoteReplicated, NoteResumed, NotePrefixCache>;
/// Cleared and reused by the driver: no allocation per event in the steady state.
using Commands = std::vector<Command>;

}  // namespace faultline::control
