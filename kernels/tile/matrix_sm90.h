// Matrix products of the tile layer on sm_90a. GEMMs (mma_stream): both operands come by asynchronous copies into a
// pipeline in shared memory, wgmma multiplies. Attention (mma_rows, mma_columns): tiles of cached tokens come the same
// way, mma.sync multiplies, because 16 query rows would waste three quarters of a wgmma.
#pragma once

#include "kernels/tile/wgmma_sm90.h"

namespace faultline::kernels::sm90 {

/// Accumulators of mma_stream: the transposed product. A warpgroup owns 64 of the 128 weight columns as the 64 rows of
/// wgmma, the M rows are its N. In pre-shuffled weights the first 8 rows of each group of 16 lie at one stride, so the
/// first warpgroup takes those and the second the others: a stage is then 16 KiB copied as it stands in memory, and
/// wgmma's unswizzled layout describes it.
template <int M, int N>
struct StreamAcc {
  static_assert(N == kTileColumns && (M == 32 || M == 64 || M == 128));
  static constexpr int kI = 1, kJ = M / 8, kElements = 4;
  float v[kI][kJ][4];
  static FAULTLINE_DEV int row(int, int j, int e) { return j * 8 + lane() % 4 * 2 + (e & 1); }
  static FAULTLINE_DEV int column(int, int, int e) {
    return 16 * (wave_index() % 4 * 2 + (e >> 1)) + wave_index() / 4 * 8 + lane() / 4;
  }
};

/// Accumulators of mma_rows: m16n8, lane = 4 g + t, rows g and g + 8, columns 2 t and 2 t + 1.
template <int M, int N>
struct Acc {
  static constexpr int kI = M / 16, kJ = N / 8 / kWaves, kElements = 4;
  static_assert(M % 16 == 0 && N % (8 * kWaves) == 0);
  float v[kI][kJ][4];
  static FAULTLINE_DEV int row(int i, int, int e) { return i * 16 + lane() / 4 + (e >> 1) * 8; }
  static FAULTLINE_DEV int column(int, int j, int e) { return (wave_index() * kJ + j) * 8 + lane() % 4 * 2 + (e & 1); }
};

/// Accumulators of mma_scores. Tiles of 16 rows: half of the warps take the first half of K and the others the second,
/// 16 tokens each, so that the queries, the same for all tokens, are read by half as many warps; the kernel adds the
/// parts.
template <int M>
inline constexpr int kScoreParts = M == 16 ? 2 : 1;
template <int M>
FAULTLINE_DEV int score_part() {
  return kScoreParts<M> == 2 ? wave_index() / (kWaves / 2) : 0;
}
template <int M, int N>
struct ScoreAcc {
  static constexpr int kI = M / 16, kJ = N / 8 / kWaves * kScoreParts<M>, kElements = 4;
  static_assert(M % 16 == 0 && N % (8 * kWaves) == 0);
  float v[kI][kJ][4];
  static FAULTLINE_DEV int row(int i, int, int e) { return i * 16 + lane() / 4 + (e >> 1) * 8; }
  static FAULTLINE_DEV int column(int, int j, int e) {
    return (wave_index() % (kWaves / kScoreParts<M>)*kJ + j) * 8 + lane() % 4 * 2 + (e & 1);
  }
};
/// Floats from one row of scores to the next, so that rows do not start in the same bank.
template <int N>
inline constexpr int kScoreLine = N + 8;

/// Accumulators of mma_columns. FP8: turning pairs of bytes puts the even columns of 16 into one tile and the odd ones
/// into the next.
template <class T, int M, int N>
struct ValueAcc {
  static constexpr int kI = M / 16, kJ = N / 8 / kWaves, kElements = 4;
  static_assert(M % 16 == 0 && N % (16 * kWaves) == 0);
  float v[kI][kJ][4];
  static FAULTLINE_DEV int row(int i, int, int e) { return i * 16 + lane() / 4 + (e >> 1) * 8; }
  static FAULTLINE_DEV int column(int, int j, int e) {
    const int n = lane() % 4 * 2 + (e & 1);
    return T::kBytes == 1 ? wave_index() * kJ * 8 + j / 2 * 16 + 2 * n + j % 2 : (wave_index() * kJ + j) * 8 + n;
  }
};
// Attention of FP8. Below wgmma, sm_90 multiplies FP8 by turning both operands into half floats, which hold every code
// exactly (the compiler writes that out for mma.sync). Queries are turned once, into shared memory, instead of for
// every tile; probabilities stay half floats; keys and values are turned as they come.
template <class T>
inline constexpr int kQueryBytes = 2;
template <class T>
inline constexpr int kProbabilityBytes = 2;
/// Puts 16 bytes of a query at their place in a row; FP8: sixteen values in the order in which mma_rows meets those of
/// the keys, four bytes of a key a lane: the lower halves of four words, then the upper ones.
template <class T>
FAULTLINE_DEV void put_query(Lds<std::uint8_t> row, int chunk, const std::uint8_t* from) {
  const Chunk c = load_chunk(from);
  if constexpr (T::kBytes == 2) {
    *reinterpret_cast<Chunk*>(row + chunk * 16) = c;
  } else {
    Chunk low, high;
    FAULTLINE_UNROLL
    for (int i = 0; i < 4; ++i) low[i] = half_of_fp8(c[i]), high[i] = half_of_fp8(c[i] >> 16);
    *reinterpret_cast<Chunk*>(row + chunk * 32) = low;
    *reinterpret_cast<Chunk*>(row + chunk * 32 + 16) = high;
  }
}
/// Puts the probability of token t, 0 to 1, into its row; FP8: times kFp8Target.
template <class T>
FAULTLINE_DEV void put_probability(Lds<std::uint8_t> row, int t, float e) {
  if constexpr (T::kBytes == 2) {
    store_bf16(&row[2 * t], e);
  } else {
    *reinterpret_cast<std::uint16_t*>(&row[2 * t]) = convert_half(e * kFp8Target);
  }
}

inline constexpr int kTallScaledRows = 128;
template <class T, int N>
inline constexpr int kTurnedBytes = 0;  // values are turned on their way to registers
template <int M>
inline constexpr int kStreamBytes = kStreamAllBytes<M>;

/// The `after` of mma_stream that does nothing.
struct NoFold {
  FAULTLINE_DEV void operator()(int) const {}
};

/// K or V of two tiles of 64 cached tokens in shared memory, kAfter bytes into the block's dynamic part. A thread
/// copies the same 16 bytes of every kAtOnce-th row, so that all it computes for a copy is the next row's address.
/// (Rows by the copy engine, cp.async.bulk, were no faster for MLA decode and slower for prefill: one instruction a row
/// and lane.)
template <class T, int kElements, int kAfter>
struct StagedRows {
  static constexpr int kRowBytes = kElements * T::kBytes, kLine = kRowBytes + kPad, kBytes = kStagedBytes<kRowBytes>;
  static constexpr int kChunks = kRowBytes / 16, kAtOnce = kThreads / kChunks;
  static_assert(kLine % 128 == 16 || kLine % 128 == 80, "ldmatrix would meet bank conflicts");
  int offset = 0;
  static constexpr std::size_t stride = kLine;
  FAULTLINE_DEV const std::uint8_t* rows(const std::uint8_t*) const { return dynamic_memory() + offset; }
  /// Starts copying `there` rows (the rest becomes zeros) from base + at into slot 0 or 1.
  FAULTLINE_DEV void fetch(int slot, const std::uint8_t* base, std::size_t at, std::size_t row_stride, int there) {
    offset = kAfter + slot * (kBytes / 2);
    const int row = thread_index() / kChunks, chunk = thread_index() % kChunks;
    if (row < kAtOnce) {
      const std::uint8_t* from = base + at + row * row_stride + chunk * 16;
      const std::uint32_t to = shared_address(dynamic_memory()) + offset + row * kLine + chunk * 16;
      const std::size_t step = kAtOnce * row_stride;
      auto copy = [&](auto is_there) {
        FAULTLINE_UNROLL
        for (int q = 0; q * kAtOnce < kPageTokens; ++q) {
          const int r = row + q * kAtOnce;
          if ((q + 1) * kAtOnce > kPageTokens && r >= kPageTokens) break;
          copy_async16(to + q * kAtOnce * kLine, is_there(r) ? from : base, is_there(r));
          from += step;
        }
      };
      if (there >= kPageTokens) {
        copy([](int) { return true; });
      } else {
        copy([&](int r) { return r < there; });
      }
    }
    copies_commit();
  }
};

// Descriptors of wgmma operands in shared memory, K-major. Weights: no swizzle, 8x16-byte matrices 256 bytes apart in K
// and 2048 in the columns. Rows: lines of 128 bytes in groups of 8, 16-byte pieces swizzled by the row. Fields: PTX
// ISA, "Matrix descriptor".
FAULTLINE_DEV std::uint64_t weight_descriptor(std::uint32_t address) {
  return (address & 0x3ffffU) >> 4 | std::uint64_t{256 >> 4} << 16 | std::uint64_t{2048 >> 4} << 32;
}
FAULTLINE_DEV std::uint64_t row_descriptor(std::uint32_t address) {
  return (address & 0x3ffffU) >> 4 | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
}

template <int J>
FAULTLINE_DEV void hold(float (&d)[J][4]) {  // values stay in these registers from here on
  FAULTLINE_UNROLL
  for (int j = 0; j < J; ++j) asm volatile("" : "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])::"memory");
}

struct Products : Basics {
  /// See matrix_mfma.h. FP8 sums leave the tensor core every 128 bytes of K, because it keeps 14 bits of them
  /// (DeepSeek-V3 technical report, arXiv 2412.19437, section 3.3.2); bf16 sums are floats there.
  template <class T, int M, int N, int Tag, class Row>
  FAULTLINE_DEV void mma_stream(StreamAcc<M, N>& c, Row row, int, const std::uint8_t* weights, int blocks, int column0,
                                int first, int last, NoFold) const {
    if constexpr (T::kBytes == 1) {
      stream<T, M, true, false>(
          c, row, weights, blocks, column0, first, last, [](int) { return nullptr; }, [](int, int) { return nullptr; });
    } else {
      stream<T, M, false, false>(
          c, row, weights, blocks, column0, first, last, [](int) { return nullptr; }, [](int, int) { return nullptr; });
    }
  }
  template <class T, int M, int N, int Tag, class Row, class WeightScale, class RowScale>
  FAULTLINE_DEV void mma_stream_scaled(StreamAcc<M, N>& total, Row row, int, const std::uint8_t* weights, int blocks,
                                       int column0, int first, int last, WeightScale weight_scale,
                                       RowScale row_scale) const {
    stream<T, M, true, true>(total, row, weights, blocks, column0, first, last, weight_scale, row_scale);
  }

  FAULTLINE_DEV void arrived() const {
    copies_wait<0>();
    sync();
  }

  /// See gpu.h; four (FP8) or two floats that one thread holds side by side go in one store.
  template <class T, int M, int N, class To, class F>
  FAULTLINE_DEV void store(const ValueAcc<T, M, N>& c, To to, F f) const {
    using A = ValueAcc<T, M, N>;
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
    for (int h = 0; h < 2; ++h) {
      float* row = to(A::row(i, 0, 2 * h));
      if (row == nullptr) continue;
      FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; j += 2) {
        const float(&a)[4] = c.v[i][j];
        const float(&b)[4] = c.v[i][j + 1];
        float* at = row + A::column(i, j, 0);
        if constexpr (T::kBytes == 1) {
          *reinterpret_cast<float4*>(at) = {f(a[2 * h]), f(b[2 * h]), f(a[2 * h + 1]), f(b[2 * h + 1])};
        } else {
          *reinterpret_cast<float2*>(at) = {f(a[2 * h]), f(a[2 * h + 1])};
          *reinterpret_cast<float2*>(at + 8) = {f(b[2 * h]), f(b[2 * h + 1])};
        }
      }
    }
  }

  /// c += A x B^T over `bytes` of K, a multiple of 64. A: M rows, lda bytes apart; B: row n at b + n * ldb; both in
  /// shared memory, lines padded so that eight rows of 16 bytes meet no bank twice.
  template <class T, int M, int N>
  FAULTLINE_DEV void mma_rows(Acc<M, N>& c, const std::uint8_t* a, int lda, const std::uint8_t* b, std::size_t ldb,
                              int bytes) const {
    using A = Acc<M, N>;
    const std::uint32_t from_a = shared_address(a) + lane() % 16 * lda + lane() / 16 * 16;
    const std::uint32_t from_b =
        shared_address(b) + (wave_index() * A::kJ * 8 + lane() % 8) * static_cast<int>(ldb) + lane() / 8 * 16;
    FAULTLINE_UNROLL
    for (int k = 0; k < bytes; k += 64) {
      std::uint32_t fb[A::kJ][4];
      FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; ++j) load_matrices(fb[j], from_b + j * 8 * static_cast<int>(ldb) + k);
      FAULTLINE_UNROLL
      for (int i = 0; i < A::kI; ++i) {
        std::uint32_t low[4], high[4];
        load_matrices(low, from_a + i * 16 * lda + k);
        load_matrices(high, from_a + i * 16 * lda + k + 32);
        FAULTLINE_UNROLL
        for (int j = 0; j < A::kJ; ++j) {
          mma16x8<T>(c.v[i][j], low, fb[j][0], fb[j][1]);
          mma16x8<T>(c.v[i][j], high, fb[j][2], fb[j][3]);
        }
      }
    }
  }

