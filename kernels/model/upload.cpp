// Weights on their way to the device, in the layouts the kernels read, and the buffers of a step.
#include <algorithm>
#include <cstring>
#include <span>
#include <stdexcept>

#include "kernels/model/parts.h"
#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "kernels/reference/reference.h"
#include "kernels/tile/fp8.h"

namespace faultline::kernels::model {
namespace {

Fp8Matrix for_device(Fp8Matrix m, Fp8Format format) {
  if (format == Fp8Format::fnuz) convert_weights_fn_to_fnuz(m.codes, m.scales);
  return m;
}

// Rows [first, first + count) of a matrix; first and count are multiples of 128 or the end.
Fp8Matrix rows_of(const Fp8Matrix& m, int first, int count) {
  Fp8Matrix out{count, m.k, {}, {}};
  const auto k = static_cast<std::ptrdiff_t>(m.k), groups = static_cast<std::ptrdiff_t>(groups_of(m.k));
  out.codes.assign(m.codes.begin() + first * k, m.codes.begin() + (first + count) * k);
  out.scales.assign(m.scales.begin() + first / 128 * groups, m.scales.begin() + groups_of(first + count) * groups);
  return out;
}
Fp8Matrix columns_of(const Fp8Matrix& m, int first, int count) {
  Fp8Matrix out{m.n, count, {}, {}};
  for (int r = 0; r < m.n; ++r) {
    const auto from = m.codes.begin() + static_cast<std::ptrdiff_t>(r) * m.k + first;
    out.codes.insert(out.codes.end(), from, from + count);
  }
  for (int g = 0; g < groups_of(m.n); ++g) {
    const auto from = m.scales.begin() + static_cast<std::ptrdiff_t>(g) * groups_of(m.k) + first / 128;
    out.scales.insert(out.scales.end(), from, from + count / 128);
  }
  return out;
}
// b below a; a.n must be a multiple of 128 so that no block mixes both.
Fp8Matrix stacked(Fp8Matrix a, const Fp8Matrix& b) {
  a.codes.insert(a.codes.end(), b.codes.begin(), b.codes.end());
  a.scales.insert(a.scales.end(), b.scales.begin(), b.scales.end());
  a.n += b.n;
  return a;
}

std::vector<float> widened(const std::vector<std::uint16_t>& values) {
  std::vector<float> out;
  out.reserve(values.size());
  for (const auto v : values) out.push_back(bf16_to_float(v));
  return out;
}

}  // namespace

Linear Model::Parts::upload(const Fp8Matrix& m) {
  Linear l;
  l.n = m.n, l.k = m.k;
  l.weight = Buffer::of(device, shuffle_weights(m.codes, m.n, m.k));
  l.scale = Buffer::of(device, m.scales);
  return l;
}

Buffer Model::Parts::upload_bf16(const std::vector<std::uint16_t>& values, int n, int k) {
  std::vector<std::uint8_t> bytes(values.size() * 2);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return Buffer::of(device, shuffle_weights(bytes, n, k * 2));
}

Experts Model::Parts::upload_experts(const std::vector<Fp8Matrix>& w13, const std::vector<Fp8Matrix>& w2) {
  std::vector<std::uint8_t> a, b;
  std::vector<float> as, bs;
  for (const auto& m : w13) {
    const auto s = shuffle_weights(m.codes, m.n, m.k);
    a.insert(a.end(), s.begin(), s.end());
    as.insert(as.end(), m.scales.begin(), m.scales.end());
  }
  for (const auto& m : w2) {
    const auto s = shuffle_weights(m.codes, m.n, m.k);
    b.insert(b.end(), s.begin(), s.end());
    bs.insert(bs.end(), m.scales.begin(), m.scales.end());
  }
  Experts e;
  e.inter = w2.front().k;
  e.w13 = Buffer::of(device, a), e.w13_scale = Buffer::of(device, as), e.w2 = Buffer::of(device, b),
  e.w2_scale = Buffer::of(device, bs);
  return e;
}

Layer Model::Parts::upload_layer(const Config& c, const WeightSource& source, int l) {
  const Fp8Format format = device.fp8_format();
  auto get = [&](const std::string& name, int n, int k) { return for_device(source.matrix(name, n, k), format); };
  auto norm = [&](const std::string& name, int n) { return Buffer::of(device, widened(source.bf16(name, n))); };
  const std::string prefix = "model.layers." + std::to_string(l) + ".", a = prefix + "self_attn.", m = prefix + "mlp";
  Layer layer;
  layer.input_norm = norm(prefix + "input_layernorm.weight", c.hidden);
  layer.post_norm = norm(prefix + "post_attention_layernorm.weight", c.hidden);
  layer.q_norm = norm(a + "q_a_layernorm.weight", c.q_lora);
  layer.kv_norm = norm(a + "kv_a_layernorm.weight", kLatent);
  layer.qkv_down =
      upload(stacked(get(a + "q_a_proj", c.q_lora, c.hidden), get(a + "kv_a_proj_with_mqa", kCached, c.hidden)));
  layer.q_up = upload(get(a + "q_b_proj", c.heads * (kNope + kRope), c.q_lora));
  layer.out = upload(get(a + "o_proj", c.hidden, c.heads * kValue));
  // kv_b_proj twice: in FP8 for prefill, and its absorbed halves in bf16, because they meet bf16 activations. FP8
  // values times a scale round once, to 2^-8.
  const Fp8Matrix kv_b = source.matrix(a + "kv_b_proj", c.heads * (kNope + kValue), kLatent);
  layer.kv_up = upload(for_device(kv_b, format));
  std::vector<std::uint16_t> all(kv_b.codes.size()), absorb, value;
  for (int r = 0; r < kv_b.n; ++r)
    for (int k = 0; k < kLatent; ++k) {
      const auto at = static_cast<std::size_t>(r) * kLatent + static_cast<std::size_t>(k);
      all[at] = float_to_bf16(fp8_decode(kv_b.codes[at], Fp8Format::fn) *
                              kv_b.scales[static_cast<std::size_t>(r / 128 * (kLatent / 128) + k / 128)]);
    }
  std::vector<std::uint8_t> absorb_bytes, value_bytes;
  for (int h = 0; h < c.heads; ++h) {
    const std::uint16_t* own = all.data() + static_cast<std::size_t>(h) * (kNope + kValue) * kLatent;
    std::vector<std::uint16_t> turned(static_cast<std::size_t>(kLatent) * kNope);
    for (int d = 0; d < kNope; ++d)
      for (int k = 0; k < kLatent; ++k)
        turned[static_cast<std::size_t>(k) * kNope + static_cast<std::size_t>(d)] =
            own[static_cast<std::size_t>(d) * kLatent + static_cast<std::size_t>(k)];
    auto append = [](std::vector<std::uint8_t>& to, const std::uint16_t* from, int n, int k) {
      const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(from),
                                                static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * 2);
      const auto s = shuffle_weights(bytes, n, k * 2);
      to.insert(to.end(), s.begin(), s.end());
    };
    append(absorb_bytes, turned.data(), kLatent, kNope);
    append(value_bytes, own + static_cast<std::size_t>(kNope) * kLatent, kValue, kLatent);
  }
  layer.q_absorb = Buffer::of(device, absorb_bytes);
  layer.v_up = Buffer::of(device, value_bytes);

