#include "core/control/instance.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::control {
namespace {
constexpr TimerKey kLoadReport = 1, kReplicate = 2;
constexpr Address kFleet{Role::fleet, 0};
}  // namespace

InstanceController::InstanceController(InstanceSetup setup) : setup_(std::move(setup)) {
  FAULTLINE_ASSERT(!setup_.groups.empty() && setup_.groups.size() <= kGroupsMax, "groups={}", setup_.groups.size());
  for (const GroupSetup& g : setup_.groups) {
    Group group;
    group.setup = g;
    group.home = g.role;
    group.ranks.resize(static_cast<std::size_t>(g.ranks));
    group.state = setup_.up ? GroupState::up : GroupState::fenced;
    group.head = g.nodes.front();
    groups_.push_back(std::move(group));
  }
  for (const Group& g : groups_) {
    digest_.add(hash_of(g));
    for (const Rank& r : g.ranks) digest_.add(hash_of(r));
  }
}

std::uint64_t InstanceController::hash_of(const Slot& s) const {
  if (s.state == State::free) return 0;
  const std::uint64_t h =
      entry_hash(11, s.request.v, s.attempt, s.prefilled, static_cast<int>(s.state), s.pushes,
                 (static_cast<std::uint64_t>(static_cast<std::uint16_t>(s.prefill_group)) << 48) |
                     (static_cast<std::uint64_t>(static_cast<std::uint16_t>(s.prefill_rank)) << 32) |
                     (static_cast<std::uint64_t>(static_cast<std::uint16_t>(s.decode_group)) << 16) |
                     static_cast<std::uint64_t>(static_cast<std::uint16_t>(s.decode_rank)),
                 s.join_step);
  std::uint64_t more = s.abandoned ? hash_combine(h, 1) : h;
  if (s.chain != kUnknownRank) more = hash_combine(more, entry_hash(18, s.hold.keys, s.hold.blocks, s.cached));
  if (s.replica_group < 0 && s.had == 0) return more;
  return hash_combine(more, entry_hash(16, s.replica_group, s.replica_rank, s.replica_blocks, s.replicated,
                                       s.replica_op.v, s.base, s.had));
}
std::uint64_t InstanceController::hash_of(const Group& g) const {
  return entry_hash(12, static_cast<int>(g.state), g.epoch, g.running.v, g.steps_done, g.interrupted, g.sequences,
                    g.head, g.pause_epoch, static_cast<int>(g.setup.role), g.replicate);
}
std::uint64_t InstanceController::hash_of(const Rank& r) const {
  return entry_hash(13, r.queued_tokens, r.blocks_used, r.reserved, r.sequences, r.context_base, r.copies, r.absent);
}

std::uint64_t InstanceController::digest() const { return whole(digest_); }

std::uint64_t InstanceController::full_digest() const {
  Digest d;
  for (const Slot& s : slots_) d.add(hash_of(s));
  for (const Group& g : groups_) {
    d.add(hash_of(g));
    for (const Rank& r : g.ranks) {
      d.add(hash_of(r));
      if (r.cache) r.cache->add_to(d);
    }
  }
  for (const auto& [op, r] : replicas_) d.add(hash_of(op, r));
  return whole(d);
}

std::uint64_t InstanceController::whole(const Digest& entries) const {
  return hash_combine(entries.value(), entry_hash(14, draining_, drained_, ops_, reported_tokens_, term_));
}

/// False for a command of a fleet manager that has been replaced.
bool InstanceController::current(Term term) {
  if (term < term_) return false;
  term_ = term;
  return true;
}

LeaderState InstanceController::state(Term term) const {
  LeaderState state{.term = term, .draining = draining_, .outstanding_tokens = outstanding_tokens(), .groups = {}};
  for (const Group& g : groups_) {
    GroupAtLeader x{.epoch = g.epoch,
                    .up = g.state == GroupState::up,
                    .nodes = g.setup.nodes,
                    .absent = {},
                    .failed = g.state == GroupState::failed,
                    .role = g.setup.role == g.home ? GroupRole::as_set_up : g.setup.role};
    for (std::uint32_t r = 0; r < g.ranks.size(); ++r) {
      if (g.ranks[r].absent) x.absent.push_back(r);
    }
    state.groups.push_back(std::move(x));
  }
  return state;
}

