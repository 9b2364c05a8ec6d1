#include "kernels/reference/model.h"

#include <algorithm>
#include <cmath>

namespace faultline::kernels::reference {
namespace {

using model::Config;
using model::kCached;
using model::kLatent;
using model::kNope;
using model::kRope;
using model::kValue;
using model::WeightSource;

class Forward {
 public:
  Forward(const Config& config, const WeightSource& weights) : c_(config), w_(weights) {}

  Matrix run(const std::vector<int>& tokens) {
    t_ = static_cast<int>(tokens.size());
    const auto table = w_.bf16("model.embed_tokens.weight", static_cast<std::int64_t>(c_.vocabulary) * c_.hidden);
    Matrix residual;
    for (const int id : tokens)
      for (int d = 0; d < c_.hidden; ++d)
        residual.push_back(static_cast<double>(bf16_to_float(
            table[static_cast<std::size_t>(id) * static_cast<std::size_t>(c_.hidden) + static_cast<std::size_t>(d)])));
    for (int l = 0; l < c_.layers; ++l) {
      const std::string p = "model.layers." + std::to_string(l) + ".";
      add(residual, attention(p + "self_attn.", norm(residual, p + "input_layernorm.weight", c_.hidden)));
      add(residual,
          mlp(p + "mlp", l >= c_.dense_layers, norm(residual, p + "post_attention_layernorm.weight", c_.hidden)));
    }
    const Matrix last = norm(residual, "model.norm.weight", c_.hidden);
    return product(last, plain("lm_head.weight", c_.vocabulary, c_.hidden), t_, c_.vocabulary, c_.hidden);
  }

 private:
  Matrix plain(const std::string& name, int n, int k) const {
    Matrix out;
    for (const auto h : w_.bf16(name, static_cast<std::int64_t>(n) * k))
      out.push_back(static_cast<double>(bf16_to_float(h)));
    return out;
  }
  Matrix matrix(const std::string& name, int n, int k) const {
    const auto m = w_.matrix(name, n, k);
    Matrix out;
    out.reserve(m.codes.size());
    for (int r = 0; r < n; ++r)
      for (int i = 0; i < k; ++i)
        out.push_back(
            static_cast<double>(fp8_decode(
                m.codes[static_cast<std::size_t>(r) * static_cast<std::size_t>(k) + static_cast<std::size_t>(i)],
                Fp8Format::fn)) *
            static_cast<double>(m.scales[static_cast<std::size_t>(r / 128 * ((k + 127) / 128) + i / 128)]));
    return out;
  }
  Matrix norm(const Matrix& x, const std::string& name, int width) const {
    std::vector<float> weight;
    for (const auto h : w_.bf16(name, width)) weight.push_back(bf16_to_float(h));
    return rms_norm(x, weight, t_, width, static_cast<double>(c_.norm_epsilon));
  }
  Matrix linear(const Matrix& x, const std::string& name, int n, int k) const {
    return product(x, matrix(name, n, k), t_, n, k);
  }
  void add(Matrix& residual, const Matrix& x) const {
    for (std::size_t i = 0; i < x.size(); ++i) residual[i] += x[i];
  }

