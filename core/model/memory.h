// Memory of one GPU: what the weights, buffers and reserve leave for the KV cache, and whether that is enough.
#pragma once

#include <string>

#include "core/base/quantity.h"
#include "core/config/fields.h"
#include "core/model/plan.h"

namespace faultline::model {

struct MemoryOptions {
  double memory_fraction = 0.9;      // share of the device that the engine may use (vLLM: gpu_memory_utilization)
  Tokens tokens_max{8192};           // most tokens of one step on a DP rank (max_num_batched_tokens)
  std::int64_t sequences_max = 256;  // most sequences of one step on a DP rank (max_num_seqs)
  Tokens block{64};                  // tokens of one KV block
  Bytes runtime{3LL << 30};          // GPU runtime, code objects, graphs, communicators; assumed
};
void describe(config::Fields& f, MemoryOptions& o);

/// Per GPU. Parts add up: capacity = reserve + runtime + weights() + activations + communication + kv.
struct MemoryBudget {
  Bytes capacity, reserve, runtime;
  Bytes attention, dense_mlp, experts, shared, router_norms, embeddings_head;  // weights, with FP8 block scales
  Bytes activations;        // largest step's intermediate tensors and logits
  Bytes communication;      // dispatch and combine buffers
  Bytes kv;                 // what is left, at least 0
  Bytes kv_missing;         // > 0: how much the plan lacks before the first KV block
  Bytes kv_per_token;       // on this GPU, all layers
  std::int64_t blocks = 0;  // KV blocks of a DP rank (each GPU of the rank holds its share of every block)
  Tokens tokens;            // blocks * block size
  Bytes weights() const { return attention + dense_mlp + experts + shared + router_norms + embeddings_head; }
};

/// Precondition: plan_problems() is empty. Formulas: docs/model.md section 2.
MemoryBudget memory_budget(const ModelShape& s, const DeviceSpec& d, const ParallelPlan& p, const MemoryOptions& o);

/// Empty when at least one sequence of `context` tokens fits; otherwise one sentence with the numbers.
std::string memory_refusal(const MemoryBudget& b, const ModelShape& s, const DeviceSpec& d, const ParallelPlan& p,
                           const MemoryOptions& o, Tokens context);

/// KV bytes of one token on one GPU of a rank: MLA latents are repeated on every GPU of a TP group, GQA heads are split
/// (and repeated where tp exceeds the key-value heads).
Bytes kv_bytes_per_token_gpu(const ModelShape& s, const ParallelPlan& p);

}  // namespace faultline::model
