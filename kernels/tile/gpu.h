// The tile layer on a GPU: 256 threads, registers for accumulators, shared memory (LDS) for staging. gfx942 and sm_90 differ
// only in struct Layout: which lane holds which element of a fragment. The emulator includes this file unchanged.
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
FAULTLINE_DEV float shuffle_xor(float v, int mask) { return bits_as<float>(shuffle_xor(bits_as<std::uint32_t>(v), mask)); }
FAULTLINE_DEV std::uint64_t shuffle_xor(std::uint64_t v, int mask) {
  const std::uint64_t low = shuffle_xor(static_cast<std::uint32_t>(v), mask);
  const std::uint64_t high = shuffle_xor(static_cast<std::uint32_t>(v >> 32), mask);
  return high << 32 | low;
}

FAULTLINE_DEV float exp2(float x) { return hw_exp2(x); }
FAULTLINE_DEV float rsqrt(float x) { return hw_rsqrt(x); }
FAULTLINE_DEV std::uint8_t to_fp8(float v) { return convert_fp8(clamp_fp8(v)); }
FAULTLINE_DEV float from_fp8(std::uint8_t v) { return expand_fp8(v); }
FAULTLINE_DEV float from_bf16(std::uint16_t v) { return bits_as<float>(static_cast<std::uint32_t>(v) << 16); }
FAULTLINE_DEV std::uint16_t to_bf16(float v) {
  const std::uint32_t u = bits_as<std::uint32_t>(v);
  if (v != v) return static_cast<std::uint16_t>(u >> 16 | 0x40U);
  return static_cast<std::uint16_t>((u + 0x7fffU + (u >> 16 & 1U)) >> 16);
}

/// The index of the largest value; equal values go to the lower index.
struct Best {
  float value;
  int index;
};

struct Wave {
  template <class F>
  FAULTLINE_DEV void each(int n, F f) const {
    for (int i = lane(); i < n; i += kWave) f(i);
  }
  template <class F>
  FAULTLINE_DEV float max_of(int n, F f) const {
    float m = -3e38F;
    FAULTLINE_UNROLL_FOUR
    for (int i = lane(); i < n; i += kWave) {
      const float v = f(i);
      m = v > m ? v : m;
    }
    for (int o = kWave / 2; o > 0; o >>= 1) {
      const float v = shuffle_xor(m, o);
      m = v > m ? v : m;
    }
    return m;
  }
  template <class F>
  FAULTLINE_DEV float sum_of(int n, F f) const {
    float s = 0;
    FAULTLINE_UNROLL_FOUR
    for (int i = lane(); i < n; i += kWave) s += f(i);
    for (int o = kWave / 2; o > 0; o >>= 1) s += shuffle_xor(s, o);
    return s;
  }
  template <class F>
  FAULTLINE_DEV std::uint64_t total_of(int n, F f) const {
    std::uint64_t s = 0;
    FAULTLINE_UNROLL_FOUR
    for (int i = lane(); i < n; i += kWave) s += f(i);
    for (int o = kWave / 2; o > 0; o >>= 1) s += shuffle_xor(s, o);
    return s;
  }
  template <class F>
  FAULTLINE_DEV Best best_of(int n, F f) const {
    Best b{-3.4e38F, 0x7fffffff};
    FAULTLINE_UNROLL_FOUR
    for (int i = lane(); i < n; i += kWave) {
      const float v = f(i);
      if (v > b.value) b = {v, i};
    }
    for (int o = kWave / 2; o > 0; o >>= 1) {
      const float v = shuffle_xor(b.value, o);
      const int i = static_cast<int>(shuffle_xor(static_cast<std::uint32_t>(b.index), o));
      if (v > b.value || (v == b.value && i < b.index)) b = {v, i};
    }
    return b;
  }
  template <class F>
  FAULTLINE_DEV void once(F f) const {
    if (lane() == 0) f();
  }
  /// Makes the writes of each and once visible to the wave.
  FAULTLINE_DEV void sync() const { wave_sync(); }
};

