// What one step has to compute, as far as its price depends on it.
#pragma once

#include <compare>
#include <cstdint>

namespace faultline::model {

/// Decode batch of one attention (DP) rank.
struct RankLoad {
  std::int32_t sequences = 0;
  std::int64_t context_tokens = 0;  // sum over the sequences, before the step
  friend constexpr auto operator<=>(const RankLoad&, const RankLoad&) = default;
};

/// A chunk of one prompt.
struct PrefillItem {
  std::int32_t rank = 0;  // attention (DP) rank that computes it
  std::int64_t chunk_tokens = 0;
  std::int64_t context_before = 0;  // tokens of the prompt already in the KV cache
  friend constexpr auto operator<=>(const PrefillItem&, const PrefillItem&) = default;
};

}  // namespace faultline::model
