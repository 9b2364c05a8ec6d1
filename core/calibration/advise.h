// What to measure next: parameters ranked by how much their interval moves a reference decode step, with the benchmark
// that would narrow each.
#pragma once

#include <string>
#include <vector>

#include "core/calibration/calibration.h"

namespace faultline::calibration {

struct Advice {
  std::string model, parameter;
  double step_share = 0;     // of the operation in the step
  double step_interval = 0;  // half width that the parameter's interval gives the step, as a share of the step
  std::string run;           // the benchmark, with sizes
};

/// The reference step: DeepSeek-V3, EP16, 128 sequences a GPU of 2,050 cached tokens, one GPU, FP8. At most `most`
/// lines, one for each benchmark.
std::vector<Advice> advise(const Calibration& calibration, std::size_t most = 6);

}  // namespace faultline::calibration
