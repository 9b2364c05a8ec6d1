// How many instances of which shape stand where. Knows node counts only: what a node does is the serving side's matter.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/config/fields.h"

namespace faultline::topology {

enum class PlacementRule : std::uint8_t {
  pack,          // nodes in topology order: fills a rack, then the next
  spread,        // the nodes of one instance on as many racks as possible
  rack_aligned,  // an instance begins in a fresh rack unless it fits into the rest of the current one
};
constexpr std::array<std::string_view, 3> enum_names(const PlacementRule*) {
  return {"pack", "spread", "rack_aligned"};
}

enum class RouterPlacement : std::uint8_t {
  hosts,  // on servers without GPUs, in turn
  nodes,  // beside the workers, on the first node of instance 0, 1, …, in turn
};
constexpr std::array<std::string_view, 2> enum_names(const RouterPlacement*) { return {"hosts", "nodes"}; }

/// Instances of another shape on the same topology: another fleet, which serves another model.
struct FurtherInstances {
  std::uint32_t instances = 1;
  std::uint32_t prefill_nodes = 2, decode_nodes = 2, mixed_nodes = 0;
  std::uint32_t spare_instances = 0;
};

struct PlacementSpec {
  std::uint32_t instances = 0;  // 0: as many as fit beside the spares
  /// Nodes of one instance by role, written xPyD; a mixed node does both (1PD).
  std::uint32_t prefill_nodes = 2;
  std::uint32_t decode_nodes = 2;
  std::uint32_t mixed_nodes = 0;
  std::uint32_t spare_nodes = 0;      // taken from the end of the topology
  std::uint32_t spare_instances = 0;  // placed like instances, after them
  std::uint32_t routers = 1;
  RouterPlacement router_placement = RouterPlacement::hosts;
  PlacementRule rule = PlacementRule::pack;
  /// Placed after those above, which then must be counted (instances > 0); the spare instances of all come last, in the
  /// same order. Spare nodes and routers are common to all.
  std::vector<FurtherInstances> further{};

  constexpr std::uint32_t nodes_per_instance() const { return prefill_nodes + decode_nodes + mixed_nodes; }
};

void describe(config::Fields& f, PlacementSpec& s);

}  // namespace faultline::topology
