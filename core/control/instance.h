// InstanceController: one replica of the model. Continuous batching on its prefill and decode groups, KV blocks, the
// choice of ranks, the layer-wise hand-off of KV from prefill to decode, and what becomes of requests when a group
// dies. It is placed on a node (the leader) and dies with it.
//
// A request:  queued -> prefilling (chunk by chunk, each chunk's KV pushed while it is computed) -> transferring
//             -> ready -> decoding -> ended;      on a group that does both roles: queued -> prefilling -> decoding.
// Decode KV is reserved before prefill starts (back-pressure: no room downstream, no prefill), for prompt and output,
// so that nothing is ever preempted. Sequences advance lazily: a group counts its steps, a sequence remembers at which
// count it joined and at which it ends.
//
// A group:    up -> failed (a step failed or a node was lost) -> fenced (by the fleet manager) -> up (GroupReady)
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/control/controller.h"
#include "core/control/digest.h"
#include "core/control/prefix_cache.h"
#include "core/control/specs.h"

namespace faultline::control {

/// Static shape of one worker group. Rank r is on node nodes[r * nodes.size() / ranks].
struct GroupSetup {
  GroupRole role = GroupRole::both;
  std::int32_t ranks = 1;               // attention (DP) ranks
  std::int64_t kv_blocks_per_rank = 0;  // after weights and buffers (core/model memory budget)
  std::vector<std::uint32_t> nodes{};   // in rank order; the first with a rank that takes part is the head
  std::int32_t gpus_per_rank = 1;
  /// Fewest ranks that can go on without the others (enough slots for every expert); 0: the group lives and dies whole.
  std::int32_t ranks_min = 0;
  /// Head when some ranks (ascending) take no part.
  std::uint32_t head(const std::vector<std::uint32_t>& absent) const {
    std::uint32_t rank = 0;
    for (const std::uint32_t a : absent) rank += a == rank;
    return node_of(static_cast<std::int32_t>(std::min<std::uint32_t>(rank, static_cast<std::uint32_t>(ranks) - 1)));
  }
  std::uint32_t node_of(std::int32_t rank) const {
    return nodes[static_cast<std::size_t>(rank) * nodes.size() / static_cast<std::size_t>(ranks)];
  }
};

struct InstanceSetup {
  InstanceId id;
  EngineSpec engine;
  RestartUnit restart_unit = RestartUnit::instance;
  std::vector<GroupSetup> groups;  // at most kGroupsMax
  Bytes kv_bytes_per_token;        // what a push moves
  std::uint32_t routers = 1;
  Duration signal_interval;      // of load reports; used with more than one router or an autoscaler
  bool report_to_fleet = false;  // an autoscaler wants them
  ReplicationSpec replication;   // of the KV of decoding sequences
  bool keep_requests = true;     // ElasticSpec: those of the ranks that survive a failure of their group
  bool up = true;                // false: groups wait for GroupReady
};

class InstanceController final : public Controller {
 public:
  explicit InstanceController(InstanceSetup setup);
  void step(Instant now, const Event& event, Commands& out) override;
  std::uint64_t digest() const override;
  std::uint64_t full_digest() const override;
  /// KV blocks, sequences and slots: what ranks count is what requests hold.
  void check() const override;

  /// For observers, when the leader dies with everything it knew: one NoteAttemptLost for each request it held.
  /// `steps_in_flight[g]`: decode boundaries that group g had reached since its last report.
  void account_loss(std::span<const std::int64_t> steps_in_flight, Commands& out) const;
  /// Requests the instance holds in any state.
  std::size_t live() const { return live_; }
  /// For observers: the op that a group is to run, as far as the leader knows; and the sequences that decode there.
  OpId running(std::uint32_t group) const { return groups_[group].running; }
  std::int64_t decoding(std::uint32_t group) const { return groups_[group].sequences; }

