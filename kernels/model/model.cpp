#include "kernels/model/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "kernels/reference/reference.h"
#include "kernels/tile/fp8.h"

namespace faultline::kernels::model {
namespace {

constexpr float kLog2e = 1.44269504F;

int groups_of(int n) { return (n + 127) / 128; }

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
  Linear qkv_down, q_up, out;
  Buffer kv_up, q_absorb, v_up;  // bf16, pre-shuffled; the last two per head
  Buffer router, router_bias;    // null in dense layers
  Experts mlp;
};

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

struct Model::Parts {
  Device& device;
  Buffer embedding, final_norm, head, angles;
  std::vector<Layer> layers;
  std::vector<Buffer> cache;  // one a layer

  // Inputs of a step
  Buffer ids, position, slot, pages, q_start, q_len, kv_len, last_row, zero_row;
  // Activations
  Buffer residual, x, normed, fp8, fp8_scale, down, q_fp8, q_scale, latent, q, q_nope, q_all, attended, heads_out, kv,
      q_cat, k_cat, partial, peaks;
  Buffer router_logits, route_ids, route_weights, mid, mid_scale, pair_out, order, tile_expert, tile_count, status,
      gemm_partial;
  Buffer last_hidden, logits, sample_scratch, sample_token, temperature, top_k, top_p, seed, sample_position;

  int tokens = 0, sequences = 0, q_len_max = 0, kv_len_max = 0;
  std::int64_t context = 0;
  bool whole_prefill = false;

  explicit Parts(Device& d) : device(d) {}

