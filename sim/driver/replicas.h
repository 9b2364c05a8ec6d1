// Runs in processes of their own: SimGrid allows one simulation per process, and a crash of one must not take the rest.
// Results come back through a pipe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/experiment/deployment.h"
#include "core/record/run_record.h"

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
  ~Replicas();  // children not collected are ended
  Replicas(const Replicas&) = delete;
  Replicas& operator=(const Replicas&) = delete;
  /// Waits for all, in the order of the jobs. Throws std::runtime_error when one died.
  std::vector<record::RunRecord> collect();

 private:
  struct Child {
    pid_t pid = -1;
    int read_end = -1;
  };
  std::vector<Child> children_;
};

}  // namespace faultline::sim
