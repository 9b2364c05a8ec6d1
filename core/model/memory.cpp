#include "core/model/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::model {
namespace {

constexpr std::int64_t kScaleBlock = 128 * 128;  // one 4-byte scale for each 128 x 128 block of FP8 weights
constexpr std::int64_t kScaleGroup = 128;        // one 4-byte scale for 128 values of an FP8 activation

Bytes linear_bytes(std::int64_t weights, Precision p) {
  if (p == Precision::bf16) return {2 * weights};
  return {weights + 4 * ((weights + kScaleBlock - 1) / kScaleBlock)};
}
std::int64_t share(std::int64_t whole, std::int64_t parts) { return (whole + parts - 1) / parts; }
double gib(Bytes b) { return static_cast<double>(b.v) / static_cast<double>(1LL << 30); }

/// Residual stream and its normalised copy, queries and attention output, MLP intermediate (gate, up, product), all
/// bf16, of the largest step; logits in fp32.
Bytes activation_bytes(const ModelShape& s, const ParallelPlan& p, const MemoryOptions& o) {
  const AttentionShape& a = s.attention;
  const std::int64_t q = a.kind == AttentionKind::mla
                             ? a.q_lora + a.kv_lora + a.rope_dim + a.heads / p.tp * (a.nope_dim + a.rope_dim + a.v_dim)
                             : (2 * a.heads / p.tp + 2 * std::max<std::int64_t>(1, a.kv_heads / p.tp)) * a.head_dim;
  const std::int64_t dense = 3 * s.dense_inter / p.tp;
  // Expert inputs: a rank's own tokens times top-k pairs is the mean that arrives at a balanced GPU.
  const std::int64_t moe = s.is_moe() ? 3 * s.expert_inter *
                                            (p.ep > 1 ? share(s.experts_per_token, p.tp) : s.experts_per_token) /
                                            (p.ep > 1 ? 1 : p.tp)
                                      : 0;
  const std::int64_t per_token = 2 * (2 * s.hidden + q + std::max(dense, moe));
  return {o.tokens_max.v * per_token + o.sequences_max * share(s.vocab, p.tp) * 4};
}

/// Receive buffers of the exchange, worst case: every GPU of the group sends all its tokens to this one. Dispatch: the
/// hidden vector with its scales, and top-k indices and weights (8 bytes each); combine: bf16.
Bytes communication_bytes(const ModelShape& s, const ParallelPlan& p, const MemoryOptions& o) {
  if (!p.exchanges()) return p.tp > 1 ? Bytes{2 * o.tokens_max.v * s.hidden * 2} : Bytes{0};
  const std::int64_t tokens = share(o.tokens_max.v, p.tp) * p.ep;
  const std::int64_t dispatch =
      p.dispatch_precision == Precision::fp8 ? s.hidden + 4 * share(s.hidden, kScaleGroup) : 2 * s.hidden;
  return {tokens * (dispatch + 8 * s.experts_per_token + 2 * s.hidden)};
}

}  // namespace

void describe(config::Fields& f, MemoryOptions& o) {
  f.field("memory_fraction", o.memory_fraction, {.min = 0.05, .max = 1});
  f.field("tokens_max", o.tokens_max, {.min = 1, .max = 1e7});
  f.field("sequences_max", o.sequences_max, {.min = 1, .max = 1e6});
  f.field("block", o.block, {.min = 1, .max = 1e5});
  f.field("runtime", o.runtime, config::kNotNegative);
}

Bytes kv_bytes_per_token_gpu(const ModelShape& s, const ParallelPlan& p) {
  const AttentionShape& a = s.attention;
  if (a.kind == AttentionKind::mla) return kv_bytes_per_token(s, p.kv_precision);
  const std::int64_t heads = std::max<std::int64_t>(1, a.kv_heads / p.tp);
  return {s.layers * 2 * heads * a.head_dim * bytes_per_element(p.kv_precision)};
}

MemoryBudget memory_budget(const ModelShape& s, const DeviceSpec& d, const ParallelPlan& p, const MemoryOptions& o) {
  FAULTLINE_ASSERT(p.tp > 0 && p.dp > 0 && p.ep > 0, "tp={} dp={} ep={}", p.tp, p.dp, p.ep);
  const ParameterCount count = parameters(s);
  MemoryBudget b;
  b.capacity = d.memory;
  b.reserve = {d.memory.v - static_cast<std::int64_t>(static_cast<double>(d.memory.v) * o.memory_fraction)};
  b.runtime = o.runtime;
  b.attention = linear_bytes(share(count.attention, p.tp), s.weight_precision);
  b.dense_mlp = linear_bytes(share(count.dense_mlp, p.tp), s.weight_precision);
  if (s.is_moe()) {
    const std::int64_t expert = expert_parameters(s);
    const std::int64_t routed = p.ep > 1 ? s.moe_layers() * experts_per_gpu(p, s) * expert : share(count.experts, p.tp);
    b.experts = linear_bytes(routed, s.weight_precision);
    // With DP attention the shared expert is whole on every rank; tensor parallelism splits it; fused it lies on every
    // GPU.
    b.shared =
        linear_bytes(p.fused_shared_expert && p.ep > 1 ? count.shared : share(count.shared, p.tp), s.weight_precision);
  }
  b.router_norms = {2 * (count.router + count.norms)};
  b.embeddings_head = {2 * share(count.embeddings + count.head, p.tp)};
  b.activations = activation_bytes(s, p, o);
  b.communication = communication_bytes(s, p, o);
  b.kv_per_token = kv_bytes_per_token_gpu(s, p);
  const Bytes left = b.capacity - b.reserve - b.runtime - b.weights() - b.activations - b.communication;
  const Bytes block = o.block.v * b.kv_per_token;
  if (left < block) b.kv_missing = block - left;
  b.kv = {std::max<std::int64_t>(0, left.v)};
  b.blocks = b.kv / block;
  b.tokens = {b.blocks * o.block.v};
  return b;
}

std::string memory_refusal(const MemoryBudget& b, const ModelShape& s, const DeviceSpec& d, const ParallelPlan& p,
                           const MemoryOptions& o, Tokens context) {
  const std::string plan = fmt::format("{} with tp={} dp={} ep={} on {}", s.name, p.tp, p.dp, p.ep, d.name);
  if (b.kv_missing.v > 0) {
    return fmt::format(
        "{} does not fit: of {:.1f} GiB a GPU, {:.1f} GiB are reserved and {:.1f} GiB taken by the runtime; weights "
        "need "
        "{:.1f} GiB (experts {:.1f}, attention {:.1f}, other {:.1f}), activations {:.1f} GiB, communication {:.1f} "
        "GiB: "
        "{:.1f} GiB too much",
        plan, gib(b.capacity), gib(b.reserve), gib(b.runtime), gib(b.weights()), gib(b.experts), gib(b.attention),
        gib(b.weights() - b.experts - b.attention), gib(b.activations), gib(b.communication), gib(b.kv_missing));
  }
  if (b.tokens < context) {
    return fmt::format(
        "{} has room for {} tokens of KV cache a rank ({:.1f} GiB at {} B a token, blocks of {}), but one request may "
        "need {}",
        plan, b.tokens.v, gib(b.kv), b.kv_per_token.v, o.block.v, context.v);
  }
  return {};
}

}  // namespace faultline::model
