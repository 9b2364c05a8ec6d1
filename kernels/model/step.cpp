// A step: its inputs on their way to the device, and its operations in the order of the simulator's step plan.
// tests/kernels/step_plan_test.cpp holds the two together, name by name and shape by shape.
#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <utility>

#include "kernels/model/parts.h"
#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"

namespace faultline::kernels::model {
namespace {

constexpr float kLog2e = 1.44269504F;

OpRecord gemm_record(const char* name, const char* precision, int m, int n, int k, int batch = 1) {
  OpRecord r;
  r.name = name, r.kind = "gemm", r.precision = precision, r.m = m, r.n = n, r.k = k, r.batch = batch;
  return r;
}

OpRecord row_record(const char* name, int rows) {
  OpRecord r;
  r.name = name, r.kind = "elementwise", r.precision = "bf16", r.tokens = rows;
  return r;
}

}  // namespace

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

/// The launches of one step; nothing but launches.
struct Model::Step {
  Device& device;
  Parts& p;
  const Config& c;
  const Limits& limits;
  std::vector<OpRecord>* log;

  const int t = p.tokens, heads = c.heads, q_width = heads * (kNope + kRope), down_width = c.q_lora + kCached;
  std::uint32_t* const status = p.status.data<std::uint32_t>();
  std::uint16_t* const down = p.down.data<std::uint16_t>();
  Outcome<> failed = Done{};

