#include "core/experiment/candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace faultline::experiment {
namespace {

using fault::GroupKind;
using fault::TargetKind;
using topology::Kind;

std::optional<TargetKind> target_kind(const topology::Topology& topology, std::string_view name, ComponentId id) {
  if (name.starts_with("router-")) return TargetKind::router;
  switch (topology.graph[id].kind) {
    case Kind::gpu: return TargetKind::gpu;
    case Kind::nic: return TargetKind::nic;
    case Kind::xgmi_link: return TargetKind::xgmi;
    case Kind::cable: return TargetKind::cable;
    case Kind::fabric_link: return TargetKind::uplink;
    case Kind::leaf:
    case Kind::spine:
    case Kind::core: return TargetKind::switch_;
    case Kind::node: return TargetKind::node;
    case Kind::rack: return TargetKind::rack;
    case Kind::power: return TargetKind::power;
    case Kind::host: return std::nullopt;
  }
  return std::nullopt;
}

std::vector<std::string> names_of(const topology::Topology& topology, const topology::Placement& placement,
                                  TargetKind kind) {
  std::vector<std::string> names;
  const auto all = [&](Kind k) {
    for (const ComponentId id : topology.graph.of_kind(k)) names.push_back(topology.graph.name(id));
  };
  switch (kind) {
    case TargetKind::gpu: all(Kind::gpu); break;
    case TargetKind::nic: all(Kind::nic); break;
    case TargetKind::cable: all(Kind::cable); break;
    case TargetKind::uplink: all(Kind::fabric_link); break;
    case TargetKind::xgmi: all(Kind::xgmi_link); break;
    case TargetKind::switch_:
      all(Kind::leaf);
      all(Kind::spine);
      all(Kind::core);
      break;
    case TargetKind::node: all(Kind::node); break;
    case TargetKind::rack: all(Kind::rack); break;
    case TargetKind::power: all(Kind::power); break;
    case TargetKind::router:
      for (std::size_t r = 0; r < placement.routers.size(); ++r) names.push_back(fmt::format("router-{}", r));
      break;
  }
  return names;
}

/// GPU g belongs to the rail of its NIC; a NIC and its cables to that NIC's rail; a leaf to none (its rail is the
/// group).
std::optional<std::uint32_t> rail_of(const topology::Topology& topology, ComponentId id) {
  if (const auto gpu = topology.gpu_of(id)) return topology.layout.rail_of(gpu->gpu);
  const ComponentId nic = topology.graph.enclosing(id, Kind::nic);
  if (!nic.valid()) return std::nullopt;
  const NodeId node = topology.node_of(nic);
  for (std::uint32_t k = 0; k < topology.layout.nics; ++k) {
    if (topology.nic(node, k) == nic) return k;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> group_of(const topology::Topology& topology, const RiskGroups& risk, GroupKind kind,
                                      ComponentId id) {
  if (!id.valid()) return std::nullopt;
  const auto number = [&](Kind k) -> std::optional<std::uint32_t> {
    const ComponentId found = topology.graph.enclosing(id, k);
    if (!found.valid()) return std::nullopt;
    const auto all = topology.graph.of_kind(k);
    return static_cast<std::uint32_t>(std::lower_bound(all.begin(), all.end(), found) - all.begin());
  };
  const NodeId node = topology.node_of(id);
  switch (kind) {
    case GroupKind::node: return node.valid() ? std::optional(node.v) : std::nullopt;
    case GroupKind::rail: return rail_of(topology, id);
    case GroupKind::leaf: {
      if (!node.valid()) return number(Kind::leaf);
      const auto rail = rail_of(topology, id);
      return topology.layout.leaf_of(node, rail.value_or(0), 0);
    }
    case GroupKind::rack: return number(Kind::rack);
    case GroupKind::power: return number(Kind::power);
    case GroupKind::cooling: {
      const auto rack = number(Kind::rack);
      return rack ? std::optional(*rack / risk.cooling_racks) : std::nullopt;
    }
    case GroupKind::version:
      if (!node.valid()) return std::nullopt;
      return static_cast<std::uint32_t>(std::uint64_t{node.v} * risk.versions / topology.layout.nodes);
  }
  return std::nullopt;
}

/// The first component around `id`, itself included, that is of the sort.
std::optional<std::string> container(const topology::Topology& topology, TargetKind kind, ComponentId id) {
  for (ComponentId c = id; c.valid(); c = topology.graph[c].parent) {
    const std::string& name = topology.graph.name(c);
    if (target_kind(topology, name, c) == kind) return name;
  }
  if (const auto gpu = topology.gpu_of(id); gpu && kind == TargetKind::nic) {  // its own NIC stands beside it
    return topology.graph.name(topology.nic(gpu->node, topology.layout.rail_of(gpu->gpu)));
  }
  return std::nullopt;
}

}  // namespace

void describe(config::Fields& f, RiskGroups& s) {
  f.field("cooling_racks", s.cooling_racks, {.min = 1, .max = 10'000});
  f.field("versions", s.versions, {.min = 1, .max = 1'000});
}

fault::Candidates candidates_of(const topology::Topology& topology, const topology::Placement& placement,
                                const RiskGroups& risk) {
  const auto names = std::make_shared<topology::Names>(topology, placement);
  fault::Candidates c;
  c.resolve = [names](std::string_view name) { return names->resolve(name); };
  c.kind_of = [&topology](std::string_view name, ComponentId id) { return target_kind(topology, name, id); };
  c.names = [&topology, &placement](TargetKind kind) { return names_of(topology, placement, kind); };
  c.group_of = [&topology, risk](GroupKind kind, ComponentId id) { return group_of(topology, risk, kind, id); };
  c.container = [&topology](TargetKind kind, ComponentId id) { return container(topology, kind, id); };
  return c;
}

}  // namespace faultline::experiment