void InstanceController::step(Instant now, const Event& event, Commands& out) {
  if (const auto* received = std::get_if<Received>(&event)) {
    const Message& m = received->message;
    if (const auto* report = std::get_if<StepReport>(&m)) step_report(*report, out);
    else if (const auto* submitted = std::get_if<SubmitRequest>(&m)) submit(now, received->from.index, *submitted, out);
    else if (const auto* kv = std::get_if<KvReport>(&m)) kv_report(*kv, out);
    else if (const auto* fenced = std::get_if<FenceGroups>(&m)) {
      if (current(fenced->term)) fence(*fenced, out);
    } else if (const auto* ready = std::get_if<GroupReady>(&m)) {
      if (current(ready->term)) group_ready(*ready, out);
    } else if (const auto* pause = std::get_if<PauseGroup>(&m)) {
      if (current(pause->term)) pause_group(*pause, out);
    } else if (const auto* drain = std::get_if<Drain>(&m); drain && current(drain->term)) {
      draining_ = drain->drain;
      drained_ = false;
    } else if (const auto* claim = std::get_if<ClaimFleet>(&m)) {
      term_ = std::max(term_, claim->term);
      drained_ = false;                            // whom it told may be gone
      for (Group& g : groups_) g.pausing.clear();  // who was to hear that they stand still is gone
      out.push_back(Send{received->from, state(claim->term)});
    }
  } else if (const auto* peer = std::get_if<PeerChanged>(&event)) {
    if (peer->to == PeerChanged::To::lost) {
      if (peer->peer.role == Role::node) node_lost(peer->peer.index, peer->cause, out);
      else if (peer->peer.role == Role::router) router_lost(peer->peer.index, out);
    }
  } else if (const auto* timer = std::get_if<TimerFired>(&event); timer && timer->key == kReplicate) {
    replicate_soon(out);
    out.push_back(ArmTimer{kReplicate, now + setup_.replication.interval});
  } else if (timer) {
    const std::int64_t tokens = outstanding_tokens();
    if (tokens != reported_tokens_) {
      reported_tokens_ = tokens;
      for (std::uint32_t r = 0; r < setup_.routers; ++r) out.push_back(Send{{Role::router, r}, LoadReport{tokens}});
      if (setup_.report_to_fleet) out.push_back(Send{kFleet, LoadReport{tokens}});
    }
    out.push_back(ArmTimer{kLoadReport, now + setup_.signal_interval});
  } else if (std::get_if<Started>(&event)) {
    for (const Group& g : groups_) {
      for (const std::uint32_t node : g.setup.nodes) out.push_back(Watch{{Role::node, node}});
    }
    for (std::uint32_t r = 0; r < setup_.routers; ++r) out.push_back(Watch{{Role::router, r}});
    if (setup_.routers > 1 || setup_.report_to_fleet)
      out.push_back(ArmTimer{kLoadReport, now + setup_.signal_interval});
    if (setup_.replication.enabled) out.push_back(ArmTimer{kReplicate, now + setup_.replication.interval});
  }
  if (evicted_ > 0) {
    out.push_back(NotePrefixCache{
        .request = RequestId{}, .instance = setup_.id, .evicted = evicted_ * setup_.engine.block_tokens});
    evicted_ = 0;
  }
  maybe_drained(out);
}

bool InstanceController::accepting() const {
  bool prefill = false, decode = false;
  for (const Group& g : groups_) {
    if (g.state != GroupState::up) continue;
    prefill |= g.setup.role != GroupRole::decode;
    decode |= g.setup.role != GroupRole::prefill;
  }
  return prefill && decode && !draining_;
}

std::int64_t InstanceController::outstanding_tokens() const {
  std::int64_t tokens = 0;
  for (const Slot& s : slots_) {
    if (s.state != State::free && s.state != State::zombie) tokens += std::int64_t{s.prompt} + s.output;
  }
  return tokens;
}

std::uint32_t InstanceController::allocate() {
  if (free_slots_.empty()) {
    FAULTLINE_ASSERT(slots_.size() < (1U << 20), "slots={}", slots_.size());
    slots_.emplace_back();
    return static_cast<std::uint32_t>(slots_.size() - 1);
  }
  const std::uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  return index;
}

std::uint32_t InstanceController::index_of(std::uint32_t handle) const {
  const std::uint32_t index = handle & 0xfffff;
  if (index >= slots_.size() || slots_[index].state == State::free || slots_[index].generation != handle >> 20)
    return kUnknownRank;
  return index;
}

