// Pre-shuffled weights: the order in which matrix instructions want them, so that a wave reads its operand in
// contiguous 16-byte pieces straight to registers, without LDS.
//
// W[n][k] in bytes (fp8: 1, bf16: 2 a value) is cut into blocks of 16 rows x 64 bytes of K. A block is 1024 bytes:
// chunk (group g of 16 bytes, row r) stands at (16 g + r) * 16. Blocks of a row of blocks are consecutive in K. Rows
// are padded with zeros to a multiple of 128 (kTileColumns), K must be a multiple of 128 bytes (kStepBytes). The idea
// (weights bypass LDS) is that of aiter's and Composable Kernel's B-preshuffle GEMMs; this layout serves 16x16x32 and
// 32x32x16 MFMA, mma.sync m16n8k32 and the CPU alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace faultline::kernels {

constexpr int padded_columns(int n) { return (n + 127) / 128 * 128; }

/// Bytes of the shuffled form of an n x k_bytes matrix.
constexpr std::size_t shuffled_bytes(int n, int k_bytes) {
  return static_cast<std::size_t>(padded_columns(n)) * static_cast<std::size_t>(k_bytes);
}

/// weights: n rows of k_bytes. Throws std::invalid_argument when the size does not fit or k_bytes is not a multiple of
/// 128.
std::vector<std::uint8_t> shuffle_weights(std::span<const std::uint8_t> weights, int n, int k_bytes);

/// Where byte k of row n stands in the shuffled form.
constexpr std::size_t shuffled_offset(int n, int k, int k_bytes) {
  const auto block =
      static_cast<std::size_t>(n / 16) * static_cast<std::size_t>(k_bytes / 64) + static_cast<std::size_t>(k / 64);
  return block * 1024 + static_cast<std::size_t>((k % 64 / 16 * 16 + n % 16) * 16 + k % 16);
}

}  // namespace faultline::kernels
