// Truth: which components are down, hung or slow. Counted, so that overlapping faults do not undo each other. Only the
// simulator's world reads it; controllers learn of it by symptoms.
#pragma once

#include <cstdint>
#include <map>
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
        transfers_blocked_(topology.layout.nodes, 0),
        links_(topology.graph.directed_link_count()) {}

  /// Takes down a component with everything it implies, or brings it back. Returns what changed its state just now.
  std::vector<ComponentId> set_down(ComponentId id, bool down);
  void set_hung(ComponentId gpu, bool hung) {
    hung_[gpu.v] = static_cast<std::uint16_t>(hung_[gpu.v] + (hung ? 1 : -1));
  }
  void clear_hang(ComponentId gpu) { hung_[gpu.v] = 0; }

  // Factors of overlapping faults multiply; each is taken back by the fault that brought it (1 = taken back).
  void set_slow(ComponentId gpu, std::uint32_t fault, double factor);
  /// Of every link of a component: a link itself, a NIC's cables, all links of a switch.
  void set_link_factor(ComponentId of, std::uint32_t fault, double factor);
  /// The direction from the link's first end to the other carries nothing; its port stays up.
  void set_one_way(ComponentId link, bool blocked);
  void set_transfers_blocked(NodeId node, bool blocked) {
    transfers_blocked_[node.v] = static_cast<std::uint16_t>(transfers_blocked_[node.v] + (blocked ? 1 : -1));
  }

  bool down(ComponentId id) const { return down_[id.v] > 0; }
  bool hung(ComponentId gpu) const { return hung_[gpu.v] > 0; }
  double slow(ComponentId gpu) const { return slow_[gpu.v]; }
  bool transfers_blocked(NodeId node) const { return transfers_blocked_[node.v] > 0; }
  const topology::LinkState& links() const { return links_; }
  /// What a port reports: up unless the link itself, or an end of it, is down. A link that loses packets is up.
  bool port_up(topology::LinkIndex link) const { return !down(topology_.graph.link(link).component); }
  /// No link is down or degraded.
  bool fabric_healthy() const { return links_down_ == 0 && link_factors_.empty(); }

 private:
  using Factors = std::map<std::uint32_t, std::map<std::uint32_t, double>>;  // [component or link][fault]
  /// The product of the factors on `key` after the change.
  static double change(Factors& factors, std::uint32_t key, std::uint32_t fault, double factor);

  const topology::Topology& topology_;
  std::vector<std::uint16_t> down_, hung_;
  std::vector<double> slow_;
  std::vector<std::uint16_t> transfers_blocked_;
  Factors slow_factors_, link_factors_;
  topology::LinkState links_;
  std::int64_t links_down_ = 0;
};

}  // namespace faultline::sim