  std::vector<Fp8Matrix> w13, w2;
  auto add_mlp = [&](const std::string& name, int inter,
                     int pieces) {  // a wide shared MLP becomes `pieces` synthetic experts
    const auto gate = get(name + ".gate_proj", inter, c.hidden), up = get(name + ".up_proj", inter, c.hidden),
               last = get(name + ".down_proj", c.hidden, inter);
    const int width = inter / pieces;
    for (int i = 0; i < pieces; ++i) {
      w13.push_back(stacked(rows_of(gate, i * width, width), rows_of(up, i * width, width)));
      w2.push_back(columns_of(last, i * width, width));
    }
  };
  if (l < c.dense_layers) {
    add_mlp(m, c.dense_inter, 1);
    layer.mlp = upload_experts(w13, w2);
    layer.mlp.shared = 1;
  } else {
    layer.router = upload_bf16(source.bf16(m + ".gate.weight", static_cast<std::int64_t>(c.experts) * c.hidden),
                               c.experts, c.hidden);
    layer.router_bias = Buffer::of(device, source.f32(m + ".gate.e_score_correction_bias", c.experts));
    for (int e = 0; e < c.experts; ++e) add_mlp(m + ".experts." + std::to_string(e), c.expert_inter, 1);
    if (c.shared_experts > 0) add_mlp(m + ".shared_experts", c.shared_experts * c.expert_inter, c.shared_experts);
    layer.mlp = upload_experts(w13, w2);
    layer.mlp.experts = c.experts;
    layer.mlp.shared = c.shared_experts;
  }
  return layer;
}

