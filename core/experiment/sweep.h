// A sweep: one experiment under many settings and seeds. A replica is a pure function of (experiment, seed), named by a
// hash of its resolved experiment, so that nothing is computed twice and a killed sweep goes on where it was.
//
//   name: restart_unit/recovery
//   experiment: ../smoke/gpu_failstop.yaml
//   seeds: 20                               # 1 … 20
//   grid:                                   # every combination of these
//     fleet.restart_unit: [ep_group, instance]
//     recovery.policy: [restart, spare_node]
//   cases:                                  # times each of these named sets of fields
//     EP8: {fleet.decode.dp: 8, fleet.decode.ep: 8}
//     EP16: {fleet.decode.dp: 16, fleet.decode.ep: 16}
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/document.h"
#include "core/experiment/spec.h"

namespace faultline::experiment {

struct SweepPoint {
  std::string name;              // "EP8, restart_unit=instance"
  std::vector<std::string> set;  // "field=value", in order
};

struct SweepSpec {
  std::string name;
  std::string experiment;  // path, as the reader takes it
  std::int64_t seeds = 10;
  std::int64_t first_seed = 1;
  std::vector<SweepPoint> points;  // at least one
};

/// Reads a sweep file; a file that is itself an experiment (it has a `topology`) becomes a sweep of one point. `over`
/// adds "field=[a, b]" axes of the command line. Throws config::ConfigError.
SweepSpec load_sweep(const std::string& text, const std::string& file, const std::vector<std::string>& over,
                     const config::FileReader& reader);

/// One line for each figure that a sweep keeps of a replica: mean and interval are taken over the seeds of a point.
struct Estimate {
  std::int64_t count = 0;
  double mean = 0;
  /// Half the width of the 95 % confidence interval of the mean by Student's t; infinite below two values.
  double half_width = 0;
};
Estimate estimate(const std::vector<double>& values);

}  // namespace faultline::experiment