  Matrix attention(const std::string& p, const Matrix& x) const {
    const int heads = c_.heads, width = kNope + kRope;
    const Matrix q_low = norm(linear(x, p + "q_a_proj", c_.q_lora, c_.hidden), p + "q_a_layernorm.weight", c_.q_lora);
    const Matrix q = linear(q_low, p + "q_b_proj", heads * width, c_.q_lora);
    const Matrix down = linear(x, p + "kv_a_proj_with_mqa", kCached, c_.hidden);
    Matrix latent;
    for (int t = 0; t < t_; ++t)
      latent.insert(latent.end(), down.begin() + t * kCached, down.begin() + t * kCached + kLatent);
    latent = norm(latent, p + "kv_a_layernorm.weight", kLatent);
    const Matrix kv = product(latent, matrix(p + "kv_b_proj", heads * (kNope + kValue), kLatent), t_,
                              heads * (kNope + kValue), kLatent);
    Matrix out(static_cast<std::size_t>(t_ * heads * kValue));
    for (int h = 0; h < heads; ++h) {
      Matrix queries, keys, values;
      for (int t = 0; t < t_; ++t) {
        auto from = [&](const Matrix& m, int row, int first, int n, Matrix& to) {
          to.insert(to.end(), m.begin() + row + first, m.begin() + row + first + n);
        };
        from(q, (t * heads + h) * width, 0, width, queries);
        rotate({queries.data() + queries.size() - kRope, kRope}, t, c_.rope_base, true);
        from(kv, (t * heads + h) * (kNope + kValue), 0, kNope, keys);
        from(down, t * kCached, kLatent, kRope, keys);
        rotate({keys.data() + keys.size() - kRope, kRope}, t, c_.rope_base, true);
        from(kv, (t * heads + h) * (kNope + kValue), kNope, kValue, values);
      }
      for (int t = 0; t < t_; ++t) {
        const auto o = attend({queries.data() + static_cast<std::size_t>(t) * width, static_cast<std::size_t>(width)},
                              keys, values, t + 1, width, kValue, 1.0 / std::sqrt(static_cast<double>(width)));
        std::copy(o.begin(), o.end(), out.begin() + (t * heads + h) * kValue);
      }
    }
    return linear(out, p + "o_proj", c_.hidden, heads * kValue);
  }

  // One gated MLP on the rows of `x` given by `rows`.
  Matrix gated(const std::string& name, const Matrix& x, int rows, int inter) const {
    const Matrix gate = product(x, matrix(name + ".gate_proj", inter, c_.hidden), rows, inter, c_.hidden),
                 up = product(x, matrix(name + ".up_proj", inter, c_.hidden), rows, inter, c_.hidden);
    Matrix mid(gate.size());
    for (std::size_t i = 0; i < mid.size(); ++i) mid[i] = silu(gate[i]) * up[i];
    return product(mid, matrix(name + ".down_proj", c_.hidden, inter), rows, c_.hidden, inter);
  }
  Matrix mlp(const std::string& p, bool routed, const Matrix& x) const {
    if (!routed) return gated(p, x, t_, c_.dense_inter);
    const Matrix logits = product(x, plain(p + ".gate.weight", c_.experts, c_.hidden), t_, c_.experts, c_.hidden);
    const auto bias = w_.f32(p + ".gate.e_score_correction_bias", c_.experts);
    Matrix out = c_.shared_experts > 0 ? gated(p + ".shared_experts", x, t_, c_.shared_experts * c_.expert_inter)
                                       : Matrix(x.size(), 0.0);
    std::vector<std::vector<std::pair<int, double>>> visitors(static_cast<std::size_t>(c_.experts));
    for (int t = 0; t < t_; ++t) {
      std::vector<float> row;
      for (int e = 0; e < c_.experts; ++e)
        row.push_back(static_cast<float>(logits[static_cast<std::size_t>(t * c_.experts + e)]));
      const Routed r = route(row, bias, c_.groups, c_.top_groups, c_.top_k, static_cast<double>(c_.route_scale));
      for (std::size_t k = 0; k < r.ids.size(); ++k)
        visitors[static_cast<std::size_t>(r.ids[k])].emplace_back(t, r.weights[k]);
    }
    for (int e = 0; e < c_.experts; ++e) {
      const auto& rows = visitors[static_cast<std::size_t>(e)];
      if (rows.empty()) continue;
      Matrix in;
      for (const auto& [t, weight] : rows)
        in.insert(in.end(), x.begin() + t * c_.hidden, x.begin() + (t + 1) * c_.hidden);
      const Matrix y = gated(p + ".experts." + std::to_string(e), in, static_cast<int>(rows.size()), c_.expert_inter);
      for (std::size_t i = 0; i < rows.size(); ++i)
        for (int d = 0; d < c_.hidden; ++d)
          out[static_cast<std::size_t>(rows[i].first * c_.hidden + d)] +=
              rows[i].second * y[i * static_cast<std::size_t>(c_.hidden) + static_cast<std::size_t>(d)];
    }
    return out;
  }

  const Config& c_;
  const WeightSource& w_;
  int t_ = 0;
};

}  // namespace

Matrix forward(const Config& config, const WeightSource& weights, const std::vector<int>& tokens) {
  return Forward(config, weights).run(tokens);
}

}  // namespace faultline::kernels::reference
