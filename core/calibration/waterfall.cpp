#include "core/calibration/waterfall.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/math.h"
#include "core/calibration/spread.h"

namespace faultline::calibration {
namespace {

Precision precision_of(const std::string& name) {
  return name == "fp8_block" ? Precision::fp8_block
         : name == "fp8_row" ? Precision::fp8_row
         : name == "fp4"     ? Precision::fp4
                             : Precision::bf16;
}

double predicted_us(const StepKernel& kernel, const Calibration& calibration) {
  for (const FittedModel& fitted : calibration.models) {
    if (fitted.name != kernel.model) continue;
    const Predictor predictor(fitted);
    const Gpu gpu = gpu_of(calibration.hardware);
    if (kernel.model == "gemm") {
      const GemmShape shape{.m = kernel.m,
                            .n = kernel.n,
                            .k = kernel.k,
                            .precision = precision_of(kernel.precision),
                            .cold = true,
                            .gpu = gpu};
      return predictor.predict(kernel.precision + " base", {log2(kernel.m), log2(kernel.n), log2(kernel.k)}, shape).us;
    }
    if (kernel.model == "moe") {
      return predictor.mechanism_us(MoeShape{.pairs = kernel.tokens * kernel.topk,
                                             .touched = experts_touched(kernel.experts, kernel.topk, kernel.tokens),
                                             .hidden = kernel.hidden,
                                             .inter = kernel.inter,
                                             .precision = precision_of(kernel.precision),
                                             .gpu = gpu});
    }
    return predictor.mechanism_us(StreamShape{.bytes = kernel.bytes, .kernels = 1});
  }
  return 0;
}

}  // namespace

void describe(config::Fields& f, StepKernel& k) {
  f.required("name", k.name);
  f.required("operation", k.operation);
  f.required("model", k.model);
  f.field("count", k.count, {.min = 1, .max = 1e9});
  for (auto [key, value] : {std::pair{"m", &k.m},
                            {"n", &k.n},
                            {"k", &k.k},
                            {"tokens", &k.tokens},
                            {"hidden", &k.hidden},
                            {"inter", &k.inter},
                            {"experts", &k.experts},
                            {"topk", &k.topk},
                            {"bytes", &k.bytes}})
    f.field(key, *value, config::kNotNegative);
  f.field("precision", k.precision);
  if (!f.reading() || !f.has("model")) return;
  const bool known = k.model == "gemm" || k.model == "moe" || k.model == "kv_attention" || k.model == "stream";
  if (!known) f.error("model", "expected gemm, moe, kv_attention or stream, got '" + k.model + "'");
  if (k.model == "gemm" && !(k.m > 0 && k.n > 0 && k.k > 0)) f.error("model", "a gemm needs m, n and k");
  if (k.model == "moe" && !(k.tokens > 0 && k.hidden > 0 && k.inter > 0 && k.experts > 0 && k.topk > 0))
    f.error("model", "moe needs tokens, hidden, inter, experts and topk");
}

void describe(config::Fields& f, StepExperiment& e) {
  f.required("question", e.question);
  f.field("expectation", e.expectation);
  f.required("profile", e.profile);
  f.field("model", e.model);
  f.field("source", e.source);
  f.field("tolerance", e.tolerance, config::kRatio);
  f.list("kernels", e.kernels, true);
}

void describe(config::Fields& f, StepExperiments& e) {
  f.required("name", e.name);
  f.list("steps", e.steps, true);
}

Waterfall waterfall(const StepExperiment& experiment, const Calibration& calibration, const ProfileFold& profile) {
  std::map<std::string, WaterfallRow> rows;
  for (const auto& [operation, time] : profile.by_operation()) {
    WaterfallRow& row = rows[operation];
    row.measured_us = static_cast<double>(time.total_ns) / 1e3;
    row.measured_count = time.count;
  }
  for (const StepKernel& kernel : experiment.kernels) {
    WaterfallRow& row = rows[kernel.operation];
    row.predicted_us += static_cast<double>(kernel.count) * predicted_us(kernel, calibration);
    row.predicted_count += kernel.count;
  }
  Waterfall out;
  out.measured_us = static_cast<double>(profile.busy().v) / 1e3;
  for (auto& [operation, row] : rows) {
    row.operation = operation;
    out.predicted_us += row.predicted_us;
    out.rows.push_back(row);
  }
  std::stable_sort(out.rows.begin(), out.rows.end(),
                   [](const auto& a, const auto& b) { return a.measured_us > b.measured_us; });
  out.holds = out.measured_us > 0 && std::abs(out.predicted_us / out.measured_us - 1) <= experiment.tolerance;
  return out;
}

}  // namespace faultline::calibration
