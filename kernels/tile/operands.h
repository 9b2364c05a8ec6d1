// What the implementations by MFMA (gfx942 and the emulator, matrix_mfma.h) and by loops (cpu.h) share, so that the
// same text gives the same bits on both: the order in which an element of a product adds its terms, and operands that
// lie in memory as the kernel text names them.
#pragma once

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

template <int M, int N>
struct Acc;

/// Whether a product of M rows and N columns is made of 32x32 tiles, not of 16x16.
template <int M, int N>
inline constexpr bool kWideProduct = M % 32 == 0 && N % 128 == 0;
/// K is added in blocks of 64 bytes, a block in eight pieces of 8 bytes: the n-th piece that is added. An MFMA takes a
/// piece from each group of lanes, those of the first group first; a lane holds 16 bytes, which two instructions use
/// up. 16x16, four groups: 0 2 4 6, then 1 3 5 7. 32x32, two groups that take 16 bytes each twice: 0 2, 1 3, 4 6, 5 7.
template <bool kWide>
FAULTLINE_DEV constexpr int mfma_piece(int n) {
  return kWide ? n / 4 * 4 + n % 2 * 2 + n / 2 % 2 : n % 4 * 2 + n / 4;
}

/// Accumulators of mma_stream, mma_columns and mma_scores: here one kind serves all.
template <int M, int N>
using StreamAcc = Acc<M, N>;
template <class T, int M, int N>
using ValueAcc = Acc<M, N>;
template <int M, int N>
using ScoreAcc = Acc<M, N>;
/// Parts of K whose scores are added in the softmax, and the part that this thread has.
template <int M>
inline constexpr int kScoreParts = 1;
template <int M>
FAULTLINE_DEV int score_part() {
  return 0;
}
/// Floats from one row of scores to the next, bytes of an element of a query and of a probability.
template <int N>
inline constexpr int kScoreLine = N;
template <class T>
inline constexpr int kQueryBytes = T::kBytes;
template <class T>
inline constexpr int kProbabilityBytes = T::kBytes;
/// Puts 16 bytes of a query at their place in a row of mma_rows' A.
template <class T>
FAULTLINE_DEV void put_query(Lds<std::uint8_t> row, int chunk, const std::uint8_t* from) {
  copy16(&row[chunk * 16], from);
}
/// Puts the probability of token t, 0 to 1, into its row of mma_columns' A; FP8: times kFp8Target.
template <class T>
FAULTLINE_DEV void put_probability(Lds<std::uint8_t> row, int t, float e) {
  if constexpr (T::kBytes == 1) {
    row[t] = to_fp8(e * kFp8Target);
  } else {
    store_bf16(&row[2 * t], e);
  }
}

/// Queries of a block in registers (sm_90 has some, decode_sm90.h); here they stay in shared memory.
template <class T, int M, int kElements>
struct HeldQueries {
  static constexpr bool kHeld = false;
};

/// Whether threads of attention_merge each find the shares of the parts by themselves.
inline constexpr bool kMergeAlone = false;

/// Rows of K or V of a tile of cached tokens; here they stay where they are, in device memory.
template <class T, int kElements, int kAfter>
struct StagedRows {
  std::size_t offset = 0, stride = 0;
  static constexpr int kBytes = 0;
  FAULTLINE_DEV void fetch(int, const std::uint8_t*, std::size_t at, std::size_t row_stride, int) {
    offset = at;
    stride = row_stride;
  }
  FAULTLINE_DEV const std::uint8_t* rows(const std::uint8_t* base) const { return base + offset; }
};

/// The `after` of mma_stream that does nothing.
struct NoFold {
  FAULTLINE_DEV void operator()(int) const {}
};

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
