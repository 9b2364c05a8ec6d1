#include "core/control/prefix_cache.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/base/hash.h"

namespace faultline::control {

void CacheChain::assign(std::span<const std::uint32_t> ids, std::int64_t prefix_block_tokens, std::int64_t described) {
  prefix_tokens = prefix_block_tokens;
  tokens = std::min(described, static_cast<std::int64_t>(ids.size()) * prefix_block_tokens);
  keys.clear();
  std::uint64_t h = static_cast<std::uint64_t>(prefix_block_tokens);
  for (const std::uint32_t id : ids) keys.push_back(h = hash_combine(h, id));
}

std::int64_t PrefixCache::blocks_before(const CacheChain& chain, std::int64_t keys) const {
  return std::min(keys * chain.prefix_tokens, chain.tokens) / block_;
}

PrefixCache::Match PrefixCache::match(const CacheChain& chain, std::int64_t most, bool whole) const {
  Match m;
  std::int64_t before = 0;
  for (std::size_t k = 0; k < chain.keys.size() && before < most; ++k) {
    const std::int64_t after = blocks_before(chain, static_cast<std::int64_t>(k) + 1);
    if (after == before) continue;  // no engine block ends in this prefix block
    const auto it = entry_of_.find(chain.keys[k]);
    if (it == entry_of_.end()) break;
    const Entry& e = entries_[it->second];
    const std::int64_t here = std::min({std::int64_t{e.blocks}, after - before, most - before});
    if (whole && here < e.blocks) break;
    if (e.references == 0) m.idle += e.blocks;
    m.blocks += static_cast<std::int32_t>(here);
    if (here < after - before) break;
    before = after;
  }
  return m;
}

void PrefixCache::reference(std::uint32_t index, Digest& digest) {
  Entry& e = entries_[index];
  const std::uint64_t was = hash_of(e);
  if (e.references++ == 0) {
    unlink(e);
    idle_ -= e.blocks;
    busy_ += e.blocks;
  }
  ++references_;
  digest.replace(was, hash_of(e));
}

void PrefixCache::hold(const CacheChain& chain, const Match& match, CacheHold& hold, Digest& digest) {
  FAULTLINE_ASSERT(hold == CacheHold{}, "keys={} blocks={}", hold.keys, hold.blocks);
  for (std::int64_t before = 0; before < match.blocks; ++hold.keys) {
    const std::int64_t after = blocks_before(chain, hold.keys + 1);
    if (after > before) reference(entry_of_.at(chain.keys[static_cast<std::size_t>(hold.keys)]), digest);
    before = after;
  }
  hold.blocks = match.blocks;
}

std::int64_t PrefixCache::grow(const CacheChain& chain, std::int64_t tokens, CacheHold& hold, Digest& digest) {
  const std::int64_t full = std::min(tokens, chain.tokens) / block_;
  std::int64_t twice = 0;
  for (std::int64_t k = std::max(0, hold.keys - 1); hold.blocks < full; ++k) {
    const std::int64_t before = blocks_before(chain, k), after = std::min(full, blocks_before(chain, k + 1));
    if (after > hold.blocks) {
      const std::uint64_t key = chain.keys[static_cast<std::size_t>(k)];
      const auto [it, fresh] = entry_of_.try_emplace(key, kNone);
      if (fresh) {
        if (free_.empty()) {
          it->second = static_cast<std::uint32_t>(entries_.size());
          entries_.emplace_back();
        } else {
          it->second = free_.back();
          free_.pop_back();
        }
        entries_[it->second] = Entry{.key = key, .blocks = 0, .references = 1};
        digest.add(hash_of(entries_[it->second]));
        ++references_;
      } else if (k >= hold.keys) {
        // Idle blocks that it wakes stand for its own, which it gives back: they count as made twice below.
        const Entry& e = entries_[it->second];
        const std::int64_t woken = e.references == 0 ? e.blocks : 0;
        reference(it->second, digest);
        twice -= woken;
      }
      Entry& e = entries_[it->second];
      const std::uint64_t was = hash_of(e);
      const std::int64_t here = after - before;  // blocks of the entry that are computed now
      const std::int64_t from = std::max(hold.blocks - before, std::int64_t{0});  // of them held already
      twice += std::max<std::int64_t>(0, std::min<std::int64_t>(here, e.blocks) - from);
      if (here > e.blocks) {
        busy_ += here - e.blocks;
        e.blocks = static_cast<std::int32_t>(here);
      }
      digest.replace(was, hash_of(e));
      hold.blocks = static_cast<std::int32_t>(after);
    }
    hold.keys = std::max(hold.keys, static_cast<std::int32_t>(k + 1));
  }
  return twice;
}

std::int64_t PrefixCache::release(const CacheChain& chain, CacheHold& hold, Digest& digest) {
  std::int64_t freed = 0;
  for (std::int64_t k = hold.keys - 1; k >= 0; --k) {  // the tail is the first to go
    if (blocks_before(chain, k + 1) == blocks_before(chain, k)) continue;
    const auto it = entry_of_.find(chain.keys[static_cast<std::size_t>(k)]);
    FAULTLINE_ASSERT(it != entry_of_.end(), "key {} of {} is not there", k, hold.keys);
    Entry& e = entries_[it->second];
    const std::uint64_t was = hash_of(e);
    --references_;
    if (--e.references == 0) {
      e.used = ++uses_;
      e.older = newest_;
      e.newer = kNone;
      (newest_ == kNone ? oldest_ : entries_[newest_].newer) = it->second;
      newest_ = it->second;
      busy_ -= e.blocks;
      idle_ += e.blocks;
      freed += e.blocks;
    }
    digest.replace(was, hash_of(e));
  }
  hold = {};
  return freed;
}

void PrefixCache::unlink(Entry& e) {
  (e.older == kNone ? oldest_ : entries_[e.older].newer) = e.newer;
  (e.newer == kNone ? newest_ : entries_[e.newer].older) = e.older;
  e.older = e.newer = kNone;
}

void PrefixCache::erase(std::uint32_t index) {
  entry_of_.erase(entries_[index].key);
  entries_[index] = {};
  free_.push_back(index);
}

void PrefixCache::evict(std::int64_t blocks, Digest& digest) {
  FAULTLINE_ASSERT(blocks <= idle_, "blocks={} idle={}", blocks, idle_);
  idle_ -= std::max<std::int64_t>(0, blocks);
  while (blocks > 0) {
    Entry& e = entries_[oldest_];
    const std::int64_t here = std::min<std::int64_t>(blocks, e.blocks);
    blocks -= here;
    digest.remove(hash_of(e));
    e.blocks -= static_cast<std::int32_t>(here);
    if (e.blocks > 0) {
      digest.add(hash_of(e));
    } else {
      const std::uint32_t index = oldest_;
      unlink(e);
      erase(index);
    }
  }
}

std::int64_t PrefixCache::clear(Digest& digest) {
  FAULTLINE_ASSERT(references_ == 0, "references={}", references_);
  const std::int64_t lost = idle_;
  for (const Entry& e : entries_) {
    if (e.blocks > 0) digest.remove(hash_of(e));
  }
  entry_of_.clear();
  entries_.clear();
  free_.clear();
  oldest_ = newest_ = kNone;
  idle_ = 0;
  return lost;
}

std::int64_t PrefixCache::entries_of(const CacheChain& chain, const CacheHold& hold) const {
  std::int64_t entries = 0;
  for (std::int64_t k = 0; k < hold.keys; ++k) entries += blocks_before(chain, k + 1) > blocks_before(chain, k);
  return entries;
}

void PrefixCache::add_to(Digest& digest) const {
  for (const Entry& e : entries_) {
    if (e.blocks > 0) digest.add(hash_of(e));
  }
}

void PrefixCache::check() const {
  std::int64_t idle = 0, busy = 0, references = 0;
  for (const Entry& e : entries_) {
    (e.references > 0 ? busy : idle) += e.blocks;
    references += e.references;
  }
  FAULTLINE_ASSERT(idle == idle_ && busy == busy_ && references == references_,
                   "idle={} {} busy={} {} references={} {}", idle, idle_, busy, busy_, references, references_);
  std::int64_t in_order = 0;
  for (std::uint32_t i = oldest_; i != kNone; i = entries_[i].newer) {
    const Entry& e = entries_[i];
    FAULTLINE_ASSERT(e.references == 0 && (e.newer == kNone || entries_[e.newer].used > e.used), "used={}", e.used);
    in_order += e.blocks;
  }
  FAULTLINE_ASSERT(in_order == idle_, "idle={} in order={}", idle_, in_order);
}

}  // namespace faultline::control
