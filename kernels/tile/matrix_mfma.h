// Matrix products of the tile layer by MFMA (gfx942, and the emulator that runs the same code): accumulators,
// fragments, staging.
#pragma once

#include "kernels/tile/operands.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

// MFMA. Narrow, 16x16x32 bytes: lane l holds A row l%16, B column l%16, chunk l/16 of a 64-byte block (two
// instructions); C column l%16, rows 4(l/16)+e. Wide, 32x32x16 bytes: A row l%32, B column l%32, chunks l/32 and l/32+2
// (four instructions); C column l%32, rows 8(e/4) + 4(l/32) + e%4. Source: AMD Instinct MI300 ISA, "Matrix arithmetic
// instructions".
template <int M, int N>
struct Acc {
  static constexpr bool kWide = kWideProduct<M, N>;
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
  static FAULTLINE_DEV int row(int i, int, int e) {
    return kWide ? i * 32 + 8 * (e / 4) + 4 * (lane() / 32) + e % 4 : i * 16 + 4 * (lane() / 16) + e;
  }
  static FAULTLINE_DEV int column(int, int j, int) { return (wave_index() * kJ + j) * kTile + lane() % kTile; }
};
FAULTLINE_DEV std::uint64_t fragment(Chunk c, int f) {
  return static_cast<std::uint64_t>(c[2 * f + 1]) << 32 | static_cast<std::uint64_t>(c[2 * f]);
}
/// c += A x B over 64 bytes of K, for the tiles [first_j, end_j) of columns of each wave.
template <class T, int M, int N, class LoadA, class LoadB>
FAULTLINE_DEV void block_step(Acc<M, N>& c, LoadA load_a, LoadB load_b, int first_j = 0, int end_j = Acc<M, N>::kJ) {
  using A = Acc<M, N>;
  FAULTLINE_UNROLL
  for (int h = 0; h < A::kHalves; ++h) {
    Chunk a[A::kI];
    FAULTLINE_UNROLL
    for (int i = 0; i < A::kI; ++i) a[i] = load_a(i * A::kTile + lane() % A::kTile, A::operand_chunk(h));
    FAULTLINE_UNROLL
    for (int j = first_j; j < end_j; ++j) {
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
/// Rows of the tallest tile of mma_stream_scaled that fits the registers.
inline constexpr int kTallScaledRows = 64;
/// Shared memory that mma_stream takes from the front of a kernel's scratch.
template <int M>
inline constexpr int kStreamBytes = 0;
/// What mma_stream brings to LDS beside A: nothing, or the rows' scales of a step (mma_stream_scaled).
struct NothingBeside {
  FAULTLINE_DEV void fetch(int) const {}
  FAULTLINE_DEV void put(int) const {}
};
template <int M, class RowScale>
struct ScalesBeside {
  RowScale row_scale;
  Lds<float> memory;  // two buffers of M
  float next = 0;
  FAULTLINE_DEV void fetch(int step) {
    if (thread_index() < M) next = *row_scale(step, thread_index());
  }
  FAULTLINE_DEV void put(int buffer) {
    if (thread_index() < M) memory[buffer * M + thread_index()] = next;
  }
};

/// mma_columns turns this many of N columns at a time: 256 bytes of a row, which is one piece of work for each thread.
template <class T, int N>
inline constexpr int kTurnedColumns = N* T::kBytes < 256 ? N : 256 / T::kBytes;
/// LDS of a kernel's scratch that it needs.
template <class T, int N>
inline constexpr int kTurnedBytes = kTurnedColumns<T, N>*(64 + kPad);

struct Products : Basics {
  /// c += rows x weights^T over K blocks [first, last) of 64 bytes; first and last are even. row(i) is the address of
  /// A's row i (never out of range: the caller clamps), weights is pre-shuffled with `blocks` K blocks a row
  /// (ops/shuffle.h), column0 a multiple of 16. A is staged in LDS, double buffered; B goes from memory to registers,
  /// one step ahead. after(step) runs when 128 bytes of K are done. Rows from `valid` on are not computed on the CPU.
  template <class T, int M, int N, int Tag, class Row, class After>
  FAULTLINE_DEV void mma_stream(Acc<M, N>& c, Row row, int /*valid*/, const std::uint8_t* weights, int blocks,
                                int column0, int first, int last, After after) const {
    stream<T, M, N, Tag>(
        c, row, weights, blocks, column0, first, last, [&](int step, int) { after(step); }, NothingBeside{});
  }

  template <class T, int M, int N, int Tag, class Row, class After, class Beside>
  FAULTLINE_DEV void stream(Acc<M, N>& c, Row row, const std::uint8_t* weights, int blocks, int column0, int first,
                            int last, After after, Beside beside) const {
    using A = Acc<M, N>;
    // A row of a step has all 32 banks to itself; its eight chunks lie in an order of the row's own, so that eight
    // rows' same chunk meets every bank once. (Padding would do so too, but two blocks of 128 rows would not fit 64
    // KiB.)
    constexpr int kLoads = (M * 8 + kThreads - 1) / kThreads;
    Lds<std::uint8_t> stage = shared<std::uint8_t, 2 * M * kStepBytes, Tag>();
    auto place = [](int buffer, int r, int chunk) { return (buffer * M + r) * kStepBytes + (chunk ^ (r % 8)) * 16; };
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
    for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
    for (int h = 0; h < A::kHalves; ++h) {
      const int n = column0 + A::operand_column(j);
      column[j][h] =
          weights + static_cast<std::size_t>(n / 16) * blocks * 1024 + (A::operand_chunk(h) * 16 + n % 16) * 16;
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
          *reinterpret_cast<Chunk*>(&stage[place(buffer, index / 8, index % 8)]) = next_a[q];
      }
    };
    auto fetch_b = [&](Chunk(&to)[2][A::kJ][A::kHalves], int block) {
      FAULTLINE_UNROLL
      for (int s = 0; s < 2; ++s) FAULTLINE_UNROLL
      for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
      for (int h = 0; h < A::kHalves; ++h)
        to[s][j][h] = load_chunk(column[j][h] + static_cast<std::size_t>(block + s) * 1024);
    };
    fetch_a(first);
    beside.fetch(first / 2);
    fetch_b(b, first);
    store_a(0);
    beside.put(0);
    sync();
    int buffer = 0;
    for (int block = first; block < last; block += 2) {
      const bool more = block + 2 < last;
      if (more) {
        fetch_a(block + 2);
        beside.fetch(block / 2 + 1);
        fetch_b(next_b, block + 2);
      }
      FAULTLINE_UNROLL
      for (int s = 0; s < 2; ++s) {
        block_step<T>(
            c,
            [&](int r, int chunk) { return *reinterpret_cast<const Chunk*>(&stage[place(buffer, r, s * 4 + chunk)]); },
            [&](int j, int h) { return b[s][j][h]; });
      }
      after(block / 2, buffer);
      if (more) {
        store_a(buffer ^ 1);
        beside.put(buffer ^ 1);
        FAULTLINE_UNROLL
        for (int s = 0; s < 2; ++s) FAULTLINE_UNROLL
        for (int j = 0; j < A::kJ; ++j) FAULTLINE_UNROLL
        for (int h = 0; h < A::kHalves; ++h) b[s][j][h] = next_b[s][j][h];
      }
      sync();
      buffer ^= 1;
    }
  }

  /// total += the same product with block scales: each 128 bytes of K (a step) count *weight_scale(step) *
  /// *row_scale(step, i). The rows' scales go through LDS: a lane needs those of many rows, and their addresses would
  /// fill its registers.
  template <class T, int M, int N, int Tag, class Row, class WeightScale, class RowScale>
  FAULTLINE_DEV void mma_stream_scaled(Acc<M, N>& total, Row row, int /*valid*/, const std::uint8_t* weights,
                                       int blocks, int column0, int first, int last, WeightScale weight_scale,
                                       RowScale row_scale) const {
    Acc<M, N> part;
    zero(part);
    Lds<float> scales = shared<float, 2 * M, 98>();
    stream<T, M, N, Tag>(
        part, row, weights, blocks, column0, first, last,
        [&](int step, int buffer) {
          const float sw = *weight_scale(step);
          fold(total, part, [&](int i, int) { return sw * scales[buffer * M + i]; });
        },
        ScalesBeside<M, RowScale>{row_scale, scales});
  }

  /// The rows that fetch named are there for every thread, and all threads are done with the tile before.
  FAULTLINE_DEV void arrived() const {}

  /// c += A x B^T over `bytes` of K, a multiple of 64. A: M rows, lda bytes apart (LDS or global); B: row n at b + n *
  /// ldb in global memory, readable for all N.
  template <class T, int M, int N, class PointerA>
  FAULTLINE_DEV void mma_rows(Acc<M, N>& c, PointerA a, int lda, const std::uint8_t* b, std::size_t ldb,
                              int bytes) const {
    using A = Acc<M, N>;
    for (int k = 0; k < bytes; k += 64) {
      block_step<T>(
          c, [&](int r, int chunk) { return *reinterpret_cast<const Chunk*>(&a[r * lda + k + chunk * 16]); },
          [&](int j, int h) { return load_chunk(b + A::operand_column(j) * ldb + k + A::operand_chunk(h) * 16); });
    }
  }

  /// mma_rows of queries put by put_query.
  template <class T, int M, int N, class PointerA>
  FAULTLINE_DEV void mma_scores(Acc<M, N>& c, PointerA a, int lda, const std::uint8_t* b, std::size_t ldb,
                                int bytes) const {
    mma_rows<T>(c, a, lda, b, ldb, bytes);
  }

  /// c += A x B, A: M x P in LDS, rows lda bytes apart; B: P rows of N in global memory, ldb bytes apart, of which
  /// `valid` exist (the others count as zero). B is turned through `turned` (kTurnedBytes<T, N> of LDS), 64 bytes of a
  /// column at a time. The caller waits for the block before, and again before that memory is used otherwise.
  template <class T, int M, int N, int P>
  FAULTLINE_DEV void mma_columns(Acc<M, N>& c, Lds<std::uint8_t> a, int lda, const std::uint8_t* b, std::size_t ldb,
                                 int valid, Lds<std::uint8_t> turned) const {
    using A = Acc<M, N>;
    // A thread turns kTokens rows of 16 bytes; neighbouring lanes write neighbouring words of one LDS row. A wave turns
    // the columns that it multiplies, so waves need not wait for each other.
    constexpr int kLine = 64 + kPad, kTokens = 4 / T::kBytes, kPiece = 16 / T::kBytes, kSpan = 64 / T::kBytes;
    constexpr int kColumns = kTurnedColumns<T, N>, kParts = N / kColumns, kEach = A::kJ / kParts;
    static_assert(P % kSpan == 0 && kSpan / kTokens * (kColumns / kPiece) == kThreads && A::kJ % kParts == 0);
    const int t = thread_index() % (kSpan / kTokens) * kTokens, to = thread_index() / (kSpan / kTokens) * kPiece;
    const int tile = to / A::kTile % kEach;  // of the wave's own in a part
    FAULTLINE_UNROLL
    for (int step = 0; step < P / kSpan * kParts; ++step) {
      const int first = step / kParts * kSpan, first_j = step % kParts * kEach;
      const int d = (wave_index() * A::kJ + first_j + tile) * A::kTile + to % A::kTile;
      Chunk in[kTokens];
      FAULTLINE_UNROLL
      for (int e = 0; e < kTokens; ++e) {
        in[e] = Chunk{};
        if (first + t + e < valid) in[e] = load_chunk(b + (first + t + e) * ldb + d * T::kBytes);
      }
      wave_sync();
      FAULTLINE_UNROLL
      for (int o = 0; o < kPiece; ++o) {
        std::uint32_t word = 0;
        if constexpr (T::kBytes == 1) {
          FAULTLINE_UNROLL
          for (int e = 0; e < 4; ++e) word |= (in[e][o / 4] >> (o % 4 * 8) & 0xffU) << (8 * e);
        } else {
          FAULTLINE_UNROLL
          for (int e = 0; e < 2; ++e) word |= (in[e][o / 2] >> (o % 2 * 16) & 0xffffU) << (16 * e);
        }
        *reinterpret_cast<std::uint32_t*>(&turned[(to + o) * kLine + t * T::kBytes]) = word;
      }
      wave_sync();
      block_step<T>(
          c,
          [&](int r, int chunk) {
            return *reinterpret_cast<const Chunk*>(&a[r * lda + first * T::kBytes + chunk * 16]);
          },
          [&](int j, int h) {
            const int column = (wave_index() * kEach + j - first_j) * A::kTile + lane() % A::kTile;
            return *reinterpret_cast<const Chunk*>(&turned[column * kLine + A::operand_chunk(h) * 16]);
          },
          first_j, first_j + kEach);
    }
  }
};

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
