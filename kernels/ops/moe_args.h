// Arguments of the mixture-of-experts kernels.
#pragma once

#include "kernels/tile/types.h"

namespace faultline::kernels {

inline constexpr int kMaxExperts = 1024;  // of one device, synthetic ones included

/// Chooses experts as DeepSeek-V3 does: score = sigmoid(logit); among `groups` groups the `top_groups` with the largest
/// sum of their two largest (score + bias); within them the top_k largest (score + bias), equal ones by lower index;
/// weight = score / sum of the chosen scores * route_scale. groups = 1 skips the first step. A NaN logit counts as
/// score 0. Shapes: logits[m][experts], bias[experts] or null, ids[m][top_k], weights[m][top_k]. Range:  experts <=
/// 1024, divisible by groups, at least 2 a group when groups > 1; top_k <= 32; top_groups * experts / groups >= top_k.
/// Source: DeepSeek-V3 technical report (arXiv 2412.19437), section 2.1.2, and its published inference code (Gate).
struct RouterArgs {
  const float* logits;
  const float* bias;
  int* ids;
  float* weights;
  int m, experts, groups, top_groups, top_k;
  float route_scale;
};

/// The fused MoE: routed experts and `shared` synthetic experts (every token goes to each with weight 1) in the same
/// launches. Pairs: token t has slots = top_k + shared pairs, pair t * slots + j; j < top_k from ids (negative:
/// dropped, e.g. the expert's rank is dead; >= experts: dropped and kStatusExpertOutOfRange), the others the synthetic
/// experts experts … experts + shared - 1.
///   moe_sort     pairs to tiles of tile_rows with one expert each: order[tile][row] (-1: none), tile_expert,
///   *tile_count moe_gate_up  mid = quantise(SiLU(x Wg) * (x Wu)), FP8 with one scale per 128 moe_down y[pair][hidden]
///   = mid W2, float moe_combine  out[t] = sum over j in order of weight_j * y[pair], bf16
/// Shapes: x FP8 [m][hidden], x_scale[hidden/128][m]; w13 per expert pre-shuffled [2 inter][hidden] (gate rows, then up
/// rows),
///         w13_scale[expert][2 inter/128][hidden/128]; w2 per expert [hidden][inter],
///         w2_scale[expert][ceil(hidden/128)][inter/128]; mid[pairs][inter], mid_scale[inter/128][pairs];
///         order[max_tiles * tile_rows].
/// Range:  hidden and inter multiples of 128; experts + shared <= 1024; m >= 0; any skew (one expert may take all
/// tokens). Grid:   gate_up (inter/128) x max_tiles; down (hidden/128) x max_tiles; max_tiles = moe_max_tiles().
/// Roofline: 6 hidden inter operations a pair over 3 hidden inter bytes an expert that has any pair.
struct MoeArgs {
  const std::uint8_t* x;
  const float* x_scale;
  const int* ids;
  const float* weights;
  const std::uint8_t* w13;
  const float* w13_scale;
  const std::uint8_t* w2;
  const float* w2_scale;
  std::uint8_t* mid;
  float* mid_scale;
  float* y;
  std::uint16_t* out;
  int* order;
  int* tile_expert;
  int* tile_count;
  std::uint32_t* status;
  int m, hidden, inter, experts, shared, top_k, tile_rows, max_tiles;
};

/// No skew needs more tiles than this.
constexpr int moe_max_tiles(int pairs, int experts, int tile_rows) {
  const int used = pairs < experts ? pairs : experts;  // experts that can have a pair
  return pairs / tile_rows + used;
}

/// Device part of the EP exchange. Ranks own experts_per_rank consecutive experts each.
///   ep_dispatch  copies each token once to every alive rank that owns one of its experts: send[rank][slot][row_bytes],
///   with the token's
///                expert ids local to that rank (others -1) and weights beside it; sent[rank] counts; slot[t][rank]
///                remembers (-1: none).
///   ep_combine   out[t] = sum over alive ranks in order of returned[rank][slot[t][rank]], float sum, bf16 out.
/// alive[rank] is read at run time, so that a graph captured before a failure skips a dead rank afterwards; what a dead
/// rank would have added is missing from the sum. A rank that died between the two is skipped by combine alone. Shapes:
/// x[m][row_bytes], ids/weights[m][top_k], send[ranks][capacity][row_bytes],
/// send_ids/send_weights[ranks][capacity][top_k],
///         returned[ranks][capacity][hidden] bf16. Range: ranks <= 64, row_bytes a multiple of 16, capacity >= m.
/// The caller zeroes sent before each dispatch (ep_reset does, inside a graph too).
struct ExchangeArgs {
  const std::uint8_t* x;
  const int* ids;
  const float* weights;
  const std::uint32_t* alive;
  std::uint8_t* send;
  int* send_ids;
  float* send_weights;
  int* sent;
  int* slot;
  const std::uint16_t* returned;
  std::uint16_t* out;
  int m, top_k, ranks, experts_per_rank, row_bytes, hidden, capacity;
};

}  // namespace faultline::kernels