  Linear upload(const Fp8Matrix& m) {
    Linear l;
    l.n = m.n, l.k = m.k;
    l.weight = Buffer::of(device, shuffle_weights(m.codes, m.n, m.k));
    l.scale = Buffer::of(device, m.scales);
    return l;
  }
  Buffer upload_bf16(const std::vector<std::uint16_t>& values, int n, int k) {
    std::vector<std::uint8_t> bytes(values.size() * 2);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return Buffer::of(device, shuffle_weights(bytes, n, k * 2));
  }
  Experts upload_experts(const std::vector<Fp8Matrix>& w13, const std::vector<Fp8Matrix>& w2) {
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
};

Model::~Model() = default;

Model::Model(Device& device, const Config& config, const WeightSource& source, const Limits& limits)
    : config_(config), limits_(limits), device_(device), parts_(std::make_unique<Parts>(device)) {
  if (const std::string p = problem(config); !p.empty()) throw std::invalid_argument("model: " + p);
  if (limits.tokens < 1 || limits.sequences < 1 || limits.positions < 1 || limits.pages < 1)
    throw std::invalid_argument("model: a limit below 1");
  Parts& p = *parts_;
  const Fp8Format format = device.fp8_format();
  const Config& c = config;
  auto get = [&](const std::string& name, int n, int k) { return for_device(source.matrix(name, n, k), format); };
  auto norm = [&](const std::string& name, int n) { return Buffer::of(device, widened(source.bf16(name, n))); };
  p.embedding =
      Buffer::of(device, source.bf16("model.embed_tokens.weight", static_cast<std::int64_t>(c.vocabulary) * c.hidden));
  p.final_norm = norm("model.norm.weight", c.hidden);
  p.head = p.upload_bf16(source.bf16("lm_head.weight", static_cast<std::int64_t>(c.vocabulary) * c.hidden),
                         c.vocabulary, c.hidden);
  p.angles = Buffer::of(device, reference::angle_table(limits.positions, kRope, c.rope_base));

  for (int l = 0; l < c.layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".", a = prefix + "self_attn.", m = prefix + "mlp";
    Layer layer;
    layer.input_norm = norm(prefix + "input_layernorm.weight", c.hidden);
    layer.post_norm = norm(prefix + "post_attention_layernorm.weight", c.hidden);
    layer.q_norm = norm(a + "q_a_layernorm.weight", c.q_lora);
    layer.kv_norm = norm(a + "kv_a_layernorm.weight", kLatent);
    layer.qkv_down =
        p.upload(stacked(get(a + "q_a_proj", c.q_lora, c.hidden), get(a + "kv_a_proj_with_mqa", kCached, c.hidden)));
    layer.q_up = p.upload(get(a + "q_b_proj", c.heads * (kNope + kRope), c.q_lora));
    layer.out = p.upload(get(a + "o_proj", c.hidden, c.heads * kValue));
    // kv_b_proj in bf16: absorbed it meets bf16 activations. FP8 values times a scale round once, to 2^-8.
    const Fp8Matrix kv = source.matrix(a + "kv_b_proj", c.heads * (kNope + kValue), kLatent);
    std::vector<std::uint16_t> all(kv.codes.size()), absorb, value;
    for (int r = 0; r < kv.n; ++r)
      for (int k = 0; k < kLatent; ++k) {
        const auto at = static_cast<std::size_t>(r) * kLatent + static_cast<std::size_t>(k);
        all[at] = float_to_bf16(fp8_decode(kv.codes[at], Fp8Format::fn) *
                                kv.scales[static_cast<std::size_t>(r / 128 * (kLatent / 128) + k / 128)]);
      }
    layer.kv_up = p.upload_bf16(all, kv.n, kLatent);
    std::vector<std::uint8_t> absorb_bytes, value_bytes;
    for (int h = 0; h < c.heads; ++h) {
      const std::uint16_t* head = all.data() + static_cast<std::size_t>(h) * (kNope + kValue) * kLatent;
      std::vector<std::uint16_t> turned(static_cast<std::size_t>(kLatent) * kNope);
      for (int d = 0; d < kNope; ++d)
        for (int k = 0; k < kLatent; ++k)
          turned[static_cast<std::size_t>(k) * kNope + static_cast<std::size_t>(d)] =
              head[static_cast<std::size_t>(d) * kLatent + static_cast<std::size_t>(k)];
      auto append = [](std::vector<std::uint8_t>& to, const std::uint16_t* from, int n, int k) {
        const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(from),
                                                  static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * 2);
        const auto s = shuffle_weights(bytes, n, k * 2);
        to.insert(to.end(), s.begin(), s.end());
      };
      append(absorb_bytes, turned.data(), kLatent, kNope);
      append(value_bytes, head + static_cast<std::size_t>(kNope) * kLatent, kValue, kLatent);
    }
    layer.q_absorb = Buffer::of(device, absorb_bytes);
    layer.v_up = Buffer::of(device, value_bytes);

    std::vector<Fp8Matrix> w13, w2;
    auto add_mlp = [&](const std::string& name, int inter,
                       int pieces) {  // a wide shared MLP becomes `pieces` synthetic experts
      const auto gate = get(name + ".gate_proj", inter, c.hidden), up = get(name + ".up_proj", inter, c.hidden),
                 down = get(name + ".down_proj", c.hidden, inter);
      const int width = inter / pieces;
      for (int i = 0; i < pieces; ++i) {
        w13.push_back(stacked(rows_of(gate, i * width, width), rows_of(up, i * width, width)));
        w2.push_back(columns_of(down, i * width, width));
      }
    };
    if (l < c.dense_layers) {
      add_mlp(m, c.dense_inter, 1);
      layer.mlp = p.upload_experts(w13, w2);
      layer.mlp.shared = 1;
    } else {
      layer.router = p.upload_bf16(source.bf16(m + ".gate.weight", static_cast<std::int64_t>(c.experts) * c.hidden),
                                   c.experts, c.hidden);
      layer.router_bias = Buffer::of(device, source.f32(m + ".gate.e_score_correction_bias", c.experts));
      for (int e = 0; e < c.experts; ++e) add_mlp(m + ".experts." + std::to_string(e), c.expert_inter, 1);
      if (c.shared_experts > 0) add_mlp(m + ".shared_experts", c.shared_experts * c.expert_inter, c.shared_experts);
      layer.mlp = p.upload_experts(w13, w2);
      layer.mlp.experts = c.experts;
      layer.mlp.shared = c.shared_experts;
    }
    p.layers.push_back(std::move(layer));
    p.cache.emplace_back(device, static_cast<std::size_t>(limits.pages) * kPageTokens * kCached *
                                     (limits.cache == CacheFormat::fp8 ? 1 : 2));
    require(device.fill(p.cache.back().data(), 0, p.cache.back().bytes()));
  }