#if defined(FAULTLINE_TILE_SM90)
// mma.sync m16n8k{32 bytes}: lane = 4 g + t. Operand A: rows g and g + 8; B: column g; both take 16-byte chunk t of a 64-byte
// block: words 0-1 feed the first instruction, words 2-3 the second. (Any bijection of K is right if A and B share it.)
template <int M, int N>
struct Acc {
  static constexpr int kRowTile = 16, kColumnTile = 8, kHalves = 1;
  static constexpr int kI = M / 16, kJ = N / 8 / kWaves;
  static_assert(M % 16 == 0 && N % (8 * kWaves) == 0);
  static constexpr int kElements = 4;
  float v[kI][kJ][4];
  static FAULTLINE_DEV int operand_column(int j) { return (wave_index() * kJ + j) * 8 + lane() / 4; }
  static FAULTLINE_DEV int operand_chunk(int) { return lane() % 4; }
  static FAULTLINE_DEV int row(int i, int e) { return i * 16 + lane() / 4 + (e >> 1) * 8; }
  static FAULTLINE_DEV int column(int j, int e) { return (wave_index() * kJ + j) * 8 + lane() % 4 * 2 + (e & 1); }
};
template <class T, int M, int N, class LoadA, class LoadB>
FAULTLINE_DEV void block_step(Acc<M, N>& c, LoadA load_a, LoadB load_b) {
  using A = Acc<M, N>;
FAULTLINE_UNROLL
  for (int i = 0; i < A::kI; ++i) {
    const Chunk a0 = load_a(i * 16 + lane() / 4, lane() % 4), a1 = load_a(i * 16 + 8 + lane() / 4, lane() % 4);
FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) {
      const Chunk b = load_b(j, 0);
      mma16x8<T>(c.v[i][j], a0[0], a1[0], a0[1], a1[1], b[0], b[1]);
      mma16x8<T>(c.v[i][j], a0[2], a1[2], a0[3], a1[3], b[2], b[3]);
    }
  }
}
#else
// MFMA. Narrow, 16x16x32 bytes: lane l holds A row l%16, B column l%16, chunk l/16 of a 64-byte block (two instructions);
// C column l%16, rows 4(l/16)+e. Wide, 32x32x16 bytes: A row l%32, B column l%32, chunks l/32 and l/32+2 (four
// instructions); C column l%32, rows 8(e/4) + 4(l/32) + e%4. Source: AMD Instinct MI300 ISA, "Matrix arithmetic instructions".
template <int M, int N>
struct Acc {
  static constexpr bool kWide = M % 32 == 0 && N % 128 == 0;
  static constexpr int kTile = kWide ? 32 : 16, kHalves = kWide ? 2 : 1;
  static constexpr int kI = M / kTile, kJ = N / kTile / kWaves;
  static_assert(M % 16 == 0 && N % (16 * kWaves) == 0);
  static constexpr int kElements = kWide ? 16 : 4;
  template <bool Wide, class = void>
  struct Fragment {
    using type = f4;
  };
  template <class U>
  struct Fragment<true, U> {
    using type = f16v;
  };
  typename Fragment<kWide>::type v[kI][kJ];
  static FAULTLINE_DEV int operand_column(int j) { return (wave_index() * kJ + j) * kTile + lane() % kTile; }
  static FAULTLINE_DEV int operand_chunk(int half) { return lane() / kTile + 2 * half; }
  static FAULTLINE_DEV int row(int i, int e) {
    return kWide ? i * 32 + 8 * (e / 4) + 4 * (lane() / 32) + e % 4 : i * 16 + 4 * (lane() / 16) + e;
  }
  static FAULTLINE_DEV int column(int j, int) { return (wave_index() * kJ + j) * kTile + lane() % kTile; }
};
FAULTLINE_DEV std::uint64_t fragment(Chunk c, int f) {
  return static_cast<std::uint64_t>(c[2 * f + 1]) << 32 | static_cast<std::uint64_t>(c[2 * f]);
}
template <class T, int M, int N, class LoadA, class LoadB>
FAULTLINE_DEV void block_step(Acc<M, N>& c, LoadA load_a, LoadB load_b) {
  using A = Acc<M, N>;
FAULTLINE_UNROLL
  for (int h = 0; h < A::kHalves; ++h) {
    Chunk a[A::kI];
FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) a[i] = load_a(i * A::kTile + lane() % A::kTile, A::operand_chunk(h));
FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j) {
      const Chunk b = load_b(j, h);
FAULTLINE_UNROLL
      for (int f = 0; f < 2; ++f) {
FAULTLINE_UNROLL
        for (int i = 0; i < A::kI; ++i) {
          if constexpr (A::kWide) {
            c.v[i][j] = mfma32<T>(fragment(a[i], f), fragment(b, f), c.v[i][j]);
          } else {
            c.v[i][j] = mfma16<T>(fragment(a[i], f), fragment(b, f), c.v[i][j]);
          }
        }
      }
    }
  }
}
#endif

