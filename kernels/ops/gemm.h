// Matrix products. Tiles of kM rows x 128 columns; weights pre-shuffled, so that only A goes through LDS. All row
// heights use the same 32x32x16 MFMA in the same order of K (sm_90: m16n8k32), hence the same bits for a row in any
// batch. Roofline: 2 m n k operations over n k bytes of weights: memory-bound below m = peak / bandwidth = 2615e12
// / 5.3e12 / 2 = 247 rows on MI300X (FP8 dense peak and HBM3 bandwidth of the data sheet).
#pragma once

#include "kernels/ops/gemm_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

enum class Scaling { none, per_row, blocks };

FAULTLINE_DEV void store_out(void* out, bool is_float, std::size_t at, float v) {
  if (is_float) {
    static_cast<float*>(out)[at] = v;
  } else {
    static_cast<std::uint16_t*>(out)[at] = to_bf16(v);
  }
}

template <class T, int kM, Scaling kScaling>
FAULTLINE_DEV void gemm(const Block& b, const GemmArgs& p, int row0) {
  const int column = b.y(), column0 = column * kTileColumns;
  const int batch = p.parallel ? 0 : b.z(), part = p.parallel ? b.z() : 0;
  const int blocks = p.k_bytes / 64, steps = p.k_bytes / kStepBytes;
  const int valid = p.m - row0 < kM ? p.m - row0 : kM;
  const std::uint8_t* a = p.a + batch * p.a_stride;
  const std::uint8_t* w = p.w + batch * p.w_stride;
  auto row = [&](int i) { return a + static_cast<std::size_t>(row0 + (i < valid ? i : valid - 1)) * p.lda; };
  StreamAcc<kM, kTileColumns> total, current;
  b.zero(total);
  for (int s = part; s < (p.parallel ? part + 1 : p.splits); ++s) {
    // steps * s / splits: parts differ by at most one step; a function of k and splits alone
    const int first = steps * s / p.splits * 2, last = steps * (s + 1) / p.splits * 2;
    b.zero(current);
    if constexpr (kScaling == Scaling::blocks) {
      b.template mma_stream_scaled<T, kM, kTileColumns, 0>(
          current, row, valid, w, blocks, column0, first, last,
          [&](int step) { return p.w_scale + column * steps + step; },
          [&](int step, int i) {
            return p.a_scale + static_cast<std::size_t>(step) * p.m + row0 + (i < valid ? i : valid - 1);
          });
    } else {
      b.template mma_stream<T, kM, kTileColumns, 0>(current, row, valid, w, blocks, column0, first, last, NoFold{});
    }
    b.fold(total, current, [](int, int) { return 1.0F; });
  }
  float* partial = p.partial + static_cast<std::size_t>(part) * p.m * p.n;
  b.map(total, [&](int i, int j, float& v) {
    const int r = row0 + i, c = column0 + j;
    if (i >= valid || c >= p.n) return;
    if (p.parallel) {
      partial[static_cast<std::size_t>(r) * p.n + c] = v;
      return;
    }
    if constexpr (kScaling == Scaling::per_row) v = v * p.a_scale[r] * p.w_scale[c];
    store_out(p.out, p.out_is_float != 0, batch * p.out_stride + static_cast<std::size_t>(r) * p.ldo + c, v);
  });
}

template <class T, int kM, Scaling kScaling>
FAULTLINE_DEV void gemm(const Block& b, const GemmArgs& p) {
  gemm<T, kM, kScaling>(b, p, b.x() * kM);
}
/// 128 rows a block with block scales: on gfx942 one half after the other, because three accumulators of 128 rows would
/// spill.
template <class T>
FAULTLINE_DEV void gemm_tall_blocks(const Block& b, const GemmArgs& p) {
  for (int row0 = b.x() * 128; row0 < p.m && row0 < b.x() * 128 + 128; row0 += kTallScaledRows)
    gemm<T, kTallScaledRows, Scaling::blocks>(b, p, row0);
}

/// Sums the parts of a parallel gemm in their order. Blocks of 1024 elements.
template <Scaling kScaling>
FAULTLINE_DEV void gemm_reduce(const Block& b, const GemmArgs& p) {
  const std::size_t count = static_cast<std::size_t>(p.m) * p.n, first = static_cast<std::size_t>(b.x()) * 1024;
  const int here = count - first < 1024 ? static_cast<int>(count - first) : 1024;
  b.each(here, [&](int e) {
    const std::size_t at = first + e;
    const int r = static_cast<int>(at / p.n), c = static_cast<int>(at % p.n);
    float v = 0;
    for (int s = 0; s < p.splits; ++s) v += p.partial[s * count + at];
    if constexpr (kScaling == Scaling::per_row) v = v * p.a_scale[r] * p.w_scale[c];
    store_out(p.out, p.out_is_float != 0, static_cast<std::size_t>(r) * p.ldo + c, v);
  });
}

/// One wave a row. Memory-bound: 3 bytes an element.
FAULTLINE_DEV void quantize(const Block& b, const QuantizeArgs& p) {
  const int row0 = b.x() * 4, here = p.m - row0 < 4 ? p.m - row0 : 4;
  const int span = p.group ? kScaleGroup : p.k, groups = p.group ? p.k / kScaleGroup : 1;
  b.rows(here * groups, [&](int item, Wave w) {
    const int r = row0 + item / groups, g = item % groups;
    const std::uint16_t* x = p.x + static_cast<std::size_t>(r) * p.ldx + static_cast<std::size_t>(g) * span;
    std::uint8_t* out = p.out + static_cast<std::size_t>(r) * p.ldo + static_cast<std::size_t>(g) * span;
    const float largest = w.max_of(span, [&](int i) { return __builtin_fabsf(from_bf16(x[i])); });
    const float poison =
        w.sum_of(span, [&](int i) { return from_bf16(x[i]) * 0.0F; });  // NaN when any is NaN or infinite
    const float scale = largest / kFp8Target + poison;
    const float inverse = largest > 0 ? kFp8Target / largest : 0.0F;
    w.each(span, [&](int i) { out[i] = to_fp8(from_bf16(x[i]) * inverse); });
    w.once([&] { p.scale[p.group ? static_cast<std::size_t>(g) * p.m + r : r] = scale; });
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
