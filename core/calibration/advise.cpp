#include "core/calibration/advise.h"

#include <algorithm>
#include <map>

#include "core/base/math.h"
#include "core/calibration/spread.h"

namespace faultline::calibration {
namespace {

struct Part {
  std::string model;
  Shape shape;
  double repeats;
};

// The operations of a reference decode step of one GPU, with how often each runs. The plan's own generator needs a
// device and a model file; for a ranking these dominant shapes are enough.
std::vector<Part> reference_step() {
  constexpr double kBatch = 128, kContext = 2050, kLayers = 61, kMoeLayers = 58, kRanks = 16, kHidden = 7168, kTopk = 8;
  std::vector<Part> parts;
  const auto gemm = [&](double n, double k, double repeats, Precision precision = Precision::fp8_block,
                        double batch = 1) {
    parts.push_back({"gemm",
                     GemmShape{.m = kBatch, .n = n, .k = k, .batch = batch, .precision = precision, .cold = true},
                     repeats});
  };
  gemm(2112, kHidden, kLayers);
  gemm(24576, 1536, kLayers);
  gemm(kHidden, 16384, kLayers);
  gemm(512, 128, kLayers, Precision::bf16, 128);
  gemm(128, 512, kLayers, Precision::bf16, 128);
  gemm(4096, kHidden, kMoeLayers);
  gemm(kHidden, 2048, kMoeLayers);
  gemm(129280, kHidden, 1, Precision::bf16);
  parts.push_back({"mla_decode", MlaDecodeShape{kBatch, kContext, 128, true, {}}, kLayers});
  const double pairs = kBatch * kTopk;
  parts.push_back({"moe",
                   MoeShape{.pairs = pairs,
                            .touched = experts_touched(256 / kRanks, kTopk / kRanks, kBatch * kRanks),
                            .hidden = kHidden,
                            .inter = 2048},
                   kMoeLayers});
  parts.push_back(
      {"exchange_inter",
       ExchangeShape{.low_latency = true, .ranks = kRanks, .tokens = kBatch, .topk = kTopk, .token_bytes = kHidden},
       kMoeLayers});
  parts.push_back({"exchange_inter",
                   ExchangeShape{.combine = true,
                                 .low_latency = true,
                                 .ranks = kRanks,
                                 .tokens = kBatch,
                                 .topk = kTopk,
                                 .token_bytes = 2 * kHidden},
                   kMoeLayers});
  parts.push_back({"stream", StreamShape{.bytes = kBatch * kHidden * 8, .kernels = 5}, kLayers});
  return parts;
}

std::string benchmark_of(const std::string& model, const std::string& parameter) {
  if (model == "gemm" && (parameter == "cold_bandwidth" || parameter == "bandwidth"))
    return "GEMM in a sequence of layers, weights larger than 256 MB in all: M = 16, 64, 128; (N, K) = (7168, 16384), "
           "(24576, 1536); rocprofv3, 30 repeats";
  if (model == "gemm" && parameter == "bf16")
    return "batched BF16 GEMM of MLA's absorbed projections: batch 128, M = 16 … 512, (N, K) = (512, 128) and (128, "
           "512)";
  if (model == "gemm")
    return "FP8 block-scale GEMM on a named MI300X: M = 1, 16, 64, 256, 1024, 4096 for the model's five weight shapes";
  if (model == "moe")
    return "fused MoE, 7168 x 2048, 16 and 32 experts resident, 1 … 512 expert-token pairs an expert, on a named "
           "MI300X (the tables hold MI325X)";
  if (model == "exchange_inter")
    return "MoRI EP16 and EP32 InterNodeV1LL and V1 on the fabric at hand: 16, 64, 128, 512, 4096 tokens a rank, "
           "dispatch and combine apart, 300 repeats";
  if (model == "exchange_intra")
    return "MoRI EP8 IntraNode and IntraNodeLL, FP8 dispatch at topk 8: 1 … 4096 tokens a rank (absent from the "
           "tables)";
  if (model == "mla_decode")
    return "MLA decode, 128 heads, FP8 cache: batch 16, 64, 128, 256 at contexts 1k, 2k, 4k, 8k (the tables stop at 64 "
           "tokens)";
  if (model == "stream")
    return "one captured decode step under rocprofv3: time of each norm, rope, quantise kernel at batch 128";
  return "the operation alone, over the sizes of the step";
}

double step_us(const std::vector<Part>& parts, const std::map<std::string, std::vector<double>>& parameters) {
  double sum = 0;
  for (const Part& part : parts)
    sum += part.repeats * find_model(part.model)->us(parameters.at(part.model), part.shape);
  return sum;
}

}  // namespace

std::vector<Advice> advise(const Calibration& calibration, std::size_t most) {
  const std::vector<Part> parts = reference_step();
  std::map<std::string, std::vector<double>> parameters;
  for (const FittedModel& m : calibration.models)
    for (const FittedParameter& p : m.parameters) parameters[m.name].push_back(p.value);
  for (const Part& part : parts)
    if (!parameters.contains(part.model)) return {};
  const double total = step_us(parts, parameters);
  std::map<std::string, double> share;
  for (const Part& part : parts)
    share[part.model] += part.repeats * find_model(part.model)->us(parameters.at(part.model), part.shape) / total;
  std::vector<Advice> all;
  for (const FittedModel& m : calibration.models) {
    if (!share.contains(m.name)) continue;
    for (std::size_t i = 0; i < m.parameters.size(); ++i) {
      double& value = parameters[m.name][i];
      const double at = value;
      value = m.parameters[i].high;
      const double high = step_us(parts, parameters);
      value = m.parameters[i].low;
      const double low = step_us(parts, parameters);
      value = at;
      const double half = (high > low ? high - low : low - high) / 2 / total;
      all.push_back({m.name, m.parameters[i].name, share[m.name], half, benchmark_of(m.name, m.parameters[i].name)});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Advice& a, const Advice& b) { return a.step_interval > b.step_interval; });
  std::vector<Advice> out;  // one line a benchmark: its widest parameter
  for (Advice& a : all) {
    const bool known = std::any_of(out.begin(), out.end(), [&](const Advice& o) { return o.run == a.run; });
    if (!known && a.step_interval > 0.001 && out.size() < most) out.push_back(std::move(a));
  }
  return out;
}

}  // namespace faultline::calibration