/// The `after` of mma_stream that does nothing.
struct NoFold {
  FAULTLINE_DEV void operator()(int) const {}
};

FAULTLINE_DEV Chunk load_chunk(const std::uint8_t* p) { return *reinterpret_cast<const Chunk*>(p); }

FAULTLINE_DEV void copy16(std::uint8_t* to, const std::uint8_t* from) { *reinterpret_cast<Chunk*>(to) = load_chunk(from); }
FAULTLINE_DEV void store_bf16(std::uint8_t* to, float v) { *reinterpret_cast<std::uint16_t*>(to) = to_bf16(v); }

/// LDS that mma_columns needs to turn N columns.
template <int N>
inline constexpr int kTurnedBytes = N * (64 + kPad);

struct Block {
  FAULTLINE_DEV int x() const { return block_x(); }
  FAULTLINE_DEV int y() const { return block_y(); }
  FAULTLINE_DEV int z() const { return block_z(); }
  FAULTLINE_DEV void barrier() const { sync(); }
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
  template <class F>
  FAULTLINE_DEV void once(F f) const {
    if (thread_index() == 0) f();
  }
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

  /// The one large array of a kernel. On sm_90 it is dynamic shared memory, because static arrays end at 48 KiB there;
  /// runtime/cuda.cpp gives its size at launch.
  template <int N>
  static FAULTLINE_DEV Lds<std::uint8_t> scratch() {
#if defined(FAULTLINE_TILE_SM90)
    extern __shared__ __align__(16) std::uint8_t dynamic[];
    return dynamic;
#else
    return shared<std::uint8_t, N, 99>();
#endif
  }

