// GEMM tiles of 128 rows x 128 columns on sm_90a. Two warps (TallLoader) fill stages of shared memory by the copy
// engine, two warpgroups (TallMultiplier) multiply; they meet in barriers that count bytes and arrivals alone, so that
// one warpgroup adds its scaled sums while the other keeps the tensor cores busy, and the next tile's stages fill while
// this tile is written. Both run the same kernel text: the loader's half of it is nothing but copies.
#pragma once

#include "kernels/tile/bulk_sm90.h"

namespace faultline::kernels::sm90 {

/// Where a worker stands in the ring of stages, over all tiles of a block.
struct TallRing {
  int stage = 0;
  std::uint32_t phase = 0;
  FAULTLINE_DEV void advance() {
    if (++stage == kTallStages) stage = 0, phase ^= 1;
  }
};
FAULTLINE_DEV std::uint32_t tall_stage(int stage) { return shared_address(dynamic_memory()) + stage * kTallStageBytes; }
FAULTLINE_DEV std::uint32_t tall_scales(int stage) {
  return shared_address(dynamic_memory()) + kTallScalesAt + stage * kTallScaleFloats * 4;
}
FAULTLINE_DEV std::uint32_t tall_full(int stage) {
  return shared_address(dynamic_memory()) + kTallBarriersAt + stage * 8;
}
FAULTLINE_DEV std::uint32_t tall_empty(int stage) { return tall_full(kTallStages + stage); }

/// The two warps that load: one thread rows and weights, a warp scales.
struct TallLoader {
  const TallLaunch& launch;
  TallRing& ring;
  int x, batch;
  bool boxes;  // this warp loads rows and weights, not scales
  static constexpr bool kWritesRows = true;

  template <class A>
  FAULTLINE_DEV void zero(A&) const {}
  template <class A, class F>
  FAULTLINE_DEV void map(A&, F) const {}
  template <class A, class F>
  FAULTLINE_DEV void put_bf16(A&, int, int, std::uint16_t*, std::size_t, F) const {}
  template <int M, int N>
  using Total = StreamAcc<M, N>;
  template <class A>
  FAULTLINE_DEV void add_part(A&, A&, bool, bool) const {}

  template <class T, int M, int N, int Tag, class Row>
  FAULTLINE_DEV void mma_stream(StreamAcc<M, N>&, Row, int, const std::uint8_t*, int, int column0, int first, int last,
                                NoFold) const {
    load<false>(
        column0, first, last, [](int) { return nullptr; }, [](int, int) { return nullptr; });
  }
  template <class T, int M, int N, int Tag, class Row, class WeightScale, class RowScale>
  FAULTLINE_DEV void mma_stream_scaled(StreamAcc<M, N>&, Row, int, const std::uint8_t*, int, int column0, int first,
                                       int last, WeightScale weight_scale, RowScale row_scale) const {
    load<true>(column0, first, last, weight_scale, row_scale);
  }

 private:
  template <bool kScaled, class WeightScale, class RowScale>
  FAULTLINE_DEV void load(int column0, int first, int last, WeightScale weight_scale, RowScale row_scale) const {
    for (int step = first / 2; step < last / 2; ++step) {
      const std::uint32_t full = tall_full(ring.stage);
      barrier_wait(tall_empty(ring.stage), ring.phase ^ 1);
      if (boxes) {
        const std::uint32_t to = tall_stage(ring.stage);
        barrier_expect(full, kTallStageBytes);
        row_box(to + kTileColumns * kStepBytes, launch.rows, step * kStepBytes, x * 128, batch, full);
        weight_box(to, launch.weights, step, column0 / 16, batch, full);
      } else if constexpr (kScaled) {
        const std::uint32_t at = tall_scales(ring.stage);
        FAULTLINE_UNROLL
        for (int i = 0; i < 128; i += kWave) copy_async4(at + (lane() + i) * 4, row_scale(step, lane() + i));
        if (lane() == 0) copy_async4(at + 128 * 4, weight_scale(step));
        barrier_arrive_after_copies(full);
      }
      ring.advance();
    }
  }
};

/// The two warpgroups that multiply.
struct TallMultiplier : Basics {
  TallRing& ring;
  static constexpr bool kWritesRows = true;
  FAULTLINE_DEV explicit TallMultiplier(TallRing& r) : ring(r) {}