  const auto t = static_cast<std::size_t>(limits.tokens), s = static_cast<std::size_t>(limits.sequences),
             h = static_cast<std::size_t>(c.hidden), heads = static_cast<std::size_t>(c.heads);
  auto floats = [&](std::size_t n) { return Buffer(device, n * 4); };
  auto halves = [&](std::size_t n) { return Buffer(device, n * 2); };
  p.ids = floats(t), p.position = floats(t), p.slot = floats(t),
  p.pages = floats(s * static_cast<std::size_t>(groups_of(limits.positions) * 2));
  p.q_start = floats(s), p.q_len = floats(s), p.kv_len = floats(s), p.last_row = floats(s);
  p.residual = halves(t * h), p.x = halves(t * h), p.normed = halves(t * h);
  const std::size_t widest = std::max(h, heads * kValue);
  p.fp8 = Buffer(device, t * widest), p.fp8_scale = floats(t * widest / 128);
  p.down = halves(t * static_cast<std::size_t>(c.q_lora + kCached)),
  p.q_fp8 = Buffer(device, t * static_cast<std::size_t>(c.q_lora)),
  p.q_scale = floats(t * static_cast<std::size_t>(c.q_lora) / 128);
  p.latent = halves(t * kLatent), p.q = halves(t * heads * (kNope + kRope)), p.q_nope = halves(t * heads * kLatent),
  p.q_all = halves(t * heads * kCached);
  p.attended = halves(t * heads * kLatent), p.heads_out = halves(t * heads * kValue);
  const std::size_t padded = t + kPageTokens;  // flat keys and values are read to the end of a tile
  p.kv = halves(padded * heads * (kNope + kValue)), p.q_cat = halves(t * heads * (kNope + kRope)),
  p.k_cat = halves(padded * heads * (kNope + kRope));
  const auto splits = static_cast<std::size_t>(attention_splits(limits.positions));
  p.partial = floats(splits * t * heads * kLatent), p.peaks = floats(splits * t * heads * 2);
  const int inter = std::max(c.dense_layers > 0 ? c.dense_inter : 0, c.dense_layers < c.layers ? c.expert_inter : 0);
  const int slots = c.dense_layers < c.layers ? c.top_k + c.shared_experts : 1,
            experts = std::max(1, c.experts + c.shared_experts);
  const std::size_t pairs = t * static_cast<std::size_t>(slots);
  p.router_logits = floats(t * static_cast<std::size_t>(std::max(c.experts, 1))), p.route_ids = floats(pairs),
  p.route_weights = floats(pairs);
  p.mid = Buffer(device, pairs * static_cast<std::size_t>(inter)),
  p.mid_scale = floats(pairs * static_cast<std::size_t>(inter) / 128), p.pair_out = floats(pairs * h);
  // Either tile height may be chosen for fewer tokens than the limit: 64 rows bound both.
  p.order = floats((pairs + static_cast<std::size_t>(experts) * 64) * 2),
  p.tile_expert = floats(pairs + static_cast<std::size_t>(experts)), p.tile_count = floats(4), p.status = floats(4);
  std::size_t partial = 4;
  for (const Layer& layer : p.layers)
    for (const Linear* linear : {&layer.qkv_down, &layer.q_up, &layer.out})
      partial = std::max(partial, gemm_partial_floats(limits.tokens, linear->n, linear->k));
  partial = std::max(partial, gemm_partial_floats(limits.tokens, c.heads * (kNope + kValue), kLatent * 2));
  partial = std::max(partial, gemm_partial_floats(limits.tokens, std::max(1, c.experts), c.hidden * 2));
  partial = std::max(partial, gemm_partial_floats(limits.sequences, c.vocabulary, c.hidden * 2));
  p.gemm_partial = floats(partial);
  p.last_hidden = halves(s * h), p.logits = floats(s * static_cast<std::size_t>(c.vocabulary)),
  p.sample_scratch = Buffer(device, sample_scratch_bytes(static_cast<int>(s), c.vocabulary)),
  p.sample_token = floats(s);
  p.temperature = Buffer::of(device, std::vector<float>(s, 0.0F)), p.top_k = Buffer::of(device, std::vector<int>(s, 0)),
  p.top_p = Buffer::of(device, std::vector<float>(s, 1.0F));
  p.seed = Buffer::of(device, std::vector<std::uint64_t>(s, 0)),
  p.sample_position = Buffer::of(device, std::vector<std::uint64_t>(s, 0));
  for (Buffer* b : {&p.kv, &p.k_cat, &p.status}) require(device.fill(b->data(), 0, b->bytes()));
}

void Model::prepare(const std::vector<SequenceInput>& sequences) {
  Parts& p = *parts_;
  if (sequences.empty() || static_cast<int>(sequences.size()) > limits_.sequences)
    throw std::invalid_argument("step: " + std::to_string(sequences.size()) + " sequences, at most " +
                                std::to_string(limits_.sequences));
  const int pages_ld = groups_of(limits_.positions) * 2;
  std::vector<int> ids, position, slot, pages(sequences.size() * static_cast<std::size_t>(pages_ld), -1), q_start,
      q_len, kv_len, last;
  p.q_len_max = p.kv_len_max = 0;
  p.context = 0;
  p.whole_prefill = true;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const SequenceInput& in = sequences[s];
    const int fresh = static_cast<int>(in.tokens.size()), length = in.cached + fresh;
    if (fresh < 1 || in.cached < 0 || length > limits_.positions)
      throw std::invalid_argument("step: sequence " + std::to_string(s) + " has " + std::to_string(fresh) +
                                  " new and " + std::to_string(in.cached) + " cached tokens");
    if (static_cast<int>(in.pages.size()) * kPageTokens < length)
      throw std::invalid_argument("step: sequence " + std::to_string(s) + " of " + std::to_string(length) +
                                  " tokens has " + std::to_string(in.pages.size()) + " pages");
    q_start.push_back(static_cast<int>(ids.size()));
    q_len.push_back(fresh);
    kv_len.push_back(length);
    for (int i = 0; i < fresh; ++i) {
      const int at = in.cached + i, page = in.pages[static_cast<std::size_t>(at / kPageTokens)];
      if (page < 0 || page >= limits_.pages)
        throw std::invalid_argument("step: page " + std::to_string(page) + " of " + std::to_string(limits_.pages));
      ids.push_back(in.tokens[static_cast<std::size_t>(i)]);
      position.push_back(at);
      slot.push_back(page * kPageTokens + at % kPageTokens);
    }
    for (int i = 0; i * kPageTokens < length; ++i)
      pages[s * static_cast<std::size_t>(pages_ld) + static_cast<std::size_t>(i)] =
          in.pages[static_cast<std::size_t>(i)];
    last.push_back(static_cast<int>(ids.size()) - 1);
    p.q_len_max = std::max(p.q_len_max, fresh);
    p.kv_len_max = std::max(p.kv_len_max, length);
    p.context += length;
    p.whole_prefill = p.whole_prefill && in.cached == 0 && fresh > 1;
  }
  if (static_cast<int>(ids.size()) > limits_.tokens)
    throw std::invalid_argument("step: " + std::to_string(ids.size()) + " tokens, at most " +
                                std::to_string(limits_.tokens));
  p.tokens = static_cast<int>(ids.size());
  p.sequences = static_cast<int>(sequences.size());
  auto put = [](Buffer& b, const std::vector<int>& v) { b.write(v.data(), v.size() * sizeof(int)); };
  put(p.ids, ids), put(p.position, position), put(p.slot, slot), put(p.pages, pages);
  put(p.q_start, q_start), put(p.q_len, q_len), put(p.kv_len, kv_len), put(p.last_row, last);
}

