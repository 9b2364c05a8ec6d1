// How an instance forms its steps: admission, chunks, joins and ends.
#include <algorithm>
#include <tuple>

#include "core/base/assert.h"
#include "core/control/instance.h"

namespace faultline::control {

std::int32_t InstanceController::blocks_for(std::int64_t tokens) const {
  return static_cast<std::int32_t>((tokens + setup_.engine.block_tokens - 1) / setup_.engine.block_tokens);
}

/// Tokens that are out. The first one is sampled by the prefill but leaves only with the KV on the decode side.
std::int32_t InstanceController::produced(const Slot& slot) const {
  if (!slot.prefill_done || slot.state == State::transferring) return 0;
  if (slot.state != State::decoding) return std::max(1, slot.had);
  const std::int64_t steps = groups_[static_cast<std::size_t>(slot.decode_group)].steps_done - slot.join_step;
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(slot.output, std::max<std::int64_t>(slot.had, slot.base + steps)));
}

/// Puts a request into the queue with the least work waiting, over all ranks of the groups that can prefill. Of equal
/// ones, that of a group that can begin at once, then that of the group with fewer requests waiting: an idle rank of a
/// group in the middle of a step would leave it waiting for that step while another group has nothing to do.
bool InstanceController::enqueue(std::uint32_t index) {
  Slot& slot = slots_[index];
  std::tuple<std::int64_t, bool, std::int64_t> best;
  std::int16_t best_group = -1, best_rank = -1;
  // What a rank's cache saves of the prompt: its cached tokens, less those of others that would have to go for it.
  // Without the latter a beginning that all prompts share would draw them all to one rank, however full, past empty
  // ones.
  const auto saved_by_cache = [&](const Group& group, const Rank& rank) -> std::int64_t {
    if (!rank.cache) return 0;
    const std::int64_t here = cached(rank, slot).blocks;
    const std::int64_t needed =
        blocks_for(group.setup.role == GroupRole::both ? std::int64_t{slot.prompt} + slot.output : slot.prompt);
    const std::int64_t room = group.setup.kv_blocks_per_rank - rank.blocks_used - rank.cache->idle();
    const std::int64_t evicted = std::clamp<std::int64_t>(needed - here - room, 0, rank.cache->idle());
    return (here - evicted) * setup_.engine.block_tokens;
  };
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    if (group.state != GroupState::up || group.setup.role == GroupRole::decode) continue;
    const bool both = group.setup.role == GroupRole::both;
    const bool busy = group.running.valid() && !group.decode_run;  // a decode run is interrupted for a prompt
    for (std::size_t r = 0; r < group.ranks.size(); ++r) {
      const Rank& rank = group.ranks[r];
      if (rank.absent) continue;
      // Where one rank does both, its KV in use stands for the decode work it already has.
      const std::int64_t work = rank.queued_tokens + (both ? rank.blocks_used * setup_.engine.block_tokens : 0);
      const std::int64_t saved = slot.chain == kUnknownRank ? 0 : saved_by_cache(group, rank);
      if (const std::tuple key{work - saved, busy, std::int64_t{group.queued}}; best_group < 0 || key < best) {
        best = key;
        best_group = static_cast<std::int16_t>(g);
        best_rank = static_cast<std::int16_t>(r);
      }
    }
  }
  if (best_group < 0) return false;
  Group& group = groups_[static_cast<std::size_t>(best_group)];
  Rank& rank = group.ranks[static_cast<std::size_t>(best_rank)];
  change(slot, [&](Slot& s) {
    s.prefill_group = best_group;
    s.prefill_rank = best_rank;
  });
  change(rank, [&](Rank& r) { r.queued_tokens += slot.prompt; });
  rank.queue.push_back(handle_of(index));
  ++group.queued;
  return true;
}

