// Figures of each of several fleets of one run, and which of them took the common spares.
#pragma once

#include <string>
#include <vector>

#include "core/metrics/summary.h"

namespace faultline::metrics {

struct FleetFigures {
  std::string name, model;
  /// As of a run with this fleet's requests and GPUs alone (the pool of spare nodes is in none); what a run counts once
  /// for all (tokens over time, rebalancing, KV copies, the simulator's own figures) is 0 here.
  Summary summary;
  std::int64_t spare_nodes_taken = 0, standbys_taken = 0;
};

struct SpareUse {
  Instant at = kNever;
  std::string fleet;
  InstanceId instance;     // whose place
  std::int32_t node = -1;  // -1: a standby instance
};

/// One entry a fleet in their order; empty where the run has one fleet. Of the whole run, O(requests).
std::vector<FleetFigures> fleet_figures(const record::RunRecord& run, const Options& options = {});
/// Spares that took a place, in order of time; empty where the run has one fleet.
std::vector<SpareUse> spare_uses(const record::RunRecord& run);

}  // namespace faultline::metrics
