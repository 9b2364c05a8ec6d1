// Single points of failure of the network that joins the GPUs: articulation points and bridges of the routed graph, by
// Boost.Graph. Vertices are GPUs, NICs and switches. A GPU hangs on its own NIC, or with nic_failover on every NIC of
// its node; cables and fabric links are edges. xGMI is left out, because no route leaves a node through another GPU: an
// xGMI link without transit is the only way between its two GPUs, which needs no search (xgmi_only_way). With rails
// that never meet in the fabric, the graph has one part per rail and each is examined by itself.
#pragma once

#include <cstdint>
#include <vector>

#include "core/topology/topology.h"

namespace faultline::topology {

/// What a component cuts off when it fails: GPUs that are alive but separated from the largest remaining part of the
/// part they belonged to. GPUs that the component itself contains are lost, not cut off.
struct CutPoint {
  ComponentId component;
  std::uint32_t gpus_cut_off = 0;
  friend bool operator==(const CutPoint&, const CutPoint&) = default;
};

struct SinglePoints {
  std::vector<CutPoint> articulation_points;  // NICs and switches, by id
  std::vector<CutPoint> bridges;              // cables and fabric links, by id
  std::vector<CutPoint> enclosures;           // racks and feeds whose switches cut off GPUs elsewhere, by id
  bool xgmi_only_way = false;                 // every xGMI link is the only way between its two GPUs
};

SinglePoints single_points(const Topology& topology);

/// GPUs cut off by the loss of any set of components (with everything they imply), by the same definition.
std::uint32_t gpus_cut_off_by(const Topology& topology, const std::vector<ComponentId>& lost);

}  // namespace faultline::topology
