// The shape of a model: what the step plan, the memory budget and the prices are computed from. Read from
// topologies/models/*.yaml; each file names the published configuration it was taken from.
// Parameters are derived from the shape and compared with the published totals in the tests.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/fields.h"

namespace faultline::model {

enum class Precision : std::uint8_t { bf16, fp8 };
constexpr std::array<std::string_view, 2> enum_names(const Precision*) { return {"bf16", "fp8"}; }
constexpr std::int64_t bytes_per_element(Precision p) { return p == Precision::fp8 ? 1 : 2; }

enum class AttentionKind : std::uint8_t { mla, gqa };
constexpr std::array<std::string_view, 2> enum_names(const AttentionKind*) { return {"mla", "gqa"}; }

/// Attention of one layer. MLA (DeepSeek-V2, arXiv 2405.04434 section 2.1) caches one latent of kv_lora + rope_dim
/// values per token, shared by all heads; GQA caches 2 * kv_heads * head_dim values.
struct AttentionShape {
  AttentionKind kind = AttentionKind::gqa;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // GQA only
  std::int64_t head_dim = 0;  // GQA only
  std::int64_t q_lora = 0;    // MLA only, all below
  std::int64_t kv_lora = 0;
  std::int64_t rope_dim = 0;
  std::int64_t nope_dim = 0;
  std::int64_t v_dim = 0;
};

struct ModelShape {
  std::string name;
  std::string source;  // where the numbers were taken from
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t dense_layers = 0;  // the first layers have a dense MLP; equal to layers in a dense model
  std::int64_t vocab = 0;
  Tokens context_max;
  AttentionShape attention;
  std::int64_t dense_inter = 0;        // MLP width of the dense layers
  std::int64_t experts = 0;            // routed experts per MoE layer; 0: dense model
  std::int64_t experts_per_token = 0;  // top-k
  std::int64_t expert_groups = 1;      // group-limited routing (DeepSeek-V3, arXiv 2412.19437 section 2.1.2)
  std::int64_t groups_per_token = 1;
  std::int64_t shared_experts = 0;
  std::int64_t expert_inter = 0;                 // width of one expert
  bool tied_embeddings = false;                  // one matrix for input embedding and output head
  Precision weight_precision = Precision::bf16;  // linear layers; embeddings, head, norms and router are bf16

  bool is_moe() const { return experts > 0; }
  std::int64_t moe_layers() const { return layers - dense_layers; }
};

void describe(config::Fields& f, AttentionShape& a);
void describe(config::Fields& f, ModelShape& s);

/// Reads a model from the text of its YAML file. Errors, with their places, go to `diagnostics`.
ModelShape read_model(std::string_view text, const std::string& file, config::Diagnostics& diagnostics);

/// Numbers of weights by part, of the whole model (multi-token-prediction layers not counted).
struct ParameterCount {
  std::int64_t attention = 0;  // all layers
  std::int64_t dense_mlp = 0;  // dense layers
  std::int64_t experts = 0;    // routed
  std::int64_t shared = 0;     // shared experts
  std::int64_t router = 0;
  std::int64_t norms = 0;
  std::int64_t embeddings = 0;  // input embedding
  std::int64_t head = 0;        // output head; 0 where tied
  std::int64_t total() const { return attention + dense_mlp + experts + shared + router + norms + embeddings + head; }
};
ParameterCount parameters(const ModelShape& s);
/// Weights that one token passes through, embeddings counted as in the published figures (input and output).
std::int64_t active_parameters(const ModelShape& s);

/// Weights of one layer's attention, and of one expert (gate, up and down projection).
std::int64_t attention_parameters(const ModelShape& s);
std::int64_t expert_parameters(const ModelShape& s);

/// KV-cache bytes of one token in one layer, over all heads. MLA: (kv_lora + rope_dim) elements: 576 B in FP8, 1152 B
/// in BF16 for DeepSeek-V3 (scale factors, where an engine stores them, not counted). GQA: 2 * kv_heads * head_dim.
Bytes kv_bytes_per_token_layer(const ModelShape& s, Precision kv);
/// The same over all layers: 35,136 B in FP8 for DeepSeek-V3.
Bytes kv_bytes_per_token(const ModelShape& s, Precision kv);

}  // namespace faultline::model
