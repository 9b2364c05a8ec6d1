// Truth: which components are down, hung or slow. Counted, so that overlapping faults do not undo each other. Only the
// simulator's world reads it; controllers learn of it by symptoms.
#pragma once

#include <cstdint>
#include <vector>

#include "core/topology/link_state.h"
#include "core/topology/topology.h"

namespace faultline::sim {

class Truth {
 public:
  explicit Truth(const topology::Topology& topology)
      : topology_(topology),
        down_(topology.graph.size(), 0),
        hung_(topology.graph.size(), 0),
        slow_(topology.graph.size(), 1.0),
        links_(topology.graph.directed_link_count()) {}

  /// Takes down a component with everything it implies, or brings it back. Returns what changed its state just now.
  std::vector<ComponentId> set_down(ComponentId id, bool down);
  void set_hung(ComponentId gpu, bool hung) { hung_[gpu.v] = static_cast<std::uint16_t>(hung_[gpu.v] + (hung ? 1 : -1)); }
  void clear_hang(ComponentId gpu) { hung_[gpu.v] = 0; }
  void set_slow(ComponentId gpu, double factor) { slow_[gpu.v] = factor; }
  void set_link_factor(ComponentId link, double factor);

  bool down(ComponentId id) const { return down_[id.v] > 0; }
  bool hung(ComponentId gpu) const { return hung_[gpu.v] > 0; }
  double slow(ComponentId gpu) const { return slow_[gpu.v]; }
  const topology::LinkState& links() const { return links_; }
  /// No link is down or degraded.
  bool fabric_healthy() const { return links_down_ == 0 && links_degraded_ == 0; }

 private:
  const topology::Topology& topology_;
  std::vector<std::uint16_t> down_, hung_;
  std::vector<double> slow_;
  topology::LinkState links_;
  std::int64_t links_down_ = 0, links_degraded_ = 0;
};

}  // namespace faultline::sim
