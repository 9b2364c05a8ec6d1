// Capacity between two sets of nodes: maximum flow and the fewest links whose loss separates them, by Boost's
// push-relabel.
//
// The healthy fabrics built here are symmetric: every leaf of a plane has equal links to every spine of it (a fat tree:
// to every spine of its pod, and those to equal numbers of cores). So the spines of a plane are merged into one vertex
// with the summed capacity: any flow through it can be divided equally over the real spines, and the maximum is
// unchanged. Cables are summed per leaf. A cut of any instance is then a graph of tens of vertices, whatever the size
// of the fleet.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/topology/topology.h"

namespace faultline::topology {

/// Where a minimum cut runs. Several may be minimal; this is the one nearest the source side.
enum class CutTier : std::uint8_t {
  none,
  source_cables,
  leaf_uplinks,
  core_links,
  leaf_downlinks,
  target_cables,
  mixed
};
constexpr std::array<std::string_view, 7> enum_names(const CutTier*) {
  return {"none", "source cables", "leaf uplinks", "core links", "leaf downlinks", "target cables", "several tiers"};
}
constexpr std::string_view name_of(CutTier tier) { return enum_names(&tier)[static_cast<std::size_t>(tier)]; }

struct Cut {
  BytesPerSecond capacity;  // of one direction, source to target
  std::uint64_t links = 0;  // fewest links whose loss leaves no route
  CutTier tier = CutTier::none;
};

/// Routes as in paths.h: with `cross_rail: forward` a flow keeps its rail from end to end. The sets must not overlap.
Cut min_cut(const Topology& topology, const std::vector<NodeId>& source, const std::vector<NodeId>& target);

struct Bisection {
  Cut cut;
  std::uint32_t nodes_a = 0, nodes_b = 0;
  BytesPerSecond injection;  // what the NICs of the smaller half can send
  double ratio() const {
    return injection.v > 0 ? static_cast<double>(cut.capacity.v) / static_cast<double>(injection.v) : 0;
  }
};
/// The first half of the nodes, in topology order, against the second: groups and pods stay whole, which is the
/// narrowest way to halve these fabrics. A single node has no bisection (all zero).
Bisection bisection(const Topology& topology);

}  // namespace faultline::topology
