// Scores and softmax of decode over an FP8 cache on sm_90: 16 rows a block, queries in registers for the whole run of
// tiles, so that shared memory carries cached tokens, scores and probabilities alone.
#pragma once

#include "kernels/tile/matrix_sm90.h"

namespace faultline::kernels::sm90 {

inline constexpr bool kMergeAlone = true;  // see operands.h

/// Queries that a block keeps in registers; only FP8 ones of 16 rows fit.
template <class T, int M, int kElements>
struct HeldQueries {
  static constexpr bool kHeld = false;
};

/// A warp takes a quarter of K (kSteps pieces of 16 bytes) of 32 of the tile's 64 tokens. A lane holds what
/// mma16x8<Half> wants of its quarter of the queries, bytes in the order in which ldmatrix hands out those of the keys:
/// four neighbouring bytes a lane, the first two in the lower half of K, the others in the upper one.
template <int kElements>
struct HeldQueries<Fp8, 16, kElements> {
  static constexpr bool kHeld = true;
  static constexpr int kParts = kHeldParts, kSteps = kElements / 16 / kParts, kTokens = 32;
  static constexpr int kLine = kScoreLine<kPageTokens>, kRowLanes = kThreads / 16;
  static_assert(kElements % (16 * kParts) == 0 && kParts * kPageTokens / kTokens == kWaves && kRowLanes * 4 == 64);
  std::uint32_t a[kSteps][4];
  float peak = -3e38F, sum = 0;  // of row thread_index() / 16: its largest score; this lane's share of its sum

  static FAULTLINE_DEV int part() { return wave_index() / 2; }
  static FAULTLINE_DEV int token() { return wave_index() % 2 * kTokens; }

  /// row(i): the bytes of query i, 0 to 15.
  template <class Row>
  FAULTLINE_DEV void load(Row row) {
    const std::uint8_t* upper = row(lane() / 4) + part() * kSteps * 16 + lane() % 4 * 4;
    const std::uint8_t* lower = row(lane() / 4 + 8) + part() * kSteps * 16 + lane() % 4 * 4;
    std::uint32_t u[kSteps], l[kSteps];
    FAULTLINE_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      u[s] = *reinterpret_cast<const std::uint32_t*>(upper + s * 16);
      l[s] = *reinterpret_cast<const std::uint32_t*>(lower + s * 16);
    }
    FAULTLINE_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      a[s][0] = half_of_fp8(u[s]), a[s][1] = half_of_fp8(l[s]);
      a[s][2] = half_of_fp8(u[s] >> 16), a[s][3] = half_of_fp8(l[s] >> 16);
    }
  }

  /// Writes this warp's part of the products of queries and keys; keys: 64 rows of shared memory, ld bytes apart.
  FAULTLINE_DEV void scores(const std::uint8_t* keys, std::size_t ld, Lds<float> score) const {
    const std::uint32_t from = shared_address(keys) + (token() + lane()) * static_cast<int>(ld) + part() * kSteps * 16;
    float c[4][4] = {};
    FAULTLINE_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      std::uint32_t b[4];  // of tokens 0-7, 8-15, 16-23, 24-31
      load_matrices(b, from + s * 16);
      FAULTLINE_UNROLL
      for (int j = 0; j < 4; ++j) mma16x8<Half>(c[j], a[s], half_of_fp8(b[j]), half_of_fp8(b[j] >> 16));
    }
    Lds<float> at = score + (part() * 16 + lane() / 4) * kLine + token() + lane() % 4 * 2;
    FAULTLINE_UNROLL
    for (int j = 0; j < 4; ++j) {
      *reinterpret_cast<float2*>(at + j * 8) = {c[j][0], c[j][1]};
      *reinterpret_cast<float2*>(at + 8 * kLine + j * 8) = {c[j][2], c[j][3]};
    }
  }

  /// One step of the running softmax over the tile of tokens from t0, of which `there` are valid; row i sees the tokens
  /// before sees[i]. 16 lanes a row, four neighbouring tokens a lane. Puts the probabilities and, by one lane, the
  /// factor of what has been added up so far.
  FAULTLINE_DEV void softmax(Lds<float> score, int t0, int there, Lds<int> sees, float scale,
                             Lds<std::uint8_t> probability, int line, Lds<float> shrink) {
    const int row = thread_index() / kRowLanes, first = thread_index() % kRowLanes * 4;
    const int seen = sees[row] - t0 < there ? sees[row] - t0 : there;
    float s[4] = {};
    FAULTLINE_UNROLL
    for (int p = 0; p < kParts; ++p) {
      const float4 v = *reinterpret_cast<const float4*>(score + (p * 16 + row) * kLine + first);
      s[0] += v.x, s[1] += v.y, s[2] += v.z, s[3] += v.w;
    }
    float here = -3e38F;
    FAULTLINE_UNROLL
    for (int c = 0; c < 4; ++c) {
      s[c] = first + c < seen ? s[c] * scale : -3e38F;
      here = s[c] > here ? s[c] : here;
    }
    FAULTLINE_UNROLL
    for (int o = kRowLanes / 2; o > 0; o >>= 1) {
      const float v = shuffle_xor(here, o);
      here = v > here ? v : here;
    }
    const float now = here > peak ? here : peak, factor = exp2(peak - now);
    float added = 0;
    FAULTLINE_UNROLL
    for (int c = 0; c < 4; ++c) {
      s[c] = exp2(s[c] - now);
      added += s[c];
      s[c] *= kFp8Target;
    }
    *reinterpret_cast<uint2*>(&probability[row * line + first * 2]) = {
        convert_half(s[0]) | static_cast<std::uint32_t>(convert_half(s[1])) << 16,
        convert_half(s[2]) | static_cast<std::uint32_t>(convert_half(s[3])) << 16};
    if (thread_index() % kRowLanes == 0) shrink[row] = factor;
    peak = now;
    sum = fused(sum, factor, added);
  }

  /// After the last tile: gives each row's peak and sum.
  FAULTLINE_DEV void finish(Lds<float> peaks, Lds<float> sums) const {
    float total = sum;
    FAULTLINE_UNROLL
    for (int o = kRowLanes / 2; o > 0; o >>= 1) total += shuffle_xor(total, o);
    if (thread_index() % kRowLanes != 0) return;
    peaks[thread_index() / kRowLanes] = peak;
    sums[thread_index() / kRowLanes] = total;
  }
};

}  // namespace faultline::kernels::sm90
