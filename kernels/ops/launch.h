// Host side of the kernels: checks shapes, picks the tile height and the grid, launches. Shapes and meaning of every
// field: *_args.h. A shape that does not fit is a Failure that names the kernel and the field; nothing is launched
// then. Zero rows are well: nothing happens.
#pragma once

#include "kernels/runtime/device.h"

namespace faultline::kernels {

/// Parts that K is cut into: enough blocks to fill the device's compute units with one row of tiles, at least 4 steps
/// of 128 bytes each, at most 8. A function of the weight and the device alone, so the sum of a row is formed in the
/// same order in every batch.
int gemm_splits(int n, int k_bytes, int fill_blocks = 304);
/// Floats of `partial` that let a GEMM of up to m rows spread its parts over blocks.
std::size_t gemm_partial_floats(int m, int n, int k_bytes);

/// args.splits and args.parallel are set here. partial may be null: then a block does all parts.
Outcome<> gemm_fp8(Device& device, GemmArgs args);         // per row and channel
Outcome<> gemm_fp8_blocks(Device& device, GemmArgs args);  // 1x128 and 128x128
Outcome<> gemm_bf16(Device& device, GemmArgs args, int batches = 1);

Outcome<> quantize(Device& device, const QuantizeArgs& args);
Outcome<> rms_norm(Device& device, const NormArgs& args);
Outcome<> mla_cache(Device& device, const MlaCacheArgs& args, bool fp8);
Outcome<> mla_concat(Device& device, const MlaConcatArgs& args);
Outcome<> gqa_cache(Device& device, const GqaCacheArgs& args);
Outcome<> embed(Device& device, const EmbedArgs& args);

enum class AttentionKind : std::uint8_t {
  mla_decode_fp8,
  mla_decode_bf16,
  mla_prefill_bf16,
  gqa_decode_bf16,
  gqa_prefill_bf16
};
/// Launches the attention and, when args.splits > 1, the merge. q_len_max bounds the new tokens of a sequence.
Outcome<> attention(Device& device, AttentionKind kind, const AttentionArgs& args, int q_len_max);
/// Tokens of a split of decode attention: fixed, so that a sequence's result does not depend on its batch.
inline constexpr int kSplitTokens = 512;
constexpr int attention_splits(int kv_len_max) {
  return kv_len_max <= kSplitTokens ? 1 : (kv_len_max + kSplitTokens - 1) / kSplitTokens;
}

Outcome<> router(Device& device, const RouterArgs& args);
/// Rows of a tile: 64 from 32 pairs an expert on, else 32. A row's result is the same with both.
int moe_tile_rows(int pairs, int experts);
/// Sort, gate-up, down, combine. args.tile_rows and max_tiles are set here; `order` must hold order_ints.
std::size_t moe_order_ints(int pairs, int experts);
Outcome<> fused_moe(Device& device, MoeArgs args);

Outcome<> ep_dispatch(Device& device, const ExchangeArgs& args);  // resets the counts first
Outcome<> ep_combine(Device& device, const ExchangeArgs& args);

Outcome<> sample(Device& device, const SampleArgs& args);

}  // namespace faultline::kernels
