// Where a router sends a request: who may get it, what its load is taken for, the policies, and what the router
// believes to be in the instances' prefix caches.
#include <algorithm>

#include "core/control/router.h"

namespace faultline::control {

bool Router::usable(Instant now, const View& view) const {
  return view.accepting && !view.lost && view.cooldown_until <= now;
}

std::int64_t Router::load(const View& view) const {
  // With one router its own count is exact; with several the instance's report adds what others placed.
  return setup_.spec.replicas > 1 ? std::max(view.sent_tokens, view.reported_tokens) : view.sent_tokens;
}

std::uint32_t Router::choose(Instant now, const Entry& entry) const {
  const auto count = static_cast<std::uint32_t>(views_.size());
  // Not where the last attempt was lost, as long as there is another: an instance that loses requests quickly looks
  // idle.
  const std::uint32_t fleet = fleet_of(entry.request);
  const auto serves = [&](std::uint32_t i) { return fleet_of(i) == fleet && usable(now, views_[i]); };
  std::uint32_t avoid = kUnknownRank;
  for (std::uint32_t i = 0; entry.retrying && i < count && avoid == kUnknownRank; ++i) {
    if (i != entry.instance && serves(i)) avoid = entry.instance;
  }
  const auto fits = [&](std::uint32_t i) { return i != avoid && serves(i); };
  const auto least = [&] {
    std::uint32_t best = kUnknownRank;
    // Ties go round by request, so that an idle fleet is not filled from instance 0.
    const std::uint32_t offset = count ? entry.request.request.v % count : 0;
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t i = offset + k < count ? offset + k : offset + k - count;
      if (fits(i) && (best == kUnknownRank || load(views_[i]) < load(views_[best]))) best = i;
    }
    return best;
  };
  switch (setup_.spec.policy) {
    case RoutePolicy::round_robin:
      for (std::uint32_t k = 0; k < count; ++k) {
        const std::uint32_t i = (next_ + k) % count;
        if (fits(i)) return i;
      }
      return kUnknownRank;
    case RoutePolicy::least_tokens: return least();
    case RoutePolicy::power_of_two: {
      Random random(setup_.seed, "router/choice", entry.request.request.v, entry.attempts);
      std::uint32_t best = kUnknownRank;
      for (int draw = 0, found = 0; draw < 16 && found < 2; ++draw) {
        const auto i = static_cast<std::uint32_t>(random.below(count));
        if (!fits(i) || i == best) continue;
        ++found;
        if (best == kUnknownRank || load(views_[i]) < load(views_[best])) best = i;
      }
      return best != kUnknownRank ? best : least();
    }
    case RoutePolicy::prefix_affinity: {
      const std::uint32_t lightest = least();
      if (entry.request.prefix_key == 0 || lightest == kUnknownRank) return lightest;
      // Rendezvous hashing: losing an instance moves only its own prefixes.
      std::uint32_t best = kUnknownRank;
      std::uint64_t best_hash = 0;
      for (std::uint32_t i = 0; i < count; ++i) {
        if (!fits(i)) continue;
        const std::uint64_t h = hash_combine(entry.request.prefix_key, i);
        if (best == kUnknownRank || h > best_hash) best = i, best_hash = h;
      }
      // Affinity yields to balance where its instance has over twice the lightest one's load.
      const std::int64_t slack = 4 * (std::int64_t{entry.request.prompt} + entry.request.output);
      return load(views_[best]) > 2 * load(views_[lightest]) + slack ? lightest : best;
    }
    case RoutePolicy::cache_aware: {
      // The tokens in front of the request and those of its own that are not believed to be there (NVIDIA Dynamo's KV
      // router weighs the two the same by default: prefill blocks to compute plus active blocks).
      const CacheChain& chain = chain_of(entry.request);
      std::uint32_t best = least();
      if (best == kUnknownRank || chain.keys.empty()) return best;
      const auto cost = [&](std::uint32_t i) {
        return load(views_[i]) - believed_[i].match(chain, chain.tokens).blocks;
      };
      std::int64_t lowest = cost(best);
      for (std::uint32_t i = 0; i < count; ++i) {
        if (!fits(i) || load(views_[i]) - chain.tokens >= lowest) continue;
        if (const std::int64_t here = cost(i); here < lowest) best = i, lowest = here;
      }
      return best;
    }
  }
  return kUnknownRank;
}

const CacheChain& Router::chain_of(const RequestArrived& request) const {
  const PrefixChain& prefix = request.prefix;
  if (prefix.block_tokens == 0) chain_.keys.clear();
  else chain_.assign(prefix.blocks, prefix.block_tokens, std::min(prefix.tokens, request.prompt));
  return chain_;
}

/// The instance computes the prompt and keeps it, as far as the router knows; of what it evicts nobody tells. An index
/// of the same kind forgets in the same order, token by token.
void Router::believe(std::uint32_t instance, const RequestArrived& request) {
  if (believed_.empty()) return;
  PrefixCache& index = believed_[instance];
  const CacheChain& chain = chain_of(request);
  CacheHold hold;
  index.hold(chain, index.match(chain, chain.tokens), hold, digest_);
  index.grow(chain, chain.tokens, hold, digest_);
  index.release(chain, hold, digest_);
  if (index.idle() > setup_.spec.index_tokens) index.evict(index.idle() - setup_.spec.index_tokens, digest_);
}

void Router::forget_prefixes(std::uint32_t instance) {
  if (!believed_.empty()) believed_[instance].clear(digest_);
}

}  // namespace faultline::control