  // Runs one operation and, when a log is wanted, times it alone.
  template <class Run>
  void op(OpRecord record, const Run& run) {
    if (!failed) return;
    if (log == nullptr) {
      failed = run();
      return;
    }
    if (auto done = device.mark(0); !done) failed = done;
    if (auto done = run(); !done) failed = done;
    if (auto done = device.mark(1); !done) failed = done;
    auto time = device.nanoseconds_between_marks();
    record.nanoseconds = time ? time.value() : 0;
    log->push_back(std::move(record));
  }
  Outcome<> linear(const Linear& w, const std::uint8_t* a, const float* scale, void* out) {
    GemmArgs g{};
    g.a = a, g.w = w.weight.data(), g.a_scale = scale, g.w_scale = w.scale.data<float>(), g.out = out,
    g.partial = p.gemm_partial.data<float>();
    g.m = t, g.n = w.n, g.k_bytes = w.k, g.lda = w.k, g.ldo = w.n;
    return gemm_fp8_blocks(device, g);
  }
  Outcome<> normalise(const std::uint16_t* x, int width, int ld, const Buffer& weight, std::uint16_t* out,
                      std::uint8_t* fp8, float* scale, bool add) {
    NormArgs n{};
    n.x = x, n.weight = weight.data<float>(), n.out = out, n.out_fp8 = fp8, n.scale = scale, n.m = t, n.h = width,
    n.ldx = ld, n.group = 1, n.eps = c.norm_epsilon;
    if (add) n.residual = n.residual_out = p.residual.data<std::uint16_t>();
    return rms_norm(device, n);
  }
  void input();
  void attention_layer(int l);
  void mlp_layer(int l);
  void output();
};

void Model::Step::input() {
  op(row_record("embed", t), [&] {
    return embed(device, {p.embedding.data<std::uint16_t>(), p.ids.data<int>(), p.residual.data<std::uint16_t>(), t,
                          c.hidden, c.vocabulary});
  });
}

void Model::Step::attention_layer(int l) {
  const Layer& layer = p.layers[static_cast<std::size_t>(l)];
  const bool fp8_cache = limits.cache == CacheFormat::fp8;
  const float softmax = 1.0F / std::sqrt(static_cast<float>(kNope + kRope));
  // FN codes stand for twice the FNUZ value: half the scale gives the same cache bytes on every device.
  const float unit = device.fp8_format() == Fp8Format::fn ? 0.5F : 1.0F;
  const float q_scale = fp8_cache ? limits.query_scale * unit : 1.0F,
              kv_scale = fp8_cache ? limits.cache_scale * unit : 1.0F;

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
    return normalise(down + c.q_lora, kLatent, down_width, layer.kv_norm, p.latent.data<std::uint16_t>(),
                     p.whole_prefill ? p.latent_fp8.data() : nullptr, p.latent_scale.data<float>(), false);
  });
  op(gemm_record("q_up", "fp8", t, q_width, c.q_lora),
     [&] { return linear(layer.q_up, p.q_fp8.data(), p.q_scale.data<float>(), p.q.data()); });

  MlaCacheArgs cache{};
  cache.q_nope = p.q_nope.data<std::uint16_t>(), cache.q_rope = p.q.data<std::uint16_t>() + kNope,
  cache.latent = p.latent.data<std::uint16_t>(), cache.k_rope = down + c.q_lora + kLatent;
  cache.angles = p.angles.data<float>(), cache.position = p.position.data<int>(), cache.slot = p.slot.data<int>(),
  cache.q_out = p.q_all.data(), cache.cache = p.cache[static_cast<std::size_t>(l)].data(), cache.status = status;
  cache.m = t, cache.heads = p.whole_prefill ? 0 : heads, cache.slots = limits.pages * kPageTokens,
  cache.positions = limits.positions;
  cache.q_nope_row = heads * kLatent, cache.q_rope_row = q_width, cache.q_rope_head = kNope + kRope,
  cache.latent_row = kLatent, cache.k_rope_row = down_width;
  cache.q_inverse = 1.0F / q_scale, cache.cache_inverse = 1.0F / kv_scale;
  AttentionArgs a{};
  a.q_start = p.q_start.data<int>(), a.q_len = p.q_len.data<int>(), a.kv_len = p.kv_len.data<int>(), a.status = status;
  a.partial = p.partial.data<float>(), a.peaks = p.peaks.data<float>();
  a.sequences = p.sequences, a.tokens = t, a.heads = heads, a.causal = 1;
  OpRecord attention_record;
  attention_record.sequences = p.sequences, attention_record.tokens = t,
  attention_record.context = p.whole_prefill ? 0 : p.context, attention_record.heads = heads;
  if (p.whole_prefill) {
    op(row_record("rope_cache", t), [&] { return mla_cache(device, cache, fp8_cache); });
    op(gemm_record("kv_up", "fp8", t, heads * (kNope + kValue), kLatent),
       [&] { return linear(layer.kv_up, p.latent_fp8.data(), p.latent_scale.data<float>(), p.kv.data()); });
    op(row_record("rope_concat", t), [&] {
      return mla_concat(device, {p.q.data<std::uint16_t>(), p.kv.data<std::uint16_t>(), down + c.q_lora + kLatent,
                                 p.angles.data<float>(), p.position.data<int>(), p.q_cat.data<std::uint16_t>(),
                                 p.k_cat.data<std::uint16_t>(), status, t, heads, down_width, limits.positions});
    });
    a.q = p.q_cat.data(), a.k = p.k_cat.data(), a.v = p.kv.data() + kNope * 2, a.kv_start = a.q_start,
    a.out = p.heads_out.data<std::uint16_t>();
    a.q_head = a.k_head = (kNope + kRope) * 2, a.q_token = a.k_token = a.q_head * static_cast<std::size_t>(heads);
    a.v_head = (kNope + kValue) * 2, a.v_token = a.v_head * static_cast<std::size_t>(heads);
    a.kv_heads = heads, a.splits = 1, a.score_scale = softmax * kLog2e, a.v_scale = 1;
    attention_record.name = "mla_prefill", attention_record.kind = "prefill_attention",
    attention_record.precision = "bf16";
    op(attention_record, [&] { return attention(device, AttentionKind::mla_prefill_bf16, a, p.q_len_max); });
  } else {
    op(gemm_record("q_absorb", "bf16", t, kLatent, kNope, heads), [&] {
      GemmArgs g{};
      g.a = p.q.data(), g.w = layer.q_absorb.data(), g.out = p.q_nope.data();
      g.a_stride = (kNope + kRope) * 2, g.w_stride = shuffled_bytes(kLatent, kNope * 2), g.out_stride = kLatent;
      g.m = t, g.n = kLatent, g.k_bytes = kNope * 2, g.lda = q_width * 2, g.ldo = heads * kLatent;
      return gemm_bf16(device, g, heads);
    });
    op(row_record("rope_cache", t), [&] { return mla_cache(device, cache, fp8_cache); });
    const auto line = static_cast<std::size_t>(kCached * (fp8_cache ? 1 : 2));
    a.q = p.q_all.data(), a.k = a.v = p.cache[static_cast<std::size_t>(l)].data(), a.pages = p.pages.data<int>(),
    a.out = p.attended.data<std::uint16_t>();
    a.q_head = line, a.q_token = line * static_cast<std::size_t>(heads), a.k_token = a.v_token = line,
    a.k_page = a.v_page = line * kPageTokens;
    a.pages_ld = groups_of(limits.positions) * 2, a.page_count = limits.pages, a.kv_heads = 1;
    // By the limit, not by the batch: a captured step stays right as sequences grow, and a sequence's result does not
    // depend on others.
    a.split_tokens = kSplitTokens, a.splits = attention_splits(limits.positions);
    a.score_scale = softmax * kLog2e * q_scale * kv_scale, a.v_scale = kv_scale;
    attention_record.name = "mla_decode", attention_record.kind = "decode_attention",
    attention_record.precision = fp8_cache ? "fp8" : "bf16";
    op(attention_record, [&] {
      return attention(device, fp8_cache ? AttentionKind::mla_decode_fp8 : AttentionKind::mla_decode_bf16, a,
                       p.q_len_max);
    });
    op(gemm_record("v_up", "bf16", t, kValue, kLatent, heads), [&] {
      GemmArgs g{};
      g.a = p.attended.data(), g.w = layer.v_up.data(), g.out = p.heads_out.data();
      g.a_stride = kLatent * 2, g.w_stride = shuffled_bytes(kValue, kLatent * 2), g.out_stride = kValue;
      g.m = t, g.n = kValue, g.k_bytes = kLatent * 2, g.lda = heads * kLatent * 2, g.ldo = heads * kValue;
      return gemm_bf16(device, g, heads);
    });
  }
  op(gemm_record("attention_out", "fp8", t, c.hidden, heads * kValue), [&]() -> Outcome<> {
    if (auto done = quantize(device, {p.heads_out.data<std::uint16_t>(), p.fp8.data(), p.fp8_scale.data<float>(), t,
                                      heads * kValue, heads * kValue, heads * kValue, 1});
        !done)
      return done;
    return linear(layer.out, p.fp8.data(), p.fp8_scale.data<float>(), p.x.data());
  });
  op(row_record("mlp_norm", t), [&] {
    return normalise(p.x.data<std::uint16_t>(), c.hidden, c.hidden, layer.post_norm, p.normed.data<std::uint16_t>(),
                     p.fp8.data(), p.fp8_scale.data<float>(), true);
  });
}

