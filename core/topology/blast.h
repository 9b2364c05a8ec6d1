// What each component can do to the placed fleet when it fails: the targeted radius, before any recovery and without
// load. Three losses are kept apart: GPUs that go down with it, GPUs that live but can no longer send to another node,
// and network capacity that a faulted way takes from those that still can.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::topology {

struct Hit {
  std::uint32_t instance = 0;      // spare instances count on after the instances
  std::uint32_t gpus_lost = 0;     // down with the component
  std::uint32_t gpus_cut_off = 0;  // alive, but no cable of a NIC it may use is up
  /// Share of the instance's ways between its nodes that is gone, 0 to 1: cables, and for nodes on different leaves the
  /// uplinks of those leaves. Lost GPUs' cables count.
  double network_share = 0;
};

/// The worst and the mean of one kind; all numbers are of one failure.
struct BlastRow {
  Kind kind{};
  std::uint32_t count = 0;          // components of this kind
  std::uint32_t harmless = 0;       // those that no instance notices (spares, unused nodes, idle spines)
  std::uint32_t gpus_lost_max = 0;  // GPUs of the whole topology, placed or not
  std::uint32_t gpus_cut_off_max = 0;
  std::uint32_t instances_max = 0;
  double instances_mean = 0;
  double gpu_share_max = 0;      // lost and cut-off GPUs of all placed instances
  double network_share_max = 0;  // of the worst hit instance
  ComponentId worst;             // most GPUs lost or cut off, then most instances; first by id
};

class Blast {
 public:
  Blast(const Topology& topology, const Placement& placement);

  /// Instances a component can hurt, ascending.
  std::span<const Hit> hits(ComponentId id) const {
    return std::span(hits_).subspan(begin_[id.v], begin_[id.v + 1] - begin_[id.v]);
  }
  /// One row per kind that exists, in the order of Kind.
  const std::vector<BlastRow>& rows() const { return rows_; }

 private:
  std::vector<Hit> hits_;
  std::vector<std::uint32_t> begin_;
  std::vector<BlastRow> rows_;
};

}  // namespace faultline::topology
