// From an experiment to what a driver starts: topology built, fleet placed, memory checked, controllers set up, faults
// expanded. The simulator and a live cluster start from the same Deployment.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/control/expert_repair.h"
#include "core/control/fleet.h"
#include "core/control/instance.h"
#include "core/control/node_agent.h"
#include "core/control/router.h"
#include "core/experiment/spec.h"
#include "core/fault/schedule.h"
#include "core/model/memory.h"
#include "core/model/pricer.h"
#include "core/model/step_samples.h"
#include "core/record/run_record.h"
#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::experiment {

struct Deployment {
  topology::Topology topology;
  topology::Placement placement;
  std::vector<std::string> warnings;

  struct Role {
    model::ParallelPlan plan;
    model::MemoryBudget memory;
    std::unique_ptr<model::StepPricer> pricer;
    std::uint32_t groups = 0;  // of one instance
    /// Prices of the same hardware for a group that has lost GPUs, or whose experts lie otherwise.
    std::function<std::unique_ptr<model::StepPricer>(const model::ParallelPlan&)> price;
    /// Expert-parallel roles whose experts may move; else null.
    std::unique_ptr<control::ExpertPlanner> experts;
  };
  std::unique_ptr<Role> prefill, decode, both;  // those that the layout has; of several fleets, the first's

  std::vector<control::InstanceSetup> instances;  // serving, then spare
  std::vector<const Role*> group_roles;           // by group index; of several fleets, the first's
  /// Roles of further fleets (core/experiment/fleets.h), and the fleet of each instance (empty: there is one fleet).
  struct FurtherFleet {
    std::unique_ptr<Role> prefill, decode, both;
    std::vector<const Role*> group_roles;
    Bytes kv_bytes_per_token;
  };
  std::vector<FurtherFleet> further;
  std::vector<std::uint32_t> fleet_of;
  const std::vector<const Role*>& roles_of(std::uint32_t instance) const {
    const std::uint32_t k = fleet_of.empty() ? 0 : fleet_of[instance];
    return k == 0 ? group_roles : further[k - 1].group_roles;
  }
  control::FleetSetup fleet;
  control::RouterSetup router;
  control::NodeAgentSetup agent;
  Bytes kv_bytes_per_token;
  fault::FaultSchedule faults;
  record::CostModelUse cost_model;  // who prices the steps; which operations are extrapolated depends on the load
  double weight = 1;                // of a run with these faults among runs of other seeds (core/fault/rare.h)
  /// Links of the fabric that others use, too: what is left of each, in (0, 1). By component.
  struct Background {
    ComponentId link;
    double left = 1;
  };
  std::vector<Background> background;

  /// The description fields of a run's record.
  record::RunRecord describe_run(const ExperimentSpec& spec) const;
};

/// The operations that were priced outside of what was measured, with their share of all step time, largest first.
std::vector<record::CostModelUse::Extrapolated> extrapolated_in(const model::OpShares& shares);

/// What the experiment's fleet asks of a topology.
topology::PlacementSpec placement_of(const ExperimentSpec& spec);

/// Throws config::ConfigError: a plan that does not fit (with the numbers), too few nodes, unknown fault targets.
std::unique_ptr<Deployment> deploy(const ExperimentSpec& spec);

/// What of a deployment depends on the seed, drawn anew for spec.seed: the rest of `spec` is that it was made from.
/// Much cheaper than deploy() for replicas of one experiment. Throws as deploy().
void reseed(Deployment& deployment, const ExperimentSpec& spec);

}  // namespace faultline::experiment
