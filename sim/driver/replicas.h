// Runs of one experiment beside this process: with and without faults, placebo, other seeds.
#pragma once

#include <vector>

#include "core/experiment/deployment.h"
#include "core/record/run_record.h"
#include "sim/driver/child_process.h"

namespace faultline::sim {

struct ReplicaJob {
  bool with_faults = true;
  bool placebo = false;
  std::uint64_t seed_offset = 0;
};

class Replicas {
 public:
  /// Starts one child per job. Call before this process has threads or an engine.
  Replicas(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
           const config::FileReader& reader, const std::vector<ReplicaJob>& jobs);
  /// Waits for all, in the order of the jobs. Throws std::runtime_error when one died.
  std::vector<record::RunRecord> collect();

 private:
  std::vector<ChildProcess> children_;  // those not collected are ended
};

}  // namespace faultline::sim
