#include "core/model/step_plan.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/base/math.h"

namespace faultline::model {
namespace {

std::int64_t share(std::int64_t whole, std::int64_t parts) { return (whole + parts - 1) / parts; }
std::int64_t rounded(double x) { return static_cast<std::int64_t>(x + 0.5); }

/// Activations stay bf16 between kernels; FP8 GEMMs read them quantised, so A is counted in the GEMM's precision.
Op gemm(std::string_view name, Precision precision, std::int64_t repeats, std::int64_t m, std::int64_t n,
        std::int64_t k, std::int64_t batch = 1) {
  Op op{.kind = OpKind::gemm,
        .name = name,
        .precision = precision,
        .repeats = repeats,
        .m = m,
        .n = n,
        .k = k,
        .batch = batch,
        .tokens = m};
  op.flops = 2 * batch * m * n * k;
  op.bytes = {batch * ((m * k + k * n) * bytes_per_element(precision) + 2 * m * n)};
  return op;
}

/// Memory traffic of `elements` bf16 values read or written for each of `rows` rows.
Op elementwise(std::string_view name, std::int64_t repeats, std::int64_t rows, std::int64_t elements) {
  return {.kind = OpKind::elementwise,
          .name = name,
          .repeats = repeats,
          .m = rows,
          .n = elements,
          .tokens = rows,
          .bytes = {2 * rows * elements}};
}

/// Bytes that each GPU sends: reduce-scatter and gather of a ring, 2 (tp-1)/tp of the tensor; `passes` = 1 for one
/// half.
Op all_reduce(std::string_view name, const ParallelPlan& p, std::int64_t repeats, std::int64_t rows, std::int64_t width,
              std::int64_t passes) {
  Op op{.kind = OpKind::all_reduce, .name = name, .repeats = repeats, .m = rows, .n = width, .tokens = rows};
  op.xgmi = {passes * (p.tp - 1) * 2 * rows * width / p.tp};
  op.bytes = {passes * 2 * rows * width};
  return op;
}

void append_mlp(std::string_view up, std::string_view activation, std::string_view down, const ModelShape& s,
                std::int64_t repeats, std::int64_t tokens, std::int64_t inter, std::vector<Op>& out) {
  out.push_back(gemm(up, s.weight_precision, repeats, tokens, 2 * inter, s.hidden));
  out.push_back(elementwise(activation, repeats, tokens, 3 * inter));
  out.push_back(gemm(down, s.weight_precision, repeats, tokens, s.hidden, inter));
}

/// With DP attention each rank computes the shared expert of its own tokens; without, tensor parallelism splits it.
bool shared_apart(const ModelShape& s, const ParallelPlan& p) {
  return s.is_moe() && s.shared_experts > 0 && !p.fused_shared_expert;
}

/// The order in which a forward pass runs them; operations of one place keep the order in which they were added.
constexpr std::array<std::string_view, 36> kOrder{"attention_norm",
                                                  "qkv_down",
                                                  "latent_norm",
                                                  "q_up",
                                                  "qkv",
                                                  "q_absorb",
                                                  "rope_cache",
                                                  "kv_push",
                                                  "kv_up",
                                                  "context_kv_up",
                                                  "mla_prefill",
                                                  "gqa_prefill",
                                                  "mla_decode",
                                                  "gqa_decode",
                                                  "v_up",
                                                  "attention_out",
                                                  "attention_all_reduce",
                                                  "mlp_norm",
                                                  "mlp_up",
                                                  "mlp_activation",
                                                  "mlp_down",
                                                  "mlp_all_reduce",
                                                  "router",
                                                  "top_k",
                                                  "dispatch",
                                                  "shared_up",
                                                  "shared_activation",
                                                  "shared_down",
                                                  "experts_up",
                                                  "experts_activation",
                                                  "experts_down",
                                                  "combine",
                                                  "moe_gather",
                                                  "moe_all_reduce",
                                                  "final_norm",
                                                  "head"};

}  // namespace

std::size_t forward_place(const Op& op) {
  return static_cast<std::size_t>(std::find(kOrder.begin(), kOrder.end(), op.name) - kOrder.begin());
}

std::int64_t RankBatch::tokens() const {
  std::int64_t sum = sequences;
  for (const Chunk& c : chunks) sum += c.tokens;
  return sum;
}

double destinations(std::int64_t count, std::int64_t choices) {
  double miss = 1;
  for (std::int64_t i = 0; i < choices; ++i) miss *= 1.0 - 1.0 / static_cast<double>(count);
  return static_cast<double>(count) * (1.0 - miss);
}

double experts_touched(std::int64_t resident, std::int64_t experts, std::int64_t choices, std::int64_t tokens) {
  if (tokens == 0) return 0;
  const double untouched = 1.0 - static_cast<double>(choices) / static_cast<double>(experts);
  const double miss = untouched <= 0 ? 0 : stable::exp(static_cast<double>(tokens) * stable::log(untouched));
  return static_cast<double>(resident) * (1.0 - miss);
}

void append_token_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out) {
  if (tokens == 0) return;
  const AttentionShape& a = s.attention;
  const std::int64_t heads = a.heads / p.tp;
  const Precision w = s.weight_precision;
  // Norms read and write the hidden vector and the residual, and write the quantised copy: about four bf16 vectors.
  out.push_back(elementwise("attention_norm", s.layers, tokens, 4 * s.hidden));
  if (a.kind == AttentionKind::mla) {
    out.push_back(gemm("qkv_down", w, s.layers, tokens, a.q_lora + a.kv_lora + a.rope_dim, s.hidden));
    out.push_back(elementwise("latent_norm", s.layers, tokens, 2 * (a.q_lora + a.kv_lora)));
    out.push_back(gemm("q_up", w, s.layers, tokens, heads * (a.nope_dim + a.rope_dim), a.q_lora));
    out.push_back(elementwise("rope_cache", s.layers, tokens, 2 * heads * a.rope_dim + 2 * (a.kv_lora + a.rope_dim)));
  } else {
    const std::int64_t kv = std::max<std::int64_t>(1, a.kv_heads / p.tp);
    out.push_back(gemm("qkv", w, s.layers, tokens, (heads + 2 * kv) * a.head_dim, s.hidden));
    out.push_back(elementwise("rope_cache", s.layers, tokens, 2 * (heads + 2 * kv) * a.head_dim));
  }
  const std::int64_t o_width = heads * (a.kind == AttentionKind::mla ? a.v_dim : a.head_dim);
  out.push_back(gemm("attention_out", w, s.layers, tokens, s.hidden, o_width));
  if (p.tp > 1) out.push_back(all_reduce("attention_all_reduce", p, s.layers, tokens, s.hidden, 2));
  out.push_back(elementwise("mlp_norm", s.layers, tokens, 4 * s.hidden));
  if (s.dense_layers > 0) {
    append_mlp("mlp_up", "mlp_activation", "mlp_down", s, s.dense_layers, tokens, s.dense_inter / p.tp, out);
    if (p.tp > 1) out.push_back(all_reduce("mlp_all_reduce", p, s.dense_layers, tokens, s.hidden, 2));
  }
  if (s.is_moe()) {
    out.push_back(gemm("router", Precision::bf16, s.moe_layers(), tokens, s.experts, s.hidden));
    out.push_back(elementwise("top_k", s.moe_layers(), tokens, 2 * s.experts + 4 * s.experts_per_token));
    if (shared_apart(s, p)) {
      append_mlp("shared_up", "shared_activation", "shared_down", s, s.moe_layers(), tokens,
                 share(s.shared_experts * s.expert_inter, p.tp), out);
    }
    // Without an exchange the routed and shared outputs are summed over the rank; with one, the tp GPUs gather (below).
    if (!p.exchanges() && p.tp > 1) out.push_back(all_reduce("moe_all_reduce", p, s.moe_layers(), tokens, s.hidden, 2));
  }
}

