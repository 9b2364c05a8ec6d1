// The tile layer on a GPU: 256 threads, registers for accumulators, shared memory (LDS) for staging. gfx942 and sm_90
// differ only in struct Layout: which lane holds which element of a fragment. The emulator includes this file
// unchanged.
#pragma once

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

inline constexpr int kThreads = 256;
inline constexpr int kWaves = kThreads / kWave;
inline constexpr int kPad = 16;  // bytes added to each staged row, so that rows do not start in the same LDS bank

FAULTLINE_DEV int wave_index() { return thread_index() / kWave; }

template <class To, class From>
FAULTLINE_DEV To bits_as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}
FAULTLINE_DEV float shuffle_xor(float v, int mask) {
  return bits_as<float>(shuffle_xor(bits_as<std::uint32_t>(v), mask));
}
FAULTLINE_DEV std::uint64_t shuffle_xor(std::uint64_t v, int mask) {
  const std::uint64_t low = shuffle_xor(static_cast<std::uint32_t>(v), mask);
  const std::uint64_t high = shuffle_xor(static_cast<std::uint32_t>(v >> 32), mask);
  return high << 32 | low;
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE

#include "kernels/tile/exp2.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

/// For softmax, where its rate counts: the hardware's instruction, 1 ulp from exact_exp2. The emulator does as the CPU.
#if defined(FAULTLINE_TILE_EMULATOR)
FAULTLINE_DEV float exp2(float x) { return exact_exp2(x); }
#else
FAULTLINE_DEV float exp2(float x) { return hw_exp2(x); }
#endif
FAULTLINE_DEV float rsqrt(float x) { return hw_rsqrt(x); }
FAULTLINE_DEV std::uint8_t to_fp8(float v) { return convert_fp8(clamp_fp8(v)); }
FAULTLINE_DEV float from_fp8(std::uint8_t v) { return expand_fp8(v); }
FAULTLINE_DEV float from_bf16(std::uint16_t v) { return bits_as<float>(static_cast<std::uint32_t>(v) << 16); }
FAULTLINE_DEV std::uint16_t to_bf16(float v) {
#if defined(FAULTLINE_TILE_SM90)
  return convert_bf16(v);  // the same numbers; every NaN becomes one
#endif
  const std::uint32_t u = bits_as<std::uint32_t>(v);
  if (v != v) return static_cast<std::uint16_t>(u >> 16 | 0x40U);
  return static_cast<std::uint16_t>((u + 0x7fffU + (u >> 16 & 1U)) >> 16);
}

/// The index of the largest value; equal values go to the lower index.
struct Best {
  float value;
  int index;
};

/// W lanes that work on one row: a whole wave, or a part of one so that several rows are under way at once. All lanes
/// of a wave take part in every reduction, so rows are given out in equal numbers.
template <int W>
struct Lanes {
  template <class F>
  FAULTLINE_DEV void each(int n, F f) const {
    for (int i = lane() % W; i < n; i += W) f(i);
  }
  template <class F>
  FAULTLINE_DEV float max_of(int n, F f) const {
    float m = -3e38F;
    FAULTLINE_UNROLL_LOADS
    for (int i = lane() % W; i < n; i += W) {
      const float v = f(i);
      m = v > m ? v : m;
    }
    for (int o = W / 2; o > 0; o >>= 1) {
      const float v = shuffle_xor(m, o);
      m = v > m ? v : m;
    }
    return m;
  }
  template <class F>
  FAULTLINE_DEV float sum_of(int n, F f) const {
    float s = 0;
    FAULTLINE_UNROLL_LOADS
    for (int i = lane() % W; i < n; i += W) s += f(i);
    for (int o = W / 2; o > 0; o >>= 1) s += shuffle_xor(s, o);
    return s;
  }
  template <class F>
  FAULTLINE_DEV std::uint64_t total_of(int n, F f) const {
    std::uint64_t s = 0;
    FAULTLINE_UNROLL_LOADS
    for (int i = lane() % W; i < n; i += W) s += f(i);
    for (int o = W / 2; o > 0; o >>= 1) s += shuffle_xor(s, o);
    return s;
  }
  template <class F>
  FAULTLINE_DEV Best best_of(int n, F f) const {
    Best b{-3.4e38F, 0x7fffffff};
    FAULTLINE_UNROLL_LOADS
    for (int i = lane() % W; i < n; i += W) {
      const float v = f(i);
      if (v > b.value) b = {v, i};
    }
    for (int o = W / 2; o > 0; o >>= 1) {
      const float v = shuffle_xor(b.value, o);
      const int i = static_cast<int>(shuffle_xor(static_cast<std::uint32_t>(b.index), o));
      if (v > b.value || (v == b.value && i < b.index)) b = {v, i};
    }
    return b;
  }
  template <class F>
  FAULTLINE_DEV void once(F f) const {
    if (lane() % W == 0) f();
  }
  /// Makes the writes of each and once visible to the wave.
  FAULTLINE_DEV void sync() const { wave_sync(); }
};
using Wave = Lanes<kWave>;
/// Lanes of a row of up to 64 elements.
inline constexpr int kNarrow = 16;

FAULTLINE_DEV Chunk load_chunk(const std::uint8_t* p) { return *reinterpret_cast<const Chunk*>(p); }

FAULTLINE_DEV void copy16(std::uint8_t* to, const std::uint8_t* from) {
  *reinterpret_cast<Chunk*>(to) = load_chunk(from);
}
/// Four floats at a multiple of 16 bytes.
FAULTLINE_DEV void load_four(const float* p, float (&v)[4]) {
  const Chunk c = load_chunk(reinterpret_cast<const std::uint8_t*>(p));
  FAULTLINE_UNROLL
  for (int i = 0; i < 4; ++i) v[i] = bits_as<float>(static_cast<std::uint32_t>(c[i]));
}
FAULTLINE_DEV void store_bf16(std::uint8_t* to, float v) { *reinterpret_cast<std::uint16_t*>(to) = to_bf16(v); }

/// Shared memory (LDS) and operations on accumulators.
struct Basics {
  template <class T, int N, int Tag>
  static FAULTLINE_DEV Lds<T> shared() {
#if defined(FAULTLINE_TILE_EMULATOR)
    alignas(64) static T s[N];
    return emulator::claim_lds(s, N);
#else
    FAULTLINE_SHARED(T, s, N);
    return s;
#endif
  }

  /// The one large array of a kernel. On sm_90 it is dynamic shared memory, because static arrays end at 48 KiB there:
  /// it stands kAfter bytes behind what the matrix operations take, and runtime/gpu.cpp gives the size of both at
  /// launch.
  template <int N, int kAfter = 0>
  static FAULTLINE_DEV Lds<std::uint8_t> scratch() {
#if defined(FAULTLINE_TILE_SM90)
    return dynamic_memory() + kAfter;
#else
    return shared<std::uint8_t, N, 99>();
#endif
  }

  template <class A>
  FAULTLINE_DEV void zero(A& c) const {
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
    for (int e = 0; e < A::kElements; ++e) c.v[i][j][e] = 0;
  }
  /// f(row, column, float& value) on every element, each by the thread that owns it.
  template <class A, class F>
  FAULTLINE_DEV void map(A& c, F f) const {
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
    for (int e = 0; e < A::kElements; ++e) {
      float v = c.v[i][j][e];
      f(A::row(i, j, e), A::column(i, j, e), v);
      c.v[i][j][e] = v;
    }
  }
  /// Writes the accumulators as floats: to(row) is where a row begins, null to leave it out, f(value) what is written.
  template <class A, class To, class F>
  FAULTLINE_DEV void store(const A& c, To to, F f) const {
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
    for (int e = 0; e < A::kElements; ++e) {
      float* row = to(A::row(i, j, e));
      if (row != nullptr) row[A::column(i, j, e)] = f(c.v[i][j][e]);
    }
  }
  /// total += part, where total is a Total; first and last say which part it is. total counts after the last.
  template <class A>
  FAULTLINE_DEV void add_part(A& total, A& part, bool, bool) const {
    fold(total, part, [](int, int) { return 1.0F; });
  }
  /// total += part * scale(row, column); part = 0.
  template <class A, class F>
  FAULTLINE_DEV void fold(A& total, A& part, F scale) const {
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
    for (int e = 0; e < A::kElements; ++e) {
      total.v[i][j][e] = fused(part.v[i][j][e], scale(A::row(i, j, e), A::column(i, j, e)), total.v[i][j][e]);
      part.v[i][j][e] = 0;
    }
  }
};

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE

#if defined(FAULTLINE_TILE_SM90)
#include "kernels/tile/decode_sm90.h"
#else
#include "kernels/tile/matrix_mfma.h"
#endif

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

struct Block : Products {
  FAULTLINE_DEV int x() const { return block_x(); }
  FAULTLINE_DEV int y() const { return block_y(); }
  FAULTLINE_DEV int z() const { return block_z(); }
  static constexpr bool kWritesRows = false;  // has put_bf16: writes a tile's rows at once
  FAULTLINE_DEV void barrier() const { sync(); }
  template <int M, int N>
  using Total = StreamAcc<M, N>;
  /// f(worker, x, y, z) for each tile of a kernel of tall tiles: here a block has one and works on it itself.
  template <class F>
  FAULTLINE_DEV void tall_tiles(F f) const {
    f(*this, x(), y(), z());
  }
  template <class F>
  FAULTLINE_DEV void each(int n, F f) const {
#if defined(FAULTLINE_TILE_EMULATOR)
    n -= emulator::planted().short_tail ? 1 : 0;
#endif
    for (int i = thread_index(); i < n; i += kThreads) f(i);
  }
  template <class F>
  FAULTLINE_DEV void rows(int n, F f) const {
    for (int r = wave_index(); r < n; r += kWaves) f(r, Wave{});
  }
  /// f(r, lanes): kNarrow lanes work on row r; n is a multiple of the rows that a block takes at once, 16.
  template <class F>
  FAULTLINE_DEV void narrow_rows(int n, F f) const {
    FAULTLINE_UNROLL
    for (int r = thread_index() / kNarrow; r < n; r += kThreads / kNarrow) f(r, Lanes<kNarrow>{});
  }
  template <class F>
  FAULTLINE_DEV void once(F f) const {
    if (thread_index() == 0) f();
  }
  /// use(i, p[i]) for i < n, four values a load where p stands at a multiple of 16 bytes, eight loads under way at
  /// once.
  template <class Use>
  FAULTLINE_DEV void sweep(const float* p, int n, Use use) const {
    constexpr int kBatch = 8, kStride = kThreads * 4;
    const bool aligned = reinterpret_cast<std::size_t>(p) % 16 == 0;
    for (int i = thread_index() * 4; i < n; i += kBatch * kStride) {
      Chunk v[kBatch];
      FAULTLINE_UNROLL
      for (int e = 0; e < kBatch; ++e) {
        const int at = i + e * kStride;
        if (aligned && at + 3 < n) v[e] = load_chunk(reinterpret_cast<const std::uint8_t*>(p + at));
      }
      FAULTLINE_UNROLL
      for (int e = 0; e < kBatch; ++e) {
        const int at = i + e * kStride;
        const bool whole = aligned && at + 3 < n;
        FAULTLINE_UNROLL
        for (int w = 0; w < 4; ++w)
          if (at + w < n) use(at + w, whole ? bits_as<float>(static_cast<std::uint32_t>(v[e][w])) : p[at + w]);
      }
    }
  }
};

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE

#if defined(FAULTLINE_TILE_SM90)
#include "kernels/tile/tall_sm90.h"
#endif