  /// scores += A x B^T over `bytes` of B's K, a multiple of 64. A: M rows put by put_query, lda bytes apart; B: row n
  /// at b + n * ldb; both in shared memory, lines padded so that eight rows of 16 bytes meet no bank twice.
  template <class T, int M, int N>
  FAULTLINE_DEV void mma_scores(ScoreAcc<M, N>& c, const std::uint8_t* a, int lda, const std::uint8_t* b,
                                std::size_t ldb, int bytes) const {
    using A = ScoreAcc<M, N>;
    constexpr int kWiden = kQueryBytes<T> / T::kBytes, kProducts = 2 * kWiden;  // of 32 bytes of A each
    const std::uint32_t from_a = shared_address(a) + lane() % 16 * lda + lane() / 16 * 16;
    const std::uint32_t from_b = shared_address(b) +
                                 (A::column(0, 0, 0) - lane() % 4 * 2 + lane() % 8) * static_cast<int>(ldb) +
                                 lane() / 8 * 16;
    constexpr int kParts = kScoreParts<M>;
    const int blocks = bytes / 64, steps = (blocks + kParts - 1) / kParts, begin = score_part<M>() * steps * 64;
    FAULTLINE_UNROLL
    for (int step = 0; step < steps; ++step) {
      const int k = begin + step * 64;
      if (blocks % kParts != 0 && step + 1 == steps && k >= bytes) break;  // the second part is a block shorter
      std::uint32_t fb[A::kJ][4];
      FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; ++j) load_matrices(fb[j], from_b + j * 8 * static_cast<int>(ldb) + k);
      FAULTLINE_UNROLL
      for (int p = 0; p < kProducts; ++p) {
        FAULTLINE_UNROLL
        for (int i = 0; i < A::kI; ++i) {
          std::uint32_t fa[4];
          load_matrices(fa, from_a + i * 16 * lda + k * kWiden + p * 32);
          FAULTLINE_UNROLL
          for (int j = 0; j < A::kJ; ++j) {
            if constexpr (T::kBytes == 1) {
              mma16x8<Half>(c.v[i][j], fa, half_of_fp8(fb[j][p]), half_of_fp8(fb[j][p] >> 16));
            } else {
              mma16x8<T>(c.v[i][j], fa, fb[j][2 * p], fb[j][2 * p + 1]);
            }
          }
        }
      }
    }
  }

  /// c += A x B. A: M x P in shared memory, put by put_probability, rows lda bytes apart; B: P rows of N in shared
  /// memory, of which those past the valid ones are zeros.
  template <class T, int M, int N, int P>
  FAULTLINE_DEV void mma_columns(ValueAcc<T, M, N>& c, const std::uint8_t* a, int lda, const std::uint8_t* b,
                                 std::size_t ldb, int, const std::uint8_t*) const {
    using A = ValueAcc<T, M, N>;
    const std::uint32_t from_a = shared_address(a) + lane() % 16 * lda + lane() / 16 * 16;
    const std::uint32_t from_b =
        shared_address(b) + lane() * static_cast<int>(ldb) + wave_index() * A::kJ * 8 * T::kBytes;
    FAULTLINE_UNROLL
    for (int first = 0; first < P; first += 32) {  // tokens: two instructions
      std::uint32_t fa[A::kI][2][4];
      FAULTLINE_UNROLL
      for (int i = 0; i < A::kI; ++i) FAULTLINE_UNROLL
      for (int h = 0; h < 2; ++h) load_matrices(fa[i][h], from_a + i * 16 * lda + first * 2 + h * 32);
      FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; j += 2) {
        const std::uint32_t at = from_b + first * static_cast<int>(ldb) + j * 8 * T::kBytes;
        std::uint32_t turned[2][4];
        load_turned(turned[0], at);
        if constexpr (T::kBytes == 2) load_turned(turned[1], at + 16);
        FAULTLINE_UNROLL
        for (int h = 0; h < 2; ++h) {
          FAULTLINE_UNROLL
          for (int o = 0; o < 2; ++o) {
            if constexpr (T::kBytes == 1) {  // pairs of bytes were turned: even columns of 16, then odd ones
              const std::uint32_t bytes = __byte_perm(turned[0][2 * h], turned[0][2 * h + 1], o == 0 ? 0x6420 : 0x7531);
              const std::uint32_t low = half_of_fp8(bytes), high = half_of_fp8(bytes >> 16);
              FAULTLINE_UNROLL
              for (int i = 0; i < A::kI; ++i) mma16x8<Half>(c.v[i][j + o], fa[i][h], low, high);
            } else {
              FAULTLINE_UNROLL
              for (int i = 0; i < A::kI; ++i)
                mma16x8<T>(c.v[i][j + o], fa[i][h], turned[o][2 * h], turned[o][2 * h + 1]);
            }
          }
        }
      }
    }
  }

 private:
  // total += rows x weights^T. Stage s of the pipeline holds step s of 128 bytes of K: the copies of a step start
  // kStages - 2 steps ahead, when every warp is known to be done with the step that used the stage before (each waits
  // for all products but its last). kPromote: a step's product goes to registers of its own and is added to total while
  // the next step multiplies.
  template <class T, int M, bool kPromote, bool kScaled, class Row, class WeightScale, class RowScale>
  FAULTLINE_DEV void stream(StreamAcc<M, kTileColumns>& total, Row row, const std::uint8_t* weights, int blocks,
                            int column0, int first, int last, WeightScale weight_scale, RowScale row_scale) const {
    constexpr int kStages = kStreamStages<M>, kStage = kStreamStageBytes<M>, kScales = kStreamScaleFloats<M>;
    constexpr int kWeights = kTileColumns * kStepBytes, kLoads = M * 8 / kThreads, J = M / 8;
    const int steps = (last - first) / 2;
    if (steps <= 0) return;
    const std::uint32_t pipe = shared_address(dynamic_memory());
    const float* scales = reinterpret_cast<const float*>(dynamic_memory() + kStages * kStage);
    const std::size_t group = static_cast<std::size_t>(blocks) * 1024;  // bytes of 16 weight columns
    const std::uint8_t* from_w = weights + (column0 / 16 + thread_index() / 128) * group +
                                 static_cast<std::size_t>(first) * 1024 + thread_index() % 128 * 16;
    const std::uint8_t* from_a[kLoads];
    FAULTLINE_UNROLL
    for (int q = 0; q < kLoads; ++q) {
      const int index = thread_index() + q * kThreads;
      from_a[q] = row(index / 8) + index % 8 * 16 + static_cast<std::size_t>(first) * 64;
    }
    const std::uint32_t to_a =
        kWeights + thread_index() / 8 * 128 + ((thread_index() % 8 ^ thread_index() / 8 % 8) << 4);
    auto fetch = [&](int step, int stage) {
      const std::uint32_t to = pipe + stage * kStage;
      FAULTLINE_UNROLL
      for (int q = 0; q < 4; ++q)
        copy_async16(to + (thread_index() + q * kThreads) * 16,
                     from_w + 2 * q * group + static_cast<std::size_t>(step) * 2048);
      FAULTLINE_UNROLL
      for (int q = 0; q < kLoads; ++q)
        copy_async16(to + to_a + q * (kThreads / 8 * 128), from_a[q] + static_cast<std::size_t>(step) * kStepBytes);
      if constexpr (kScaled) {
        const std::uint32_t at = pipe + kStages * kStage + stage * kScales * 4 + thread_index() * 4;
        if (thread_index() < M) copy_async4(at, row_scale(first / 2 + step, thread_index()));
        if (thread_index() == M) copy_async4(at, weight_scale(first / 2 + step));
      }
    };
    int stage = 0, before = 0;
    auto advance = [&](int s) {  // step s is there; the copies of a later one start
      copies_wait<kStages - 3>();
      show_to_wgmma();
      sync();
      const int free = stage >= 2 ? stage - 2 : stage + kStages - 2;
      if (s + kStages - 2 < steps) fetch(s + kStages - 2, free);
      copies_commit();
    };
    auto multiply = [&](float(&d)[J][4]) {
      const std::uint32_t at = pipe + stage * kStage;
      const std::uint64_t w = weight_descriptor(at + wave_index() / 4 * 128), a = row_descriptor(at + kWeights);
      wgmma_begin();
      FAULTLINE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (kPromote) {
          if (k == 0) {
            wgmma_first(T{}, d, w, a);
            continue;
          }
        }
        wgmma(T{}, d, w + k * (512 >> 4), a + k * (32 >> 4));
      }
      wgmma_commit();
      before = stage;
      stage = stage + 1 == kStages ? 0 : stage + 1;
    };
    auto add_part = [&](float(&d)[J][4], int from) {
      hold(d);
      const float* factors = scales + from * kScales;
      const float sw = kScaled ? factors[M] : 1.0F;
      FAULTLINE_UNROLL
      for (int j = 0; j < J; ++j) {
        float f0 = 1.0F, f1 = 1.0F;
        if constexpr (kScaled) {
          const float2 two = *reinterpret_cast<const float2*>(factors + j * 8 + lane() % 4 * 2);
          f0 = sw * two.x;
          f1 = sw * two.y;
        }
        total.v[0][j][0] = fused(d[j][0], f0, total.v[0][j][0]);
        total.v[0][j][1] = fused(d[j][1], f1, total.v[0][j][1]);
        total.v[0][j][2] = fused(d[j][2], f0, total.v[0][j][2]);
        total.v[0][j][3] = fused(d[j][3], f1, total.v[0][j][3]);
      }
      hold(total.v[0]);  // now, so that d's registers are free for the next product
    };

    FAULTLINE_UNROLL
    for (int s = 0; s < kStages - 2; ++s) {
      if (s < steps) fetch(s, s);
      copies_commit();
    }
    if constexpr (kPromote) {
      // One product at a time: up to 64 rows another block multiplies meanwhile; with 128 rows, products kept under way
      // over several steps cost registers that the compiler then spills, and were slower.
      for (int s = 0; s < steps; ++s) {
        float part[J][4];
        advance(s);
        multiply(part);
        wgmma_wait<0>();
        add_part(part, before);
      }
    } else {
      for (int s = 0; s < steps; ++s) {
        advance(s);
        multiply(total.v[0]);
        wgmma_wait<1>();
      }
      wgmma_wait<0>();
      hold(total.v[0]);
    }
    copies_wait<0>();
    sync();
  }
};

}  // namespace faultline::kernels::sm90
