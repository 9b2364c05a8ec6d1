// How the sm_90 tile layer divides a block's dynamic shared memory; read by the device code and by the host, which
// gives the size at launch.
#pragma once

namespace faultline::kernels::sm90 {

/// The pipeline of mma_stream for tiles of kRows rows: stages of 128 bytes of K (128 weight columns, then the rows),
/// then each stage's scales. Two blocks fit a multiprocessor with 32 and 64 rows, one with 128.
template <int kRows>
inline constexpr int kStreamStages = kRows <= 32   ? 5
                                     : kRows <= 64 ? 4
                                                   : 6;
template <int kRows>
inline constexpr int kStreamStageBytes = (128 + kRows) * 128;
template <int kRows>
inline constexpr int kStreamScaleFloats = kRows + 4;  // the rows' scales, the weights' scale, padding to 16 bytes
template <int kRows>
inline constexpr int kStreamAllBytes = kStreamStages<kRows>*(kStreamStageBytes<kRows> + kStreamScaleFloats<kRows> * 4);

/// GEMM tiles of 128 rows (tall_sm90.h): two warpgroups multiply, two warps of the third load; a block takes one tile
/// after the other. Stages of 128 bytes of K (weights, rows), each stage's scales, most of the total of parts of K or
/// the bf16 output on its way to memory, the barriers.
inline constexpr int kTallThreads = 384, kTallStages = 5, kTallOutLine = 128 * 2 + 16;
inline constexpr int kTallStageBytes = kStreamStageBytes<128>, kTallScaleFloats = kStreamScaleFloats<128>;
inline constexpr int kTallScalesAt = kTallStages * kTallStageBytes;
inline constexpr int kTallOutAt = kTallScalesAt + kTallStages * kTallScaleFloats * 4;
inline constexpr int kTallKept = 12, kTallKeptBytes = kTallKept * 4 * 4 * 256;  // of 16 groups of four floats a thread
inline constexpr int kTallBarriersAt = kTallOutAt + kTallKeptBytes;
inline constexpr int kTallBytes = kTallBarriersAt + 2 * kTallStages * 8;
static_assert(kTallBytes <= 227 * 1024 && kTallKeptBytes >= 128 * kTallOutLine);

/// What such a kernel gets besides its arguments: rows of A and weights as the copy engine reads them (CUtensorMaps;
/// rows: bytes of {k_bytes, m, batches}, boxes of 128 x 128, swizzled; weights: 8-byte words of
/// {256, steps of K, groups of 16 columns, batches}, boxes of 8 groups of one step), the number of tiles each way,
/// and of the arguments what the loader needs.
struct TallLaunch {
  alignas(64) unsigned char rows[128];
  alignas(64) unsigned char weights[128];
  int x, y, z, scaled, parallel;
};

/// Attention: two tiles of 64 cached tokens, K and (unless it is a part of K) V, rows padded by 16 bytes; then the
/// scores, for 16 rows in two parts (ScoreAcc) or kHeldParts.
template <int kRowBytes>
inline constexpr int kStagedBytes = kRowBytes == 0 ? 0 : 2 * 64 * (kRowBytes + 16);
template <int kRows, int kKeyBytes, int kValueBytes, int kParts = kRows == 16 ? 2 : 1>
inline constexpr int kAttentionBytes = kStagedBytes<kKeyBytes> + kStagedBytes<kValueBytes> + kParts* kRows*(64 + 8) * 4;
/// Parts of K in which decode of an FP8 cache forms its scores (decode_sm90.h).
inline constexpr int kHeldParts = 4;

}  // namespace faultline::kernels::sm90