/// Reserves the KV that a request needs on both sides, beside what is cached, or nothing.
bool InstanceController::admit(std::uint32_t g, std::int32_t r, Slot& slot, Commands& out) {
  Group& group = groups_[g];
  Rank& rank = group.ranks[static_cast<std::size_t>(r)];
  const std::int32_t total = blocks_for(std::int64_t{slot.prompt} + slot.output);
  const std::int32_t prompt_blocks = blocks_for(slot.prompt);
  PrefixCache::Match match = cached(rank, slot);
  const auto fits = [&](std::int32_t blocks) {
    return rank.blocks_used + match.idle + blocks - match.blocks <= group.setup.kv_blocks_per_rank;
  };
  // Whatever is cached, a request that fits without it fits with it.
  if (const bool both = group.setup.role == GroupRole::both; match.blocks > 0 && !fits(both ? total : prompt_blocks))
    match = cached(rank, slot, true);
  if (group.setup.role == GroupRole::both) {
    const std::int32_t own = total - match.blocks;
    if (rank.reserved >= setup_.engine.max_num_seqs ||
        !make_room(g, static_cast<std::size_t>(r), own + static_cast<std::int32_t>(match.idle)))
      return false;
    hold_prefix(rank, slot, match, out);
    change(rank, [](Rank& x) { ++x.reserved; });
    take_blocks(group, rank, own);
    change(slot, [&](Slot& s) {
      s.decode_group = static_cast<std::int16_t>(g);
      s.decode_rank = static_cast<std::int16_t>(r);
      s.decode_blocks = own;
    });
    place_replica(slot);
    return true;
  }
  const std::int32_t prompt = prompt_blocks - match.blocks;
  if (!fits(prompt_blocks)) return false;
  Rank* best = nullptr;
  std::int16_t best_group = -1, best_rank = -1;
  if (slot.output > 1) {
    for (std::size_t d = 0; d < groups_.size(); ++d) {
      Group& candidate = groups_[d];
      if (candidate.state != GroupState::up || candidate.setup.role == GroupRole::prefill) continue;
      for (std::size_t k = 0; k < candidate.ranks.size(); ++k) {
        Rank& x = candidate.ranks[k];
        if (x.absent) continue;
        if (x.blocks_used + total > candidate.setup.kv_blocks_per_rank || x.reserved >= setup_.engine.max_num_seqs)
          continue;
        if (best == nullptr || x.reserved < best->reserved ||
            (x.reserved == best->reserved && x.blocks_used < best->blocks_used)) {
          best = &x;
          best_group = static_cast<std::int16_t>(d);
          best_rank = static_cast<std::int16_t>(k);
        }
      }
    }
    // Where no rank has room beside the copies that it holds, these give way to the request.
    for (std::size_t d = 0; best == nullptr && setup_.replication.enabled && d < groups_.size(); ++d) {
      Group& candidate = groups_[d];
      if (candidate.state != GroupState::up || candidate.setup.role == GroupRole::prefill) continue;
      for (std::size_t k = 0; best == nullptr && k < candidate.ranks.size(); ++k) {
        Rank& x = candidate.ranks[k];
        if (x.absent || x.reserved >= setup_.engine.max_num_seqs || !make_room(d, k, total)) continue;
        best = &x;
        best_group = static_cast<std::int16_t>(d);
        best_rank = static_cast<std::int16_t>(k);
      }
    }
    if (best == nullptr) return false;
    change(*best, [](Rank& x) { ++x.reserved; });
    take_blocks(groups_[static_cast<std::size_t>(best_group)], *best, total);
  }
  hold_prefix(rank, slot, match, out);
  take_blocks(group, rank, prompt);
  change(slot, [&](Slot& s) {
    s.prefill_blocks = prompt;
    s.decode_group = best_group;
    s.decode_rank = best_rank;
    s.decode_blocks = best ? total : 0;
  });
  place_replica(slot);
  return true;
}