void InstanceController::submit(Instant, std::uint32_t router, const SubmitRequest& request, Commands& out) {
  const auto refuse = [&](Cause cause) {
    out.push_back(Send{{Role::router, router}, AttemptEnded{request.request, request.attempt, cause, 0, accepting()}});
  };
  const std::int64_t total = std::int64_t{request.prompt} + request.output;
  std::int64_t blocks_max = 0, prefill_blocks_max = 0;
  for (const Group& g : groups_) {
    if (g.setup.role != GroupRole::prefill) blocks_max = std::max(blocks_max, g.setup.kv_blocks_per_rank);
    if (g.setup.role != GroupRole::decode)
      prefill_blocks_max = std::max(prefill_blocks_max, g.setup.kv_blocks_per_rank);
  }
  if (total > setup_.engine.max_model_len || blocks_for(total) > blocks_max ||
      blocks_for(request.prompt) > prefill_blocks_max) {
    return refuse(Cause::too_large);
  }
  if (!accepting()) return refuse(Cause::overload);
  const std::uint32_t index = allocate();
  Slot& slot = slots_[index];
  const std::uint16_t generation = slot.generation;
  slot = Slot{.request = request.request,
              .attempt = request.attempt,
              .router = router,
              .prompt = request.prompt,
              .output = request.output,
              .generation = generation,
              .state = State::queued};
  take_chain(slot, request.prefix);
  digest_.add(hash_of(slot));
  ++live_;
  const bool placed = enqueue(index);
  FAULTLINE_ASSERT(placed, "request={}", request.request.v);
  wake(static_cast<std::uint32_t>(slot.prefill_group), out);
}

void InstanceController::step_report(const StepReport& report, Commands& out) {
  Group& group = groups_[report.group];
  const bool idle_exit = !report.op.valid() && report.cause != Cause::none && group.state == GroupState::up;
  if (report.epoch != group.epoch || (report.op != group.running && !idle_exit)) return;  // of a fenced incarnation
  const bool with_decode = group.with_decode;
  change(group, [](Group& g) {
    g.running = OpId{};
    g.decode_run = g.with_decode = g.interrupted = false;
  });
  if (report.cause != Cause::none) {
    if (with_decode) advance(report.group, report.steps, out);
    drop_abandoned(report.group, out);
    group.chunks.clear();
    fail_group(report.group, report.cause, lost_with(group, report.suspect_rank), out);
    out.push_back(Send{kFleet, GroupFailed{report.group, report.epoch, report.cause, report.suspect_rank}});
    if (!group.pausing.empty()) pause_now(report.group, out);
    wake_idle(out);
    return;
  }
  // Out of the group first: a hand-off that is complete may start the group's next step from inside the loop.
  std::vector<Chunk> chunks;
  chunks.swap(group.chunks);
  for (const Chunk& chunk : chunks) {
    const std::uint32_t index = index_of(chunk.handle);
    if (index == kUnknownRank) continue;
    Slot& slot = slots_[index];
    if (slot.state != State::prefilling) continue;
    change(slot, [&](Slot& s) { s.prefilled += chunk.tokens; });
    change(group.ranks[static_cast<std::size_t>(slot.prefill_rank)], [&](Rank& r) { r.queued_tokens -= chunk.tokens; });
    grow_prefix(slot);
    if (slot.prefilled == slot.prompt) {
      --group.queued;
      prefill_finished(index, out);
    } else {  // the next chunk goes first
      change(slot, [](Slot& x) { x.state = State::queued; });
      group.ranks[static_cast<std::size_t>(slot.prefill_rank)].queue.push_front(chunk.handle);
    }
  }
  if (with_decode) advance(report.group, report.steps, out);
  if (group.abandoned > 0) {
    drop_abandoned(report.group, out);
    wake_idle(out);
  }
  if (group.replicate) replicate(report.group, out);
  start_next(report.group, out);
}

void InstanceController::kv_report(const KvReport& report, Commands& out) {
  if (replica_reported(report, out)) return;
  const std::uint32_t index = index_of(report.slot);
  if (index == kUnknownRank) return;
  Slot& slot = slots_[index];
  change(slot, [](Slot& s) { --s.pushes; });
  if (slot.state == State::zombie) {
    if (slot.pushes > 0) return;
    release(index);
    wake_idle(out);
    return;
  }
  if (report.cause != Cause::none) {
    lose(index, report.cause, out);
    wake_idle(out);
    return;
  }
  if (slot.prefill_done && slot.pushes == 0) kv_arrived(index, out);
}