void Model::Step::mlp_layer(int l) {
  const Layer& layer = p.layers[static_cast<std::size_t>(l)];
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
      return gemm_bf16(device, g);
    });
    op(row_record("top_k", t), [&] {
      return router(device,
                    {p.router_logits.data<float>(), layer.router_bias.data<float>(), p.route_ids.data<int>(),
                     p.route_weights.data<float>(), t, c.experts, c.groups, c.top_groups, c.top_k, c.route_scale});
    });
  }
  OpRecord moe_record;
  moe_record.name = routed ? "experts" : "mlp", moe_record.kind = "grouped_gemm", moe_record.precision = "fp8";
  moe_record.m = static_cast<std::int64_t>(t) * (m.top_k + m.shared), moe_record.n = 2 * m.inter,
  moe_record.k = c.hidden, moe_record.groups = m.experts + m.shared, moe_record.tokens = t;
  op(moe_record, [&] { return fused_moe(device, m); });
}

void Model::Step::output() {
  op(row_record("final_norm", p.sequences), [&]() -> Outcome<> {
    // Only the last new token of each sequence goes on: its parts are gathered as an embedding is.
    for (const auto& [from, to] : {std::pair{&p.x, &p.normed}, {&p.residual, &p.last_residual}}) {
      if (auto done = embed(device, {from->data<std::uint16_t>(), p.last_row.data<int>(), to->data<std::uint16_t>(),
                                     p.sequences, c.hidden, t});
          !done)
        return done;
    }
    NormArgs n{};
    n.x = p.normed.data<std::uint16_t>(), n.weight = p.final_norm.data<float>(),
    n.out = p.last_hidden.data<std::uint16_t>();
    n.residual = n.residual_out = p.last_residual.data<std::uint16_t>();
    n.m = p.sequences, n.h = n.ldx = c.hidden, n.group = 1, n.eps = c.norm_epsilon;
    return rms_norm(device, n);
  });
  op(gemm_record("head", "bf16", p.sequences, c.vocabulary, c.hidden), [&] {
    GemmArgs g{};
    g.a = p.last_hidden.data(), g.w = p.head.data(), g.out = p.logits.data(), g.partial = p.gemm_partial.data<float>();
    g.m = p.sequences, g.n = c.vocabulary, g.k_bytes = c.hidden * 2, g.lda = c.hidden * 2, g.ldo = c.vocabulary,
    g.out_is_float = 1;
    return gemm_bf16(device, g);
  });
  op(row_record("sample", p.sequences), [&] {
    return sample(device,
                  {p.logits.data<float>(), p.temperature.data<float>(), p.top_k.data<int>(), p.top_p.data<float>(),
                   p.seed.data<std::uint64_t>(), p.sample_position.data<std::uint64_t>(),
                   p.sample_scratch.data<std::uint32_t>(), p.sample_token.data<int>(), p.sequences, c.vocabulary});
  });
}

Outcome<> Model::launch(std::vector<OpRecord>* log) {
  Step step{device_, *parts_, config_, limits_, log};
  step.input();
  for (int l = 0; l < config_.layers; ++l) {
    step.attention_layer(l);
    step.mlp_layer(l);
  }
  step.output();
  return step.failed;
}

}  // namespace faultline::kernels::model
