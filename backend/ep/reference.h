// The MoE layer in one process: what a dispatch, the experts and a combine must give, bit for bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace faultline::ep {

/// What one rank computes for one token: the weighted sum over its experts, in ascending order. `value` is [hidden].
using RankCompute = std::function<std::vector<float>(std::span<const std::pair<std::uint32_t, float>> experts,
                                                     std::span<const float> value)>;

/// Shapes: values[tokens * hidden], experts and weights [tokens * topk] -> [tokens * hidden]. Adds in order of rank.
inline std::vector<float> reference_moe(std::uint32_t ranks, std::uint32_t expert_count, std::uint32_t topk,
                                        std::uint32_t hidden, std::span<const float> values,
                                        std::span<const std::uint32_t> experts, std::span<const float> weights,
                                        const RankCompute& compute) {
  std::vector<float> out(values.size(), 0.0F);
  for (std::size_t token = 0; token < values.size() / hidden; ++token) {
    std::map<std::uint32_t, std::vector<std::pair<std::uint32_t, float>>> by_rank;
    for (std::uint32_t k = 0; k < topk; ++k) {
      const std::uint32_t expert = experts[token * topk + k];
      by_rank[static_cast<std::uint32_t>(std::uint64_t{expert} * ranks / expert_count)].emplace_back(
          expert, weights[token * topk + k]);
    }
    for (auto& [rank, list] : by_rank) {
      std::sort(list.begin(), list.end());
      const auto part = compute(list, values.subspan(token * hidden, hidden));
      for (std::uint32_t h = 0; h < hidden; ++h) out[token * hidden + h] += part[h];
    }
  }
  return out;
}

}  // namespace faultline::ep
