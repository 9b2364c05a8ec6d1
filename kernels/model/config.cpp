#include "kernels/model/config.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace faultline::kernels::model {

std::string problem(const Config& c) {
  auto wide = [](const char* name, int v) {
    return v < 128 || v % 128 != 0 ? std::string(name) + " = " + std::to_string(v) + " is not a multiple of 128"
                                   : std::string();
  };
  for (const auto& [name, v] : {std::pair{"hidden", c.hidden},
                                {"q_lora", c.q_lora},
                                {"dense_inter", c.dense_inter},
                                {"expert_inter", c.expert_inter}})
    if (auto p = wide(name, v); !p.empty()) return p;
  if (c.layers < 1 || c.dense_layers < 0 || c.dense_layers > c.layers)
    return "layers = " + std::to_string(c.layers) + ", dense_layers = " + std::to_string(c.dense_layers);
  if (c.vocabulary < 1 || c.vocabulary > 1 << 20) return "vocabulary = " + std::to_string(c.vocabulary);
  if (c.heads < 1) return "heads = " + std::to_string(c.heads);
  if (c.dense_layers == c.layers) return "";
  if (c.experts < 1 || c.experts + c.shared_experts > 1024) return "experts = " + std::to_string(c.experts);
  if (c.groups < 1 || c.groups > 64 || c.experts % c.groups != 0 || c.top_groups < 1 || c.top_groups > c.groups)
    return "groups = " + std::to_string(c.groups) + ", top_groups = " + std::to_string(c.top_groups);
  if (c.groups > 1 && c.experts / c.groups < 2) return "one expert a group";
  if (c.top_k < 1 || c.top_k > 32 || c.top_k > c.experts / c.groups * c.top_groups)
    return "top_k = " + std::to_string(c.top_k);
  if (c.shared_experts < 0) return "shared_experts = " + std::to_string(c.shared_experts);
  return "";
}

Config read_config(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) throw std::runtime_error("config.json is not a JSON object");
  auto integer = [&](const char* key) {
    if (!json.contains(key) || !json[key].is_number_integer())
      throw std::runtime_error(std::string("config.json: ") + key + " is missing or not an integer");
    const auto v = json[key].get<std::int64_t>();
    if (v < 0 || v > 1 << 24)
      throw std::runtime_error(std::string("config.json: ") + key + " = " + std::to_string(v) + " is out of range");
    return static_cast<int>(v);
  };
  auto real = [&](const char* key, double otherwise) {
    return json.contains(key) && json[key].is_number() ? json[key].get<double>() : otherwise;
  };
  Config c;
  c.hidden = integer("hidden_size");
  c.layers = integer("num_hidden_layers");
  c.dense_layers = integer("first_k_dense_replace");
  c.vocabulary = integer("vocab_size");
  c.heads = integer("num_attention_heads");
  c.q_lora = integer("q_lora_rank");
  c.dense_inter = integer("intermediate_size");
  c.expert_inter = integer("moe_intermediate_size");
  c.experts = integer("n_routed_experts");
  c.top_k = integer("num_experts_per_tok");
  c.groups = integer("n_group");
  c.top_groups = integer("topk_group");
  c.shared_experts = integer("n_shared_experts");
  c.route_scale = static_cast<float>(real("routed_scaling_factor", 1.0));
  c.norm_epsilon = static_cast<float>(real("rms_norm_eps", 1e-6));
  c.rope_base = real("rope_theta", 10000.0);
  for (const auto& [key, width] : {std::pair{"kv_lora_rank", kLatent},
                                   {"qk_rope_head_dim", kRope},
                                   {"qk_nope_head_dim", kNope},
                                   {"v_head_dim", kValue}})
    if (integer(key) != width)
      throw std::runtime_error(std::string("config.json: ") + key + " = " + std::to_string(integer(key)) +
                               ", the kernels have " + std::to_string(width));
  if (const std::string p = problem(c); !p.empty()) throw std::runtime_error("config.json: " + p);
  return c;
}

Config deepseek_v3() {
  Config c;
  c.hidden = 7168, c.layers = 61, c.dense_layers = 3, c.vocabulary = 129280, c.heads = 128, c.q_lora = 1536;
  c.dense_inter = 18432, c.expert_inter = 2048, c.experts = 256, c.top_k = 8, c.groups = 8, c.top_groups = 4,
  c.shared_experts = 1;
  return c;
}

}  // namespace faultline::kernels::model
