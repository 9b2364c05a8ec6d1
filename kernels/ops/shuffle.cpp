#include "kernels/ops/shuffle.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace faultline::kernels {

std::vector<std::uint8_t> shuffle_weights(std::span<const std::uint8_t> weights, int n, int k_bytes) {
  if (n <= 0 || k_bytes <= 0 || k_bytes % 128 != 0) {
    throw std::invalid_argument("shuffle_weights: " + std::to_string(n) + " rows of " + std::to_string(k_bytes) +
                                " bytes; K must be a multiple of 128 bytes");
  }
  const auto line = static_cast<std::size_t>(k_bytes);
  if (weights.size() != static_cast<std::size_t>(n) * line) {
    throw std::invalid_argument("shuffle_weights: " + std::to_string(weights.size()) + " bytes given, " +
                                std::to_string(static_cast<std::size_t>(n) * line) + " expected");
  }
  std::vector<std::uint8_t> out(shuffled_bytes(n, k_bytes), 0);
  for (int row = 0; row < n; ++row)
    for (int k = 0; k < k_bytes; k += 16)
      std::memcpy(out.data() + shuffled_offset(row, k, k_bytes),
                  weights.data() + static_cast<std::size_t>(row) * line + k, 16);
  return out;
}

}  // namespace faultline::kernels