void append_decode_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences, std::vector<Op>& out) {
  const AttentionShape& a = s.attention;
  if (sequences == 0 || a.kind != AttentionKind::mla) return;
  // Queries are brought into the latent space and outputs out of it, head by head (weight absorption, DeepSeek-V2
  // section 2.1.2): batched bf16 GEMMs with the two halves of the key-value up-projection.
  out.push_back(gemm("q_absorb", Precision::bf16, s.layers, sequences, a.kv_lora, a.nope_dim, a.heads / p.tp));
  out.push_back(gemm("v_up", Precision::bf16, s.layers, sequences, a.v_dim, a.kv_lora, a.heads / p.tp));
}

void append_prefill_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out) {
  if (tokens == 0) return;
  const AttentionShape& a = s.attention;
  if (a.kind == AttentionKind::mla) {
    out.push_back(
        gemm("kv_up", s.weight_precision, s.layers, tokens, a.heads / p.tp * (a.nope_dim + a.v_dim), a.kv_lora));
  }
  Op push{
      .kind = OpKind::kv_push, .name = "kv_push", .precision = p.kv_precision, .repeats = s.layers, .tokens = tokens};
  push.rdma = {tokens * kv_bytes_per_token_layer(s, p.kv_precision).v / p.tp};  // each GPU of the rank sends its part
  push.bytes = push.rdma;
  out.push_back(push);
}

void append_head_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t rows, std::vector<Op>& out) {
  if (rows == 0) return;
  const std::int64_t vocab = share(s.vocab, p.tp);
  out.push_back(elementwise("final_norm", 1, rows, 2 * s.hidden));
  out.push_back(gemm("head", Precision::bf16, 1, rows, vocab, s.hidden));
  out.push_back(elementwise("sample", 1, rows, 2 * vocab));
}

