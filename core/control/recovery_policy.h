// RecoveryPolicy v1: what restarts when a group fails, and on which hardware. A pure function of what the fleet manager
// knows; the manager carries the plan out step by step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/control/instance.h"
#include "core/control/specs.h"

namespace faultline::control {

/// What the policy may look at.
struct RecoveryView {
  const std::vector<GroupSetup>* groups = nullptr;  // of the instance, with the nodes they are on now
  GroupMask failed = 0;
  bool leader_lost = false;
  bool rank_known = false;                // exactly one rank failed and is known
  std::vector<std::uint32_t> dead_nodes;  // of the instance: lost, or bad hardware
  std::size_t spare_nodes = 0;
  bool standby_instance = false;  // a spare instance could take its place
};

struct RecoveryPlan {
  GroupMask scope = 0;           // groups that stop and restart together
  bool rank_only = false;        // restart one rank, the others of its group wait and keep their KV
  bool replace_nodes = false;    // dead nodes are replaced by spares (as many as there are)
  bool promote_standby = false;  // the spare instance takes the traffic; this one becomes the spare when rebuilt
  bool wait_for_repair = false;  // some dead nodes are not replaced: what needs them waits
};

class RecoveryPolicy {
 public:
  RecoveryPolicy(RecoverySpec spec, RestartUnit unit) : spec_(spec), unit_(unit) {}
  RecoveryPlan plan(const RecoveryView& view) const;
  /// The groups that stop and start together with any of `failed`, these included.
  GroupMask unit_of(const std::vector<GroupSetup>& groups, GroupMask failed) const;
  const RecoverySpec& spec() const { return spec_; }

 private:
  RecoverySpec spec_;
  RestartUnit unit_;
};

}  // namespace faultline::control
