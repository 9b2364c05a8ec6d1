// Copies of the KV of decoding sequences on a neighbour: where the copy of a sequence goes, what is sent when, and how
// a sequence goes on from its copy when its rank is lost.
//
// Every `interval` a group stops at a step boundary, and each of its ranks pushes the whole blocks that are new since
// the last push: one push a pair of ranks, over the same network as hand-offs. A copy takes KV blocks of the rank that
// holds it, reserved with the request (as many as the original, so that it can take over in place); where there is no
// room the request goes without, and a request that finds no other room takes that of copies. A sequence that goes on
// from its copy makes the tokens anew that its last blocks did not hold, one a step like any other; the client has them
// already.
#include <algorithm>
#include <tuple>

#include "core/base/assert.h"
#include "core/control/instance.h"

namespace faultline::control {
namespace {
constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
}

std::uint64_t InstanceController::hash_of(OpId op, const Replica& r) const {
  return entry_hash(17, op.v, r.from_group, r.to_group, r.from_rank, r.to_rank, r.parts.size(), r.bytes.v, r.held);
}

/// The neighbour: a rank of another group on another node, else one of the same group on another node, else any other;
/// of these the one with the fewest copies, then the next in the ring. With no room anywhere there is no copy.
void InstanceController::place_replica(Slot& slot) {
  if (!setup_.replication.enabled || slot.decode_group < 0) return;
  const Group& home = groups_[static_cast<std::size_t>(slot.decode_group)];
  const std::uint32_t node = home.setup.node_of(slot.decode_rank);
  const std::int32_t blocks = blocks_for(std::int64_t{slot.prompt} + slot.output);
  std::tuple<int, std::int64_t, std::size_t> best;
  std::int16_t best_group = -1, best_rank = -1;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const bool same_group = &group == &home;
    if (group.setup.role == GroupRole::prefill || (group.state != GroupState::up && !same_group)) continue;
    const auto room = static_cast<std::int64_t>(setup_.replication.memory_share *
                                                static_cast<double>(group.setup.kv_blocks_per_rank));
    for (std::size_t r = 0; r < group.ranks.size(); ++r) {
      const Rank& rank = group.ranks[r];
      if (rank.absent || (same_group && static_cast<std::int16_t>(r) == slot.decode_rank)) continue;
      if (rank.blocks_used + blocks > group.setup.kv_blocks_per_rank || rank.copies + blocks > room) continue;
      const bool same_node = group.setup.node_of(static_cast<std::int32_t>(r)) == node;
      const std::size_t ring =
          (r + group.ranks.size() - static_cast<std::size_t>(slot.decode_rank) % group.ranks.size()) %
          group.ranks.size();
      const std::tuple key{same_node ? 2 : same_group ? 1 : 0, rank.copies, ring};
      if (best_group >= 0 && key >= best) continue;
      best = key;
      best_group = static_cast<std::int16_t>(g);
      best_rank = static_cast<std::int16_t>(r);
    }
  }
  if (best_group < 0) return;
  Group& there = groups_[static_cast<std::size_t>(best_group)];
  Rank& holder = there.ranks[static_cast<std::size_t>(best_rank)];
  change(holder, [&](Rank& r) { r.copies += blocks; });
  take_blocks(there, holder, blocks);
  change(slot, [&](Slot& s) {
    s.replica_group = best_group;
    s.replica_rank = best_rank;
    s.replica_blocks = blocks;
    s.replicated = 0;
  });
}

/// Frees the copy's blocks, or leaves them to the push that still writes there.
void InstanceController::drop_replica(Slot& slot) {
  if (slot.replica_group < 0) return;
  const auto under_way = slot.replica_op.valid() ? replicas_.find(slot.replica_op) : replicas_.end();
  if (under_way != replicas_.end()) {
    digest_.remove(hash_of(under_way->first, under_way->second));
    under_way->second.held += slot.replica_blocks;
    digest_.add(hash_of(under_way->first, under_way->second));
  } else {
    change(groups_[static_cast<std::size_t>(slot.replica_group)].ranks[static_cast<std::size_t>(slot.replica_rank)],
           [&](Rank& r) {
             r.blocks_used -= slot.replica_blocks;
             r.copies -= slot.replica_blocks;
           });
  }
  change(slot, [](Slot& s) {
    s.replica_group = s.replica_rank = -1;
    s.replica_blocks = s.replicated = 0;
    s.replica_op = OpId{};
  });
}