/// Frees what a request holds and forgets it.
void InstanceController::release(std::uint32_t index) {
  Slot& slot = slots_[index];
  release_prefix(slot);
  if (slot.prefill_group >= 0) {
    Group& g = groups_[static_cast<std::size_t>(slot.prefill_group)];
    Rank& r = g.ranks[static_cast<std::size_t>(slot.prefill_rank)];
    if (!slot.prefill_done) {
      change(r, [&](Rank& x) { x.queued_tokens -= slot.prompt - slot.prefilled; });
      --g.queued;
    }
    if (slot.prefill_blocks > 0) change(r, [&](Rank& x) { x.blocks_used -= slot.prefill_blocks; });
  }
  if (slot.decode_group >= 0) {
    Group& g = groups_[static_cast<std::size_t>(slot.decode_group)];
    Rank& r = g.ranks[static_cast<std::size_t>(slot.decode_rank)];
    change(r, [&](Rank& x) {
      x.blocks_used -= slot.decode_blocks;
      --x.reserved;
      if (slot.state == State::decoding) {
        --x.sequences;
        x.context_base -= context_at_join(slot);
      }
    });
    if (slot.state == State::decoding) change(g, [](Group& x) { --x.sequences; });
    if (slot.abandoned) --g.abandoned;
  }
  digest_.remove(hash_of(slot));
  forget_chain(slot);
  slot.state = State::free;
  ++slot.generation;
  slot.generation &= 0xfff;
  free_slots_.push_back(index);
  --live_;
}

void InstanceController::prefill_finished(std::uint32_t index, Commands& out) {
  Slot& slot = slots_[index];
  const auto g = static_cast<std::uint32_t>(slot.prefill_group);
  change(slot, [](Slot& s) {
    s.prefill_done = true;
    s.state = State::transferring;
  });
  if (slot.output == 1) {
    out.push_back(NoteFirstToken{slot.request, setup_.id, g});
    end_attempt(index, Cause::none, out);
  } else if (groups_[g].setup.role == GroupRole::both || slot.pushes == 0) {
    kv_arrived(index, out);
  }
}

/// The KV is where decode needs it: the first token goes out, the sequence joins at the next step boundary.
void InstanceController::kv_arrived(std::uint32_t index, Commands& out) {
  Slot& slot = slots_[index];
  const auto d = static_cast<std::uint32_t>(slot.decode_group);
  if (groups_[static_cast<std::size_t>(slot.prefill_group)].setup.role != GroupRole::both) release_prefix(slot);
  if (slot.prefill_blocks > 0) {
    change(groups_[static_cast<std::size_t>(slot.prefill_group)].ranks[static_cast<std::size_t>(slot.prefill_rank)],
           [&](Rank& r) { r.blocks_used -= slot.prefill_blocks; });
    slot.prefill_blocks = 0;
  }
  change(slot, [](Slot& s) { s.state = State::ready; });
  out.push_back(NoteFirstToken{slot.request, setup_.id, d});
  groups_[d].joiners.push_back(handle_of(index));
  if (slot.prefill_group != slot.decode_group) {
    wake(d, out);
    wake(static_cast<std::uint32_t>(slot.prefill_group), out);  // its blocks are free
  }
}

/// Something new to do for a group: start if it is idle, end its decode run at the next boundary if it is not.
void InstanceController::wake(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  if (group.state != GroupState::up) return;
  if (!group.running.valid()) {
    start_next(g, out);
    return;
  }
  if (!group.decode_run || group.interrupted) return;
  if (group.joiners.empty()) {
    // A run need not stop for a prompt that cannot be admitted anyway.
    bool possible = false;
    for (const Rank& r : group.ranks) possible |= !r.queue.empty() && r.reserved < setup_.engine.max_num_seqs;
    if (!possible) return;
  }
  interrupt(g, out);
}

void InstanceController::join(std::uint32_t g) {
  Group& group = groups_[g];
  for (const std::uint32_t handle : group.joiners) {
    const std::uint32_t index = index_of(handle);
    if (index == kUnknownRank || slots_[index].state != State::ready) continue;
    Slot& slot = slots_[index];
    change(slot, [&](Slot& s) {
      s.state = State::decoding;
      s.join_step = group.steps_done;
    });
    change(group.ranks[static_cast<std::size_t>(slot.decode_rank)], [&](Rank& r) {
      ++r.sequences;
      r.context_base += context_at_join(slot);
    });
    change(group, [](Group& x) { ++x.sequences; });
    group.finishes.push_back({group.steps_done + slot.output - slot.base, handle});
    std::push_heap(group.finishes.begin(), group.finishes.end(),
                   [](const Finish& a, const Finish& b) { return a.step > b.step; });
  }
  group.joiners.clear();
}