  /// See gpu.h. Until the last part most of the total stays in shared memory, each thread's to itself: registers are
  /// scarce.
  template <int M, int N>
  struct Total : StreamAcc<M, N> {};
  template <int M, int N>
  FAULTLINE_DEV void zero(Total<M, N>&) const {}
  template <int M, int N>
  FAULTLINE_DEV void zero(StreamAcc<M, N>& c) const {
    Basics::zero(c);
  }
  template <int M, int N>
  FAULTLINE_DEV void add_part(Total<M, N>& total, StreamAcc<M, N>& part, bool first, bool last) const {
    float4* kept = reinterpret_cast<float4*>(dynamic_memory() + kTallOutAt) + thread_index();
    if (first && !last) sync_some<1, 256>();  // the tile before has been read
    FAULTLINE_UNROLL
    for (int j = 0; j < 16; ++j) {
      float(&to)[4] = total.v[0][j];
      float4 t = {0, 0, 0, 0};
      if (!first) t = j < kTallKept ? kept[j * kThreads] : float4{to[0], to[1], to[2], to[3]};
      const float(&v)[4] = part.v[0][j];
      t = {t.x + v[0], t.y + v[1], t.z + v[2], t.w + v[3]};
      if (!last && j < kTallKept) kept[j * kThreads] = t;
      to[0] = t.x, to[1] = t.y, to[2] = t.z, to[3] = t.w;
    }
  }

  template <class T, int M, int N, int Tag, class Row>
  FAULTLINE_DEV void mma_stream(StreamAcc<M, N>& c, Row, int, const std::uint8_t*, int, int, int first, int last,
                                NoFold) const {
    if constexpr (T::kBytes == 1) {
      promote<false>(c.v[0], (last - first) / 2);
    } else {
      int before = -1;
      for (int s = (last - first) / 2; s > 0; --s) {
        const int stage = ring.stage;
        barrier_wait(tall_full(stage), ring.phase);
        multiply<T, false>(c.v[0]);
        wgmma_wait<1>();
        if (before >= 0) release(before);
        before = stage;
      }
      wgmma_wait<0>();
      hold(c.v[0]);
      if (before >= 0) release(before);
    }
  }
  template <class T, int M, int N, int Tag, class Row, class WeightScale, class RowScale>
  FAULTLINE_DEV void mma_stream_scaled(StreamAcc<M, N>& c, Row, int, const std::uint8_t*, int, int, int first, int last,
                                       WeightScale, RowScale) const {
    promote<true>(c.v[0], (last - first) / 2);
  }

  /// Writes rows below `rows` and columns below `columns` as bf16: f(row, column, value) at out + row * ldo + column. A
  /// thread's values are neighbours of a column: they are turned through shared memory, then rows of 256 bytes go out
  /// whole.
  template <int M, int N, class F>
  FAULTLINE_DEV void put_bf16(StreamAcc<M, N>& c, int rows, int columns, std::uint16_t* out, std::size_t ldo,
                              F f) const {
    using A = StreamAcc<M, N>;
    const std::uint8_t* turned = dynamic_memory() + kTallOutAt;
    const int l = lane(), column = 16 * (wave_index() % 4 * 2 + l / 8 % 2) + wave_index() / 4 * 8;
    const std::uint32_t at = shared_address(turned) + (l / 16 * 8 + l % 8) * kTallOutLine + column * 2;
    sync_some<1, 256>();  // the tile before has been read
    FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; j += 2) {
      std::uint32_t w[4];
      FAULTLINE_UNROLL
      for (int q = 0; q < 4; ++q) {
        const int jj = j + q / 2, e = q % 2 * 2;
        // Values past the last row or column are not scaled: their scales are not there.
        const int r = A::row(0, jj, e), n = A::column(0, jj, e);
        const float a = c.v[0][jj][e], b = c.v[0][jj][e + 1];
        w[q] =
            pack_bf16(r < rows && n < columns ? f(r, n, a) : 0.0F, r + 1 < rows && n < columns ? f(r + 1, n, b) : 0.0F);
      }
      store_turned(at + j * 8 * kTallOutLine, w[0], w[1], w[2], w[3]);
    }
    sync_some<1, 256>();
    const bool whole = reinterpret_cast<std::size_t>(out) % 16 == 0 && ldo % 8 == 0;
    FAULTLINE_UNROLL
    for (int q = 0; q < 128 * 16 / kThreads; ++q) {
      const int index = thread_index() + q * kThreads, r = index / 16, n = index % 16 * 8;
      if (r >= rows) break;
      const std::uint8_t* from = turned + r * kTallOutLine + n * 2;
      std::uint16_t* to = out + r * ldo + n;
      if (whole && n + 8 <= columns) {
        *reinterpret_cast<Chunk*>(to) = *reinterpret_cast<const Chunk*>(from);
      } else {
        for (int e = 0; e < 8 && n + e < columns; ++e) to[e] = reinterpret_cast<const std::uint16_t*>(from)[e];
      }
    }
  }

