// Arguments of the kernels that work row by row: norms, positions and caches, sampling, probes.
#pragma once

#include "kernels/tile/types.h"

namespace faultline::kernels {

/// out = x / sqrt(mean(x^2) + eps) * weight; with residual: first x += residual, and the sum (rounded to bf16) goes to
/// residual_out, which may be residual itself. Output bf16 (out), or FP8 with scales (out_fp8, scale) as QuantizeArgs
/// has them, or both. Shapes: x m x h with ldx elements between rows; out dense. Source: Zhang and Sennrich, arXiv
/// 1910.07467.
struct NormArgs {
  const std::uint16_t* x;
  const std::uint16_t* residual;
  std::uint16_t* residual_out;
  const float* weight;
  std::uint16_t* out;
  std::uint8_t* out_fp8;
  float* scale;
  int m, h, ldx, group;
  float eps;
};

/// Rotary positions, KV concatenation and cache write of MLA in one kernel, for queries and the new tokens' latents.
/// Shapes: q_nope[m][heads][512] (already multiplied by W_UK), q_rope[m][heads][64], latent[m][512] (normalised),
/// k_rope[m][64], with row
///         strides in elements; angles[position][32][2] (cosine, sine), made on the host so that devices agree;
///         q_out[m][heads][576]; cache[page][64][576]; slot[m] = page * 64 + row, negative: no cache write.
/// Element of q_out and cache: FP8 (value * inverse scale, saturating) or bf16. Pairs are (2i, 2i+1), as DeepSeek
/// trains them. Errors: NaN or infinity is stored as 0 in an FP8 cache and sets kStatusNotANumber; a slot or position
/// outside sets
///         kStatusPageOutOfRange and writes nothing.
/// Source: RoFormer (arXiv 2104.09864); DeepSeek-V2 (arXiv 2405.04434) section 2.1.3.
struct MlaCacheArgs {
  const std::uint16_t* q_nope;
  const std::uint16_t* q_rope;
  const std::uint16_t* latent;
  const std::uint16_t* k_rope;
  const float* angles;
  const int* position;
  const int* slot;
  void* q_out;
  void* cache;
  std::uint32_t* status;
  int m, heads, slots, positions;
  int q_nope_row, q_rope_row, q_rope_head, latent_row, k_rope_row;  // strides, elements
  float q_inverse, cache_inverse;
};

/// The same for GQA: q, k rotated (q in place), k and v written to caches [page][64][kv_heads][128] bf16.
/// Pairs are (i, i + 64), as Llama and Qwen train them. Shapes: q[m][heads][128], k, v[m][kv_heads][128],
/// angles[position][64][2].
struct GqaCacheArgs {
  std::uint16_t* q;
  const std::uint16_t* k;
  const std::uint16_t* v;
  const float* angles;
  const int* position;
  const int* slot;
  std::uint16_t* k_cache;
  std::uint16_t* v_cache;
  std::uint32_t* status;
  int m, heads, kv_heads, slots, positions;
};

/// rotated[m][heads][192] = (nope 128, rotated rope 64) for MLA prefill; k likewise from k_nope[m][heads][128] and
/// k_rope[m][64].
struct MlaConcatArgs {
  const std::uint16_t* q;       // [m][heads][192], rope part last, not yet rotated
  const std::uint16_t* kv;      // [m][heads][256]: k_nope 128, v 128
  const std::uint16_t* k_rope;  // row stride k_rope_row
  const float* angles;
  const int* position;
  std::uint16_t* q_out;
  std::uint16_t* k_out;
  std::uint32_t* status;
  int m, heads, k_rope_row, positions;
};

/// out[i] = table[ids[i]]; an id outside gives zeros.
struct EmbedArgs {
  const std::uint16_t* table;
  const int* ids;
  std::uint16_t* out;
  int m, h, vocabulary;
};

/// One token for each row, the same on every device for the same logits: weights are 30-bit integers from a polynomial
/// of fused multiply-adds, sums are integers, the random number is a function of (seed, position).
///   weight_i = floor(2^30 * 2^((l_i - max) * log2(e) / temperature)); logits below max - 20.8 temperature have weight
///   0 top_k > 0 keeps the k largest weights; then top_p < 1 keeps the fewest largest that reach top_p of what is left;
///   equal weights: the lower index first. temperature <= 0: the largest logit, lowest index. NaN counts as minus
///   infinity; a row of nothing else gives token -1.
/// Shapes: logits[m][vocabulary], scratch: sample_scratch_bytes(), 8-byte aligned; the rest per row. Range: vocabulary
/// <= 2^20. Kernels: sample_peaks, sample_weights, sample_candidates (grid kSampleParts x m), sample_tokens (grid m).
/// Roofline: 4 bytes a logit read once from memory; again, and the weights, from cache as far as it holds them.
/// Source of the hash: splitmix64, Steele, Lea, Flood 2014.
inline constexpr int kSampleParts = 8;
inline constexpr int kSampleRowBytes =
    2048 * 12 + 64 * 28 + 512 * 8 + 8;  // what the kernels pass on about a row: ops/sample.h, SampleRow
constexpr std::size_t sample_scratch_bytes(int m, int vocabulary) {
  return (static_cast<std::size_t>(m) * static_cast<std::size_t>(vocabulary) * 4 + 7) / 8 * 8 +
         static_cast<std::size_t>(m) * kSampleRowBytes;
}
struct SampleArgs {
  const float* logits;
  const float* temperature;
  const int* top_k;
  const float* top_p;
  const std::uint64_t* seed;
  const std::uint64_t* position;
  std::uint32_t* scratch;
  int* token;
  int m, vocabulary;
};

/// Copies chunks of 16 bytes; on one GPU the HBM probe, with a peer's pointer the xGMI probe. Grid: any; a block takes
/// every grid-th piece of 4096 chunks.
struct CopyArgs {
  const std::uint8_t* from;
  std::uint8_t* to;
  std::uint64_t chunks;
  int blocks;
};

/// Keeps a block busy for `rounds` of dependent arithmetic, or until *stop is not 0 (stop may be null).
struct BusyArgs {
  const std::uint32_t* stop;
  std::uint32_t* result;
  std::uint64_t rounds;
};

/// Health check: a matrix product with a known result, a pattern through shared memory and a reduction in every block.
/// passed[block] = token when all was right, else ~token, so that an old answer is not taken for a new one.
struct HealthArgs {
  std::uint32_t* passed;
  std::uint32_t token;
};

/// How a captured graph meets the network: a kernel stores a flag that the host proxy polls, another waits for the
/// proxy's answer. *flag compares as unsigned >= value. After `rounds` looks without success status gets `timeout_bit`,
/// and the graph goes on. `flag` is memory that host and device share (Device::allocate_shared).
struct FlagArgs {
  std::uint32_t* flag;
  std::uint32_t* status;
  std::uint64_t rounds;
  std::uint32_t value, timeout_bit;
};

}  // namespace faultline::kernels