Outcome<> Model::launch(std::vector<OpRecord>* log) {
  Parts& p = *parts_;
  const Config& c = config_;
  const int t = p.tokens, heads = c.heads, q_width = heads * (kNope + kRope);
  auto* status = p.status.data<std::uint32_t>();
  Outcome<> failed = Done{};
  // Runs one operation and, when a log is wanted, times it alone.
  auto op = [&](OpRecord record, const std::function<Outcome<>()>& run) {
    if (!failed) return;
    if (log == nullptr) {
      failed = run();
      return;
    }
    if (auto done = device_.mark(0); !done) failed = done;
    if (auto done = run(); !done) failed = done;
    if (auto done = device_.mark(1); !done) failed = done;
    auto time = device_.nanoseconds_between_marks();
    record.nanoseconds = time ? time.value() : 0;
    log->push_back(std::move(record));
  };
  auto gemm_record = [&](const char* name, const char* precision, int m, int n, int k, int batch = 1) {
    OpRecord r;
    r.name = name, r.kind = "gemm", r.precision = precision, r.m = m, r.n = n, r.k = k, r.batch = batch;
    return r;
  };
  auto row_record = [&](const char* name, int rows) {
    OpRecord r;
    r.name = name, r.kind = "elementwise", r.precision = "bf16", r.tokens = rows;
    return r;
  };
  auto linear = [&](const Linear& w, const std::uint8_t* a, const float* scale, void* out) {
    GemmArgs g{};
    g.a = a, g.w = w.weight.data(), g.a_scale = scale, g.w_scale = w.scale.data<float>(), g.out = out,
    g.partial = p.gemm_partial.data<float>();
    g.m = t, g.n = w.n, g.k_bytes = w.k, g.lda = w.k, g.ldo = w.n;
    return gemm_fp8_blocks(device_, g);
  };
  auto normalise = [&](const std::uint16_t* x, int width, int ld, const Buffer& weight, std::uint16_t* out,
                       std::uint8_t* fp8, float* scale, bool add) {
    NormArgs n{};
    n.x = x, n.weight = weight.data<float>(), n.out = out, n.out_fp8 = fp8, n.scale = scale, n.m = t, n.h = width,
    n.ldx = ld, n.group = 1, n.eps = c.norm_epsilon;
    if (add) n.residual = n.residual_out = p.residual.data<std::uint16_t>();
    return rms_norm(device_, n);
  };
  const bool fp8_cache = limits_.cache == CacheFormat::fp8;
  const float softmax = 1.0F / std::sqrt(static_cast<float>(kNope + kRope));
  // FN codes stand for twice the FNUZ value: half the scale gives the same cache bytes on every device.
  const float unit = device_.fp8_format() == Fp8Format::fn ? 0.5F : 1.0F;
  const float q_scale = fp8_cache ? limits_.query_scale * unit : 1.0F,
              kv_scale = fp8_cache ? limits_.cache_scale * unit : 1.0F;
  auto* down = p.down.data<std::uint16_t>();
  const int down_width = c.q_lora + kCached;

  op(row_record("embed", t), [&] {
    return embed(device_, {p.embedding.data<std::uint16_t>(), p.ids.data<int>(), p.residual.data<std::uint16_t>(), t,
                           c.hidden, c.vocabulary});
  });
  for (int l = 0; l < c.layers; ++l) {
    const Layer& layer = p.layers[static_cast<std::size_t>(l)];
    op(row_record("attention_norm", t), [&] {
      return l == 0 ? normalise(p.residual.data<std::uint16_t>(), c.hidden, c.hidden, layer.input_norm, nullptr,
                                p.fp8.data(), p.fp8_scale.data<float>(), false)
                    : normalise(p.x.data<std::uint16_t>(), c.hidden, c.hidden, layer.input_norm, nullptr, p.fp8.data(),
                                p.fp8_scale.data<float>(), true);
    });
    op(gemm_record("qkv_down", "fp8", t, down_width, c.hidden),
       [&] { return linear(layer.qkv_down, p.fp8.data(), p.fp8_scale.data<float>(), down); });
    op(row_record("latent_norm", t), [&]() -> Outcome<> {
      if (auto done = normalise(down, c.q_lora, down_width, layer.q_norm, nullptr, p.q_fp8.data(),
                                p.q_scale.data<float>(), false);
          !done)
        return done;
      return normalise(down + c.q_lora, kLatent, down_width, layer.kv_norm, p.latent.data<std::uint16_t>(), nullptr,
                       nullptr, false);
    });
    op(gemm_record("q_up", "fp8", t, q_width, c.q_lora),
       [&] { return linear(layer.q_up, p.q_fp8.data(), p.q_scale.data<float>(), p.q.data()); });

    MlaCacheArgs cache{};
    cache.q_nope = p.q_nope.data<std::uint16_t>(), cache.q_rope = p.q.data<std::uint16_t>() + kNope,
    cache.latent = p.latent.data<std::uint16_t>(), cache.k_rope = down + c.q_lora + kLatent;
    cache.angles = p.angles.data<float>(), cache.position = p.position.data<int>(), cache.slot = p.slot.data<int>(),
    cache.q_out = p.q_all.data(), cache.cache = p.cache[static_cast<std::size_t>(l)].data(), cache.status = status;
    cache.m = t, cache.heads = p.whole_prefill ? 0 : heads, cache.slots = limits_.pages * kPageTokens,
    cache.positions = limits_.positions;
    cache.q_nope_row = heads * kLatent, cache.q_rope_row = q_width, cache.q_rope_head = kNope + kRope,
    cache.latent_row = kLatent, cache.k_rope_row = down_width;
    cache.q_inverse = 1.0F / q_scale, cache.cache_inverse = 1.0F / kv_scale;
    AttentionArgs a{};
    a.q_start = p.q_start.data<int>(), a.q_len = p.q_len.data<int>(), a.kv_len = p.kv_len.data<int>(),
    a.status = status;
    a.partial = p.partial.data<float>(), a.peaks = p.peaks.data<float>();
    a.sequences = p.sequences, a.tokens = t, a.heads = heads, a.causal = 1;
    OpRecord attention_record;
    attention_record.sequences = p.sequences, attention_record.tokens = t, attention_record.context = p.context,
    attention_record.heads = heads;
    if (p.whole_prefill) {
      op(row_record("rope_cache", t), [&] { return mla_cache(device_, cache, fp8_cache); });
      op(gemm_record("kv_up", "bf16", t, heads * (kNope + kValue), kLatent), [&] {
        GemmArgs g{};
        g.a = p.latent.data(), g.w = layer.kv_up.data(), g.out = p.kv.data(), g.partial = p.gemm_partial.data<float>();
        g.m = t, g.n = heads * (kNope + kValue), g.k_bytes = kLatent * 2, g.lda = kLatent * 2, g.ldo = g.n;
        return gemm_bf16(device_, g);
      });
      op(row_record("rope_concat", t), [&] {
        return mla_concat(device_, {p.q.data<std::uint16_t>(), p.kv.data<std::uint16_t>(), down + c.q_lora + kLatent,
                                    p.angles.data<float>(), p.position.data<int>(), p.q_cat.data<std::uint16_t>(),
                                    p.k_cat.data<std::uint16_t>(), status, t, heads, down_width, limits_.positions});
      });
      a.q = p.q_cat.data(), a.k = p.k_cat.data(), a.v = p.kv.data() + kNope * 2, a.kv_start = a.q_start,
      a.out = p.heads_out.data<std::uint16_t>();
      a.q_head = a.k_head = (kNope + kRope) * 2, a.q_token = a.k_token = a.q_head * static_cast<std::size_t>(heads);
      a.v_head = (kNope + kValue) * 2, a.v_token = a.v_head * static_cast<std::size_t>(heads);
      a.kv_heads = heads, a.splits = 1, a.score_scale = softmax * kLog2e, a.v_scale = 1;
      attention_record.name = "mla_prefill", attention_record.kind = "prefill_attention",
      attention_record.precision = "bf16";
      op(attention_record, [&] { return attention(device_, AttentionKind::mla_prefill_bf16, a, p.q_len_max); });
    } else {
      op(gemm_record("q_absorb", "bf16", t, kLatent, kNope, heads), [&] {
        GemmArgs g{};
        g.a = p.q.data(), g.w = layer.q_absorb.data(), g.out = p.q_nope.data();
        g.a_stride = (kNope + kRope) * 2, g.w_stride = shuffled_bytes(kLatent, kNope * 2), g.out_stride = kLatent;
        g.m = t, g.n = kLatent, g.k_bytes = kNope * 2, g.lda = q_width * 2, g.ldo = heads * kLatent;
        return gemm_bf16(device_, g, heads);
      });
      op(row_record("rope_cache", t), [&] { return mla_cache(device_, cache, fp8_cache); });
      const auto line = static_cast<std::size_t>(kCached * (fp8_cache ? 1 : 2));
      a.q = p.q_all.data(), a.k = a.v = p.cache[static_cast<std::size_t>(l)].data(), a.pages = p.pages.data<int>(),
      a.out = p.attended.data<std::uint16_t>();
      a.q_head = line, a.q_token = line * static_cast<std::size_t>(heads), a.k_token = a.v_token = line,
      a.k_page = a.v_page = line * kPageTokens;
      a.pages_ld = groups_of(limits_.positions) * 2, a.page_count = limits_.pages, a.kv_heads = 1;
      // By the limit, not by the batch: a captured step stays right as sequences grow, and a sequence's result does not
      // depend on others.
      a.split_tokens = kSplitTokens, a.splits = attention_splits(limits_.positions);
      a.score_scale = softmax * kLog2e * q_scale * kv_scale, a.v_scale = kv_scale;
      attention_record.name = "mla_decode", attention_record.kind = "decode_attention",
      attention_record.precision = fp8_cache ? "fp8" : "bf16";
      op(attention_record, [&] {
        return attention(device_, fp8_cache ? AttentionKind::mla_decode_fp8 : AttentionKind::mla_decode_bf16, a,
                         p.q_len_max);
      });
      op(gemm_record("v_up", "bf16", t, kValue, kLatent, heads), [&] {
        GemmArgs g{};
        g.a = p.attended.data(), g.w = layer.v_up.data(), g.out = p.heads_out.data();
        g.a_stride = kLatent * 2, g.w_stride = shuffled_bytes(kValue, kLatent * 2), g.out_stride = kValue;
        g.m = t, g.n = kValue, g.k_bytes = kLatent * 2, g.lda = heads * kLatent * 2, g.ldo = heads * kValue;
        return gemm_bf16(device_, g, heads);
      });
    }
    op(gemm_record("attention_out", "fp8", t, c.hidden, heads * kValue), [&]() -> Outcome<> {
      if (auto done = quantize(device_, {p.heads_out.data<std::uint16_t>(), p.fp8.data(), p.fp8_scale.data<float>(), t,
                                         heads * kValue, heads * kValue, heads * kValue, 1});
          !done)
        return done;
      return linear(layer.out, p.fp8.data(), p.fp8_scale.data<float>(), p.x.data());
    });
    op(row_record("mlp_norm", t), [&] {
      return normalise(p.x.data<std::uint16_t>(), c.hidden, c.hidden, layer.post_norm, p.normed.data<std::uint16_t>(),
                       p.fp8.data(), p.fp8_scale.data<float>(), true);
    });

    MoeArgs m{};
    m.x = p.fp8.data(), m.x_scale = p.fp8_scale.data<float>(), m.ids = p.route_ids.data<int>(),
    m.weights = p.route_weights.data<float>();
    m.w13 = layer.mlp.w13.data(), m.w13_scale = layer.mlp.w13_scale.data<float>(), m.w2 = layer.mlp.w2.data(),
    m.w2_scale = layer.mlp.w2_scale.data<float>();
    m.mid = p.mid.data(), m.mid_scale = p.mid_scale.data<float>(), m.y = p.pair_out.data<float>(),
    m.out = p.x.data<std::uint16_t>();
    m.order = p.order.data<int>(), m.tile_expert = p.tile_expert.data<int>(), m.tile_count = p.tile_count.data<int>(),
    m.status = status;
    m.m = t, m.hidden = c.hidden, m.inter = layer.mlp.inter, m.experts = layer.mlp.experts, m.shared = layer.mlp.shared,
    m.top_k = layer.mlp.experts > 0 ? c.top_k : 0;
    const bool routed = layer.mlp.experts > 0;
    if (routed) {
      op(gemm_record("router", "bf16", t, c.experts, c.hidden), [&] {
        GemmArgs g{};
        g.a = p.normed.data(), g.w = layer.router.data(), g.out = p.router_logits.data(),
        g.partial = p.gemm_partial.data<float>();
        g.m = t, g.n = c.experts, g.k_bytes = c.hidden * 2, g.lda = c.hidden * 2, g.ldo = c.experts, g.out_is_float = 1;
        return gemm_bf16(device_, g);
      });
      op(row_record("top_k", t), [&] {
        return router(device_,
                      {p.router_logits.data<float>(), layer.router_bias.data<float>(), p.route_ids.data<int>(),
                       p.route_weights.data<float>(), t, c.experts, c.groups, c.top_groups, c.top_k, c.route_scale});
      });
    }
    OpRecord moe_record;
    moe_record.name = routed ? "experts" : "mlp", moe_record.kind = "grouped_gemm", moe_record.precision = "fp8";
    moe_record.m = static_cast<std::int64_t>(t) * (m.top_k + m.shared), moe_record.n = 2 * m.inter,
    moe_record.k = c.hidden, moe_record.groups = m.experts + m.shared, moe_record.tokens = t;
    op(moe_record, [&] { return fused_moe(device_, m); });
  }
  op(row_record("final_norm", t), [&] {
    return normalise(p.x.data<std::uint16_t>(), c.hidden, c.hidden, p.final_norm, p.normed.data<std::uint16_t>(),
                     nullptr, nullptr, true);
  });
  op(gemm_record("head", "bf16", p.sequences, c.vocabulary, c.hidden), [&]() -> Outcome<> {
    // Only the last new token of each sequence: gathered as an embedding is.
    if (auto done = embed(device_, {p.normed.data<std::uint16_t>(), p.last_row.data<int>(),
                                    p.last_hidden.data<std::uint16_t>(), p.sequences, c.hidden, t});
        !done)
      return done;
    GemmArgs g{};
    g.a = p.last_hidden.data(), g.w = p.head.data(), g.out = p.logits.data(), g.partial = p.gemm_partial.data<float>();
    g.m = p.sequences, g.n = c.vocabulary, g.k_bytes = c.hidden * 2, g.lda = c.hidden * 2, g.ldo = c.vocabulary,
    g.out_is_float = 1;
    return gemm_bf16(device_, g);
  });
  op(row_record("sample", p.sequences), [&] {
    return sample(device_,
                  {p.logits.data<float>(), p.temperature.data<float>(), p.top_k.data<int>(), p.top_p.data<float>(),
                   p.seed.data<std::uint64_t>(), p.sample_position.data<std::uint64_t>(),
                   p.sample_scratch.data<std::uint32_t>(), p.sample_token.data<int>(), p.sequences, c.vocabulary});
  });
  return failed;
}

