// Compiled prices of the steps of one group of GPUs: the simulator's hot path. Built once from a cost model; the prices
// of every batch size are computed on first use and kept.
//
// All times are sums of 2^-16 ns integers. The price of a decode step is the upper envelope of lines in its contexts,
// so that decode_run() gives a run of steps in closed form and equals its single steps exactly, whatever the loads.
//
//   step = host + max(slowest rank's own operations + exchange + experts, launch)                 (docs/model.md
//   section 5) with two overlapped micro-batches: host + max(own operations + experts, exchange, launch), each of two
//   half batches.
//
// Ranks are DP ranks of the group (tp GPUs each), index 0 … dp-1. The group is a barrier: the slowest rank's attention
// and the fullest rank's exchange decide. Empty ranks are allowed; a step without any token takes no time.
// Monotone: more tokens or context never make a step shorter; nor does a larger slowdown or less capacity. (With
// graph_sizes a step with prefill, which is never padded, may be shorter than one of the decoding sequences alone.)
// Owned by one thread (the tables fill lazily); copies are independent.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/model/cost.h"
#include "core/model/load.h"
#include "core/model/memory.h"

namespace faultline::model {

/// What faults and congestion have left. Applies to the whole step.
struct StepEnvironment {
  std::span<const double> rank_slowdown{};  // per rank, >= 1 slower; empty: all 1. Range 2^-16 … 65536
  double rdma_capacity_factor = 1;          // what is left of the NICs, > 0; for 0 the step does not end: do not ask
  double xgmi_capacity_factor = 1;          // likewise the scale-up links
};

/// Step j in [first_step, next segment's first_step) lasts first + slope * (j - first_step).
struct DecodeSegment {
  std::int64_t first_step = 0;
  FixedTime first;
  FixedTime slope;
};

struct OpTime {
  Op op;
  FixedTime time;  // all repeats, with the rank's slowdown and the links' capacity
  bool extrapolated = false;
  std::string_view source;
  std::string_view why{};  // extrapolated: how the operation lies outside of what was measured
};
struct Breakdown {
  std::int64_t rank = 0;    // the rank whose own operations take longest
  std::vector<OpTime> ops;  // its operations, and the group's exchange and experts, in the order of a forward pass
  FixedTime host;
  FixedTime total;    // equals step() exactly
  FixedTime overlap;  // sum of ops + host - total: hidden time; negative where the host's launches are the limit
};

class StepPricer {
 public:
  /// `graph_sizes`, ascending, at least 1: decode batches of a rank that have a captured graph. A step without prefill
  /// computes each rank's own operations on the next captured number of rows; padded rows read no KV, go to no expert
  /// and are not sent. A batch beyond the last size is not padded, and the step is launched operation by operation.
  /// Empty: a graph for every size. Precondition: plan_problems(plan, shape, device) is empty (asserted).
  StepPricer(ModelShape shape, DeviceSpec device, ParallelPlan plan, std::shared_ptr<const CostModel> cost,
             std::span<const std::int64_t> graph_sizes = {});

  /// Replaces the content of `out` by the segments of steps 0 … steps_max-1, at least one. The context of every rank
  /// grows by its sequences each step. Preconditions (asserted): loads.size() == dp, 1 <= steps_max <= 2^24 (beyond any
  /// model's context).
  void decode_run(std::span<const RankLoad> loads, const StepEnvironment& environment, std::int64_t steps_max,
                  std::vector<DecodeSegment>& out) const;

  /// One step: prefill chunks, decode batches, or both. `decode` may be empty (no rank decodes) or has dp loads.
  /// With no prefill it equals the first step of decode_run() exactly.
  FixedTime step(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                 const StepEnvironment& environment) const;

  Breakdown breakdown(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                      const StepEnvironment& environment) const;

  /// KV cache of so many tokens, all layers and heads: what a hand-off from prefill to decode moves.
  Bytes kv_bytes(Tokens tokens) const { return tokens.v * kv_per_token_; }

