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

/// Attention: two tiles of 64 cached tokens, K and (unless it is a part of K) V, rows padded by 16 bytes; then the
/// scores, for 16 rows in two parts (ScoreAcc).
template <int kRowBytes>
inline constexpr int kStagedBytes = kRowBytes == 0 ? 0 : 2 * 64 * (kRowBytes + 16);
template <int kRows, int kKeyBytes, int kValueBytes>
inline constexpr int kAttentionBytes = kStagedBytes<kKeyBytes> + kStagedBytes<kValueBytes> +
                                       (kRows == 16 ? 2 : 1) * kRows*(64 + 8) * 4;

}  // namespace faultline::kernels::sm90
