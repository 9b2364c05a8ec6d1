// What the active faults have left of each node, and of the ways between nodes: the truth of a fluid run. The same
// rules as the step simulator's, without routes: a GPU whose own NIC has no lit port is cut off unless its node may use
// another.
#pragma once

#include <cstdint>
#include <vector>

#include "core/experiment/deployment.h"

namespace faultline::fluid {

struct NodeHealth {
  bool down = false;            // the whole node
  std::uint64_t dead_gpus = 0;  // bit per GPU; all bits where the node is down
  std::uint64_t own_gpus = 0;   // those and hung and cut-off ones: what the faults take themselves
  bool hung = false;
  bool cut = false;           // a GPU in it reaches no other node
  double slow = 1;            // of its slowest GPU, >= 1
  double rdma = 1, xgmi = 1;  // share left of the scarcest NIC and xGMI link
  bool bad_hardware() const { return dead_gpus != 0; }
};

class Health {
 public:
  Health(const experiment::Deployment& deployment);

  /// Whether a run at fluid fidelity can say what this fault does, and if not why.
  static std::string refusal(const topology::Topology& topology, const fault::ScheduledFault& f);

  /// Begins or ends a fault. Returns the nodes whose health may have changed, ascending.
  std::vector<std::uint32_t> set(std::uint32_t fault, bool active);
  NodeHealth of(std::uint32_t node) const;
  /// A rack that lost its cooling is switched off. Returns its nodes.
  std::vector<std::uint32_t> shut_down(std::uint32_t fault);
  /// A new process on a node resets its GPUs: a hang is over.
  void clear_hang(std::uint32_t node);
  /// Share left of the uplinks of a node's leaves: matters to groups that span pods.
  double uplinks_of(std::uint32_t node) const;
  /// Share of a node's scarcest NIC, and of its leaves' busiest uplinks, that background traffic leaves: 1 without any.
  double nics_left(std::uint32_t node) const;
  double uplinks_left(std::uint32_t node) const;
  bool uplinks_whole() const { return lost_total_ == 0 && !uplinks_shared_; }
  /// Faults that hold the node now; the last one is blamed for what happens.
  const std::vector<std::uint32_t>& active(std::uint32_t node) const { return active_[node]; }

 private:
  std::vector<std::uint32_t> nodes_of(const fault::ScheduledFault& f) const;
  const topology::Topology& topology_;
  const fault::FaultSchedule& schedule_;
  std::vector<std::vector<std::uint32_t>> active_;  // by node: fault indices
  std::vector<std::uint32_t> uplinks_lost_;         // by leaf
  std::vector<std::uint8_t> shut_;                  // by fault: cooling.loss after its shutdown
  std::int64_t lost_total_ = 0;
  // What background traffic leaves: of each NIC (node * nics + nic; empty: all), and of each leaf's busiest uplink.
  std::vector<double> nic_left_, uplink_left_;
  bool uplinks_shared_ = false;
};

}  // namespace faultline::fluid
