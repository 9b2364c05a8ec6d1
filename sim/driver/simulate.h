// One replica: a pure function of (experiment, seed). The event log is written while it runs.
#pragma once

#include <functional>
#include <string>

#include "core/experiment/deployment.h"
#include "core/record/event_log.h"
#include "core/record/run_record.h"
#include "core/record/truth_log.h"

namespace faultline::sim {

struct SimulateOptions {
  bool with_faults = true;  // false: the paired run without the fault
  bool placebo = false;     // each fault becomes one that disables nothing, at the same time
  record::EventLogWriter* log = nullptr;
  record::TruthLog* truth = nullptr;
#ifdef FAULTLINE_CHECKS
  bool check_every_step = true;
#else
  bool check_every_step = false;  // assert digests and conservation laws after each controller step; tests do
#endif
  std::function<bool(Instant now, std::uint64_t requests_done)> progress;  // false interrupts
};

/// Preconditions: `deployment` was made from `spec`. Throws config::ConfigError for a workload that cannot be read.
/// SimGrid allows one simulation with transfers per process: paired runs and replicas fork (replicas.h).
record::RunRecord simulate(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                           const config::FileReader& reader, const SimulateOptions& options);

}  // namespace faultline::sim
