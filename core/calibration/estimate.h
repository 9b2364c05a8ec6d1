// Step and fleet predictions in closed form: one plan, one batch, no queues. What `faultline estimate` prints.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/calibration/fitted_cost.h"
#include "core/model/memory.h"
#include "core/model/pricer.h"

namespace faultline::calibration {

enum class Phase : std::uint8_t { prefill, decode };
constexpr std::array<std::string_view, 2> enum_names(const Phase*) { return {"prefill", "decode"}; }

struct EstimateRequest {
  model::ModelShape model;
  model::DeviceSpec device;
  model::ParallelPlan plan;
  model::MemoryOptions memory;
  Phase phase = Phase::decode;
  std::int64_t batch_per_gpu = 0;  // sequences; 0: the best under the objective, or the largest that fits
  std::int64_t input = 2000, output = 100;
  std::int64_t mtp = 0;         // draft tokens a step
  double mtp_acceptance = 0.8;  // of each; assumed
  std::optional<Duration> tpot_max, ttft_max;
  double gpu_hour_cost = 2;  // USD, assumed
};

struct OperationTime {
  std::string name, kind, source, model;
  std::int64_t repeats = 1;
  double us = 0;                   // all repeats
  double us_low = 0, us_high = 0;  // 95%, from the parameters' intervals and the model's cross-validated error
  bool extrapolated = false;
  std::string why;  // extrapolated: how it lies outside of what was measured
};

/// How a prompt's KV cache reaches the decode side: layer by layer while the prefill runs (docs/calibration.md).
struct KvPush {
  double us = 0;        // of all layers, had they the path for themselves
  double after_us = 0;  // what is left when the prefill ends: at least the last layer's
  std::string model;    // the transfer model used
  bool extrapolated = false;
};

struct Estimate {
  std::string plan;
  std::string refusal;  // not empty: the plan cannot run, with the reason; the rest is unset
  std::int64_t gpus = 0, nodes = 0;
  std::int64_t batch_per_gpu = 0, largest_batch = 0;
  std::optional<std::int64_t> best_batch;  // largest that meets the objective; nullopt: none does
  double step_us = 0, step_us_low = 0, step_us_high = 0, host_us = 0, hidden_us = 0;
  double tpot_ms = 0, ttft_ms = 0;      // of this batch; TTFT of one prompt a rank, no queue; its KV push included
  double output_tokens_per_s_node = 0;  // decode phase
  double input_tokens_per_s_node = 0;   // prefill phase
  double cost_per_million_tokens = 0;   // USD, of the phase's own tokens
  model::MemoryBudget memory;
  KvPush kv_push;  // of one prompt
  std::vector<std::pair<std::string, double>>
      weight_load_s;  // of one GPU's weights, by where they come from; priors only
  std::vector<OperationTime> operations;
  std::vector<std::pair<std::string, double>>
      sensitivity;  // model.parameter, half width as a share of the step, widest first
  bool extrapolated = false;
};

/// "ep=16,dp=16,kv=fp8,dbo=on,eplb=32,shared=fused,launch=eager,mtp=1": keys tp dp ep kv dispatch dbo eplb imbalance
/// shared launch mtp. ep alone implies dp = ep; tp alone implies ep = 1, dp = 1. Errors go to `diagnostics` with the
/// column.
void parse_plan(std::string_view text, EstimateRequest& request, config::Diagnostics& diagnostics);

/// Deterministic. A plan that cannot run comes back with `refusal`.
Estimate estimate(const EstimateRequest& request, std::shared_ptr<const Calibration> calibration);

}  // namespace faultline::calibration
