#include "core/topology/topology.h"

#include <fmt/format.h>

#include "core/base/assert.h"

namespace faultline::topology {
namespace {

constexpr std::uint32_t ceil_div(std::uint32_t a, std::uint32_t b) { return (a + b - 1) / b; }

Layout layout_of(const TopologySpec& s) {
  Layout l;
  l.kind = s.fabric.kind;
  l.nodes_per_leaf = s.fabric.nodes_per_leaf;
  l.nodes = s.nodes;
  l.gpus = s.node.gpus;
  l.nics = s.node.nics;
  l.ports = s.node.nic.ports;
  l.mesh = s.node.xgmi == XgmiShape::full_mesh ? l.gpus * (l.gpus - 1) / 2 : 0;
  if (l.kind == FabricKind::fat_tree) {
    const std::uint32_t half = s.fabric.k / 2;
    const std::uint32_t leaves = ceil_div(l.nodes * l.nics, half);
    l.leaves_per_pod = half;
    l.pods = ceil_div(leaves, half);
    l.leaves = l.pods * half;
    l.spines_per_plane = half;
    l.spines = l.pods * half;
    l.cores_per_spine = l.pods > 1 ? half : 0;
    l.cores = l.pods > 1 ? half * half : 0;
    return l;
  }
  l.pods = ceil_div(l.nodes, l.nodes_per_leaf);
  l.leaves_per_pod = l.kind == FabricKind::rail_optimised ? l.nics * l.ports : l.kind == FabricKind::dual_tor ? 2 : 1;
  l.leaves = l.pods * l.leaves_per_pod;
  l.rails_in_planes = s.fabric.spine_planes == SpinePlanes::per_rail;
  l.planes = l.rails_in_planes ? l.nics : 1;
  if (l.leaves / l.planes > 1) {
    const std::uint32_t uplinks = leaf_uplinks(s);
    l.spines_per_plane = s.fabric.spines > 0 ? s.fabric.spines : uplinks;
    l.parallel = uplinks / l.spines_per_plane;
    l.spines = l.planes * l.spines_per_plane;
  }
  return l;
}

class Builder {
 public:
  explicit Builder(const TopologySpec& spec) : s_(spec) {
    t_.spec = spec;
    t_.layout = layout_of(spec);
  }

  Topology build() {
    const Layout& l = t_.layout;
    const std::size_t links = l.core_link_base() + std::size_t{l.spines} * l.cores_per_spine;
    t_.graph.reserve(links + l.nodes * (1 + l.gpus + l.nics) + l.leaves + l.spines + l.cores + s_.hosts + l.nodes,
                     links);
    add_racks();
    for (std::uint32_t n = 0; n < l.nodes; ++n) add_node_devices(n);
    for (std::uint32_t i = 0; i < l.leaves; ++i)
      leaves_.push_back(t_.graph.add(Kind::leaf, fmt::format("leaf-{}", i), leaf_rack(i)));
    for (std::uint32_t i = 0; i < l.spines; ++i) {
      spines_.push_back(
          t_.graph.add(Kind::spine, fmt::format("spine-{}", i), spine_racks_[i / s_.racks.switches_per_rack]));
    }
    for (std::uint32_t i = 0; i < l.cores; ++i) {
      cores_.push_back(
          t_.graph.add(Kind::core, fmt::format("core-{}", i), core_racks_[i / s_.racks.switches_per_rack]));
    }
    for (std::uint32_t n = 0; n < l.nodes; ++n) add_node_links(n);
    add_uplinks();
    for (std::uint32_t h = 0; h < s_.hosts; ++h) {
      t_.graph.add(Kind::host, fmt::format("host-{}", h), node_racks_[h % node_racks_.size()]);
    }
    t_.graph.finish();
    FAULTLINE_ASSERT(t_.graph.link_count() == links, "links={} expected={}", t_.graph.link_count(), links);
    return std::move(t_);
  }

 private:
  bool tor() const { return s_.fabric.kind == FabricKind::single_tor || s_.fabric.kind == FabricKind::dual_tor; }

  /// Racks of nodes, then racks of switches, one kind of switch a rack; the two groups share no feed.
  void add_racks() {
    const Layout& l = t_.layout;
    const std::uint32_t per = s_.racks.switches_per_rack, per_feed = s_.racks.racks_per_feed;
    const std::uint32_t node_racks = ceil_div(l.nodes, s_.racks.nodes_per_rack);
    const std::uint32_t leaf_racks = tor() ? 0 : ceil_div(l.leaves, per);
    const std::uint32_t spine_racks = ceil_div(l.spines, per), core_racks = ceil_div(l.cores, per);
    const std::uint32_t switch_racks = leaf_racks + spine_racks + core_racks;
    const std::uint32_t node_feeds = ceil_div(node_racks, per_feed);
    std::vector<ComponentId> feeds;
    for (std::uint32_t i = 0; i < node_feeds + ceil_div(switch_racks, per_feed); ++i) {
      feeds.push_back(t_.graph.add(Kind::power, fmt::format("power-{}", i), {}));
    }
    for (std::uint32_t i = 0; i < node_racks + switch_racks; ++i) {
      const std::uint32_t feed = i < node_racks ? i / per_feed : node_feeds + (i - node_racks) / per_feed;
      const ComponentId rack = t_.graph.add(Kind::rack, fmt::format("rack-{}", i), feeds[feed]);
      (i < node_racks                              ? node_racks_
       : i < node_racks + leaf_racks               ? leaf_racks_
       : i < node_racks + leaf_racks + spine_racks ? spine_racks_
                                                   : core_racks_)
          .push_back(rack);
    }
  }

