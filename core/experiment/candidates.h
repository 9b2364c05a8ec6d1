// What the faults of an experiment can be aimed at: names, sorts and shared-risk groups of a placed topology.
#pragma once

#include "core/fault/schedule.h"
#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::experiment {

/// Shared-risk groups that no topology states.
struct RiskGroups {
  std::uint32_t cooling_racks = 4;  // racks on one cooling loop; assumed: a row's distribution unit
  std::uint32_t versions = 2;       // cohorts of nodes that run one software version each, in equal runs of nodes
};
void describe(config::Fields& f, RiskGroups& s);

/// Both references must outlive the result.
fault::Candidates candidates_of(const topology::Topology& topology, const topology::Placement& placement,
                                const RiskGroups& risk = {});

}  // namespace faultline::experiment