/// Whose requests are lost when a step fails: where survivors keep their state, those of the suspect alone (of nobody
/// yet when it is not known); else all.
std::vector<bool> InstanceController::lost_with(const Group& group, std::uint32_t rank) const {
  const bool known = rank != kUnknownRank;
  if (group.setup.ranks_min > 0 && !setup_.keep_requests) return std::vector<bool>(group.ranks.size(), true);
  if (group.setup.ranks_min == 0 && !(setup_.restart_unit == RestartUnit::rank && known)) return {};
  std::vector<bool> gone(group.ranks.size());
  if (known) gone[rank] = true;
  return gone;
}

void InstanceController::fail_group(std::uint32_t g, Cause cause, const std::vector<bool>& gone, Commands& out) {
  Group& group = groups_[g];
  const bool partial = !gone.empty();
  const auto is_gone = [&](std::int16_t rank) { return !partial || gone[static_cast<std::size_t>(rank)]; };
  change(group, [](Group& x) {
    x.state = GroupState::failed;
    x.running = OpId{};
    x.decode_run = x.with_decode = x.interrupted = false;
  });
  group.chunks.clear();
  if (!partial) {  // nobody in it survives
    group.joiners.clear();
    group.finishes.clear();
    group.pausing.clear();
  }
  for (std::size_t r = 0; r < group.ranks.size(); ++r) {
    if (is_gone(static_cast<std::int16_t>(r))) group.ranks[r].queue.clear();
  }
  drop_replicas(g, gone);
  std::vector<std::uint32_t> requeue, resumed;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& s = slots_[i];
    if (s.state == State::free) continue;
    const bool at_prefill =
        s.prefill_group == static_cast<std::int16_t>(g) && (!s.prefill_done || s.pushes > 0) && is_gone(s.prefill_rank);
    const bool at_decode = s.decode_group == static_cast<std::int16_t>(g) && is_gone(s.decode_rank);
    if (s.state == State::zombie) {
      if (at_prefill) release(i);  // its source memory is gone with the rank: nothing is in flight from it any more
      continue;
    }
    if (partial && s.prefill_group == static_cast<std::int16_t>(g) && s.state == State::prefilling && !at_prefill) {
      change(s, [](Slot& x) { x.state = State::queued; });  // its chunk is computed again when the rank is back
      group.ranks[static_cast<std::size_t>(s.prefill_rank)].queue.push_front(handle_of(i));
      continue;
    }
    if (!at_prefill && !at_decode) continue;
    if (!at_prefill && resume(i, out)) {
      resumed.push_back(static_cast<std::uint32_t>(s.decode_group));
      continue;
    }
    if (at_prefill && s.state == State::queued && s.prefilled == 0 && s.decode_group < 0 && s.prefill_blocks == 0)
      requeue.push_back(i);
    else lose(i, cause, out);
    if (at_prefill && s.state == State::zombie) release(i);
  }
  lose_cache(g, gone, out);
  for (const std::uint32_t i : requeue) {
    Slot& s = slots_[i];
    change(group.ranks[static_cast<std::size_t>(s.prefill_rank)], [&](Rank& r) { r.queued_tokens -= s.prompt; });
    --group.queued;
    change(s, [](Slot& x) {
      x.prefill_group = x.prefill_rank = -1;
      x.generation = static_cast<std::uint16_t>((x.generation + 1) & 0xfff);  // the old queue's handle is stale now
    });
    if (accepting() && enqueue(i)) wake(static_cast<std::uint32_t>(s.prefill_group), out);
    else end_attempt(i, cause, out);
  }
  for (const std::uint32_t to : resumed) wake(to, out);
}

void InstanceController::fence(const FenceGroups& fence, Commands& out) {
  GroupMask drained = 0;
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    if (!(fence.mask >> g & 1) || fence.epoch <= groups_[g].epoch) continue;
    drained |= GroupMask{1} << g;
    // One that failed for a single rank still holds the others' requests: a fence means that their KV goes too.
    if (groups_[g].state != GroupState::fenced) fail_group(g, fence.cause, {}, out);
    change(groups_[g], [&](Group& x) {
      x.state = GroupState::fenced;
      x.epoch = fence.epoch;
    });
    groups_[g].pausing.clear();
  }
  if (drained) out.push_back(NotePhase{.phase = Phase::drain, .instance = setup_.id, .groups = drained});
  wake_idle(out);
}