  ComponentId leaf_rack(std::uint32_t leaf) const {
    if (!tor()) return leaf_racks_[leaf / s_.racks.switches_per_rack];
    const std::uint32_t first_node = leaf / t_.layout.leaves_per_pod * t_.layout.nodes_per_leaf;
    return node_racks_[first_node / s_.racks.nodes_per_rack];
  }

  void add_node_devices(std::uint32_t n) {
    const std::string name = fmt::format("node-{}", n);
    const ComponentId node = t_.graph.add(Kind::node, name, node_racks_[n / s_.racks.nodes_per_rack]);
    for (std::uint32_t g = 0; g < t_.layout.gpus; ++g)
      gpus_.push_back(t_.graph.add(Kind::gpu, fmt::format("{}.gpu-{}", name, g), node));
    for (std::uint32_t i = 0; i < t_.layout.nics; ++i)
      nics_.push_back(t_.graph.add(Kind::nic, fmt::format("{}.nic-{}", name, i), node));
  }

  void add_node_links(std::uint32_t n) {
    const Layout& l = t_.layout;
    const ComponentId node = t_.graph.of_kind(Kind::node)[n];
    const std::string name = t_.graph.name(node);
    if (l.mesh > 0) {
      for (std::uint32_t a = 0; a < l.gpus; ++a) {
        for (std::uint32_t b = a + 1; b < l.gpus; ++b) {
          t_.graph.add_link(Kind::xgmi_link, fmt::format("{}.xgmi-{}-{}", name, a, b), node, gpus_[n * l.gpus + a],
                            gpus_[n * l.gpus + b], s_.node.gpu.xgmi_bandwidth, s_.node.gpu.xgmi_latency);
        }
      }
    }
    // A cable carries its NIC's processing, the wire and half of its switch; a fabric link the wire and two halves. The
    // sum over a path is then two NICs, every wire and every switch once.
    const Duration latency = s_.node.nic.latency + s_.fabric.wire_latency + s_.fabric.switch_latency / 2;
    for (std::uint32_t i = 0; i < l.nics; ++i) {
      const ComponentId nic = nics_[n * l.nics + i];
      for (std::uint32_t p = 0; p < l.ports; ++p) {
        t_.graph.add_link(
            Kind::cable,
            l.ports == 1 ? t_.graph.name(nic) + ".cable" : fmt::format("{}.cable-{}", t_.graph.name(nic), p), nic, nic,
            leaves_[l.leaf_of({n}, i, p)], s_.node.nic.bandwidth / l.ports, latency);
      }
    }
  }

  void add_fabric_link(ComponentId low, ComponentId high, std::uint32_t which, std::uint32_t parallel) {
    std::string name = fmt::format("{}.{}", t_.graph.name(low), t_.graph.name(high));
    if (parallel > 1) name += fmt::format(".link-{}", which);
    t_.graph.add_link(Kind::fabric_link, std::move(name), low, low, high, s_.fabric.link_bandwidth,
                      s_.fabric.wire_latency + s_.fabric.switch_latency);
  }

  void add_uplinks() {
    const Layout& l = t_.layout;
    const bool tree = l.kind == FabricKind::fat_tree;
    for (std::uint32_t leaf = 0; leaf < l.leaves; ++leaf) {
      const std::uint32_t first = (tree ? l.pod_of_leaf(leaf) : l.plane_of_leaf(leaf)) * l.spines_per_plane;
      for (std::uint32_t s = 0; s < l.spines_per_plane; ++s) {
        for (std::uint32_t w = 0; w < l.parallel; ++w)
          add_fabric_link(leaves_[leaf], spines_[first + s], w, l.parallel);
      }
    }
    for (std::uint32_t s = 0; s < l.spines && l.cores > 0; ++s) {
      const std::uint32_t first = s % l.spines_per_plane * l.cores_per_spine;
      for (std::uint32_t c = 0; c < l.cores_per_spine; ++c) add_fabric_link(spines_[s], cores_[first + c], 0, 1);
    }
  }

  const TopologySpec& s_;
  Topology t_;
  std::vector<ComponentId> node_racks_, leaf_racks_, spine_racks_, core_racks_, gpus_, nics_, leaves_, spines_, cores_;
};

}  // namespace

NodeId Topology::node_of(ComponentId id) const {
  const ComponentId node = graph.enclosing(id, Kind::node);
  if (!node.valid()) return {};
  const auto nodes = graph.of_kind(Kind::node);
  return {static_cast<std::uint32_t>(std::lower_bound(nodes.begin(), nodes.end(), node) - nodes.begin())};
}

std::optional<NodeGpu> Topology::gpu_of(ComponentId id) const {
  if (graph[id].kind != Kind::gpu) return std::nullopt;
  const auto all = graph.of_kind(Kind::gpu);
  const auto index = static_cast<std::uint32_t>(std::lower_bound(all.begin(), all.end(), id) - all.begin());
  return NodeGpu{.node = {index / layout.gpus}, .gpu = index % layout.gpus};
}

Topology build(const TopologySpec& spec) {
  FAULTLINE_ASSERT(spec.nodes > 0 && spec.node.gpus > 0 && spec.node.nics > 0 && spec.node.gpus % spec.node.nics == 0,
                   "nodes={} gpus={} nics={}", spec.nodes, spec.node.gpus, spec.node.nics);
  return Builder(spec).build();
}

}  // namespace faultline::topology