 private:
  // Starts the product of the ring's next stage, which has arrived, into d.
  template <class T, bool kFresh>
  FAULTLINE_DEV void multiply(float (&d)[16][4]) const {
    const std::uint32_t at = tall_stage(ring.stage);
    const std::uint64_t w = weight_descriptor(at + wave_index() / 4 * 128);
    const std::uint64_t a = row_descriptor(at + kTileColumns * kStepBytes);
    wgmma_begin();
    FAULTLINE_UNROLL
    for (int k = 0; k < 4; ++k) {
      if constexpr (kFresh) {
        if (k == 0) {
          wgmma_first(T{}, d, w, a);
          continue;
        }
      }
      wgmma(T{}, d, w + k * (512 >> 4), a + k * (32 >> 4));
    }
    wgmma_commit();
    ring.advance();
  }
  FAULTLINE_DEV void release(int stage) const {  // this warp is done with it
    __syncwarp();
    if (lane() == 0) barrier_arrive(tall_empty(stage));
  }
  // total += products, step by step of 128 bytes of K: FP8 sums leave the tensor core (see Products::mma_stream). While
  // a step multiplies, its scales are read and the next step's arrival is awaited, so that little stands between the
  // end of one product and the start of the next.
  template <bool kScaled>
  FAULTLINE_DEV void promote(float (&total)[16][4], int steps) const {
    if (steps <= 0) return;
    barrier_wait(tall_full(ring.stage), ring.phase);
    for (int s = 0; s < steps; ++s) {
      const int stage = ring.stage;
      float part[16][4];
      multiply<Fp8, true>(part);
      float2 factors[16];
      if constexpr (kScaled) {
        const float* scales =
            reinterpret_cast<const float*>(dynamic_memory() + kTallScalesAt) + stage * kTallScaleFloats;
        const float sw = scales[128];
        FAULTLINE_UNROLL
        for (int j = 0; j < 16; ++j) {
          const float2 two = *reinterpret_cast<const float2*>(scales + j * 8 + lane() % 4 * 2);
          factors[j] = {sw * two.x, sw * two.y};
          asm volatile("" : "+f"(factors[j].x), "+f"(factors[j].y));  // now
        }
      }
      if (s + 1 < steps) barrier_wait(tall_full(ring.stage), ring.phase);
      wgmma_wait<0>();
      hold(part);
      release(stage);
      FAULTLINE_UNROLL
      for (int j = 0; j < 16; ++j) {
        const float f0 = kScaled ? factors[j].x : 1.0F, f1 = kScaled ? factors[j].y : 1.0F;
        total[j][0] = fused(part[j][0], f0, total[j][0]);
        total[j][1] = fused(part[j][1], f1, total[j][1]);
        total[j][2] = fused(part[j][2], f0, total[j][2]);
        total[j][3] = fused(part[j][3], f1, total[j][3]);
      }
      hold(total);
    }
  }
};

/// A block of a kernel of tall tiles: as many tiles as fall to it, one after the other.
struct TallBlock {
  const TallLaunch& launch;

  /// f(worker, x, y, z) for each tile, by the loader and by the multipliers.
  template <class F>
  FAULTLINE_DEV void tall_tiles(F f) const {
    if (thread_index() == 0) {
      for (int i = 0; i < kTallStages; ++i) {
        barrier_start(tall_full(i), launch.scaled != 0 ? 1 + kWave : 1);
        barrier_start(tall_empty(i), kWaves);
      }
      barriers_started();
    }
    sync();
    FAULTLINE_KERNEL_BEGIN;
    TallRing ring;
    // Rows first, so that blocks that run side by side read the same weights from cache.
    const int all = launch.x * launch.y * launch.z, step = static_cast<int>(gridDim.x);
    if (wave_index() >= kWaves) {
      registers_fewer<56>();
      const bool boxes = wave_index() == kWaves;
      if (boxes ? lane() == 0 : wave_index() == kWaves + 1 && launch.scaled != 0) {
        for (int t = block_x(); t < all; t += step) {
          const int x = t % launch.x, z = t / launch.x / launch.y;
          const TallLoader worker{launch, ring, x, launch.parallel != 0 ? 0 : z, boxes};
          f(worker, x, t / launch.x % launch.y, z);
        }
      }
    } else {
      registers_more<224>();
      const TallMultiplier worker{ring};
      for (int t = block_x(); t < all; t += step)
        f(worker, t % launch.x, t / launch.x % launch.y, t / launch.x / launch.y);
    }
  }
};

}  // namespace faultline::kernels::sm90