Op decode_attention_op(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences, std::int64_t context) {
  const AttentionShape& a = s.attention;
  Op op{.kind = OpKind::decode_attention,
        .name = "gqa_decode",
        .precision = p.kv_precision,
        .repeats = s.layers,
        .sequences = sequences,
        .tokens = sequences,
        .context = context,
        .heads = a.heads / p.tp};
  const std::int64_t kv = bytes_per_element(p.kv_precision);
  if (a.kind == AttentionKind::mla) {
    // Scores over the latent and its rope part, values over the latent; every head reads the one latent.
    op.name = "mla_decode";
    op.flops = 2 * op.heads * (2 * a.kv_lora + a.rope_dim) * context;
    op.bytes = {(a.kv_lora + a.rope_dim) * kv * context + 2 * sequences * op.heads * (2 * a.kv_lora + a.rope_dim)};
  } else {
    op.flops = 4 * op.heads * a.head_dim * context;
    op.bytes = {2 * std::max<std::int64_t>(1, a.kv_heads / p.tp) * a.head_dim * kv * context +
                4 * sequences * op.heads * a.head_dim};
  }
  return op;
}

Op prefill_attention_op(const ModelShape& s, const ParallelPlan& p, const Chunk& c) {
  const AttentionShape& a = s.attention;
  const bool mla = a.kind == AttentionKind::mla;
  Op op{.kind = OpKind::prefill_attention,
        .name = mla ? "mla_prefill" : "gqa_prefill",
        .precision = Precision::bf16,
        .repeats = s.layers,
        .sequences = 1,
        .tokens = c.tokens,
        .context = c.context_before,
        .heads = a.heads / p.tp};
  // Token i of the chunk sees the cache and the i+1 tokens up to itself.
  const std::int64_t pairs = c.tokens * c.context_before + c.tokens * (c.tokens + 1) / 2;
  const std::int64_t width = mla ? a.nope_dim + a.rope_dim + a.v_dim : 2 * a.head_dim;  // score and value dimensions
  const std::int64_t kv_heads = mla ? op.heads : std::max<std::int64_t>(1, a.kv_heads / p.tp);
  op.flops = 2 * op.heads * width * pairs;
  op.bytes = {2 * ((c.tokens + c.context_before) * kv_heads * width + c.tokens * op.heads * width)};
  return op;
}

Op context_up_op(const ModelShape& s, const ParallelPlan& p, const Chunk& c) {
  const AttentionShape& a = s.attention;
  const bool needed = a.kind == AttentionKind::mla && c.context_before > 0;
  return gemm("context_kv_up", s.weight_precision, needed ? s.layers : 0, c.context_before,
              needed ? a.heads / p.tp * (a.nope_dim + a.v_dim) : 0, a.kv_lora);
}

void append_expert_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out) {
  if (!s.is_moe() || tokens == 0) return;
  const std::int64_t resident = p.ep > 1 ? experts_per_gpu(p, s) : s.experts;
  const std::int64_t inter = p.ep > 1 ? s.expert_inter : s.expert_inter / p.tp;
  const std::int64_t width = p.ep > 1 ? p.live_gpus() : 1;
  const double even = static_cast<double>(tokens * s.experts_per_token) / static_cast<double>(width);
  std::int64_t pairs = std::max<std::int64_t>(1, rounded(even * p.expert_imbalance));
  // Replicas split an expert's tokens, so the choice is among experts and replicas.
  double touched =
      std::min(experts_touched(resident, resident * width, s.experts_per_token, tokens), static_cast<double>(pairs));
  if (p.fused_shared_expert) {  // one more expert, with the tokens of this GPU's even share
    pairs += share(tokens, width) * s.shared_experts;
    touched += static_cast<double>(s.shared_experts);
  }
  const double weight_bytes = static_cast<double>(bytes_per_element(s.weight_precision)) * touched;
  const auto grouped = [&](std::string_view name, std::int64_t n, std::int64_t k) {
    Op op{.kind = OpKind::grouped_gemm,
          .name = name,
          .precision = s.weight_precision,
          .repeats = s.moe_layers(),
          .m = pairs,
          .n = n,
          .k = k,
          .groups = resident + (p.fused_shared_expert ? s.shared_experts : 0),
          .tokens = tokens};
    op.flops = 2 * pairs * n * k;
    op.bytes = {rounded(weight_bytes * static_cast<double>(n * k)) +
                pairs * (k * bytes_per_element(s.weight_precision) + 2 * n)};
    return op;
  };
  out.push_back(grouped("experts_up", 2 * inter, s.hidden));
  out.push_back(elementwise("experts_activation", s.moe_layers(), pairs, 3 * inter));
  out.push_back(grouped("experts_down", s.hidden, inter));
}