 private:
  enum class State : std::uint8_t { free, queued, prefilling, transferring, ready, decoding, zombie };
  struct Slot {
    RequestId request;
    std::uint32_t attempt = 0, router = 0;
    std::int32_t prompt = 0, output = 0, prefilled = 0;
    std::int16_t prefill_group = -1, prefill_rank = -1, decode_group = -1, decode_rank = -1;
    std::int32_t prefill_blocks = 0, decode_blocks = 0;
    std::int64_t join_step = 0;
    std::uint16_t pushes = 0;      // in flight
    std::uint16_t generation = 0;  // of the slot
    State state = State::free;
    bool prefill_done = false;
    bool abandoned = false;  // its router is gone: it leaves at the next step boundary
    // instance_replicas.cpp: where the copy of its KV is, how many tokens of it, and the push under way
    std::int16_t replica_group = -1, replica_rank = -1;
    std::int32_t replica_blocks = 0, replicated = 0;
    OpId replica_op{};
    std::int32_t base = 1;  // tokens that its KV stood for when it joined …
    std::int32_t had = 0;   // … and those that were out by then, where it goes on from a copy
    // instance_prefix.cpp: what is known of its prompt, the part of it that it holds of its prefill rank's cache (its
    // own blocks are those beside it), and the tokens that were there when it was admitted
    std::uint32_t chain = kUnknownRank;  // into chains_
    CacheHold hold{};
    std::int32_t cached = 0;
  };
  struct Rank {
    std::deque<std::uint32_t> queue;  // handles, in order of arrival; stale ones are skipped
    std::int64_t queued_tokens = 0;
    std::int64_t blocks_used = 0;        // by requests: their own, copies, and cached ones that some request references
    std::int32_t reserved = 0;           // sequences admitted for decode here (in prefill, in transfer, decoding)
    std::int32_t sequences = 0;          // decoding
    std::int64_t copies = 0;             // of the blocks used, those that hold copies of other ranks' sequences
    bool absent = false;                 // takes no part: its hardware is gone and the others go on without it
    std::unique_ptr<PrefixCache> cache;  // made with the first prompt whose content is known
    std::int64_t context_base = 0;  // context of the decoding sequences at step count s is context_base + sequences * s
  };
  enum class GroupState : std::uint8_t { up, failed, fenced };
  struct Finish {
    std::int64_t step;
    std::uint32_t handle;
  };
  struct Chunk {
    std::uint32_t handle;
    std::int32_t tokens;
  };
  /// A push of new blocks of one rank's sequences to the rank that holds their copies.
  struct Replica {
    std::uint32_t from_group = 0, to_group = 0;
    std::int16_t from_rank = -1, to_rank = -1;
    struct Part {
      std::uint32_t handle;
      std::int32_t tokens;  // that the copy has once these are there
    };
    std::vector<Part> parts;
    Bytes bytes;
    std::int64_t held = 0;  // blocks of sequences that have ended: the network still writes into them
  };
  struct Group {
    GroupSetup setup;
    GroupRole home = GroupRole::both;  // as it was set up
    GroupState state = GroupState::up;
    Epoch epoch = 0;
    std::vector<Rank> ranks;
    OpId running;
    bool decode_run = false;   // the running op is a decode run
    bool with_decode = false;  // the running op advances the decoding sequences
    bool interrupted = false;
    std::vector<Chunk> chunks;           // of the running prefill step
    std::vector<std::uint32_t> joiners;  // ready, waiting for a step boundary
    std::vector<Finish> finishes;        // heap: earliest end first
    std::int64_t steps_done = 0;
    std::int64_t sequences = 0;  // sum over ranks
    std::int64_t queued = 0;     // requests waiting for or in prefill
    std::int64_t abandoned = 0;  // sequences that leave at the next boundary
    std::uint32_t head = 0;      // node that runs its steps
    bool replicate = false;      // at the next step boundary
    std::vector<bool> pausing;   // not empty: stops at the next boundary, without these ranks from then on …
    Epoch pause_epoch = 0;       // … for this incarnation
  };

  // instance.cpp: events
  void submit(Instant now, std::uint32_t router, const SubmitRequest& request, Commands& out);
  void step_report(const StepReport& report, Commands& out);
  void kv_report(const KvReport& report, Commands& out);
  void fence(const FenceGroups& fence, Commands& out);
  void group_ready(const GroupReady& ready, Commands& out);
  void node_lost(std::uint32_t node, Cause cause, Commands& out);
  void router_lost(std::uint32_t router, Commands& out);
  void drop_abandoned(std::uint32_t g, Commands& out);
  void interrupt(std::uint32_t g, Commands& out);
  /// `gone`: the ranks whose requests are lost; empty: all.
  void fail_group(std::uint32_t g, Cause cause, const std::vector<bool>& gone, Commands& out);
  std::vector<bool> lost_with(const Group& group, std::uint32_t rank) const;
  void pause_group(const PauseGroup& pause, Commands& out);
  void pause_now(std::uint32_t g, Commands& out);
  void lose(std::uint32_t index, Cause cause, Commands& out);
  void end_attempt(std::uint32_t index, Cause cause, Commands& out);
  void maybe_drained(Commands& out);
  void wake_idle(Commands& out);
  bool accepting() const;
  std::int64_t outstanding_tokens() const;
  LeaderState state(Term term) const;
  bool current(Term term);
  std::uint64_t whole(const Digest& entries) const;

