// Planned maintenance: the operator says that a node will go; its instances are drained, stay down with it, and serve
// again when it is back. A node that goes before its instances are drained takes their requests with it, as a crash
// does.
#include <algorithm>

#include "core/control/fleet.h"

namespace faultline::control {

void FleetManager::maintenance(Instant now, const Maintenance& m, Commands& out) {
  if (m.begins) {
    maintenance_.insert(m.node);
    std::erase(spare_nodes_, m.node);
    for (std::uint32_t i = 0; i < instances_.size(); ++i) {
      Instance& x = instances_[i];
      if (!groups_on(x, m.node) || x.parked || !(x.serving || x.scaling_up)) continue;
      x.parked = true;
      x.returning = false;       // all its groups start anew afterwards
      if (x.draining) continue;  // on its way already
      x.draining = true;
      tell_routers(i, out);
      if (!x.leader_lost) out.push_back(Send{{Role::instance, i}, Drain{true, setup_.term}});
    }
    return;
  }
  maintenance_.erase(m.node);
  bool used = false;
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    if (!groups_on(x, m.node)) continue;
    used = true;
    const bool whole =
        std::none_of(maintenance_.begin(), maintenance_.end(), [&](std::uint32_t n) { return groups_on(x, n) != 0; });
    if (!x.parked || !whole) continue;
    x.parked = false;
    if (x.draining) {  // called off before it was drained
      x.draining = false;
      if (!x.leader_lost) out.push_back(Send{{Role::instance, i}, Drain{false, setup_.term}});
      tell_routers(i, out);
    } else {
      bring_up(now, i, out);
    }
  }
  const bool there = std::find(spare_nodes_.begin(), spare_nodes_.end(), m.node) != spare_nodes_.end();
  if (!used && !there && detector_.level(m.node) != FailureDetector::Level::red) spare_nodes_.push_back(m.node);
}

/// The node is gone: what was not drained by now will not be.
void FleetManager::maintained_node_lost(Instant now, std::uint32_t node, Commands& out) {
  if (!maintenance_.contains(node)) return;
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    if (instances_[i].parked && instances_[i].draining && groups_on(instances_[i], node)) drained(now, i, out);
  }
}

}  // namespace faultline::control
