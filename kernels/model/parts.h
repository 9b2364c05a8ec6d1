// What a Model keeps on its device: weights, cache, the inputs of a step and the buffers between its operations. Inside
// kernels/model only.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/model/model.h"

namespace faultline::kernels::model {

inline int groups_of(int n) { return (n + 127) / 128; }  // of the 128 values that share a scale

struct Linear {  // FP8 with block scales, pre-shuffled
  int n = 0, k = 0;
  Buffer weight, scale;
};
struct Experts {  // the fused MoE's weights; a dense MLP is one synthetic expert
  int experts = 0, shared = 0, inter = 0;
  Buffer w13, w13_scale, w2, w2_scale;
};
struct Layer {
  Buffer input_norm, post_norm, q_norm, kv_norm;  // float
  Linear qkv_down, q_up, kv_up, out;
  Buffer q_absorb, v_up;       // the halves of kv_up in bf16, pre-shuffled, per head
  Buffer router, router_bias;  // null in dense layers
  Experts mlp;
};

struct Model::Parts {
  Device& device;
  Buffer embedding, final_norm, head, angles;
  std::vector<Layer> layers;
  std::vector<Buffer> cache;  // one a layer

  // Inputs of a step
  Buffer ids, position, slot, pages, q_start, q_len, kv_len, last_row, zero_row;
  // Activations
  Buffer residual, x, normed, fp8, fp8_scale, down, q_fp8, q_scale, latent, latent_fp8, latent_scale, q, q_nope, q_all,
      attended, heads_out, kv, q_cat, k_cat, partial, peaks;
  Buffer router_logits, route_ids, route_weights, mid, mid_scale, pair_out, order, tile_expert, tile_count, status,
      gemm_partial;
  Buffer last_hidden, logits, sample_scratch, sample_token, temperature, top_k, top_p, seed, sample_position,
      last_residual;

  int tokens = 0, sequences = 0, q_len_max = 0, kv_len_max = 0;
  std::int64_t context = 0;
  bool whole_prefill = false;

  explicit Parts(Device& d) : device(d) {}

  // upload.cpp
  Linear upload(const Fp8Matrix& m);
  Buffer upload_bf16(const std::vector<std::uint16_t>& values, int n, int k);
  Experts upload_experts(const std::vector<Fp8Matrix>& w13, const std::vector<Fp8Matrix>& w2);
  Layer upload_layer(const Config& config, const WeightSource& source, int layer);
  void allocate(const Config& config, const Limits& limits);
};

}  // namespace faultline::kernels::model
