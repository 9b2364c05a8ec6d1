// Executor: device work of one worker group. The simulator answers from the cost model, the backend from HIP, the CPU
// or a paced wait. A decode run is many steps: it stops at the first step boundary after interrupt().
#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/base/result.h"
#include "core/model/load.h"

namespace faultline {

/// One pass over prompt chunks, optionally mixed with one decode step of the ranks' running batches.
struct PrefillStep {
  std::vector<model::PrefillItem> items;
  std::vector<model::RankLoad> decode;  // [dp] or empty
};
/// Up to steps_max decode steps of a batch that does not change.
struct DecodeRun {
  std::vector<model::RankLoad> loads;  // [dp]
  std::int64_t steps_max = 0;
};
struct Step {
  OpId op;
  std::variant<PrefillStep, DecodeRun> work;
};

struct StepDone {
  OpId op;
  std::int64_t steps;  // decode steps done; 1 for a prefill step
  Duration busy;       // from start to the last boundary
};
struct StepFailed {
  OpId op;
  Cause cause;                 // device_lost, peer_lost, timeout, canceled
  std::int64_t steps;          // boundaries reached before the failure: their tokens count
  std::uint32_t suspect_rank;  // rank in the group, or ~0u where unknown
};
using ExecutorEvent = std::variant<StepDone, StepFailed>;

class Executor {
 public:
  virtual ~Executor() = default;
  /// Accepted means exactly one StepDone or StepFailed, later, from poll(). Steps run one after another in the order
  /// of submission. Errors: overload (queue of 2 is full), device_lost, protection (wrong shapes).
  virtual Status submit(const Step& step) = 0;
  /// The running decode run ends at its next step boundary. Unknown or finished ops are ignored.
  virtual void interrupt(OpId op) = 0;
  /// Gives the work up; the terminal event still comes (StepFailed with canceled, or StepDone if it was too late).
  virtual void abort(OpId op) = 0;
  virtual std::size_t poll(std::span<ExecutorEvent> out) = 0;
};

}  // namespace faultline