void InstanceController::group_ready(const GroupReady& ready, Commands& out) {
  Group& group = groups_[ready.group];
  if (ready.epoch < group.epoch || (group.state == GroupState::up && ready.epoch == group.epoch)) return;
  // Started anew without our knowing that it had ended: what it held is gone.
  if (group.state == GroupState::up) fail_group(ready.group, Cause::stale_epoch, {}, out);
  for (const std::uint32_t node : ready.nodes) {
    if (std::find(group.setup.nodes.begin(), group.setup.nodes.end(), node) == group.setup.nodes.end()) {
      out.push_back(Watch{{Role::node, node}});
    }
  }
  for (const std::uint32_t node : group.setup.nodes) {
    if (std::find(ready.nodes.begin(), ready.nodes.end(), node) == ready.nodes.end())
      out.push_back(Unwatch{{Role::node, node}});
  }
  change(group, [&](Group& g) {
    g.setup.nodes = ready.nodes;
    g.setup.role = ready.role == GroupRole::as_set_up ? g.home : ready.role;
    g.epoch = ready.epoch;
    g.state = GroupState::up;
    g.head = g.setup.head(ready.absent);
  });
  group.pausing.clear();
  for (std::uint32_t r = 0; r < group.ranks.size(); ++r) {
    const bool absent = std::find(ready.absent.begin(), ready.absent.end(), r) != ready.absent.end();
    change(group.ranks[r], [&](Rank& x) { x.absent = absent; });
  }
  if (!ready.absent.empty()) {  // nor do they hold copies of others' sequences
    std::vector<bool> gone(group.ranks.size());
    for (const std::uint32_t r : ready.absent) gone[r] = true;
    drop_replicas(ready.group, gone);
  }
  for (std::uint32_t g = 0; g < groups_.size(); ++g) wake(g, out);
}

void InstanceController::pause_group(const PauseGroup& pause, Commands& out) {
  Group& group = groups_[pause.group];
  if (pause.epoch <= group.epoch || group.state == GroupState::fenced) return;
  group.pausing.assign(group.ranks.size(), false);
  for (const std::uint32_t r : pause.absent) group.pausing[r] = true;
  change(group, [&](Group& g) { g.pause_epoch = pause.epoch; });
  if (!group.running.valid()) {
    pause_now(pause.group, out);
    wake_idle(out);
  } else {
    interrupt(pause.group, out);
  }
}

/// Nothing of the group runs: what absent ranks hold is lost, the rest waits for the next incarnation.
void InstanceController::pause_now(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  const std::vector<bool> gone = std::move(group.pausing);
  group.pausing.clear();
  fail_group(g, Cause::device_lost, gone, out);
  change(group, [](Group& x) { x.epoch = x.pause_epoch; });
  out.push_back(NotePhase{.phase = Phase::drain, .instance = setup_.id, .groups = GroupMask{1} << g});
  out.push_back(Send{kFleet, GroupPaused{g, group.epoch}});
}

void InstanceController::node_lost(std::uint32_t node, Cause cause, Commands& out) {
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    const auto& nodes = group.setup.nodes;
    if (group.state != GroupState::up || std::find(nodes.begin(), nodes.end(), node) == nodes.end()) continue;
    std::vector<bool> gone;
    if (group.setup.ranks_min > 0) {
      gone.resize(group.ranks.size());
      bool takes_part = false;
      for (std::size_t r = 0; r < gone.size(); ++r) {
        gone[r] = group.setup.node_of(static_cast<std::int32_t>(r)) == node;
        takes_part |= gone[r] && !group.ranks[r].absent;
      }
      if (!takes_part) continue;  // it goes on without that node already
      if (!setup_.keep_requests) gone.assign(gone.size(), true);
    }
    const Epoch epoch = group.epoch;
    fail_group(g, cause, gone, out);
    out.push_back(Send{kFleet, GroupFailed{g, epoch, cause, kUnknownRank}});
    if (!group.pausing.empty()) pause_now(g, out);  // the step that it waited for ended with its node
  }
  wake_idle(out);
}

