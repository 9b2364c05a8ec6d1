#include "kernels/model/weights.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/tile/fp8.h"

namespace faultline::kernels::model {
namespace {

std::uint64_t mix(std::uint64_t z) {  // splitmix64's finaliser, Steele, Lea, Flood 2014
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

class Seeded : public WeightSource {
 public:
  explicit Seeded(std::uint64_t seed) : seed_(seed) {}

  Fp8Matrix matrix(const std::string& name, int n, int k) const override {
    Fp8Matrix m{n, k, {}, {}};
    const std::uint64_t key = key_of(name);
    const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(k);
    m.codes.resize(count);
    for (std::size_t i = 0; i < count; ++i) m.codes[i] = fp8_encode(normal(key, i) * 100.0F, Fp8Format::fn);
    const int rows = (n + 127) / 128, columns = (k + 127) / 128;
    // What is added to the residual stream is a third of it, as in trained models: a change of one expert stays a small
    // change.
    const float size = name.ends_with("o_proj") || name.ends_with("down_proj") ? 0.3F : 1.0F;
    // Variance 1/k keeps a unit vector's size; blocks differ by up to a factor of 2 so that a wrong scale shows.
    for (int b = 0; b < rows * columns; ++b)
      m.scales.push_back(size * (0.75F + 0.5F * uniform(key ^ 0x5ca1e, static_cast<std::uint64_t>(b))) / 100.0F /
                         std::sqrt(static_cast<float>(k)));
    return m;
  }
  std::vector<std::uint16_t> bf16(const std::string& name, std::int64_t count) const override {
    const std::uint64_t key = key_of(name);
    const bool norm = name.find("norm") != std::string::npos;
    // Router rows and the head see unit vectors; a small deviation keeps their logits in a natural range.
    const float size = name.find("embed") != std::string::npos  ? 1.0F
                       : name.find("gate") != std::string::npos ? 0.15F
                                                                : 0.1F;
    std::vector<std::uint16_t> out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = float_to_bf16(norm ? 1.0F + 0.1F * normal(key, i) : size * normal(key, i));
    return out;
  }
  std::vector<float> f32(const std::string& name, std::int64_t count) const override {
    const std::uint64_t key = key_of(name);
    std::vector<float> out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = 0.02F * normal(key, i);
    return out;
  }

 private:
  std::uint64_t key_of(const std::string& name) const {
    std::uint64_t h = 0xcbf29ce484222325ULL;  // FNV-1a
    for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return mix(h ^ mix(seed_));
  }
  static float uniform(std::uint64_t key, std::uint64_t i) {
    return static_cast<float>(mix(key + 0x9e3779b97f4a7c15ULL * (i + 1)) >> 40) * 0x1p-24F;
  }
  // Sum of four uniforms: bounded and close enough to normal for weights.
  static float normal(std::uint64_t key, std::uint64_t i) {
    const std::uint64_t r = mix(key + 0x9e3779b97f4a7c15ULL * (i + 1));
    float s = 0;
    for (int q = 0; q < 4; ++q) s += static_cast<float>(r >> (16 * q) & 0xffff) * 0x1p-16F - 0.5F;
    return s * 1.7320508F;  // variance of the sum is 4/12
  }
  std::uint64_t seed_;
};

class FromCheckpoint : public WeightSource {
 public:
  explicit FromCheckpoint(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}

  Fp8Matrix matrix(const std::string& name, int n, int k) const override {
    const Tensor& weight = expect(name + ".weight", "F8_E4M3", {n, k});
    const Tensor& scale = expect(name + ".weight_scale_inv", "F32", {(n + 127) / 128, (k + 127) / 128});
    Fp8Matrix m{n, k, {weight.bytes.begin(), weight.bytes.end()}, copy<float>(scale)};
    for (const auto code : m.codes)
      if ((code & 0x7f) == 0x7f) throw BadFile("tensor '" + name + ".weight' holds NaN");
    for (const float s : m.scales)
      if (!std::isfinite(s)) throw BadFile("tensor '" + name + ".weight_scale_inv' holds a scale that is not finite");
    return m;
  }
  std::vector<std::uint16_t> bf16(const std::string& name, std::int64_t count) const override {
    const Tensor& t = checkpoint_->tensor(name);
    if (t.type != "BF16" || product(t) != count)
      throw BadFile("tensor '" + name + "' is " + t.type + " of " + std::to_string(product(t)) + " values, BF16 of " +
                    std::to_string(count) + " expected");
    return copy<std::uint16_t>(t);
  }
  std::vector<float> f32(const std::string& name, std::int64_t count) const override {
    const Tensor& t = checkpoint_->tensor(name);
    if (t.type != "F32" || product(t) != count)
      throw BadFile("tensor '" + name + "' is " + t.type + " of " + std::to_string(product(t)) + " values, F32 of " +
                    std::to_string(count) + " expected");
    return copy<float>(t);
  }

 private:
  static std::int64_t product(const Tensor& t) {
    std::int64_t p = 1;
    for (const auto d : t.shape) p *= d;
    return p;
  }
  template <class T>
  static std::vector<T> copy(const Tensor& t) {  // the file does not promise alignment
    std::vector<T> out(t.bytes.size() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), t.bytes.data(), out.size() * sizeof(T));
    return out;
  }
  const Tensor& expect(const std::string& name, const std::string& type, const std::vector<std::int64_t>& shape) const {
    const Tensor& t = checkpoint_->tensor(name);
    auto text = [](const std::vector<std::int64_t>& s) {
      std::string out;
      for (const auto d : s) out += (out.empty() ? "" : " x ") + std::to_string(d);
      return out;
    };
    if (t.type != type || t.shape != shape)
      throw BadFile("tensor '" + name + "' is " + t.type + " " + text(t.shape) + ", " + type + " " + text(shape) +
                    " expected");
    return t;
  }
  std::shared_ptr<const Checkpoint> checkpoint_;
};

}  // namespace

std::unique_ptr<WeightSource> seeded_weights(std::uint64_t seed) { return std::make_unique<Seeded>(seed); }
std::unique_ptr<WeightSource> checkpoint_weights(std::shared_ptr<const Checkpoint> checkpoint) {
  return std::make_unique<FromCheckpoint>(std::move(checkpoint));
}

std::vector<TensorSpec> tensors_of(const Config& c) {
  std::vector<TensorSpec> out;
  auto matrix = [&](const std::string& name, int n, int k) { out.push_back({TensorSpec::matrix, name, n, k}); };
  auto vector = [&](const std::string& name, int n, int k = 1) { out.push_back({TensorSpec::bf16, name, n, k}); };
  auto mlp = [&](const std::string& prefix, int inter) {
    matrix(prefix + ".gate_proj", inter, c.hidden);
    matrix(prefix + ".up_proj", inter, c.hidden);
    matrix(prefix + ".down_proj", c.hidden, inter);
  };
  vector("model.embed_tokens.weight", c.vocabulary, c.hidden);
  for (int l = 0; l < c.layers; ++l) {
    const std::string p = "model.layers." + std::to_string(l) + ".";
    vector(p + "input_layernorm.weight", c.hidden);
    vector(p + "post_attention_layernorm.weight", c.hidden);
    const std::string a = p + "self_attn.";
    matrix(a + "q_a_proj", c.q_lora, c.hidden);
    vector(a + "q_a_layernorm.weight", c.q_lora);
    matrix(a + "q_b_proj", c.heads * (kNope + kRope), c.q_lora);
    matrix(a + "kv_a_proj_with_mqa", kCached, c.hidden);
    vector(a + "kv_a_layernorm.weight", kLatent);
    matrix(a + "kv_b_proj", c.heads * (kNope + kValue), kLatent);
    matrix(a + "o_proj", c.hidden, c.heads * kValue);
    if (l < c.dense_layers) {
      mlp(p + "mlp", c.dense_inter);
      continue;
    }
    vector(p + "mlp.gate.weight", c.experts, c.hidden);
    out.push_back({TensorSpec::f32, p + "mlp.gate.e_score_correction_bias", c.experts, 1});
    for (int e = 0; e < c.experts; ++e) mlp(p + "mlp.experts." + std::to_string(e), c.expert_inter);
    if (c.shared_experts > 0) mlp(p + "mlp.shared_experts", c.shared_experts * c.expert_inter);
  }
  vector("model.norm.weight", c.hidden);
  vector("lm_head.weight", c.vocabulary, c.hidden);
  return out;
}

std::string config_text(const Config& c) {
  return nlohmann::ordered_json{{"hidden_size", c.hidden},
                                {"num_hidden_layers", c.layers},
                                {"first_k_dense_replace", c.dense_layers},
                                {"vocab_size", c.vocabulary},
                                {"num_attention_heads", c.heads},
                                {"q_lora_rank", c.q_lora},
                                {"kv_lora_rank", kLatent},
                                {"qk_rope_head_dim", kRope},
                                {"qk_nope_head_dim", kNope},
                                {"v_head_dim", kValue},
                                {"intermediate_size", c.dense_inter},
                                {"moe_intermediate_size", c.expert_inter},
                                {"n_routed_experts", c.experts},
                                {"num_experts_per_tok", c.top_k},
                                {"n_group", c.groups},
                                {"topk_group", c.top_groups},
                                {"n_shared_experts", c.shared_experts},
                                {"routed_scaling_factor", c.route_scale},
                                {"rms_norm_eps", c.norm_epsilon},
                                {"rope_theta", c.rope_base}}
      .dump(2);
}

}  // namespace faultline::kernels::model
