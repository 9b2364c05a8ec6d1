// A run at `fluid` fidelity: months of a fleet of up to some 100,000 GPUs in seconds. It interprets the same Deployment
// and fault schedule as the step simulator, with instances as states instead of processes:
//
//   fault -> nodes lose GPUs, paths or speed -> groups stop -> notice -> decision -> spare or repair -> restart ->
//   ready
//
// The delays between those are those of the engine profile, the detector, the network and the recovery policy; requests
// are a flow of the workload's rate and mean lengths: those on a group that stops are hit, those that arrive while
// there is less capacity than load queue. What single requests do (batches, retries' back-off, prefix hits) is not
// there: a step run around a fault shows that, and docs/planning.md compares both. Deterministic: draws are all in the
// schedule.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/fluid/capacity.h"
#include "core/fluid/result.h"
#include "core/fluid/state.h"

namespace faultline::fluid {

/// What step runs around a fault of a kind showed, in place of the closed forms.
struct Measured {
  double detect_s = 0, ready_s = 0;
  double lost_gpu_s = 0;  // of the instance, until ready
  double hit = 0, failed = 0;
};
using MeasuredEffects = std::map<fault::FaultKind, Measured>;

struct Options {
  Duration duration{};            // > 0
  std::int64_t repair_crews = 0;  // hardware repairs at a time; 0: no limit
  const StartState* state = nullptr;
  const MeasuredEffects* measured = nullptr;
  bool with_faults = true;
  std::function<bool(double share)> progress;  // false interrupts
};

/// Errors of the experiment that fluid fidelity cannot answer (faults triggered by events, policies without closed form
/// and without a measurement) go to `diagnostics`.
void check(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
           const MeasuredEffects* measured, config::Diagnostics& diagnostics);

/// Precondition: check() had no errors; `deployment` was made from `spec`.
Result simulate(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                const Capacity& capacity, const Options& options);

/// Duration of the run: `end`, else the workload's duration. Nothing where neither is given.
std::optional<Duration> duration_of(const experiment::ExperimentSpec& spec);

}  // namespace faultline::fluid