/// Those with the fewest tokens go first: they save least. A copy that is being written stays.
bool InstanceController::make_room(std::size_t g, std::size_t rank_index, std::int32_t blocks) {
  const Group& group = groups_[g];
  const Rank& rank = group.ranks[rank_index];
  std::int64_t lacking = rank.blocks_used + std::int64_t{blocks} - group.setup.kv_blocks_per_rank;
  if (lacking <= 0) return true;
  if (rank.copies < lacking) return false;
  std::vector<std::pair<std::int32_t, std::uint32_t>> held;  // tokens there, slot
  std::int64_t idle = 0;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& s = slots_[i];
    if (s.state == State::free || s.replica_group != static_cast<std::int16_t>(g) ||
        s.replica_rank != static_cast<std::int16_t>(rank_index) || s.replica_op.valid())
      continue;
    held.emplace_back(s.replicated, i);
    idle += s.replica_blocks;
  }
  if (idle < lacking) return false;
  std::sort(held.begin(), held.end());
  for (const auto& [tokens, i] : held) {
    if (lacking <= 0) break;
    lacking -= slots_[i].replica_blocks;
    drop_replica(slots_[i]);
  }
  return true;
}

/// Ranks are lost (all of the group where `gone` is empty): with them the pushes from and to them, and the copies that
/// they held.
void InstanceController::drop_replicas(std::uint32_t g, const std::vector<bool>& gone) {
  if (!setup_.replication.enabled) return;
  change(groups_[g], [](Group& x) { x.replicate = false; });
  const auto lost = [&](std::uint32_t group, std::int16_t rank) {
    return group == g && (gone.empty() || gone[static_cast<std::size_t>(rank)]);
  };
  for (auto it = replicas_.begin(); it != replicas_.end();) {
    const Replica& r = it->second;
    if (!lost(r.from_group, r.from_rank) && !lost(r.to_group, r.to_rank)) {
      ++it;
      continue;
    }
    for (const Replica::Part& part : r.parts) {
      if (const std::uint32_t index = index_of(part.handle); index != kNoSlot && slots_[index].replica_op == it->first)
        change(slots_[index], [](Slot& s) { s.replica_op = OpId{}; });
    }
    change(groups_[r.to_group].ranks[static_cast<std::size_t>(r.to_rank)], [&](Rank& x) {
      x.blocks_used -= r.held;
      x.copies -= r.held;
    });
    digest_.remove(hash_of(it->first, r));
    it = replicas_.erase(it);
  }
  for (Slot& s : slots_) {
    if (s.state == State::free || s.replica_group < 0 ||
        !lost(static_cast<std::uint32_t>(s.replica_group), s.replica_rank))
      continue;
    drop_replica(s);
    const bool stays = s.decode_group >= 0 && !lost(static_cast<std::uint32_t>(s.decode_group), s.decode_rank);
    if (stays && s.state != State::zombie) place_replica(s);  // it begins anew elsewhere, if another rank has room
  }
}

/// The groups that decode stop at their next boundary: how far their sequences are is known only there.
void InstanceController::replicate_soon(Commands& out) {
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    if (group.state != GroupState::up || !group.running.valid() || !group.with_decode) continue;
    const bool stop = group.decode_run && !group.interrupted;
    change(group, [&](Group& x) {
      x.replicate = true;
      x.interrupted |= stop;
    });
    if (stop) out.push_back(Send{{Role::node, group.head}, InterruptRun{group.running, g}});
  }
}

