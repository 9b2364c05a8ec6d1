// A study of plans: rows of (phase, plan, objective) priced one by one, and what a balanced split of the same GPUs into
// prefill and decode nodes would give. Read from experiments/seed/*.yaml.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/calibration/estimate.h"

namespace faultline::calibration {

struct StudyRow {
  std::string name;
  Phase phase = Phase::decode;
  std::string plan;
  std::int64_t batch_per_gpu = 0;   // 0: the best under the objective, or the largest
  Duration tpot_max{}, ttft_max{};  // 0: none (offline)
};
void describe(config::Fields& f, StudyRow& row);

/// Names of a prefill and a decode row whose nodes share one fleet.
struct StudySplit {
  std::string prefill, decode;
};
void describe(config::Fields& f, StudySplit& split);

struct Study {
  std::string name, question, expectation;
  std::string model, device, calibration;  // files, from the repository's root
  std::int64_t input = 2000, output = 100;
  double gpu_hour_cost = 2;
  std::vector<StudyRow> rows;
  std::vector<StudySplit> splits;
};
void describe(config::Fields& f, Study& study);

struct SplitResult {
  std::string prefill, decode;
  double prefill_requests_s_node = 0, decode_requests_s_node = 0;
  double decode_nodes_per_prefill_node = 0;
  double requests_s_node = 0;         // of the whole balanced fleet
  double total_tokens_s_node = 0;     // input and output
  double cost_per_million_total = 0;  // USD, input and output tokens together
};

struct StudyResult {
  std::vector<Estimate> rows;  // as Study::rows
  std::vector<SplitResult> splits;
};

/// `base` brings model, device and cost; its phase, plan and objectives are replaced row by row. Errors of plans go to
/// `diagnostics`.
StudyResult run_study(const Study& study, const EstimateRequest& base,
                      const std::shared_ptr<const Calibration>& calibration, config::Diagnostics& diagnostics);

}  // namespace faultline::calibration
