// Which nodes the instances of a fleet stand on, and the names that follow from it. A pure function of topology and
// spec.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/diagnostics.h"
#include "core/topology/placement_spec.h"
#include "core/topology/topology.h"

namespace faultline::topology {

struct InstanceNodes {
  std::vector<NodeId> prefill, decode, mixed;
  std::vector<NodeId> all() const;  // prefill, decode, mixed
};

enum class NodeRole : std::uint8_t { unused, prefill, decode, mixed, spare };

struct NodeUse {
  NodeRole role = NodeRole::unused;
  std::uint32_t instance = 0;  // spare instances count on after the instances; meaningless for unused and spare
  std::uint32_t index = 0;     // among the instance's nodes of this role, or among the spares
};

struct Placement {
  std::vector<InstanceNodes> instances;        // inst-0 …; of several fleets, one after the other
  std::vector<InstanceNodes> spare_instances;  // spare-inst-0 …; likewise
  std::vector<NodeId> spare_nodes;             // spare-0 …
  std::vector<ComponentId> routers;            // router-0 …: a host, or a node where routers stand beside workers
  std::vector<NodeUse> use;                    // by NodeId
};

/// Places the fleet; errors (too few nodes, no host for a router) go to `diagnostics` at `mark` with the numbers.
/// With spec.instances == 0 as many instances are placed as fit, at least one.
Placement place(const Topology& topology, const PlacementSpec& spec, const config::Mark& mark,
                config::Diagnostics& diagnostics);

/// Names of components and, on top of them, names by use: inst-0 (all its nodes), inst-0.p-0, inst-0.d-1.gpu-3,
/// inst-0.m-0, spare-inst-0.p-1, spare-2.nic-0, router-0. References must outlive it.
class Names {
 public:
  Names(const Topology& topology, const Placement& placement) : topology_(topology), placement_(placement) {}

  /// The component a name means; nullopt if it means none, or several (`inst-0`).
  std::optional<ComponentId> resolve(std::string_view name) const;
  /// As resolve, and the nodes of an instance for `inst-0` and `spare-inst-0`. Empty if unknown.
  std::vector<ComponentId> resolve_all(std::string_view name) const;
  /// Message and note for an unknown name.
  UnknownName unknown(std::string_view name) const;
  /// The name by use of a node or something in it ("inst-0.d-1.gpu-3"), else the component's name.
  std::string by_use(ComponentId id) const;

 private:
  std::optional<ComponentId> node_by_use(std::string_view head, std::string_view role) const;
  std::string node_name_by_use(NodeId node) const;

  const Topology& topology_;
  const Placement& placement_;
};

}  // namespace faultline::topology
