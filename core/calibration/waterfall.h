// A recorded step against the models, operation by operation: the experiment's list of kernels with their shapes is
// priced, the profile is imported, and both are added up by operation.
#pragma once

#include <string>
#include <vector>

#include "core/calibration/calibration.h"
#include "core/calibration/profile.h"

namespace faultline::calibration {

/// One kind of kernel of the step. Which fields count depends on `model`: gemm m n k; moe tokens hidden inter experts
/// topk; kv_attention and stream bytes.
struct StepKernel {
  std::string name;       // for people
  std::string operation;  // as the kernel rules name it
  std::string model;
  std::int64_t count = 1;
  double m = 0, n = 0, k = 0;
  double tokens = 0, hidden = 0, inter = 0, experts = 0, topk = 0;
  double bytes = 0;
  std::string precision = "bf16";  // bf16, fp8_block, fp8_row, fp4
};
void describe(config::Fields& f, StepKernel& kernel);

struct StepExperiment {
  std::string question, expectation;
  std::string profile;  // below the data folder
  std::string model, source;
  double tolerance = 0.1;  // of the sum
  std::vector<StepKernel> kernels;
};
struct StepExperiments {
  std::string name;
  std::vector<StepExperiment> steps;
};
void describe(config::Fields& f, StepExperiment& experiment);
void describe(config::Fields& f, StepExperiments& experiments);

struct WaterfallRow {
  std::string operation;
  double predicted_us = 0, measured_us = 0;
  std::int64_t predicted_count = 0, measured_count = 0;
};
struct Waterfall {
  std::vector<WaterfallRow> rows;  // longest measured first; measured operations without a predicted kernel included
  double predicted_us = 0, measured_us = 0;
  bool holds = false;  // |predicted / measured - 1| <= tolerance
};

Waterfall waterfall(const StepExperiment& experiment, const Calibration& calibration, const ProfileFold& profile);

}  // namespace faultline::calibration
