// A topology as built: its spec, its components and the arithmetic between indices and components. Components are made
// in a fixed order (feeds, racks, nodes with their parts, leaves, spines, cores, fabric links, hosts), so that every
// index below is a multiplication, not a table.
#pragma once

#include <compare>
#include <cstdint>

#include "core/topology/graph.h"
#include "core/topology/spec.h"

namespace faultline::topology {

/// One GPU by place: node in topology order, GPU within it.
struct NodeGpu {
  NodeId node;
  std::uint32_t gpu = 0;
  friend constexpr auto operator<=>(NodeGpu, NodeGpu) = default;
};

/// Sizes and index arithmetic. Links are numbered node by node (xGMI pairs (0,1) (0,2) … (1,2) …, then cables by NIC
/// and port), then leaf uplinks leaf by leaf, then, in a fat tree, spine uplinks spine by spine.
struct Layout {
  std::uint32_t nodes = 0, gpus = 0, nics = 0, ports = 0;  // gpus and nics of one node, ports of one NIC
  std::uint32_t mesh = 0;                                  // xGMI links of one node
  std::uint32_t leaves = 0, spines = 0, cores = 0;         // in total
  std::uint32_t pods = 0;  // sets of leaves that serve the same nodes (fat tree: pods of k/2 leaves)
  std::uint32_t leaves_per_pod = 0;
  std::uint32_t planes = 1;            // disjoint sets of spines
  std::uint32_t spines_per_plane = 0;  // fat tree: per pod
  std::uint32_t parallel = 1;          // links between a leaf and a spine it is connected to
  std::uint32_t cores_per_spine = 0;   // fat tree only, else 0
  bool rails_in_planes = false;        // spine planes are per rail

  std::uint32_t gpu_count() const { return nodes * gpus; }
  std::uint32_t rail_of(std::uint32_t gpu) const { return gpu * nics / gpus; }       // the GPU's own NIC
  std::uint32_t first_gpu_of(std::uint32_t nic) const { return nic * gpus / nics; }  // the GPU that forwards for a rail
  std::uint32_t uplinks() const { return spines_per_plane * parallel; }              // of a leaf
  std::uint32_t links_per_node() const { return mesh + nics * ports; }
  std::uint32_t fabric_link_base() const { return nodes * links_per_node(); }
  std::uint32_t core_link_base() const { return fabric_link_base() + leaves * uplinks(); }

  /// Direction from one GPU of a node to another; from != to; only where mesh > 0.
  LinkIndex xgmi(NodeId node, std::uint32_t from, std::uint32_t to) const {
    const std::uint32_t low = from < to ? from : to, high = from < to ? to : from;
    const std::uint32_t pair = low * (2 * gpus - low - 1) / 2 + (high - low - 1);
    return {2 * (node.v * links_per_node() + pair) + (from < to ? 0U : 1U)};
  }
  /// NIC port towards its leaf.
  LinkIndex cable(NodeId node, std::uint32_t nic, std::uint32_t port) const {
    return {2 * (node.v * links_per_node() + mesh + nic * ports + port)};
  }
  /// Leaf towards its spine number `spine` of the plane (or pod); `which` of the parallel links.
  LinkIndex uplink(std::uint32_t leaf, std::uint32_t spine, std::uint32_t which = 0) const {
    return {2 * (fabric_link_base() + leaf * uplinks() + spine * parallel + which)};
  }
  /// Fat tree: spine (in total) towards its core number `core`, below cores_per_spine.
  LinkIndex core_link(std::uint32_t spine, std::uint32_t core) const {
    return {2 * (core_link_base() + spine * cores_per_spine + core)};
  }
  std::uint32_t leaf_of(NodeId node, std::uint32_t nic, std::uint32_t port) const {
    switch (kind) {
      case FabricKind::rail_optimised: return node.v / nodes_per_leaf * leaves_per_pod + nic * ports + port;
      case FabricKind::single_tor: return node.v / nodes_per_leaf;
      case FabricKind::dual_tor: return node.v / nodes_per_leaf * 2 + port;
      case FabricKind::fat_tree: return (node.v * nics + nic) / leaves_per_pod;  // k/2 NICs on each of k/2 leaves
    }
    return 0;
  }
  std::uint32_t pod_of_leaf(std::uint32_t leaf) const { return leaf / leaves_per_pod; }
  std::uint32_t plane_of_leaf(std::uint32_t leaf) const { return rails_in_planes ? leaf % leaves_per_pod / ports : 0; }

  FabricKind kind{};
  std::uint32_t nodes_per_leaf = 1;
};

struct Topology {
  TopologySpec spec;
  Layout layout;
  ComponentGraph graph;

  ComponentId node(NodeId n) const { return graph.of_kind(Kind::node)[n.v]; }
  ComponentId gpu(NodeGpu g) const { return graph.of_kind(Kind::gpu)[g.node.v * layout.gpus + g.gpu]; }
  ComponentId nic(NodeId n, std::uint32_t nic) const { return graph.of_kind(Kind::nic)[n.v * layout.nics + nic]; }
  ComponentId leaf(std::uint32_t l) const { return graph.of_kind(Kind::leaf)[l]; }
  ComponentId spine(std::uint32_t s) const { return graph.of_kind(Kind::spine)[s]; }
  ComponentId host(std::uint32_t h) const { return graph.of_kind(Kind::host)[h]; }
  /// The node a component is or stands in; invalid for switches, racks, feeds, hosts.
  NodeId node_of(ComponentId id) const;
  /// The GPU a component is; nullopt for anything else.
  std::optional<NodeGpu> gpu_of(ComponentId id) const;
};

/// Builds what a checked spec describes (read_topology reports what could be wrong; here it is asserted).
Topology build(const TopologySpec& spec);

}  // namespace faultline::topology
