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

/// The tile of kM rows from row0 and the columns from column * 128; z: the batch, or the part of K where parts have
/// blocks of their own. Rows past the end are copies of the last one and are not written.
template <class T, int kM, Scaling kScaling, class Worker>
FAULTLINE_DEV void gemm_tile(const Worker& b, const GemmArgs& p, int row0, int column, int z) {
  const int column0 = column * kTileColumns;
  const int batch = p.parallel ? 0 : z, part = p.parallel ? z : 0;
  const int blocks = p.k_bytes / 64, steps = p.k_bytes / kStepBytes;
  const int valid = p.m - row0 < kM ? p.m - row0 : kM;
  const std::uint8_t* a = p.a + batch * p.a_stride;
  const std::uint8_t* w = p.w + batch * p.w_stride;
  auto row = [&](int i) { return a + static_cast<std::size_t>(row0 + (i < valid ? i : valid - 1)) * p.lda; };
  typename Worker::template Total<kM, kTileColumns> total;
  StreamAcc<kM, kTileColumns> current;
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
    b.add_part(total, current, s == part, s + 1 == (p.parallel ? part + 1 : p.splits));
  }
  if constexpr (Worker::kWritesRows) {
    if (p.parallel == 0 && p.out_is_float == 0) {
      auto* out = static_cast<std::uint16_t*>(p.out) + batch * p.out_stride + static_cast<std::size_t>(row0) * p.ldo;
      b.put_bf16(total, valid, p.n - column0, out + column0, p.ldo, [&](int i, int j, float v) {
        if constexpr (kScaling == Scaling::per_row) v = v * p.a_scale[row0 + i] * p.w_scale[column0 + j];
        return v;
      });
      return;
    }
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
  gemm_tile<T, kM, kScaling>(b, p, b.x() * kM, b.y(), b.z());
}
/// Tiles of 128 rows. With block scales gfx942 takes one half after the other, because three accumulators of 128 rows
/// would spill.
template <class T, Scaling kScaling, class Tall>
FAULTLINE_DEV void gemm_tall(const Tall& tall, const GemmArgs& p) {
  constexpr int kRows = kScaling == Scaling::blocks ? kTallScaledRows : 128;
  tall.tall_tiles([&](const auto& b, int x, int y, int z) {
    for (int row0 = x * 128; row0 < p.m && row0 < x * 128 + 128; row0 += kRows)
      gemm_tile<T, kRows, kScaling>(b, p, row0, y, z);
  });
}

/// Sums the parts of a parallel gemm in their order. Grid: blocks of gemm_reduce_rows rows x blocks of 1024 columns.
/// The loads of four values of all parts are under way together.
template <Scaling kScaling>
FAULTLINE_DEV void gemm_reduce(const Block& b, const GemmArgs& p) {
  const std::size_t count = static_cast<std::size_t>(p.m) * p.n;
  const int column0 = b.y() * 1024, here = p.n - column0 < 1024 ? p.n - column0 : 1024, quads = (here + 3) / 4;
  const int rows = p.n < 1024 ? 256 / quads : 1;  // gemm_reduce_rows
  const int row0 = b.x() * rows, row_count = p.m - row0 < rows ? p.m - row0 : rows;
  b.each(row_count * quads, [&](int quad) {
    const int r = row0 + quad / quads, e = quad % quads;
    const float* from = p.partial + static_cast<std::size_t>(r) * p.n + column0;
    float v[4] = {};
    if (p.n % 4 == 0) {
      float x[kGemmParts][4];
      for (int s = 0; s < kGemmParts; ++s)
        if (s < p.splits) load_four(from + s * count + 4 * e, x[s]);
      for (int s = 0; s < kGemmParts; ++s)
        for (int i = 0; i < 4; ++i)
          if (s < p.splits) v[i] += x[s][i];
    } else {
      for (int s = 0; s < p.splits; ++s)
        for (int i = 0; i < 4 && 4 * e + i < here; ++i) v[i] += from[s * count + 4 * e + i];
    }
    for (int i = 0; i < 4 && 4 * e + i < here; ++i) {
      const int c = column0 + 4 * e + i;
      if constexpr (kScaling == Scaling::per_row) v[i] = v[i] * p.a_scale[r] * p.w_scale[c];
      store_out(p.out, p.out_is_float != 0, static_cast<std::size_t>(r) * p.ldo + c, v[i]);
    }
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
