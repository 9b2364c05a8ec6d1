// Prefix cache of one rank: KV blocks of prompts stay after their request has left and serve the next one that begins
// with the same tokens, until somebody needs the blocks (automatic prefix caching of vLLM, radix cache of SGLang).
//
// What a prompt is made of is known by its chain: ids of prefix blocks of P tokens, the first k of which are equal
// exactly where the first k * P tokens are (a trace's ids; P need not be a multiple of the engine's block B). An entry
// holds the engine blocks whose last token lies in one prefix block, and its key is the hash of the chain up to there,
// so that a block is found only behind all the blocks before it. Only full engine blocks are kept.
//
//   busy: referenced by a request, counted with the rank's blocks in use      idle: kept for later, free for the taking
//
// Least recently used goes first, of one request's chain the tail, block by block. A request references the leading
// part of its chain; an entry that is referenced is not evicted, and whoever references it references what is before
// it. So no entry outlives the one before it. A 64-bit key stands for the tokens: collisions are not looked for.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/control/digest.h"

namespace faultline::control {

/// A request's chain, as a cache needs it.
struct CacheChain {
  std::vector<std::uint64_t> keys;  // of the chain up to each prefix block
  std::int64_t prefix_tokens = 1;   // P
  std::int64_t tokens = 0;          // of the prompt that the chain describes; the last prefix block may be cut
  void assign(std::span<const std::uint32_t> ids, std::int64_t prefix_block_tokens, std::int64_t described);
};
/// What a request holds of a cache.
struct CacheHold {
  std::int32_t keys = 0;    // leading entries of its chain that it references
  std::int32_t blocks = 0;  // leading engine blocks of its prompt that are in them
  friend bool operator==(const CacheHold&, const CacheHold&) = default;
};

class PrefixCache {
 public:
  explicit PrefixCache(std::int64_t block_tokens, std::uint64_t id) : block_(block_tokens), id_(id) {}

  struct Match {
    std::int32_t blocks = 0;  // leading blocks of the prompt that are here
    std::int64_t idle = 0;    // blocks that become busy by holding them
  };
  /// The longest leading part of the chain, at most `most` blocks. An entry is held as a whole; with `whole`, only such
  /// as are needed as a whole: holding them takes no block that the request would not need without them.
  Match match(const CacheChain& chain, std::int64_t most, bool whole = false) const;
  /// References what match() found. The blocks that become busy are the caller's to count.
  void hold(const CacheChain& chain, const Match& match, CacheHold& hold, Digest& digest);
  /// The first `tokens` of the prompt are computed: its full blocks go from the request to the cache. Returns how many
  /// of them were there already, made by another request meanwhile: those are not needed twice and are free now.
  std::int64_t grow(const CacheChain& chain, std::int64_t tokens, CacheHold& hold, Digest& digest);
  /// The request leaves. Returns the blocks that nobody references any more.
  std::int64_t release(const CacheChain& chain, CacheHold& hold, Digest& digest);
  /// Frees `blocks` idle blocks. Precondition: blocks <= idle().
  void evict(std::int64_t blocks, Digest& digest);
  /// The rank's memory is gone. Returns its idle blocks. Precondition: nobody references any.
  std::int64_t clear(Digest& digest);

  std::int64_t idle() const { return idle_; }
  std::int64_t busy() const { return busy_; }
  std::int64_t references() const { return references_; }  // requests that hold an entry, over all entries
  /// Entries that `hold` references.
  std::int64_t entries_of(const CacheChain& chain, const CacheHold& hold) const;
  void add_to(Digest& digest) const;
  /// Sums over the entries are what is counted, and idle entries are in the order of their use.
  void check() const;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Entry {
    std::uint64_t key = 0, used = 0;  // used: place in the order of last use, once idle
    std::int32_t blocks = 0;          // resident; 0: the entry is free
    std::uint32_t references = 0;
    std::uint32_t older = kNone, newer = kNone;  // idle ones
  };
  /// Engine blocks whose last token is before the end of the first `keys` prefix blocks.
  std::int64_t blocks_before(const CacheChain& chain, std::int64_t keys) const;
  void reference(std::uint32_t e, Digest& digest);
  void unlink(Entry& e);
  void erase(std::uint32_t e);
  std::uint64_t hash_of(const Entry& e) const { return entry_hash(19, id_, e.key, e.used, e.blocks, e.references); }

  std::int64_t block_;
  std::uint64_t id_;  // in the digest
  std::unordered_map<std::uint64_t, std::uint32_t> entry_of_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
  std::uint32_t oldest_ = kNone, newest_ = kNone;
  std::uint64_t uses_ = 0;
  std::int64_t idle_ = 0, busy_ = 0, references_ = 0;
};

}  // namespace faultline::control
