// Pictures of a topology: Graphviz text for other tools, and a self-contained SVG laid out by tier (cores, spines,
// leaves, racks with their nodes, a square a GPU). Fabrics too large to draw whole are summarised: equal groups are
// left out and counted. Instances have colours; spare and unused nodes are grey.
#pragma once

#include <string>

#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::topology {

/// Undirected graph in the DOT language: switches, nodes as boxes of NICs, a line per link bundle. Racks are clusters.
std::string to_dot(const Topology& topology, const Placement& placement);
/// Width follows the number of racks drawn, at most about 1600 px.
std::string to_svg(const Topology& topology, const Placement& placement);

}  // namespace faultline::topology
