// Arguments of the matrix kernels; one struct is one kernel parameter, the same on host and device.
#pragma once

#include "kernels/tile/types.h"

namespace faultline::kernels {

/// Parts that K is cut into at most.
inline constexpr int kGemmParts = 8;
/// Rows that a block of gemm_reduce takes: up to 1024 values.
constexpr int gemm_reduce_rows(int n) { return n < 1024 ? 256 / ((n + 3) / 4) : 1; }

/// out[m][n] = sum over K of a[m][k] * w[n][k], scaled.
/// Shapes: a: m rows of lda bytes; w: pre-shuffled (ops/shuffle.h), n padded to 128; out: m x ldo elements, float or
/// bf16. Range:  m >= 0 (0: nothing is written), n >= 1, K * element bytes a multiple of 128. Scales: per row and
/// channel (PTPC): a_scale[m], w_scale[n].  Blocks: a_scale[k/128][m], w_scale[ceil(n/128)][k/128].  BF16: none.
/// Batches: batch b of blocks reads a + b * a_stride, w + b * w_stride, writes out + b * out_stride (bytes; elements
/// for out). K is summed in `splits` parts, each in order, then the parts in order: gemm_splits(n, k) gives the number,
/// whatever m is, so a row's result never depends on the batch. parallel: parts go to different blocks and meet in
/// gemm_reduce through partial[splits][m][n] (one batch only); otherwise a block does all parts. Both give the same
/// bits. A row whose scale is NaN gives NaN in that row only.
struct GemmArgs {
  const std::uint8_t* a;
  const std::uint8_t* w;
  const float* a_scale;
  const float* w_scale;
  void* out;
  float* partial;
  std::size_t a_stride, w_stride, out_stride;
  int m, n, k_bytes, lda, ldo;
  int splits, parallel, out_is_float;
};

/// Quantises rows of bf16: per row (group = 0: scale[m]) or per group of 128 (scale[k/128][m], K a multiple of 128).
/// scale = largest magnitude / fp8 target; a zero row has scale 0 and codes 0; a row (group) with NaN or infinity has a
/// NaN scale. Source: DeepSeek-V3 technical report (arXiv 2412.19437), section 3.3.2, "fine-grained quantization".
struct QuantizeArgs {
  const std::uint16_t* x;
  std::uint8_t* out;
  float* scale;
  int m, k, ldx, ldo;  // elements
  int group;
};

}  // namespace faultline::kernels