void InstanceController::replicate(std::uint32_t g, Commands& out) {
  Group& group = groups_[g];
  change(group, [](Group& x) { x.replicate = false; });
  std::map<std::tuple<std::int16_t, std::int16_t, std::int16_t>, Replica> pushes;  // from rank, to group, to rank
  const std::int64_t block = setup_.engine.block_tokens;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& s = slots_[i];
    if (s.state != State::decoding || s.decode_group != static_cast<std::int16_t>(g) || s.replica_group < 0 ||
        s.replica_op.valid() || groups_[static_cast<std::size_t>(s.replica_group)].state != GroupState::up)
      continue;
    const auto whole = static_cast<std::int32_t>((context_at_join(s) + group.steps_done) / block * block);
    if (whole <= s.replicated) continue;
    Replica& r = pushes[{s.decode_rank, s.replica_group, s.replica_rank}];
    r.parts.push_back({handle_of(i), whole});
    r.bytes = r.bytes + setup_.kv_bytes_per_token * (whole - s.replicated);
  }
  for (auto& [key, r] : pushes) {
    r.from_group = g;
    r.from_rank = std::get<0>(key);
    r.to_group = static_cast<std::uint32_t>(std::get<1>(key));
    r.to_rank = std::get<2>(key);
    const Group& to = groups_[r.to_group];
    PushKv push;
    push.op = next_op();
    push.slot = kNoSlot;
    push.from_group = g;
    push.from_rank = static_cast<std::uint32_t>(r.from_rank);
    push.to_group = r.to_group;
    push.to_rank = static_cast<std::uint32_t>(r.to_rank);
    push.to_node = to.setup.node_of(r.to_rank);
    push.from_epoch = group.epoch;
    push.to_epoch = to.epoch;
    push.bytes = r.bytes;
    for (const Replica::Part& part : r.parts)
      change(slots_[index_of(part.handle)], [&](Slot& s) { s.replica_op = push.op; });
    out.push_back(Send{{Role::node, group.setup.node_of(r.from_rank)}, push});
    digest_.add(hash_of(push.op, r));
    replicas_.emplace(push.op, std::move(r));
  }
}

/// True where the report is of a copy. What failed is sent again with the next interval's.
bool InstanceController::replica_reported(const KvReport& report, Commands& out) {
  if (report.slot != kNoSlot) return false;
  const auto it = replicas_.find(report.op);
  if (it == replicas_.end()) return true;  // an end of it was lost meanwhile
  const Replica r = std::move(it->second);
  digest_.remove(hash_of(it->first, r));
  replicas_.erase(it);
  const bool there = report.cause == Cause::none;
  for (const Replica::Part& part : r.parts) {
    const std::uint32_t index = index_of(part.handle);
    if (index == kNoSlot || slots_[index].replica_op != report.op) continue;
    change(slots_[index], [&](Slot& s) {
      s.replica_op = OpId{};
      if (there) s.replicated = part.tokens;
    });
  }
  if (r.held > 0) {
    change(groups_[r.to_group].ranks[static_cast<std::size_t>(r.to_rank)], [&](Rank& x) {
      x.blocks_used -= r.held;
      x.copies -= r.held;
    });
    wake_idle(out);
  }
  if (there) out.push_back(NoteReplicated{setup_.id, r.bytes});
  return true;
}

/// It decodes no more where it did.
void InstanceController::leave_batch(const Slot& slot) {
  Group& g = groups_[static_cast<std::size_t>(slot.decode_group)];
  change(g.ranks[static_cast<std::size_t>(slot.decode_rank)], [&](Rank& r) {
    r.blocks_used -= slot.decode_blocks;
    --r.reserved;
    --r.sequences;
    r.context_base -= context_at_join(slot);
  });
  change(g, [](Group& x) { --x.sequences; });
}

/// Its rank is lost, its copy is not: it goes on where the copy is.
bool InstanceController::resume(std::uint32_t index, Commands& out) {
  Slot& slot = slots_[index];
  if (slot.abandoned || slot.state != State::decoding || slot.replica_group < 0 || slot.replicated == 0) return false;
  Group& to = groups_[static_cast<std::size_t>(slot.replica_group)];
  Rank& rank = to.ranks[static_cast<std::size_t>(slot.replica_rank)];
  if (to.state == GroupState::fenced || rank.absent || rank.reserved >= setup_.engine.max_num_seqs) return false;
  FAULTLINE_ASSERT(!slot.replica_op.valid(), "request={} pushes from a lost rank", slot.request.v);
  release_prefix(slot);
  leave_batch(slot);
  change(rank, [&](Rank& r) {
    ++r.reserved;
    r.copies -= slot.replica_blocks;
  });
  const std::int32_t had = produced(slot);
  change(slot, [&](Slot& s) {
    s.had = had;
    s.base = s.replicated - s.prompt + 1;
    s.decode_group = s.replica_group;
    s.decode_rank = s.replica_rank;
    s.decode_blocks = s.replica_blocks;
    s.replica_group = s.replica_rank = -1;
    s.replica_blocks = s.replicated = 0;
    s.state = State::ready;
    s.generation = static_cast<std::uint16_t>((s.generation + 1) & 0xfff);  // the lost rank's group forgets it
  });
  to.joiners.push_back(handle_of(index));
  place_replica(slot);
  out.push_back(NoteResumed{slot.request, setup_.id, had, had - slot.base});
  return true;
}

}  // namespace faultline::control
