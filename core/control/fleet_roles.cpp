// Role switch, seen from the fleet manager: while all groups of one role of an instance wait for hardware, its groups
// of the other role have nothing to do. Half of them, or the only one as a group of both roles, take the missing role
// over.
//
//   detected -> decided -> probed -> fenced, waiting for hardware
//            -> role_switch: the others' KV is given up, they start with the other role (their width and weights stay)
//            -> degraded, serving
//   lost groups up again -> draining (nobody is sent there) -> drained -> started with their own roles -> restore
#include "core/control/fleet.h"

namespace faultline::control {
namespace {
constexpr Address leader_of(std::uint32_t instance) { return {Role::instance, instance}; }
}  // namespace

GroupRole FleetManager::told_role(const Instance& x, std::size_t g) const {
  return x.switched >> g & 1 ? x.groups[g].role : GroupRole::as_set_up;
}

/// All its groups stop, and start anew as they were set up.
void FleetManager::forget_switch(std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  for (std::size_t g = 0; g < x.groups.size(); ++g) x.groups[g].role = x.home[g];
  x.switched = 0;
  if (!x.returning) return;
  x.returning = x.draining = false;
  if (!x.leader_lost) out.push_back(Send{leader_of(i), Drain{false, setup_.term}});
}

void FleetManager::switch_roles(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (policy_.spec().policy != RecoveryAction::role_switch || x.leader_lost || !x.warm || x.waiting == 0 || x.draining)
    return;
  bool prefill = false, decode = false;
  GroupMask idle = 0;
  std::size_t count = 0;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    const GroupMask bit = GroupMask{1} << g;
    const bool up = x.up & ~x.failed & bit;
    if (!up && !(x.starting & bit)) continue;
    prefill |= x.groups[g].role != GroupRole::decode;
    decode |= x.groups[g].role != GroupRole::prefill;
    if (!up) continue;
    idle |= bit;
    ++count;
  }
  if (prefill == decode || count == 0) return;  // both are there, or nobody is left
  const GroupRole missing = prefill ? GroupRole::decode : GroupRole::prefill;
  std::vector<GroupRole> roles;
  for (const GroupSetup& g : x.groups) roles.push_back(g.role);
  GroupMask groups = 0;
  std::size_t wanted = count > 1 ? count / 2 : 1;
  for (std::size_t g = x.groups.size();
       g-- > 0 && wanted > 0;) {  // the leader's node, the first, keeps its role longest
    if (!(idle >> g & 1)) continue;
    groups |= GroupMask{1} << g;
    roles[g] = count > 1 ? missing : GroupRole::both;
    --wanted;
  }
  switch_groups(now, i, groups, roles, out);
}

void FleetManager::switch_groups(Instant now, std::uint32_t i, GroupMask groups, const std::vector<GroupRole>& to,
                                 Commands& out) {
  Instance& x = instances_[i];
  fence(i, groups, out);
  x.up &= ~groups;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    const GroupMask bit = GroupMask{1} << g;
    if (!(groups & bit)) continue;
    x.groups[g].role = to[g];
    if (to[g] == x.home[g]) x.switched &= ~bit;
    else x.switched |= bit;
    out.push_back(NotePhase{
        .phase = Phase::role_switch, .instance = InstanceId{i}, .groups = bit, .node = x.groups[g].nodes.front()});
  }
  const std::size_t before = out.size();
  start(now, i, groups, Duration{0}, false, kUnknownRank, out);
  for (std::size_t k = before; k < out.size(); ++k) {
    auto* send = std::get_if<Send>(&out[k]);
    if (auto* s = send ? std::get_if<StartGroup>(&send->message) : nullptr)
      s->keep_weights = policy_.spec().role_switch.keep_weights;
  }
  tell_routers(i, out);
}

void FleetManager::begin_return(std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (x.switched == 0 || !policy_.spec().role_switch.back || x.draining || x.parked || x.stage != Stage::none ||
      x.waiting || x.leader_lost)
    return;
  x.returning = x.draining = true;
  tell_routers(i, out);
  out.push_back(Send{leader_of(i), Drain{true, setup_.term}});
}

bool FleetManager::returned(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (!x.returning) return false;
  x.returning = x.draining = false;
  out.push_back(Send{leader_of(i), Drain{false, setup_.term}});
  out.push_back(NotePhase{.phase = Phase::drain, .instance = InstanceId{i}, .groups = x.switched});
  if (x.stage == Stage::none && x.waiting == 0) switch_groups(now, i, x.switched, x.home, out);
  else tell_routers(i, out);  // something has failed again: they are needed as they are
  return true;
}

}  // namespace faultline::control
