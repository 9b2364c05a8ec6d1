// What an operation costs. The simulator's step prices, `estimate` and the paced backend all ask a CostModel;
// RooflineCost (roofline.h) is the first, models fitted to measurements replace it behind this interface.
//
// Prices must be deterministic (only IEEE operations and core/base/math.h), non-negative, and monotone in tokens, bytes
// and flops. A cost model is immutable once built and may be shared.
#pragma once

#include <limits>
#include <string_view>
#include <vector>

#include "core/model/fixed_time.h"
#include "core/model/step_plan.h"

namespace faultline::model {

struct Price {
  FixedTime time{};           // of one run of the operation (not times op.repeats)
  bool extrapolated = false;  // outside what the model was measured or fitted on
  std::string_view source;    // short, for reports; lives as long as the cost model
  std::string_view why{};     // extrapolated: how it lies outside, for reports; likewise
};

/// One line of decode attention's price: intercept + per_token * cached tokens. The price is the largest of the lines,
/// so it is convex in the context and a run of decode steps has a closed form.
struct ContextLine {
  FixedTime intercept;
  FixedTime per_token;
};
struct ContextPrice {
  std::vector<ContextLine> lines;  // at least one; every slope >= 0
  bool extrapolated = false;
  std::string_view source;
  std::string_view why{};
  /// Mean cached tokens of a sequence up to which the price rests on measurements; beyond it is extrapolated.
  std::int64_t context_measured = std::numeric_limits<std::int64_t>::max();
};

/// A dispatch, combine or all-reduce: latency + max(xgmi / f, rdma / g) with f, g the capacity that is left of the
/// links (1: whole).
struct ExchangePrice {
  FixedTime latency{};
  FixedTime xgmi{};
  FixedTime rdma{};
  bool extrapolated = false;
  std::string_view source;
  std::string_view why{};
};

class CostModel {
 public:
  virtual ~CostModel() = default;

  /// Any operation on the device: gemm, grouped_gemm, prefill_attention, elementwise. Others are asserted against.
  virtual Price price(const Op& op) const = 0;
  /// decode_attention: the lines for op.sequences sequences; op.context, op.flops and op.bytes are not used. Slopes
  /// must not depend on op.sequences where the plan overlaps two half batches.
  virtual ContextPrice context_price(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences) const = 0;
  /// dispatch, combine, all_reduce.
  virtual ExchangePrice exchange_price(const Op& op) const = 0;
  /// Time of the host in every step, never hidden; and the time to launch a step's kernels one by one, hidden behind
  /// the device where that takes longer (0 for a captured graph).
  virtual FixedTime host_step(Launch launch) const = 0;
  virtual FixedTime host_launch(Launch launch, std::int64_t layers) const = 0;
};

}  // namespace faultline::model
