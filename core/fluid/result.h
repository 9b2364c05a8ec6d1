// What a run at `fluid` fidelity leaves behind: integrals over time instead of requests, and what each fault cost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/fault/kind.h"

namespace faultline::fluid {

struct FaultCost {
  std::uint32_t fault = 0;  // index in the schedule
  double lost_gpu_s = 0;    // GPUs that could compute no useful token because of it, over time
  double own_gpu_s = 0;     // of these, the failed GPUs themselves
  double hit = 0;           // requests on what stopped
  double failed = 0;        // of these, not retried; and requests refused while it held capacity down
  double late = 0;          // requests that missed the SLO in a queue that it caused
  double detect_s = -1;     // after the fault; -1: nothing to detect
  double ready_s = -1;      // what stopped serves again; -1: not within the run, or nothing stopped
  double spare_wait_s = 0;  // of this, waiting for a node
};

struct Result {
  double duration_s = 0;
  std::int64_t gpus = 0, spare_gpus = 0, instances = 0;
  // Requests and output tokens; fractions are expectations.
  double arrived = 0;
  double hit = 0, retried = 0, failed = 0, rejected = 0, late = 0;
  double good = 0;  // arrived - hit - late - rejected: within the SLO
  double tokens_recomputed = 0, tokens_lost = 0;
  double good_tokens = 0, output_tokens = 0, input_tokens = 0;
  // Capacity.
  double capacity_healthy = 0;  // requests/s within the SLO with everything up
  double capacity_mean = 0, capacity_min = 0;
  double lost_gpu_s = 0, own_gpu_s = 0;
  double short_s = 0;          // time with less capacity than load
  double queue_s = 0;          // time with a queue beyond the SLO
  double headroom_min = 0;     // smallest capacity / load
  std::vector<double> down_s;  // [k]: time with k serving instances unable to serve
  // Spares and repair.
  double spares_mean = 0, no_spare_s = 0;
  std::int64_t spare_waits = 0, spare_failures = 0, incidents = 0, faults = 0;
  double spare_wait_mean_s = 0;
  std::int64_t repair_queue_max = 0;
  std::vector<FaultCost> costs;  // of applied faults, by time
  std::uint64_t events = 0;

  /// Share of the time with at least as much capacity as load.
  double availability() const { return duration_s > 0 ? 1 - short_s / duration_s : 1; }
  /// Share of the requests served within the SLO.
  double attainment() const { return arrived > 0 ? good / arrived : 1; }
};

}  // namespace faultline::fluid