  // instance_batching.cpp: steps
  bool enqueue(std::uint32_t index);
  void start_next(std::uint32_t g, Commands& out);
  bool start_prefill(std::uint32_t g, Commands& out);
  void start_decode(std::uint32_t g, Commands& out);
  bool admit(std::uint32_t g, std::int32_t rank, Slot& slot, Commands& out);
  void join(std::uint32_t g);
  void prefill_finished(std::uint32_t index, Commands& out);
  void kv_arrived(std::uint32_t index, Commands& out);
  void wake(std::uint32_t g, Commands& out);
  void advance(std::uint32_t g, std::int64_t steps, Commands& out);
  void release(std::uint32_t index);
  std::int32_t produced(const Slot& slot) const;
  void fill_loads(const Group& group, std::vector<model::RankLoad>& loads) const;

  // instance_prefix.cpp: prompts that begin like earlier ones
  void take_chain(Slot& slot, const PrefixChain& prefix);
  PrefixCache::Match cached(const Rank& rank, const Slot& slot, bool whole = false) const;
  void hold_prefix(Rank& rank, Slot& slot, const PrefixCache::Match& match, Commands& out);
  void grow_prefix(Slot& slot);
  void release_prefix(Slot& slot);
  void forget_chain(Slot& slot);
  void take_blocks(Group& group, Rank& rank, std::int64_t blocks);
  void lose_cache(std::uint32_t g, const std::vector<bool>& gone, Commands& out);
  void check_caches() const;

  // instance_replicas.cpp: copies of decoding sequences on neighbours
  void place_replica(Slot& slot);
  void drop_replica(Slot& slot);
  /// True where `blocks` are free on the rank, or are after copies that it holds gave way.
  bool make_room(std::size_t group, std::size_t rank, std::int32_t blocks);
  void drop_replicas(std::uint32_t g, const std::vector<bool>& gone);
  void replicate_soon(Commands& out);
  void replicate(std::uint32_t g, Commands& out);
  bool replica_reported(const KvReport& report, Commands& out);
  bool resume(std::uint32_t index, Commands& out);
  void leave_batch(const Slot& slot);
  std::int64_t context_at_join(const Slot& s) const { return std::int64_t{s.prompt} + s.base - 1 - s.join_step; }
  std::uint64_t hash_of(OpId op, const Replica& r) const;

  std::int32_t blocks_for(std::int64_t tokens) const;
  std::uint32_t handle_of(std::uint32_t index) const { return index | (std::uint32_t{slots_[index].generation} << 20); }
  /// Slot of a handle that is still valid, else kUnknownRank.
  std::uint32_t index_of(std::uint32_t handle) const;
  std::uint32_t allocate();
  OpId next_op() { return OpId{(std::uint64_t{setup_.id.v} << 36) | ++ops_}; }

  std::uint64_t hash_of(const Slot& s) const;
  std::uint64_t hash_of(const Group& g) const;
  std::uint64_t hash_of(const Rank& r) const;
  /// Brackets a change of one entry for the digest.
  template <class T, class F>
  void change(T& entry, F&& f) {
    const std::uint64_t before = hash_of(entry);
    f(entry);
    digest_.replace(before, hash_of(entry));
  }

  InstanceSetup setup_;
  std::vector<Group> groups_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::map<OpId, Replica> replicas_;  // pushes of copies under way
  std::vector<CacheChain> chains_;    // by Slot::chain; scratch where free
  std::vector<std::uint32_t> free_chains_;
  std::int64_t evicted_ = 0;  // blocks, in this step
  std::size_t live_ = 0;
  std::uint64_t ops_ = 0;
  bool draining_ = false, drained_ = false;  // drained: and the fleet manager was told
  std::int64_t reported_tokens_ = 0;
  Term term_ = 0;  // of the fleet manager
  Digest digest_;
};

}  // namespace faultline::control
