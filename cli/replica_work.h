// Replicas of experiments as tasks: a replica is a pure function of (experiment, seed).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cli/task_pool.h"
#include "core/experiment/deployment.h"

namespace faultline::cli {

struct ReplicaTask {
  std::size_t spec = 0;  // index into the specs
  std::uint64_t seed = 0;
};

/// Task k: the summary (JSON as `faultline run` writes it, less what depends on the machine, and with the `weight` of a
/// run whose faults were not drawn as they come) of replica(k). What replicas of one experiment share (topology,
/// placement, prices) is made once.
Work replica_work(std::vector<experiment::ExperimentSpec> specs, std::function<ReplicaTask(std::size_t)> replica,
                  bool unpaired);

/// The summary of one run in this process (its paired run in one of its own), as replica_work's tasks return it.
std::string replica_summary(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                            bool unpaired);

}  // namespace faultline::cli
