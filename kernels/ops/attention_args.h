// Arguments of the attention kernels.
#pragma once

#include "kernels/tile/types.h"

namespace faultline::kernels {

/// Scaled dot-product attention of new tokens over a cache, for MLA (one KV head, V is the first part of K) and GQA.
///
/// Shapes: q: new tokens x heads x DQ; k, v: paged (pages != null: page pages[s * pages_ld + t / 64], row t % 64) or
/// flat (token
///         t of sequence s is row kv_start[s] + t). Strides are in bytes. out: tokens x heads x DV bf16.
///         Sequence s has q_len[s] new tokens, rows q_start[s]… of q and out, and kv_len[s] cached tokens including the
///         new ones; with causal set, new token i sees the first kv_len - q_len + i + 1, otherwise all.
/// Splits: the cache is cut into pieces of split_tokens (a multiple of 64), the same for every batch; with splits > 1
/// each piece writes
///         partial[split][token][head][DV] and peaks[split][token][head][2] (largest score, sum; base 2), and
///         attention_merge joins them. splits must cover the longest sequence; with splits == 1, split_tokens is
///         ignored.
/// Scales: score_scale = softmax scale x q scale x k scale x log2(e); v_scale multiplies the result (FP8 caches; else
/// 1). Range:  any lengths, 0 included. A token that sees nothing gives 0. Flat k and v must be readable for 63 rows
/// past the end. Errors: a page outside 0 … page_count - 1 is masked and sets kStatusPageOutOfRange in *status. FP8:
/// probabilities are rounded to FP8 (x 224), relative 2^-4 each, independent: see docs/kernels.md, "Bounds". Source:
/// MLA: DeepSeek-V2 (arXiv 2405.04434) section 2.1; split and merge: FlashDecoding; running maximum: FlashAttention
/// (arXiv 2205.14135).
struct AttentionArgs {
  const std::uint8_t* q;
  const std::uint8_t* k;
  const std::uint8_t* v;
  const int* pages;
  const int* kv_start;
  const int* q_start;
  const int* q_len;
  const int* kv_len;
  float* partial;
  float* peaks;
  std::uint16_t* out;
  std::uint32_t* status;
  std::size_t q_token, q_head;  // strides, bytes
  std::size_t k_page, k_token, k_head;
  std::size_t v_page, v_token, v_head;
  int sequences, tokens, pages_ld, page_count;
  int heads, kv_heads;
  int split_tokens, splits, causal;
  float score_scale, v_scale;
};

/// (token, head) rows that a block of attention_merge joins: four values a thread.
template <int kDv>
inline constexpr int kMergeRows = 1024 / kDv;

}  // namespace faultline::kernels
