// What a user writes about hardware: device, node, fabric, racks and how many; topologies/README.md documents every
// key. A spec is read with every error at its place, printed back complete, and turned into components by generate.h.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/quantity.h"
#include "core/config/document.h"
#include "core/config/fields.h"
#include "core/topology/placement_spec.h"

namespace faultline::topology {

using namespace literals;

struct GpuSpec {
  std::string name = "MI300X";
  /// One xGMI link, one direction, raw. AMD CDNA 3 white paper (2023): seven links a GPU, 128 GB/s each in both
  /// directions together. About 48 GB/s of it is usable (AMD, "Understanding RCCL Bandwidth and xGMI Performance on
  /// MI300X", ROCm blog, 2025-03-02): protocol efficiency belongs to the cost model, not here.
  BytesPerSecond xgmi_bandwidth = 64_GBps;
  /// Assumed: no public measurement of a single hop on MI300X was found.
  Duration xgmi_latency = 700_ns;
};

struct NicSpec {
  std::string name = "RoCE NIC 400G";
  /// The whole NIC, one direction; divided equally between its ports. 400 Gb/s a GPU: AMD Instinct MI300 series cluster
  /// reference architecture guide (publication 63916, 2024).
  BytesPerSecond bandwidth = 400_Gbps;
  std::uint32_t ports = 1;
  /// Send or receive processing of one NIC, PCIe included. Assumed 800 ns: two of them and one switch give about 2.3
  /// us, the small-message one-way time usual on 400G RoCE NICs.
  Duration latency = 800_ns;
};

enum class XgmiShape : std::uint8_t { full_mesh, none };
constexpr std::array<std::string_view, 2> enum_names(const XgmiShape*) { return {"full_mesh", "none"}; }

struct NodeSpec {
  std::string name = "8x MI300X";
  std::uint32_t gpus = 8;
  std::uint32_t nics = 8;  // divides gpus; GPU g owns NIC g * nics / gpus, and the NIC's number is its rail
  GpuSpec gpu;
  NicSpec nic;
  XgmiShape xgmi = XgmiShape::full_mesh;
  bool xgmi_transit = false;  // may traffic inside a node pass through a third GPU when the direct link is down?
  bool nic_failover = false;  // may a GPU use another NIC of its node when its own or its rail is down?
};

enum class FabricKind : std::uint8_t { rail_optimised, single_tor, dual_tor, fat_tree };
constexpr std::array<std::string_view, 4> enum_names(const FabricKind*) {
  return {"rail_optimised", "single_tor", "dual_tor", "fat_tree"};
}

/// How a GPU reaches a GPU whose own NIC is on another rail.
enum class CrossRail : std::uint8_t {
  forward,  // over the sender's rail to the receiver's node, then xGMI from that rail's GPU (as DeepEP and MoRI EP do)
  fabric,   // leaf, spine, leaf of the receiver's own NIC
};
constexpr std::array<std::string_view, 2> enum_names(const CrossRail*) { return {"forward", "fabric"}; }

enum class SpinePlanes : std::uint8_t { shared, per_rail };
constexpr std::array<std::string_view, 2> enum_names(const SpinePlanes*) { return {"shared", "per_rail"}; }

struct FabricSpec {
  std::string name = "rail-optimised";
  FabricKind kind = FabricKind::rail_optimised;
  /// Nodes that share one set of leaves ("scalable unit"): 32 with 64-port 400G switches, half of them down.
  std::uint32_t nodes_per_leaf = 32;
  double oversubscription = 1.0;  // leaf: bandwidth down / bandwidth up; 1 is non-blocking
  std::uint32_t spines = 0;       // of one plane; 0: as many as leaf uplinks, one link each
  SpinePlanes spine_planes = SpinePlanes::shared;
  CrossRail cross_rail = CrossRail::forward;
  std::uint32_t k = 16;  // ports of a switch of the three-tier fat tree (Al-Fares et al., SIGCOMM 2008); k^3/4 NICs
  BytesPerSecond link_bandwidth = 400_Gbps;  // leaf to spine, spine to core
  /// Port to port. Assumed 700 ns, between vendors' cut-through figures (250 to 800 ns) and store-and-forward at load.
  Duration switch_latency = 700_ns;
  Duration wire_latency = 50_ns;  // 10 m of fibre at 5 ns/m
};

struct RackSpec {
  std::uint32_t nodes_per_rack = 4;
  std::uint32_t racks_per_feed = 2;
  /// Leaves of single_tor and dual_tor stand in their nodes' first rack; all other switches in racks of their own.
  std::uint32_t switches_per_rack = 8;
};

struct TopologySpec {
  std::string name = "unnamed";
  std::uint32_t nodes = 0;
  std::uint32_t hosts = 1;  // servers without GPUs, for routers and management; spread over the racks
  NodeSpec node;
  FabricSpec fabric;
  RackSpec racks;
  PlacementSpec placement;  // what `faultline topology` places; an experiment brings its own
};

/// These take part in config::Fields. `node`, `fabric`, `node.gpu` and `node.nic` may also be file names or mappings
/// with a `from:` file under their own keys; that needs read_topology, not config::read.
void describe(config::Fields& f, GpuSpec& s);
void describe(config::Fields& f, NicSpec& s);
void describe(config::Fields& f, NodeSpec& s);
void describe(config::Fields& f, FabricSpec& s);
void describe(config::Fields& f, RackSpec& s);
void describe(config::Fields& f, TopologySpec& s);

/// Reads a topology from a mapping, or from the file that a scalar names (relative to the document's folder), and
/// checks that its parts fit together. Errors go to `diagnostics`; the result is meaningful only if there are none.
TopologySpec read_topology(const config::Document& document, const YAML::Node& node, const std::string& what,
                           const config::FileReader& reader, config::Diagnostics& diagnostics);
/// Reads a whole file. Throws config::ConfigError with all errors.
TopologySpec load_topology(const std::string& text, const std::string& file, const config::FileReader& reader);

/// Derived sizes, also the ones printed by `faultline topology`.
std::uint32_t leaf_downlinks(const TopologySpec& s);  // NIC ports on a full leaf
std::uint32_t leaf_uplinks(const TopologySpec& s);    // ceil(down bandwidth / (oversubscription * link bandwidth))

}  // namespace faultline::topology