  template <int M, int N>
  FAULTLINE_DEV void zero(Acc<M, N>& c) const {
FAULTLINE_UNROLL
    for (int i = 0; i < Acc<M, N>::kI; ++i)
FAULTLINE_UNROLL
      for (int j = 0; j < Acc<M, N>::kJ; ++j)
FAULTLINE_UNROLL
        for (int e = 0; e < Acc<M, N>::kElements; ++e) c.v[i][j][e] = 0;
  }
  /// f(row, column, float& value) on every element, each by the thread that owns it.
  template <int M, int N, class F>
  FAULTLINE_DEV void map(Acc<M, N>& c, F f) const {
    using A = Acc<M, N>;
FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i)
FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; ++j)
FAULTLINE_UNROLL
        for (int e = 0; e < A::kElements; ++e) {
          float v = c.v[i][j][e];
          f(A::row(i, e), A::column(j, e), v);
          c.v[i][j][e] = v;
        }
  }
  /// total += part * scale(row, column); part = 0.
  template <int M, int N, class F>
  FAULTLINE_DEV void fold(Acc<M, N>& total, Acc<M, N>& part, F scale) const {
    using A = Acc<M, N>;
FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i)
FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; ++j)
FAULTLINE_UNROLL
        for (int e = 0; e < A::kElements; ++e) {
          total.v[i][j][e] = fused(part.v[i][j][e], scale(A::row(i, e), A::column(j, e)), total.v[i][j][e]);
          part.v[i][j][e] = 0;
        }
  }

  /// c += rows x weights^T over K blocks [first, last) of 64 bytes; first and last are even. row(i) is the address of A's row i
  /// (never out of range: the caller clamps), weights is pre-shuffled with `blocks` K blocks a row (ops/shuffle.h), column0 a
  /// multiple of 16. A is staged in LDS, double buffered and padded; B goes from memory to registers, one step ahead.
  /// after(step) runs when 128 bytes of K are done. Rows from `valid` on are not computed on the CPU.
  template <class T, int M, int N, int Tag, class Row, class After>
  FAULTLINE_DEV void mma_stream(Acc<M, N>& c, Row row, int /*valid*/, const std::uint8_t* weights, int blocks, int column0,
                                int first, int last, After after) const {
    using A = Acc<M, N>;
    constexpr int kLine = kStepBytes + kPad, kLoads = (M * 8 + kThreads - 1) / kThreads;
    Lds<std::uint8_t> stage = shared<std::uint8_t, 2 * M * kLine, Tag>();
    if (first >= last) return;
    const std::uint8_t* source[kLoads];
    Chunk next_a[kLoads], b[2][A::kJ][A::kHalves], next_b[2][A::kJ][A::kHalves];
    const std::uint8_t* column[A::kJ][A::kHalves];
FAULTLINE_UNROLL
    for (int q = 0; q < kLoads; ++q) {
      const int index = thread_index() + q * kThreads;
      source[q] = row(index / 8 < M ? index / 8 : M - 1) + index % 8 * 16;
    }
FAULTLINE_UNROLL
    for (int j = 0; j < A::kJ; ++j)
FAULTLINE_UNROLL
      for (int h = 0; h < A::kHalves; ++h) {
        const int n = column0 + A::operand_column(j);
        column[j][h] = weights + static_cast<std::size_t>(n / 16) * blocks * 1024 + (A::operand_chunk(h) * 16 + n % 16) * 16;
      }
    auto fetch_a = [&](int block) {
FAULTLINE_UNROLL
      for (int q = 0; q < kLoads; ++q)
        if (M * 8 % kThreads == 0 || thread_index() + q * kThreads < M * 8)
          next_a[q] = load_chunk(source[q] + static_cast<std::size_t>(block) * 64);
    };
    auto store_a = [&](int buffer) {
FAULTLINE_UNROLL
      for (int q = 0; q < kLoads; ++q) {
        const int index = thread_index() + q * kThreads;
        if (M * 8 % kThreads == 0 || index < M * 8)
          *reinterpret_cast<Chunk*>(&stage[buffer * M * kLine + index / 8 * kLine + index % 8 * 16]) = next_a[q];
      }
    };
    auto fetch_b = [&](Chunk(&to)[2][A::kJ][A::kHalves], int block) {
FAULTLINE_UNROLL
      for (int s = 0; s < 2; ++s)
FAULTLINE_UNROLL
        for (int j = 0; j < A::kJ; ++j)
FAULTLINE_UNROLL
          for (int h = 0; h < A::kHalves; ++h)
            to[s][j][h] = load_chunk(column[j][h] + static_cast<std::size_t>(block + s) * 1024);
    };
    fetch_a(first);
    fetch_b(b, first);
    store_a(0);
    sync();
    int buffer = 0;
    for (int block = first; block < last; block += 2) {
      const bool more = block + 2 < last;
      if (more) {
        fetch_a(block + 2);
        fetch_b(next_b, block + 2);
      }
FAULTLINE_UNROLL
      for (int s = 0; s < 2; ++s) {
        block_step<T>(
            c,
            [&](int r, int chunk) {
              return *reinterpret_cast<const Chunk*>(&stage[buffer * M * kLine + r * kLine + s * 64 + chunk * 16]);
            },
            [&](int j, int h) { return b[s][j][h]; });
      }
      after(block / 2);
      if (more) {
        store_a(buffer ^ 1);
FAULTLINE_UNROLL
        for (int s = 0; s < 2; ++s)
FAULTLINE_UNROLL
          for (int j = 0; j < A::kJ; ++j)
FAULTLINE_UNROLL
            for (int h = 0; h < A::kHalves; ++h) b[s][j][h] = next_b[s][j][h];
      }
      sync();
      buffer ^= 1;
    }
  }

  /// c += A x B^T over `bytes` of K, a multiple of 64. A: M rows, lda bytes apart (LDS or global); B: row n at b + n * ldb in
  /// global memory, readable for all N.
  template <class T, int M, int N, class PointerA>
  FAULTLINE_DEV void mma_rows(Acc<M, N>& c, PointerA a, int lda, const std::uint8_t* b, std::size_t ldb, int bytes) const {
    using A = Acc<M, N>;
    for (int k = 0; k < bytes; k += 64) {
      block_step<T>(
          c, [&](int r, int chunk) { return *reinterpret_cast<const Chunk*>(&a[r * lda + k + chunk * 16]); },
          [&](int j, int h) { return load_chunk(b + A::operand_column(j) * ldb + k + A::operand_chunk(h) * 16); });
    }
  }

  /// c += A x B, A: M x P in LDS, rows lda bytes apart; B: P rows of N in global memory, ldb bytes apart, of which `valid` exist
  /// (the others count as zero). B is turned through `turned` (kTurnedBytes<N> of LDS), 64 bytes of a column at a time.
  /// Waits for the block before it writes there; the caller waits before it uses that memory again.
  template <class T, int M, int N, int P>
  FAULTLINE_DEV void mma_columns(Acc<M, N>& c, Lds<std::uint8_t> a, int lda, const std::uint8_t* b, std::size_t ldb,
                                 int valid, Lds<std::uint8_t> turned) const {
    using A = Acc<M, N>;
    // A work item turns kTokens rows of 16 bytes; neighbouring lanes write neighbouring words of one LDS row.
    constexpr int kLine = 64 + kPad, kTokens = 4 / T::kBytes, kWide = 16 / T::kBytes, kSpan = 64 / T::kBytes;
    static_assert(P % kSpan == 0);
    FAULTLINE_UNROLL
    for (int first = 0; first < P; first += kSpan) {
      sync();
      for (int i = thread_index(); i < kSpan / kTokens * (N / kWide); i += kThreads) {
        const int t = i % (kSpan / kTokens) * kTokens, d = i / (kSpan / kTokens) * kWide;
        Chunk in[kTokens];
        FAULTLINE_UNROLL
        for (int e = 0; e < kTokens; ++e) {
          in[e] = Chunk{};
          if (first + t + e < valid) in[e] = load_chunk(b + (first + t + e) * ldb + d * T::kBytes);
        }
        FAULTLINE_UNROLL
        for (int o = 0; o < kWide; ++o) {
          std::uint32_t word = 0;
          if constexpr (T::kBytes == 1) {
            FAULTLINE_UNROLL
            for (int e = 0; e < 4; ++e) word |= (in[e][o / 4] >> (o % 4 * 8) & 0xffU) << (8 * e);
          } else {
            FAULTLINE_UNROLL
            for (int e = 0; e < 2; ++e) word |= (in[e][o / 2] >> (o % 2 * 16) & 0xffffU) << (16 * e);
          }
          *reinterpret_cast<std::uint32_t*>(&turned[(d + o) * kLine + t * T::kBytes]) = word;
        }
      }
      sync();
      block_step<T>(
          c,
          [&](int r, int chunk) {
            return *reinterpret_cast<const Chunk*>(&a[r * lda + first * T::kBytes + chunk * 16]);
          },
          [&](int j, int h) {
            return *reinterpret_cast<const Chunk*>(&turned[A::operand_column(j) * kLine + A::operand_chunk(h) * 16]);
          });
    }
  }
};

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