/// Counts `steps` decode steps and ends the sequences that have all their tokens.
void InstanceController::advance(std::uint32_t g, std::int64_t steps, Commands& out) {
  Group& group = groups_[g];
  change(group, [&](Group& x) { x.steps_done += steps; });
  const auto later = [](const Finish& a, const Finish& b) { return a.step > b.step; };
  while (!group.finishes.empty() && group.finishes.front().step <= group.steps_done) {
    std::pop_heap(group.finishes.begin(), group.finishes.end(), later);
    const std::uint32_t index = index_of(group.finishes.back().handle);
    group.finishes.pop_back();
    if (index == kUnknownRank || slots_[index].state != State::decoding) continue;
    if (slots_[index].abandoned) lose(index, Cause::router_lost, out);
    else end_attempt(index, Cause::none, out);
  }
  // Room downstream may let a prefill group go on.
  if (steps > 0 && group.setup.role != GroupRole::prefill) {
    for (std::uint32_t p = 0; p < groups_.size(); ++p) {
      if (groups_[p].setup.role == GroupRole::prefill && groups_[p].queued > 0 && !groups_[p].running.valid())
        wake(p, out);
    }
  }
}

void InstanceController::start_next(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  if (group.state != GroupState::up || group.running.valid()) return;
  if (!group.pausing.empty()) return pause_now(g, out);
  join(g);
  if (group.queued > 0 && start_prefill(g, out)) return;
  if (group.sequences > 0) start_decode(g, out);
}

void InstanceController::fill_loads(const Group& group, std::vector<model::RankLoad>& loads) const {
  loads.resize(group.ranks.size());
  for (std::size_t r = 0; r < group.ranks.size(); ++r) {
    const Rank& rank = group.ranks[r];
    loads[r] = {rank.sequences, rank.context_base + rank.sequences * group.steps_done};
  }
}

bool InstanceController::start_prefill(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  const EngineSpec& engine = setup_.engine;
  const bool mixed = group.setup.role == GroupRole::both && engine.mixed_prefill && group.sequences > 0;
  RunStep run;
  run.group = g;
  run.epoch = group.epoch;
  for (std::size_t r = 0; r < group.ranks.size(); ++r) {
    Rank& rank = group.ranks[r];
    std::int64_t budget = engine.max_num_batched_tokens - (mixed ? rank.sequences : 0);
    while (!rank.queue.empty() && budget > 0) {
      const std::uint32_t index = index_of(rank.queue.front());
      if (index == kUnknownRank || slots_[index].state != State::queued) {
        rank.queue.pop_front();
        continue;
      }
      Slot& slot = slots_[index];
      const bool admitted = slot.decode_group >= 0 || slot.prefill_blocks > 0;
      std::int64_t rest = slot.prompt - slot.prefilled;
      if (!admitted && slot.chain != kUnknownRank) rest -= cached(rank, slot).blocks * engine.block_tokens;
      const bool first_here = budget == engine.max_num_batched_tokens - (mixed ? rank.sequences : 0);
      if (!engine.chunked_prefill && rest > budget && !first_here) break;
      if (!admitted && !admit(g, static_cast<std::int32_t>(r), slot, out)) break;
      rest = slot.prompt - slot.prefilled;
      const std::int64_t tokens = engine.chunked_prefill ? std::min(rest, budget) : rest;
      run.items.push_back({static_cast<std::int32_t>(r), tokens, slot.prefilled});
      group.chunks.push_back({handle_of(index), static_cast<std::int32_t>(tokens)});
      change(slot, [](Slot& s) { s.state = State::prefilling; });
      rank.queue.pop_front();
      budget -= tokens;
      if (tokens < rest) break;
    }
  }
  if (run.items.empty()) return false;
  run.op = next_op();
  change(group, [&](Group& x) {
    x.running = run.op;
    x.with_decode = mixed;
  });
  if (mixed) fill_loads(group, run.loads);
  if (group.setup.role == GroupRole::prefill) {
    for (const Chunk& chunk : group.chunks) {
      const std::uint32_t index = index_of(chunk.handle);
      Slot& slot = slots_[index];
      if (slot.output == 1) continue;
      change(slot, [](Slot& s) { ++s.pushes; });
      const Group& to = groups_[static_cast<std::size_t>(slot.decode_group)];
      PushKv push;
      push.op = next_op();
      push.step = run.op;
      push.slot = chunk.handle;
      push.from_group = g;
      push.from_rank = static_cast<std::uint32_t>(slot.prefill_rank);
      push.to_group = static_cast<std::uint32_t>(slot.decode_group);
      push.to_rank = static_cast<std::uint32_t>(slot.decode_rank);
      push.to_node = to.setup.node_of(slot.decode_rank);
      push.from_epoch = group.epoch;
      push.to_epoch = to.epoch;
      // The decode side has none of it: with the first chunk goes what was cached before it.
      push.bytes =
          setup_.kv_bytes_per_token * (chunk.tokens + (slot.prefilled == slot.cached ? std::int64_t{slot.cached} : 0));
      out.push_back(Send{{Role::node, group.setup.node_of(slot.prefill_rank)}, push});
    }
  }
  out.push_back(Send{{Role::node, group.head}, std::move(run)});
  return true;
}

