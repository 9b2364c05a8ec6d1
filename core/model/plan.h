// How one group of GPUs shares a model. A group is what steps together: all its ranks meet in every layer's exchange.
// A role (prefill, decode) of an instance runs one group or several equal ones; the plan describes one.
//
//   GPUs of a group = tp * dp.   A DP rank is tp GPUs that share sequences and split the attention heads.
//   ep = tp * dp: routed experts spread over the group, tokens exchanged by dispatch and combine (DP attention), or,
//                 with dp = 1, computed where they lie and summed by the tensor-parallel all-reduce.
//   ep = 1:       experts split by tensor parallelism; needs dp = 1. The TP8 baseline is {tp: 8, ep: 1}.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/fields.h"
#include "core/model/device.h"
#include "core/model/shape.h"

namespace faultline::model {

enum class Launch : std::uint8_t { graph, eager };
constexpr std::array<std::string_view, 2> enum_names(const Launch*) { return {"graph", "eager"}; }

struct ParallelPlan {
  std::int64_t tp = 1;
  std::int64_t dp = 1;
  std::int64_t ep = 1;
  Precision kv_precision = Precision::bf16;
  Precision dispatch_precision = Precision::fp8;  // combine is always bf16
  bool dual_batch_overlap = false;       // two micro-batches: exchange of one hides behind the compute of the other
  Launch decode_launch = Launch::graph;  // prefill is always launched eagerly
  bool fused_shared_expert = false;      // shared expert computed inside the grouped GEMM as one more expert
  std::int64_t redundant_experts = 0;    // replicas added to the routed experts of every layer (EPLB)
  double expert_imbalance = 1;           // expert-token pairs of the busiest GPU over the mean; 1: perfectly balanced

  // What failures have left of the group; not part of an experiment (core/control's elastic policies set them).
  std::int64_t absent_gpus = 0;   // GPUs that take no part: the others share all tokens and experts
  std::int64_t absent_nodes = 0;  // nodes without any GPU left

  std::int64_t gpu_count() const { return tp * dp; }
  std::int64_t live_gpus() const { return gpu_count() - absent_gpus; }
  bool exchanges() const { return ep > 1 && dp > 1; }
};

void describe(config::Fields& f, ParallelPlan& p);

/// Nodes that the group spans when its GPUs fill nodes in order.
std::int64_t nodes_of(const ParallelPlan& p, const DeviceSpec& d);
/// Routed experts, replicas included, that lie on one GPU of the group.
std::int64_t experts_per_gpu(const ParallelPlan& p, const ModelShape& s);

/// What is wrong with the plan for this model on this device: one sentence each, empty when the plan can run.
/// Memory is checked apart (memory.h).
std::vector<std::string> plan_problems(const ParallelPlan& p, const ModelShape& s, const DeviceSpec& d);

}  // namespace faultline::model
