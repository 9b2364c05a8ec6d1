#include "core/control/recovery_policy.h"

#include "core/base/assert.h"

namespace faultline::control {

GroupMask RecoveryPolicy::unit_of(const std::vector<GroupSetup>& groups, GroupMask failed) const {
  if (failed == 0) return 0;
  if (unit_ == RestartUnit::instance)
    return groups.size() == kGroupsMax ? ~GroupMask{0} : (GroupMask{1} << groups.size()) - 1;
  GroupMask unit = failed;
  for (std::size_t g = 0; unit_ == RestartUnit::role && g < groups.size(); ++g) {
    for (std::size_t f = 0; f < groups.size(); ++f) {
      if ((failed >> f & 1) && groups[f].role == groups[g].role) unit |= GroupMask{1} << g;
    }
  }
  return unit;
}

RecoveryPlan RecoveryPolicy::plan(const RecoveryView& view) const {
  const auto& groups = *view.groups;
  RecoveryPlan plan;
  const GroupMask all = groups.size() == kGroupsMax ? ~GroupMask{0} : (GroupMask{1} << groups.size()) - 1;
  plan.scope = unit_of(groups, view.failed);
  // Requests live in the leader's memory: without it no group of the instance can go on.
  if (view.leader_lost) plan.scope = all;
  plan.rank_only = unit_ == RestartUnit::rank && view.rank_known && !view.leader_lost && view.dead_nodes.empty();
  if (spec_.policy == RecoveryAction::spare_node) plan.replace_nodes = !view.dead_nodes.empty() && view.spare_nodes > 0;
  if (spec_.policy == RecoveryAction::spare_instance) plan.promote_standby = view.standby_instance;
  const std::size_t replaced = plan.replace_nodes ? std::min(view.spare_nodes, view.dead_nodes.size()) : 0;
  plan.wait_for_repair = view.dead_nodes.size() > replaced;
  return plan;
}

}  // namespace faultline::control
