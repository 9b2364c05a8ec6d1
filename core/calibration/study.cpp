#include "core/calibration/study.h"

#include <algorithm>

namespace faultline::calibration {

void describe(config::Fields& f, StudyRow& r) {
  f.required("name", r.name);
  f.required("phase", r.phase);
  f.required("plan", r.plan);
  f.field("batch_per_gpu", r.batch_per_gpu, config::kNotNegative);
  f.field("tpot_max", r.tpot_max, config::kNotNegative);
  f.field("ttft_max", r.ttft_max, config::kNotNegative);
}

void describe(config::Fields& f, StudySplit& s) {
  f.required("prefill", s.prefill);
  f.required("decode", s.decode);
}

void describe(config::Fields& f, Study& s) {
  f.required("name", s.name);
  f.required("question", s.question);
  f.field("expectation", s.expectation);
  f.required("model", s.model);
  f.required("device", s.device);
  f.required("calibration", s.calibration);
  f.field("input", s.input, config::kPositive);
  f.field("output", s.output, config::kPositive);
  f.field("gpu_hour_cost", s.gpu_hour_cost, config::kPositive);
  f.list("rows", s.rows, true);
  f.list("splits", s.splits);
  if (!f.reading()) return;
  for (const StudySplit& split : s.splits) {
    const auto has = [&](const std::string& name, Phase phase) {
      return std::any_of(s.rows.begin(), s.rows.end(),
                         [&](const StudyRow& r) { return r.name == name && r.phase == phase; });
    };
    if (!has(split.prefill, Phase::prefill)) f.error("splits", "no prefill row is named '" + split.prefill + "'");
    if (!has(split.decode, Phase::decode)) f.error("splits", "no decode row is named '" + split.decode + "'");
  }
}

StudyResult run_study(const Study& study, const EstimateRequest& base,
                      const std::shared_ptr<const Calibration>& calibration, config::Diagnostics& diagnostics) {
  StudyResult out;
  for (const StudyRow& row : study.rows) {
    EstimateRequest r = base;
    r.phase = row.phase;
    r.batch_per_gpu = row.batch_per_gpu;
    r.input = study.input;
    r.output = study.output;
    r.gpu_hour_cost = study.gpu_hour_cost;
    if (row.tpot_max.v > 0) r.tpot_max = row.tpot_max;
    if (row.ttft_max.v > 0) r.ttft_max = row.ttft_max;
    parse_plan(row.plan, r, diagnostics);
    if (!diagnostics.ok()) return out;
    out.rows.push_back(estimate(r, calibration));
  }
  const auto row_of = [&](const std::string& name) -> const Estimate& {
    const auto at =
        std::find_if(study.rows.begin(), study.rows.end(), [&](const StudyRow& r) { return r.name == name; });
    return out.rows[static_cast<std::size_t>(at - study.rows.begin())];
  };
  for (const StudySplit& split : study.splits) {
    const Estimate &p = row_of(split.prefill), &d = row_of(split.decode);
    if (!p.refusal.empty() || !d.refusal.empty()) continue;
    SplitResult s{.prefill = split.prefill, .decode = split.decode};
    s.prefill_requests_s_node = p.input_tokens_per_s_node / static_cast<double>(study.input);
    s.decode_requests_s_node = d.output_tokens_per_s_node / static_cast<double>(study.output);
    s.decode_nodes_per_prefill_node = s.prefill_requests_s_node / s.decode_requests_s_node;
    // x prefill and y decode nodes with x P = y D serve x P requests: P D / (P + D) a node.
    s.requests_s_node =
        s.prefill_requests_s_node * s.decode_requests_s_node / (s.prefill_requests_s_node + s.decode_requests_s_node);
    s.total_tokens_s_node = s.requests_s_node * static_cast<double>(study.input + study.output);
    s.cost_per_million_total =
        study.gpu_hour_cost * static_cast<double>(base.device.gpus_per_node) / 3600 / s.total_tokens_s_node * 1e6;
    out.splits.push_back(s);
  }
  return out;
}

}  // namespace faultline::calibration