std::vector<float> Model::logits() {
  require(device_.synchronize());
  std::vector<float> out(static_cast<std::size_t>(parts_->sequences) * static_cast<std::size_t>(config_.vocabulary));
  parts_->logits.read_into(out.data(), out.size() * 4);
  return out;
}

std::vector<int> Model::greedy() {
  require(device_.synchronize());
  std::vector<int> out(static_cast<std::size_t>(parts_->sequences));
  parts_->sample_token.read_into(out.data(), out.size() * 4);
  return out;
}

std::vector<float> Model::step(const std::vector<SequenceInput>& sequences, std::vector<OpRecord>* log) {
  prepare(sequences);
  require(launch(log));
  return logits();
}

std::uint32_t Model::take_status() {
  std::uint32_t status = 0;
  parts_->status.read_into(&status, sizeof status);
  require(device_.fill(parts_->status.data(), 0, sizeof status));
  return status;
}

std::vector<std::vector<int>> generate(Model& model, const std::vector<std::vector<int>>& prompts, int new_tokens) {
  std::vector<SequenceInput> sequences;
  int next_page = 0;
  for (const auto& prompt : prompts) {
    SequenceInput in{prompt, 0, {}};
    for (int i = 0; i < static_cast<int>(prompt.size()) + new_tokens; i += kPageTokens) in.pages.push_back(next_page++);
    sequences.push_back(in);
  }
  std::vector<std::vector<int>> out(prompts.size());
  for (int n = 0; n < new_tokens; ++n) {
    model.prepare(sequences);
    require(model.launch());
    const auto tokens = model.greedy();
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      out[s].push_back(tokens[s]);
      sequences[s].cached += static_cast<int>(sequences[s].tokens.size());
      sequences[s].tokens = {tokens[s]};
    }
  }
  return out;
}

std::string op_log_line(const OpRecord& r, const std::string& device) {
  nlohmann::ordered_json json{{"op", r.name}, {"kind", r.kind}, {"precision", r.precision}};
  for (const auto& [name, v] : {std::pair{"m", r.m},
                                {"n", r.n},
                                {"k", r.k},
                                {"batch", r.batch == 1 ? 0 : r.batch},
                                {"groups", r.groups},
                                {"sequences", r.sequences},
                                {"tokens", r.tokens},
                                {"context", r.context},
                                {"heads", r.heads}})
    if (v != 0) json[name] = v;
  json["ns"] = std::llround(r.nanoseconds);
  json["device"] = device;
  return json.dump();
}

}  // namespace faultline::kernels::model