void append_exchange_ops(const ModelShape& s, const ParallelPlan& p, const DeviceSpec& d, std::int64_t tokens,
                         std::vector<Op>& out) {
  if (!p.exchanges() || tokens == 0) return;
  const std::int64_t nodes = nodes_of(p, d) - p.absent_nodes;
  const std::int64_t sent = share(tokens, p.tp);  // the tp GPUs of a rank send a part each
  const std::int64_t width = p.live_gpus();
  const double gpus = destinations(width, s.experts_per_token);
  double nodes_hit = destinations(nodes, s.experts_per_token);
  // Group-limited routing: a token stays within groups_per_token nodes when each group of experts lies in one node.
  if (s.groups_per_token < s.expert_groups && nodes >= s.expert_groups) {
    nodes_hit = std::min(nodes_hit, static_cast<double>(s.groups_per_token));
  }
  // Uniform destinations: a share 1/nodes of what is hit is the own node, 1/ep the own GPU. Across nodes a token goes
  // once to each destination node, to the GPU on the same rail, and from there over xGMI to the GPUs with its experts;
  // each GPU forwards what arrives on its rail, which balances to its own tokens' count.
  const double remote_nodes = nodes_hit * static_cast<double>(nodes - 1) / static_cast<double>(nodes);
  const double other_gpus = gpus * static_cast<double>(width - 1) / static_cast<double>(width);
  // Of the remote destinations, one in gpus_per_node is the rail's own GPU and needs no second hop.
  const double remote_gpus = gpus * static_cast<double>(nodes - 1) / static_cast<double>(nodes);
  const double hops = nodes == 1 ? other_gpus
                                 : (other_gpus - remote_gpus) + remote_gpus * static_cast<double>(d.gpus_per_node - 1) /
                                                                    static_cast<double>(d.gpus_per_node);
  const std::int64_t fp8 = s.hidden + 4 * share(s.hidden, 128) + 8 * s.experts_per_token;
  const std::int64_t bf16 = 2 * s.hidden + 8 * s.experts_per_token;
  const auto exchange = [&](OpKind kind, std::string_view name, Precision precision, std::int64_t bytes) {
    Op op{.kind = kind,
          .name = name,
          .precision = precision,
          .repeats = s.moe_layers(),
          .n = s.hidden,
          .k = s.experts_per_token,
          .tokens = sent,
          .nodes = nodes};
    op.xgmi = {rounded(hops * static_cast<double>(sent * bytes))};
    op.rdma = {nodes == 1 ? 0 : rounded(remote_nodes * static_cast<double>(sent * bytes))};
    op.bytes = {rounded((other_gpus + 1) * static_cast<double>(sent * bytes))};
    return op;
  };
  out.push_back(exchange(OpKind::dispatch, "dispatch", p.dispatch_precision,
                         p.dispatch_precision == Precision::fp8 ? fp8 : bf16));
  out.push_back(exchange(OpKind::combine, "combine", Precision::bf16, 2 * s.hidden));
  if (p.tp > 1) out.push_back(all_reduce("moe_gather", p, s.moe_layers(), tokens, s.hidden, 1));
}

std::vector<Op> step_plan(const ModelShape& s, const ParallelPlan& p, const DeviceSpec& d, const RankBatch& rank,
                          const GroupBatch& group) {
  const std::int64_t tokens = rank.tokens();
  FAULTLINE_ASSERT(group.tokens >= tokens && group.tokens_max >= tokens, "rank={} group={} max={}", tokens,
                   group.tokens, group.tokens_max);
  std::vector<Op> out;
  append_token_ops(s, p, tokens, out);
  append_decode_ops(s, p, rank.sequences, out);
  if (rank.sequences > 0) out.push_back(decode_attention_op(s, p, rank.sequences, rank.context_tokens));
  append_prefill_ops(s, p, tokens - rank.sequences, out);
  for (const Chunk& chunk : rank.chunks) {
    if (chunk.tokens == 0) continue;
    if (const Op up = context_up_op(s, p, chunk); up.repeats > 0) out.push_back(up);
    out.push_back(prefill_attention_op(s, p, chunk));
  }
  append_exchange_ops(s, p, d, group.tokens_max, out);
  append_expert_ops(s, p, group.tokens, out);
  const auto chunks =
      std::count_if(rank.chunks.begin(), rank.chunks.end(), [](const Chunk& c) { return c.tokens > 0; });
  append_head_ops(s, p, rank.sequences + chunks, out);
  std::stable_sort(out.begin(), out.end(),
                   [](const Op& x, const Op& y) { return forward_place(x) < forward_place(y); });
  return out;
}

}  // namespace faultline::model
