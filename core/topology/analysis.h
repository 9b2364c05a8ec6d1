// Everything `faultline topology` says about a cluster, as data, as JSON and as text of at most 80 columns.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/topology/blast.h"
#include "core/topology/connectivity.h"
#include "core/topology/cuts.h"
#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::topology {

/// What one failure of a kind takes with it, over all components of the kind.
struct DomainRow {
  Kind kind{};
  std::uint32_t count = 0;
  struct Extent {
    std::uint32_t min = 0, max = 0;
  };
  Extent nodes, gpus, switches, links;  // contained or implied, itself not counted
};

struct Analysis {
  std::vector<DomainRow> domains;
  SinglePoints single_points;
  std::vector<Cut> instance_cuts;  // prefill to decode; empty cut for an instance of mixed nodes only
  Bisection bisection;
  Blast blast;
};

Analysis analyse(const Topology& topology, const Placement& placement);

nlohmann::ordered_json to_json(const Topology& topology, const Placement& placement, const Analysis& analysis);
std::string to_text(const Topology& topology, const Placement& placement, const Analysis& analysis);
/// One component: where it stands, what goes down with it, whom it hurts.
std::string component_text(const Topology& topology, const Placement& placement, const Analysis& analysis,
                           ComponentId id);

}  // namespace faultline::topology