void InstanceController::start_decode(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  RunStep run;
  run.op = next_op();
  run.group = g;
  run.epoch = group.epoch;
  run.steps_max = group.finishes.front().step - group.steps_done;
  fill_loads(group, run.loads);
  change(group, [&](Group& x) {
    x.running = run.op;
    x.decode_run = x.with_decode = true;
  });
  out.push_back(Send{{Role::node, group.head}, std::move(run)});
}

void InstanceController::check() const {
  std::vector<std::vector<std::int64_t>> blocks(groups_.size());
  std::vector<std::vector<std::int64_t>> sequences(groups_.size());
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    blocks[g].resize(groups_[g].ranks.size());
    sequences[g].resize(groups_[g].ranks.size());
  }
  std::size_t live = 0;
  check_caches();
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t r = 0; r < groups_[g].ranks.size(); ++r) {
      if (groups_[g].ranks[r].cache) blocks[g][r] += groups_[g].ranks[r].cache->busy();
    }
  }
  for (const auto& [op, r] : replicas_) blocks[r.to_group][static_cast<std::size_t>(r.to_rank)] += r.held;
  for (const Slot& s : slots_) {
    if (s.state == State::free) continue;
    ++live;
    if (s.replica_group >= 0)
      blocks[static_cast<std::size_t>(s.replica_group)][static_cast<std::size_t>(s.replica_rank)] += s.replica_blocks;
    if (s.prefill_blocks > 0)
      blocks[static_cast<std::size_t>(s.prefill_group)][static_cast<std::size_t>(s.prefill_rank)] += s.prefill_blocks;
    if (s.decode_group >= 0) {
      blocks[static_cast<std::size_t>(s.decode_group)][static_cast<std::size_t>(s.decode_rank)] += s.decode_blocks;
      if (s.state == State::decoding)
        ++sequences[static_cast<std::size_t>(s.decode_group)][static_cast<std::size_t>(s.decode_rank)];
    }
  }
  FAULTLINE_ASSERT(live == live_, "live={} counted={}", live_, live);
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t r = 0; r < groups_[g].ranks.size(); ++r) {
      const Rank& rank = groups_[g].ranks[r];
      FAULTLINE_ASSERT(rank.blocks_used == blocks[g][r], "group={} rank={} used={} held={}", g, r, rank.blocks_used,
                       blocks[g][r]);
      FAULTLINE_ASSERT(rank.blocks_used <= groups_[g].setup.kv_blocks_per_rank, "group={} rank={}", g, r);
      FAULTLINE_ASSERT(rank.sequences == sequences[g][r], "group={} rank={}", g, r);
      FAULTLINE_ASSERT(rank.queued_tokens >= 0, "group={} rank={} queued={}", g, r, rank.queued_tokens);
    }
  }
}

}  // namespace faultline::control
