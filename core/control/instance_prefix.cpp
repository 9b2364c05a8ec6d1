// Prompts that begin like earlier ones: what of a prompt is in its prefill rank's cache, and who holds it.
//
// A request looks when it is admitted. The leading blocks that are there are not computed again (the first chunk begins
// behind them and attends to them); at least one token always is. Its own blocks go to the cache as they are computed,
// full ones only, at the end of their step. It lets go when its prompt's blocks are freed: with the hand-off, or with
// its end where one group does both roles. What nobody holds stays until the rank needs the blocks, or is lost.
#include <algorithm>

#include "core/base/assert.h"
#include "core/control/instance.h"

namespace faultline::control {

void InstanceController::take_chain(Slot& slot, const PrefixChain& prefix) {
  if (!setup_.engine.prefix_cache || prefix.blocks.empty() || prefix.block_tokens == 0) return;
  if (free_chains_.empty()) {
    slot.chain = static_cast<std::uint32_t>(chains_.size());
    chains_.emplace_back();
  } else {
    slot.chain = free_chains_.back();
    free_chains_.pop_back();
  }
  chains_[slot.chain].assign(prefix.blocks, prefix.block_tokens, std::min(prefix.tokens, slot.prompt));
}

void InstanceController::forget_chain(Slot& slot) {
  if (slot.chain == kUnknownRank) return;
  free_chains_.push_back(slot.chain);
  slot.chain = kUnknownRank;
}

PrefixCache::Match InstanceController::cached(const Rank& rank, const Slot& slot, bool whole) const {
  if (slot.chain == kUnknownRank || !rank.cache) return {};
  // The last token is always computed: its logits are the first output token.
  return rank.cache->match(chains_[slot.chain], (slot.prompt - 1) / setup_.engine.block_tokens, whole);
}

/// Whatever takes blocks takes those that are only kept for later. Precondition: they are free or idle.
void InstanceController::take_blocks(Group& group, Rank& rank, std::int64_t blocks) {
  change(rank, [&](Rank& r) { r.blocks_used += blocks; });
  if (!rank.cache) return;
  const std::int64_t short_of = rank.blocks_used + rank.cache->idle() - group.setup.kv_blocks_per_rank;
  if (short_of <= 0) return;
  rank.cache->evict(short_of, digest_);
  evicted_ += short_of;
}

/// Of an admitted request; its own blocks are taken without those of the match.
void InstanceController::hold_prefix(Rank& rank, Slot& slot, const PrefixCache::Match& match, Commands& out) {
  if (slot.chain == kUnknownRank) return;
  const auto tokens = static_cast<std::int32_t>(match.blocks * setup_.engine.block_tokens);
  if (match.blocks > 0) {
    change(slot, [&](Slot& s) {
      rank.cache->hold(chains_[s.chain], match, s.hold, digest_);
      s.cached = s.prefilled = tokens;
    });
    change(rank, [&](Rank& r) {
      r.blocks_used += match.idle;
      r.queued_tokens -= tokens;
    });
  }
  out.push_back(NotePrefixCache{.request = slot.request, .instance = setup_.id, .asked = slot.prompt, .hit = tokens});
}

/// Some of its prompt is computed: the full blocks are there for others from now on.
void InstanceController::grow_prefix(Slot& slot) {
  if (slot.chain == kUnknownRank) return;
  Group& group = groups_[static_cast<std::size_t>(slot.prefill_group)];
  const auto r = static_cast<std::size_t>(slot.prefill_rank);
  Rank& rank = group.ranks[r];
  if (!rank.cache)
    rank.cache = std::make_unique<PrefixCache>(
        setup_.engine.block_tokens,
        (static_cast<std::uint64_t>(static_cast<std::uint16_t>(slot.prefill_group)) << 32) | r);
  const std::int32_t before = slot.hold.blocks;
  std::int64_t twice = 0;
  change(slot, [&](Slot& s) {
    twice = rank.cache->grow(chains_[s.chain], s.prefilled, s.hold, digest_);
    (group.setup.role == GroupRole::both ? s.decode_blocks : s.prefill_blocks) -= s.hold.blocks - before;
  });
  change(rank, [&](Rank& x) { x.blocks_used -= twice; });
}

void InstanceController::release_prefix(Slot& slot) {
  if (slot.hold.keys == 0) return;
  Rank& rank = groups_[static_cast<std::size_t>(slot.prefill_group)].ranks[static_cast<std::size_t>(slot.prefill_rank)];
  std::int64_t freed = 0;
  change(slot, [&](Slot& s) { freed = rank.cache->release(chains_[s.chain], s.hold, digest_); });
  change(rank, [&](Rank& x) { x.blocks_used -= freed; });
}

/// The memory of ranks is gone (of all of the group where `gone` is empty), and with it what was kept for later. What
/// requests held is lost with them.
void InstanceController::lose_cache(std::uint32_t g, const std::vector<bool>& gone, Commands& out) {
  std::int64_t lost = 0;
  for (std::size_t r = 0; r < groups_[g].ranks.size(); ++r) {
    Rank& rank = groups_[g].ranks[r];
    if (rank.cache && (gone.empty() || gone[r])) lost += rank.cache->clear(digest_);
  }
  if (lost > 0)
    out.push_back(
        NotePrefixCache{.request = RequestId{}, .instance = setup_.id, .lost = lost * setup_.engine.block_tokens});
}

/// Every reference is some request's, and what is used and what is kept fit into the rank.
void InstanceController::check_caches() const {
  std::vector<std::vector<std::int64_t>> references(groups_.size());
  for (std::size_t g = 0; g < groups_.size(); ++g) references[g].resize(groups_[g].ranks.size());
  for (const Slot& s : slots_) {
    if (s.state == State::free || s.hold.keys == 0) continue;
    const Rank& rank =
        groups_[static_cast<std::size_t>(s.prefill_group)].ranks[static_cast<std::size_t>(s.prefill_rank)];
    references[static_cast<std::size_t>(s.prefill_group)][static_cast<std::size_t>(s.prefill_rank)] +=
        rank.cache->entries_of(chains_[s.chain], s.hold);
  }
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t r = 0; r < groups_[g].ranks.size(); ++r) {
      const Rank& rank = groups_[g].ranks[r];
      if (!rank.cache) continue;
      rank.cache->check();
      FAULTLINE_ASSERT(rank.cache->references() == references[g][r], "group={} rank={} references={} held={}", g, r,
                       rank.cache->references(), references[g][r]);
      FAULTLINE_ASSERT(rank.blocks_used + rank.cache->idle() <= groups_[g].setup.kv_blocks_per_rank,
                       "group={} rank={} used={} kept={}", g, r, rank.blocks_used, rank.cache->idle());
    }
  }
}

}  // namespace faultline::control