  /// Bytes that one GPU sends out of its node for dispatch and combine in a step in which its group's ranks hold
  /// `tokens` new tokens in all (mean over the GPUs). 0 for a group inside one node.
  Bytes ep_rdma_bytes_per_step(std::int64_t tokens) const;
  /// Decode step: the tokens are the sequences.
  Bytes ep_rdma_bytes_per_step(std::span<const RankLoad> loads) const;
  /// Share of the step during which the group exchanges between nodes: what turns the bytes into a rate. 0 … 1.
  double ep_rdma_time_share(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                            const StepEnvironment& environment) const;

  const ModelShape& shape() const { return shape_; }
  const DeviceSpec& device() const { return device_; }
  const ParallelPlan& plan() const { return plan_; }
  std::int64_t ranks() const { return plan_.dp; }
  std::int64_t nodes() const { return nodes_of(plan_, device_); }

 private:
  /// A sum of operations, split by what can stretch it.
  struct Cost {
    std::int64_t device = -1;  // scales with the rank's slowdown; -1: not computed yet
    std::int64_t latency = 0;  // of links, does not scale
    std::int64_t xgmi = 0;     // scales with the scale-up capacity
  };
  struct Line {
    std::int64_t first = 0;
    std::int64_t slope = 0;
  };
  static constexpr int kLinesMax = 4;
  struct DecodeEntry {  // of one batch size, all layers
    Cost own;           // everything but attention
    int line_count = 0;
    Line lines[kLinesMax];
  };
  struct Exchange {  // all layers; dispatch, combine, gather
    static constexpr int kParts = 3;
    std::int64_t latency = -1;
    std::int64_t xgmi[kParts] = {};
    std::int64_t rdma[kParts] = {};
    std::int64_t rdma_bytes = 0;
  };
  struct Scales;     // the environment as fixed-point factors
  struct Composed {  // a step, composed
    std::int64_t tokens = 0, tokens_max = 0;
    std::int64_t slowest_rank = 0, slowest_time = 0;
    bool prefill = false;
    FixedTime total;
  };

  using Table = std::vector<Cost>;
  using Append = void (*)(const ModelShape&, const ParallelPlan&, std::int64_t, std::vector<Op>&);

  Cost sum(const std::vector<Op>& ops) const;
  Cost lookup(Table& table, Append append, std::int64_t count) const;
  const DecodeEntry& decode_entry(std::int64_t sequences) const;
  Exchange exchange(std::int64_t tokens) const;
  std::int64_t exchange_time(std::int64_t tokens, const Scales& scales) const;
  std::int64_t own_time(const Cost& cost, std::int64_t slowdown, const Scales& scales) const;
  Cost prefill_cost(std::int64_t prefill_tokens, std::int64_t sequences) const;
  /// Adds the lines of one rank at its present context, computed on `rows` rows.
  void append_lines(const RankLoad& load, std::int64_t rows, std::int64_t slowdown, const Scales& scales) const;
  /// The rest of the step, the same for every line. `eager`: launched operation by operation.
  std::int64_t frame(std::int64_t tokens, std::int64_t tokens_max, bool eager, const Scales& scales,
                     std::int64_t& at_least) const;
  /// Rows that a rank computes for so many decoding sequences in a step without prefill.
  std::int64_t graph_rows(std::int64_t sequences) const {
    const auto index = static_cast<std::size_t>(sequences);
    return index < graph_rows_.size() ? graph_rows_[index] : sequences;
  }
  bool captured(std::int64_t sequences) const {
    return graph_rows_.empty() || sequences < static_cast<std::int64_t>(graph_rows_.size());
  }
  Composed compose(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode, const Scales& scales) const;
  std::int64_t group_expert_time(std::int64_t tokens) const;
  std::int64_t halves() const { return plan_.dual_batch_overlap ? 2 : 1; }

  ModelShape shape_;
  DeviceSpec device_;
  ParallelPlan plan_;
  std::shared_ptr<const CostModel> cost_;
  Bytes kv_per_token_;
  std::vector<std::int32_t> graph_rows_;  // by sequences, up to the largest captured graph; empty: no padding

  mutable Table token_costs_, decode_costs_, prefill_costs_, head_costs_, expert_costs_;
  mutable std::vector<DecodeEntry> decode_entries_;
  mutable std::vector<Exchange> exchanges_;
  mutable std::vector<Line> lines_;             // scratch
  mutable std::vector<Op> ops_;                 // scratch
  mutable std::vector<std::int64_t> per_rank_;  // scratch
};

}  // namespace faultline::model