void Model::Parts::allocate(const Config& c, const Limits& limits) {
  const auto t = static_cast<std::size_t>(limits.tokens), s = static_cast<std::size_t>(limits.sequences),
             h = static_cast<std::size_t>(c.hidden), heads = static_cast<std::size_t>(c.heads);
  auto floats = [&](std::size_t n) { return Buffer(device, n * 4); };
  auto halves = [&](std::size_t n) { return Buffer(device, n * 2); };
  ids = floats(t), position = floats(t), slot = floats(t),
  pages = floats(s * static_cast<std::size_t>(groups_of(limits.positions) * 2));
  q_start = floats(s), q_len = floats(s), kv_len = floats(s), last_row = floats(s);
  residual = halves(t * h), x = halves(t * h), normed = halves(t * h);
  const std::size_t widest = std::max(h, heads * kValue);
  fp8 = Buffer(device, t * widest), fp8_scale = floats(t * widest / 128);
  down = halves(t * static_cast<std::size_t>(c.q_lora + kCached)),
  q_fp8 = Buffer(device, t * static_cast<std::size_t>(c.q_lora)),
  q_scale = floats(t * static_cast<std::size_t>(c.q_lora) / 128);
  latent = halves(t * kLatent), latent_fp8 = Buffer(device, t * kLatent), latent_scale = floats(t * kLatent / 128);
  q = halves(t * heads * (kNope + kRope)), q_nope = halves(t * heads * kLatent), q_all = halves(t * heads * kCached);
  attended = halves(t * heads * kLatent), heads_out = halves(t * heads * kValue);
  const std::size_t padded = t + kPageTokens;  // flat keys and values are read to the end of a tile
  kv = halves(padded * heads * (kNope + kValue)), q_cat = halves(t * heads * (kNope + kRope)),
  k_cat = halves(padded * heads * (kNope + kRope));
  const auto splits = static_cast<std::size_t>(attention_splits(limits.positions));
  partial = floats(splits * t * heads * kLatent), peaks = floats(splits * t * heads * 2);
  const int inter = std::max(c.dense_layers > 0 ? c.dense_inter : 0, c.dense_layers < c.layers ? c.expert_inter : 0);
  const int slots = c.dense_layers < c.layers ? c.top_k + c.shared_experts : 1,
            experts = std::max(1, c.experts + c.shared_experts);
  const std::size_t pairs = t * static_cast<std::size_t>(slots);
  router_logits = floats(t * static_cast<std::size_t>(std::max(c.experts, 1))), route_ids = floats(pairs),
  route_weights = floats(pairs);
  mid = Buffer(device, pairs * static_cast<std::size_t>(inter)),
  mid_scale = floats(pairs * static_cast<std::size_t>(inter) / 128), pair_out = floats(pairs * h);
  // Either tile height may be chosen for fewer tokens than the limit: 64 rows bound both.
  order = floats((pairs + static_cast<std::size_t>(experts) * 64) * 2),
  tile_expert = floats(pairs + static_cast<std::size_t>(experts)), tile_count = floats(4), status = floats(4);
  std::size_t most = 4;
  for (const Layer& layer : layers)
    for (const Linear* linear : {&layer.qkv_down, &layer.q_up, &layer.kv_up, &layer.out})
      most = std::max(most, gemm_partial_floats(limits.tokens, linear->n, linear->k));
  most = std::max(most, gemm_partial_floats(limits.tokens, std::max(1, c.experts), c.hidden * 2));
  most = std::max(most, gemm_partial_floats(limits.sequences, c.vocabulary, c.hidden * 2));
  gemm_partial = floats(most);
  last_hidden = halves(s * h), last_residual = halves(s * h),
  logits = floats(s * static_cast<std::size_t>(c.vocabulary)),
  sample_scratch = Buffer(device, sample_scratch_bytes(static_cast<int>(s), c.vocabulary)), sample_token = floats(s);
  temperature = Buffer::of(device, std::vector<float>(s, 0.0F)), top_k = Buffer::of(device, std::vector<int>(s, 0)),
  top_p = Buffer::of(device, std::vector<float>(s, 1.0F));
  seed = Buffer::of(device, std::vector<std::uint64_t>(s, 0)),
  sample_position = Buffer::of(device, std::vector<std::uint64_t>(s, 0));
  for (Buffer* b : {&kv, &k_cat, &status}) require(device.fill(b->data(), 0, b->bytes()));
}

Model::Model(Device& device, const Config& config, const WeightSource& source, const Limits& limits)
    : config_(config), limits_(limits), device_(device), parts_(std::make_unique<Parts>(device)) {
  if (const std::string p = problem(config); !p.empty()) throw std::invalid_argument("model: " + p);
  if (limits.tokens < 1 || limits.sequences < 1 || limits.positions < 1 || limits.pages < 1)
    throw std::invalid_argument("model: a limit below 1");
  Parts& p = *parts_;
  const Config& c = config;
  auto norm = [&](const std::string& name, int n) { return Buffer::of(device, widened(source.bf16(name, n))); };
  p.embedding =
      Buffer::of(device, source.bf16("model.embed_tokens.weight", static_cast<std::int64_t>(c.vocabulary) * c.hidden));
  p.final_norm = norm("model.norm.weight", c.hidden);
  p.head = p.upload_bf16(source.bf16("lm_head.weight", static_cast<std::int64_t>(c.vocabulary) * c.hidden),
                         c.vocabulary, c.hidden);
  p.angles = Buffer::of(device, reference::angle_table(limits.positions, kRope, c.rope_base));
  for (int l = 0; l < c.layers; ++l) {
    p.layers.push_back(p.upload_layer(c, source, l));
    p.cache.emplace_back(device, static_cast<std::size_t>(limits.pages) * kPageTokens * kCached *
                                     (limits.cache == CacheFormat::fp8 ? 1 : 2));
    require(device.fill(p.cache.back().data(), 0, p.cache.back().bytes()));
  }
  p.allocate(c, limits);
}

}  // namespace faultline::kernels::model
