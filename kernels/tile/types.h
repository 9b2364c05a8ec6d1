// Words shared by host and device code of the kernels: fixed-width integers and the two element types.
// No standard library beyond <cstdint>/<cstddef>: the gfx942 build uses neither HIP's headers nor its device libraries.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultline::kernels {

/// Element tags. An operand of mma is addressed in bytes: a 64-byte block holds 64 fp8 or 32 bf16 values, and the
/// fragments of the matrix instructions have the same byte layout for both, on gfx942 and on sm_90.
struct Fp8 {
  static constexpr int kBytes = 1;
};
struct Bf16 {
  static constexpr int kBytes = 2;
};

/// Columns of one weight tile, and rows of one block of pre-shuffled weights (ops/shuffle.h).
inline constexpr int kTileColumns = 128;
/// Bytes of K that one pipeline step of a GEMM consumes; K * bytes must be a multiple of it.
inline constexpr int kStepBytes = 128;
/// Tokens of one page of a KV cache.
inline constexpr int kPageTokens = 64;
/// Elements that share one scale in block-scaled FP8 (DeepSeek-V3: 1x128 activations, 128x128 weights).
inline constexpr int kScaleGroup = 128;

/// Bits a kernel may set in its status word; the value it computed there is defined but not meaningful.
enum Status : std::uint32_t {
  kStatusPageOutOfRange = 1,   // a page index outside the cache: its tokens are masked
  kStatusNotANumber = 2,       // NaN or infinity met where the result cannot carry it (FP8 cache): stored as 0
  kStatusExpertOutOfRange = 4  // a routed expert id outside the table: the pair is dropped
};

}  // namespace faultline::kernels
