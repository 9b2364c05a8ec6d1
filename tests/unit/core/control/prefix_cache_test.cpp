#include "core/control/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "core/base/random.h"

namespace faultline::control {
namespace {

using Ids = std::vector<std::uint32_t>;

/// A cache of 16-token blocks, its digest compared with the full one after every change.
struct Cache {
  PrefixCache cache{16, 7};
  Digest digest;

  static CacheChain chain(const Ids& ids, std::int64_t prompt, std::int64_t prefix_tokens = 32) {
    CacheChain c;
    c.assign(ids, prefix_tokens, prompt);
    return c;
  }
  CacheHold hold(const CacheChain& c, std::int64_t most = 1'000) {
    CacheHold h;
    cache.hold(c, cache.match(c, most), h, digest);
    verify();
    return h;
  }
  std::int64_t grow(const CacheChain& c, std::int64_t tokens, CacheHold& h) {
    const std::int64_t twice = cache.grow(c, tokens, h, digest);
    verify();
    return twice;
  }
  std::int64_t release(const CacheChain& c, CacheHold& h) {
    const std::int64_t freed = cache.release(c, h, digest);
    verify();
    return freed;
  }
  void evict(std::int64_t blocks) {
    cache.evict(blocks, digest);
    verify();
  }
  /// A request that computes its prompt and leaves.
  void serve(const CacheChain& c) {
    CacheHold h = hold(c);
    grow(c, c.tokens, h);
    release(c, h);
  }
  std::int32_t found(const CacheChain& c) const { return cache.match(c, 1'000).blocks; }
  void verify() const {
    cache.check();
    Digest whole;
    cache.add_to(whole);
    EXPECT_EQ(whole, digest);
  }
};

TEST(PrefixCache, FindsTheBlocksOfTheLongestEqualBeginning) {
  Cache x;
  x.serve(Cache::chain({1, 2, 3}, 96));
  EXPECT_EQ(x.cache.idle(), 6);
  EXPECT_EQ(x.found(Cache::chain({1, 2, 3}, 96)), 6);
  EXPECT_EQ(x.found(Cache::chain({1, 2, 4}, 96)), 4);
  EXPECT_EQ(x.found(Cache::chain({2, 3}, 64)), 0) << "equal blocks behind another beginning are others";
  EXPECT_EQ(x.found(Cache::chain({1, 3}, 64)), 2);
}

TEST(PrefixCache, KeepsFullBlocksOnly) {
  Cache x;
  const CacheChain c = Cache::chain({1, 2}, 60);  // 3 blocks and 12 tokens
  x.serve(c);
  EXPECT_EQ(x.cache.idle(), 3);
  EXPECT_EQ(x.found(c), 3);
  EXPECT_EQ(x.found(Cache::chain({1, 2, 5}, 96)), 3) << "the cut prefix block, and no further";
}

TEST(PrefixCache, TakesAtMostWhatItIsAskedFor) {
  Cache x;
  const CacheChain c = Cache::chain({1, 2}, 64);
  x.serve(c);
  const PrefixCache::Match m = x.cache.match(c, 3);
  EXPECT_EQ(m.blocks, 3);
  EXPECT_EQ(m.idle, 4) << "an entry is held as a whole";
  EXPECT_EQ(x.cache.match(c, 3, true).blocks, 2) << "only what is needed as a whole";
  CacheHold h = x.hold(c, 3);
  EXPECT_EQ(h.blocks, 3);
  EXPECT_EQ(x.cache.busy(), 4);
  EXPECT_EQ(x.grow(c, 64, h), 1) << "the last one was computed again and is there already";
  EXPECT_EQ(x.release(c, h), 4);
}

TEST(PrefixCache, PrefixBlocksNeedNotBeMultiplesOfTheEnginesBlocks) {
  for (const std::int64_t prefix_tokens : {5, 16, 24, 40, 512}) {
    Cache x;
    Ids ids(static_cast<std::size_t>((200 + prefix_tokens - 1) / prefix_tokens));
    for (std::size_t k = 0; k < ids.size(); ++k) ids[k] = static_cast<std::uint32_t>(k);
    const CacheChain c = Cache::chain(ids, 200, prefix_tokens);
    x.serve(c);
    EXPECT_EQ(x.cache.idle(), 12) << prefix_tokens;
    EXPECT_EQ(x.found(c), 12) << prefix_tokens;
    ids.back() = 99;  // the last prefix block begins at (n - 1) * prefix_tokens: blocks that end before are equal
    const auto equal = static_cast<std::int64_t>(ids.size() - 1) * prefix_tokens / 16;
    EXPECT_EQ(x.found(Cache::chain(ids, 200, prefix_tokens)), equal) << prefix_tokens;
  }
}

TEST(PrefixCache, TheLeastRecentlyUsedGoesFirstAndOfAChainItsTail) {
  Cache x;
  const CacheChain a = Cache::chain({1, 2}, 64), b = Cache::chain({3, 4}, 64);
  x.serve(a);
  x.serve(b);
  x.serve(Cache::chain({1}, 32));  // the head of a is used again
  x.evict(1);
  EXPECT_EQ(x.found(a), 3) << "a's tail is the oldest, and goes block by block";
  EXPECT_EQ(x.found(b), 4);
  x.evict(2);
  EXPECT_EQ(x.found(a), 2);
  EXPECT_EQ(x.found(b), 3);
  x.evict(3);
  EXPECT_EQ(x.found(a), 2);
  EXPECT_EQ(x.found(b), 0);
  x.evict(2);
  EXPECT_EQ(x.found(a), 0);
  EXPECT_EQ(x.cache.idle(), 0);
}

TEST(PrefixCache, WhatARequestHoldsIsNotIdleUntilTheLastOneLeaves) {
  Cache x;
  const CacheChain c = Cache::chain({1, 2}, 64);
  x.serve(c);
  CacheHold first = x.hold(c), second = x.hold(c);
  EXPECT_EQ(x.cache.idle(), 0);
  EXPECT_EQ(x.cache.busy(), 4);
  EXPECT_EQ(x.release(c, first), 0);
  EXPECT_EQ(x.cache.idle(), 0);
  EXPECT_EQ(x.release(c, second), 4);
  EXPECT_EQ(x.cache.idle(), 4);
}

TEST(PrefixCache, WhatTwoRequestsComputeAtOnceIsKeptOnce) {
  Cache x;
  const CacheChain c = Cache::chain({1, 2}, 64);
  CacheHold first = x.hold(c), second = x.hold(c);
  EXPECT_EQ(x.grow(c, 48, first), 0);
  EXPECT_EQ(x.grow(c, 64, second), 3) << "three of its four blocks were there already";
  EXPECT_EQ(x.grow(c, 64, first), 1);
  EXPECT_EQ(x.cache.busy(), 4);
  x.release(c, first);
  x.release(c, second);
  EXPECT_EQ(x.cache.idle(), 4);
}

TEST(PrefixCache, APartOfABlockThatWasEvictedIsFilledUpAgain) {
  Cache x;
  const CacheChain c = Cache::chain({1, 2}, 64);
  x.serve(c);
  x.evict(1);
  CacheHold h = x.hold(c);
  EXPECT_EQ(h.blocks, 3);
  EXPECT_EQ(x.grow(c, 64, h), 0);
  EXPECT_EQ(x.cache.busy(), 4);
  x.release(c, h);
  EXPECT_EQ(x.found(c), 4);
}

TEST(PrefixCache, ForgetsEverythingWithItsMemory) {
  Cache x;
  x.serve(Cache::chain({1, 2}, 64));
  EXPECT_EQ(x.cache.clear(x.digest), 4);
  x.verify();
  EXPECT_EQ(x.found(Cache::chain({1, 2}, 64)), 0);
  x.serve(Cache::chain({1, 2}, 64));
  EXPECT_EQ(x.found(Cache::chain({1, 2}, 64)), 4);
}

/// The same by lists and maps of whole chains: prefix block k of a prompt is named by its ids up to k.
class Naive {
 public:
  struct Entry {
    std::int64_t blocks = 0;
    int references = 0;
  };
  struct Request {
    Ids ids;
    std::int64_t prompt = 0, prefix_tokens = 0;
    std::vector<Ids> held;
    std::int64_t blocks = 0;
  };
  std::int64_t before(const Request& r, std::size_t keys) const {
    return std::min({static_cast<std::int64_t>(keys) * r.prefix_tokens, r.prompt,
                     static_cast<std::int64_t>(r.ids.size()) * r.prefix_tokens}) /
           16;
  }
  static Ids name(const Request& r, std::size_t k) {
    return {r.ids.begin(), r.ids.begin() + static_cast<std::ptrdiff_t>(k) + 1};
  }
  void admit(Request& r, std::int64_t most) {
    for (std::size_t k = 0; k < r.ids.size(); ++k) {
      const std::int64_t here = before(r, k + 1) - before(r, k);
      if (here == 0) continue;
      const auto it = entries.find(name(r, k));
      if (it == entries.end() || r.blocks >= most) return;
      reference(r, name(r, k));
      const std::int64_t taken = std::min({here, it->second.blocks, most - r.blocks});
      r.blocks += taken;
      if (taken < here) return;
    }
  }
  void grow(Request& r, std::int64_t tokens) {
    const std::int64_t full =
        std::min(std::min(tokens, r.prompt), static_cast<std::int64_t>(r.ids.size()) * r.prefix_tokens) / 16;
    for (std::size_t k = 0; k < r.ids.size(); ++k) {
      const std::int64_t from = before(r, k), to = std::min(full, before(r, k + 1));
      if (to <= from || to <= r.blocks) continue;
      if (std::find(r.held.begin(), r.held.end(), name(r, k)) == r.held.end()) reference(r, name(r, k));
      Entry& e = entries[name(r, k)];
      e.blocks = std::max(e.blocks, to - from);
      r.blocks = to;
    }
  }
  void leave(Request& r) {
    for (std::size_t k = r.held.size(); k-- > 0;) {
      if (--entries[r.held[k]].references == 0) order.push_back(r.held[k]);
    }
    r.held.clear();
    r.blocks = 0;
  }
  void evict(std::int64_t blocks) {
    for (; blocks > 0; --blocks) {
      if (--entries[order.front()].blocks > 0) continue;
      entries.erase(order.front());
      order.erase(order.begin());
    }
  }
  std::int64_t count(bool busy) const {
    std::int64_t n = 0;
    for (const auto& [ids, e] : entries) n += (e.references > 0) == busy ? e.blocks : 0;
    return n;
  }

 private:
  void reference(Request& r, const Ids& id) {
    if (entries[id].references++ == 0) std::erase(order, id);
    r.held.push_back(id);
  }
  std::map<Ids, Entry> entries;
  std::vector<Ids> order;  // idle, the oldest use first
};

TEST(PrefixCache, DoesWhatANaiveOneDoesWithRandomRequests) {
  const char* given = std::getenv("FAULTLINE_TEST_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : 20'261'123;
  std::int64_t hits = 0, evicted = 0, twice_seen = 0;
  for (std::uint64_t round = 0; round < 60; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round << ", seed " << seed);
    Random random(seed, "prefix cache", round);
    Cache x;
    Naive naive;
    const std::int64_t prefix_tokens = std::int64_t{1} << random.below(7);  // 1 … 64, also below the engine's block
    struct Live {
      CacheChain chain;
      CacheHold hold;
      Naive::Request same;
      std::int64_t computed = 0;
    };
    std::vector<Live> live;
    for (int step = 0; step < 400; ++step) {
      const std::uint64_t what = random.below(10);
      if (what < 4 && live.size() < 6) {
        Live l;
        const auto length =
            static_cast<std::size_t>(1 + random.below(static_cast<std::uint64_t>(200 / prefix_tokens + 1)));
        for (std::size_t k = 0; k < length; ++k)
          l.same.ids.push_back(static_cast<std::uint32_t>(random.below(k < 2 ? 2 : 3) / 2));
        l.same.prefix_tokens = prefix_tokens;
        l.same.prompt = static_cast<std::int64_t>(length - 1) * prefix_tokens + 1 +
                        static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(prefix_tokens)));
        l.chain.assign(l.same.ids, prefix_tokens, l.same.prompt);
        const std::int64_t most = (l.same.prompt - 1) / 16;
        const std::int64_t busy = x.cache.busy();
        const PrefixCache::Match m = x.cache.match(l.chain, most);
        l.hold = x.hold(l.chain, most);
        naive.admit(l.same, most);
        ASSERT_EQ(x.cache.busy(), busy + m.idle);
        hits += m.blocks;
        l.computed = m.blocks * 16;
        live.push_back(std::move(l));
      } else if (what < 8 && !live.empty()) {
        Live& l = live[random.below(live.size())];
        l.computed += static_cast<std::int64_t>(random.below(60));
        l.computed = std::min(l.computed, l.same.prompt);
        const std::int64_t own_before = l.hold.blocks, busy = x.cache.busy();
        const std::int64_t twice = x.grow(l.chain, l.computed, l.hold);
        naive.grow(l.same, l.computed);
        // Its own blocks went to the cache or are free.
        ASSERT_EQ(x.cache.busy(), busy + (l.hold.blocks - own_before) - twice);
        twice_seen += twice > 0;
      } else if (what < 9 && !live.empty()) {
        const std::size_t k = random.below(live.size());
        x.release(live[k].chain, live[k].hold);
        naive.leave(live[k].same);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(k));
      } else if (x.cache.idle() > 0) {
        const auto blocks = static_cast<std::int64_t>(1 + random.below(static_cast<std::uint64_t>(x.cache.idle())));
        x.evict(blocks);
        naive.evict(blocks);
        evicted += blocks;
      }
      ASSERT_EQ(x.cache.idle(), naive.count(false)) << "step " << step;
      ASSERT_EQ(x.cache.busy(), naive.count(true)) << "step " << step;
      for (const Live& l : live) ASSERT_EQ(l.hold.blocks, l.same.blocks) << "step " << step;
    }
  }
  // The rounds saw what they are for.
  EXPECT_GT(hits, 1'000);
  EXPECT_GT(evicted, 1'000);
  EXPECT_GT(twice_seen, 100);
}

}  // namespace
}  // namespace faultline::control
