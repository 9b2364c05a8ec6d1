// A step as a list of operations with shapes. One generator: the simulator prices the list (pricer.h), `estimate`
// prints it, the backend launches it, and calibration compares the two by name.
//
// A step is one forward pass of a DP rank together with the other ranks of its group: prefill chunks, a decode batch,
// or both at once (chunked prefill with decode). Counts are exact integers except the experts touched, whose
// expectation is rounded to a byte.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/model/device.h"
#include "core/model/plan.h"
#include "core/model/shape.h"

namespace faultline::model {

enum class OpKind : std::uint8_t {
  gemm,               // C[m,n] = A[m,k] B[k,n], `batch` independent ones (the heads of MLA's absorbed projections)
  grouped_gemm,       // m = expert-token pairs on this GPU, over `groups` resident experts
  decode_attention,   // one new token of each of `sequences`, over `context` cached tokens in all
  prefill_attention,  // `tokens` new tokens of one sequence after `context` cached ones, causal
  elementwise,        // bound by memory: norms, rope and cache write, activation, routing, sampling
  dispatch,           // tokens to the GPUs of their experts
  combine,            // expert outputs back, reduced
  all_reduce,         // sum over the tp GPUs of a rank
  kv_push,            // KV cache of the new tokens to the decode side; overlaps, takes no time of the step itself
};
constexpr std::array<std::string_view, 9> enum_names(const OpKind*) {
  return {"gemm",    "grouped_gemm", "decode_attention", "prefill_attention", "elementwise", "dispatch",
          "combine", "all_reduce",   "kv_push"};
}

/// One operation on one GPU. `repeats`: how often it runs in the step (mostly the number of layers). All other numbers
/// are of one run. Unused numbers are 0 (batch: 1).
struct Op {
  OpKind kind{};
  std::string_view name;  // a literal, the same in every world
  Precision precision = Precision::bf16;
  std::int64_t repeats = 1;
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  std::int64_t groups = 0;     // grouped_gemm: experts on this GPU
  std::int64_t sequences = 0;  // attention
  std::int64_t tokens = 0;     // attention: new tokens; exchange: tokens leaving this GPU; otherwise rows
  std::int64_t context = 0;    // attention: cached tokens read, over all sequences
  std::int64_t heads = 0;      // attention: query heads on this GPU
  std::int64_t nodes = 1;      // exchange: nodes that the group spans
  std::int64_t flops = 0;
  Bytes bytes{};  // device memory read and written
  Bytes xgmi{};   // leaving this GPU over scale-up links
  Bytes rdma{};   // leaving this GPU's node through its NIC
};

/// One sequence's part of a prefill step.
struct Chunk {
  std::int64_t tokens = 0;          // new tokens
  std::int64_t context_before = 0;  // tokens already in the cache
};

/// What one rank does in a step, and what its group does at the same time.
struct RankBatch {
  std::vector<Chunk> chunks;
  std::int64_t sequences = 0;       // decoding
  std::int64_t context_tokens = 0;  // their cached tokens, sum
  std::int64_t tokens() const;      // new tokens: chunks and one a decoding sequence
};
struct GroupBatch {
  std::int64_t tokens = 0;      // new tokens over all ranks of the group
  std::int64_t tokens_max = 0;  // on its fullest rank
};

/// The operations of one GPU of the rank in the order of a forward pass: attention, dense MLP (dense layers), router,
/// exchange and experts (MoE layers), head; `repeats` says in how many layers each runs. An empty rank has no
/// operations of its own, but takes part in the group's exchange and experts.
/// Precondition: plan_problems() is empty; group.tokens and group.tokens_max are at least the rank's tokens (asserted).
std::vector<Op> step_plan(const ModelShape& s, const ParallelPlan& p, const DeviceSpec& d, const RankBatch& rank,
                          const GroupBatch& group);

// ---- the parts, for pricing: each appends to `out`; step_plan() is made of exactly these
// --------------------------------

/// Operations that depend only on the number of new tokens of the rank: projections, norms, router, shared expert,
/// dense MLP, TP all-reduce.
void append_token_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out);
/// Only on the number of decoding sequences: MLA's absorbed projections.
void append_decode_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences, std::vector<Op>& out);
/// Only on the number of new prefill tokens: MLA's key-value up-projection; the push of their KV cache.
void append_prefill_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out);
/// Only on the number of rows whose logits are wanted: output head and sampling.
void append_head_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t rows, std::vector<Op>& out);
Op decode_attention_op(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences, std::int64_t context);
/// One sequence's chunk: attention, and for MLA the up-projection of the cached latents before it (absent: repeats =
/// 0).
Op prefill_attention_op(const ModelShape& s, const ParallelPlan& p, const Chunk& chunk);
Op context_up_op(const ModelShape& s, const ParallelPlan& p, const Chunk& chunk);
/// Routed experts of one GPU, when the group's ranks hold `tokens` new tokens in all.
void append_expert_ops(const ModelShape& s, const ParallelPlan& p, std::int64_t tokens, std::vector<Op>& out);
/// Dispatch and combine of a rank with `tokens` new tokens, and the gather over its tp GPUs where tp > 1.
void append_exchange_ops(const ModelShape& s, const ParallelPlan& p, const DeviceSpec& d, std::int64_t tokens,
                         std::vector<Op>& out);

/// Place of an operation in a forward pass, for sorting; "sample" comes last.
std::size_t forward_place(const Op& op);

/// Expected number of different GPUs (nodes) that top-k routing of one token reaches, choices uniform and independent:
/// count * (1 - (1 - 1/count)^k); nodes are limited by groups_per_token where each expert group lies in one node.
double destinations(std::int64_t count, std::int64_t choices);
/// Expected number of `resident` experts that at least one of `tokens` tokens chose, each token choosing top-k of
/// `experts`.
double experts_touched(std::int64_t resident, std::int64_t experts, std::int64_t choices, std::int64_t tokens);

}  // namespace faultline::model