/// Nobody hears the answers to its requests any more. A sequence in the middle of a decode step leaves when the step
/// has ended, as engines abort requests.
void InstanceController::router_lost(std::uint32_t router, Commands& out) {
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.state == State::free || slot.state == State::zombie || slot.router != router || slot.abandoned) continue;
    if (slot.state == State::decoding && groups_[static_cast<std::size_t>(slot.decode_group)].with_decode) {
      change(slot, [](Slot& s) { s.abandoned = true; });
      ++groups_[static_cast<std::size_t>(slot.decode_group)].abandoned;
    } else {
      lose(i, Cause::router_lost, out);
    }
  }
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].abandoned > 0) interrupt(g, out);
  }
  wake_idle(out);
}

void InstanceController::drop_abandoned(std::uint32_t g, Commands& out) {
  for (std::uint32_t i = 0; groups_[g].abandoned > 0 && i < slots_.size(); ++i) {
    if (slots_[i].state == State::decoding && slots_[i].abandoned &&
        slots_[i].decode_group == static_cast<std::int16_t>(g))
      lose(i, Cause::router_lost, out);
  }
}

/// Ends the decode run of a group, if it is in one, at its next step boundary.
void InstanceController::interrupt(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  if (!group.decode_run || group.interrupted) return;
  change(group, [](Group& x) { x.interrupted = true; });
  out.push_back(Send{{Role::node, group.head}, InterruptRun{group.running, g}});
}

/// What was lost has freed KV, which groups without a step of their own may have waited for.
void InstanceController::wake_idle(Commands& out) {
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    if (!groups_[g].running.valid()) wake(g, out);
  }
}

void InstanceController::lose(std::uint32_t index, Cause cause, Commands& out) {
  const Slot& slot = slots_[index];
  if (slot.abandoned) cause = Cause::router_lost;
  out.push_back(NoteAttemptLost{slot.request, setup_.id, slot.prefilled, produced(slot), cause});
  end_attempt(index, cause, out);
}

void InstanceController::end_attempt(std::uint32_t index, Cause cause, Commands& out) {
  Slot& slot = slots_[index];
  out.push_back(Send{{Role::router, slot.router},
                     AttemptEnded{slot.request, slot.attempt, cause,
                                  cause == Cause::none ? slot.output : produced(slot), accepting()}});
  drop_replica(slot);
  if (slot.pushes > 0) {
    // The network still reads the prompt's KV: its blocks may not be used again before the pushes have ended.
    const std::uint16_t pushes = slot.pushes;
    const std::int32_t held = slot.prefill_blocks;
    if (slot.decode_group >= 0 && slot.decode_group != slot.prefill_group) {
      change(groups_[static_cast<std::size_t>(slot.decode_group)].ranks[static_cast<std::size_t>(slot.decode_rank)],
             [&](Rank& r) {
               r.blocks_used -= slot.decode_blocks;
               --r.reserved;
             });
    }
    if (!slot.prefill_done && slot.prefill_group >= 0) {
      Group& g = groups_[static_cast<std::size_t>(slot.prefill_group)];
      change(g.ranks[static_cast<std::size_t>(slot.prefill_rank)],
             [&](Rank& r) { r.queued_tokens -= slot.prompt - slot.prefilled; });
      --g.queued;
    }
    change(slot, [&](Slot& s) {
      s.state = State::zombie;
      s.pushes = pushes;
      s.prefill_blocks = held;
      s.decode_blocks = 0;
      s.decode_group = s.decode_rank = -1;
      s.prefill_done = true;
    });
    return;
  }
  release(index);
}

void InstanceController::maybe_drained(Commands& out) {
  if (!draining_ || drained_ || live_ > 0) return;
  drained_ = true;
  out.push_back(Send{kFleet, Drained{}});
}

void InstanceController::account_loss(std::span<const std::int64_t> steps_in_flight, Commands& out) const {
  for (const Slot& s : slots_) {
    if (s.state == State::free || s.state == State::zombie) continue;
    std::int32_t tokens = produced(s);
    if (s.state == State::decoding) {
      const auto g = static_cast<std::size_t>(s.decode_group);
      const std::int64_t more = g < steps_in_flight.size() ? steps_in_flight[g] : 0;
      tokens = static_cast<std::int32_t>(std::min<std::int64_t>(s.output, tokens + more));
    }
    out.push_back(NoteAttemptLost{s.request, setup_.id, s.prefilled, tokens, Cause::peer_lost});
  }
}

}  // namespace faultline::control
