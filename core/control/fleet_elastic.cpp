// Elastic expert parallelism, seen from the fleet manager: the survivors of a group form it anew without its dead
// ranks, and take ranks back when their hardware is well.
//
//   detected -> deciding -> probing (who is left?) -> pausing (leader stops at a boundary, drops what dead ranks held)
//            -> starting (survivors agree, repair experts) -> degraded, serving
//   absent rank: looked at every rejoin_check -> hardware well -> started beside the group -> pausing -> starting ->
//   whole
#include <algorithm>

#include "core/base/assert.h"
#include "core/control/fleet.h"
#include "core/control/group_gpus.h"

namespace faultline::control {
namespace {
constexpr Address leader_of(std::uint32_t instance) { return {Role::instance, instance}; }
constexpr Address agent_of(std::uint32_t node) { return {Role::node, node}; }
/// A group that loses no rank is formed anew once; what fails it again within this time is no matter of its ranks.
constexpr Duration kReformAgain{60'000'000'000};
}  // namespace

bool FleetManager::has_absent(const Instance& x) const {
  return std::any_of(x.absent.begin(), x.absent.end(), [](const auto& ranks) { return !ranks.empty(); });
}

bool FleetManager::node_hardware(std::uint32_t node, std::uint32_t unusable_gpus) {
  const auto it = unusable_gpus_.find(node);
  const std::uint32_t known = it == unusable_gpus_.end() ? 0 : it->second;
  if (unusable_gpus == 0) unusable_gpus_.erase(node);
  else unusable_gpus_[node] = unusable_gpus;
  return (unusable_gpus & ~known) != 0;
}

std::vector<std::uint32_t> FleetManager::dead_ranks(const Instance& x, std::size_t g) const {
  const GroupSetup& s = x.groups[g];
  const auto per_node = static_cast<std::uint32_t>(s.ranks) / static_cast<std::uint32_t>(s.nodes.size());
  const auto gpus = static_cast<std::uint32_t>(s.gpus_per_rank);
  const std::uint32_t first = first_gpu(x.groups, g);
  std::vector<std::uint32_t> dead;
  for (std::uint32_t r = 0; r < static_cast<std::uint32_t>(s.ranks); ++r) {
    const std::uint32_t node = s.node_of(static_cast<std::int32_t>(r));
    const std::uint32_t mask = ((gpus >= 32 ? 0 : 1U << gpus) - 1)
                               << (first + (per_node == 0 ? 0 : r % per_node * gpus));
    const auto it = unusable_gpus_.find(node);
    if (detector_.silent(node) || (it != unusable_gpus_.end() && (it->second & mask))) dead.push_back(r);
  }
  return dead;
}

/// With their node: even if it comes back before anybody decides, their processes and what they held are gone.
void FleetManager::ranks_ended(std::uint32_t node) {
  for (Instance& x : instances_) {
    for (std::size_t g = 0; g < x.groups.size(); ++g) {
      for (std::int32_t r = 0; x.groups[g].ranks_min > 0 && r < x.groups[g].ranks; ++r) {
        if (x.groups[g].node_of(r) == node) x.ended[g].push_back(static_cast<std::uint32_t>(r));
      }
    }
  }
}

GroupMask FleetManager::serving_on(const Instance& x, std::uint32_t node) const {
  GroupMask groups = groups_on(x, node);
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    const GroupMask bit = GroupMask{1} << g;
    if (!(groups & bit) || x.absent[g].empty()) continue;
    bool serves = false;
    for (std::uint32_t r = 0; r < static_cast<std::uint32_t>(x.groups[g].ranks); ++r) {
      const auto in = [r](const std::vector<std::uint32_t>& ranks) {
        return std::find(ranks.begin(), ranks.end(), r) != ranks.end();
      };
      const bool away = in(x.absent[g]) && (!(x.starting & bit) || in(x.leaving[g]));
      serves |= !away && x.groups[g].node_of(static_cast<std::int32_t>(r)) == node;
    }
    if (!serves) groups &= ~bit;
  }
  return groups;
}

void FleetManager::forget_absent(Instance& x, GroupMask groups) {
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    if (!(groups >> g & 1)) continue;
    x.absent[g].clear();
    x.leaving[g].clear();
    x.joining[g].clear();
    x.ended[g].clear();
    x.missing[g] = 0;
    x.restoring &= ~(GroupMask{1} << g);
    x.restored &= ~(GroupMask{1} << g);
  }
}

bool FleetManager::reform(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  const ElasticSpec& spec = policy_.spec().elastic;
  if (!policy_.spec().keeps_survivors() || x.leader_lost || !x.warm) return false;
  if ((x.failed & ~x.waiting) == 0) return false;
  const GroupMask groups = (x.failed | (x.starting & ~x.fenced)) & ~x.waiting;
  if (groups & x.fenced) return false;
  std::vector<std::vector<std::uint32_t>> leaving(x.groups.size());
  bool loses = false;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    if (!(groups >> g & 1)) continue;
    const GroupSetup& s = x.groups[g];
    if (s.ranks_min == 0) return false;
    std::vector<std::uint32_t> gone = dead_ranks(x, g);
    // Processes that ended although their hardware is well.
    const bool alone = (groups & (groups - 1)) == 0;
    if (alone && x.rank != kUnknownRank) gone.push_back(x.rank);
    gone.insert(gone.end(), x.ended[g].begin(), x.ended[g].end());
    // Those that were away stay away until they have been started.
    gone.insert(gone.end(), x.absent[g].begin(), x.absent[g].end());
    std::sort(gone.begin(), gone.end());
    gone.erase(std::unique(gone.begin(), gone.end()), gone.end());
    loses |= gone != x.absent[g];
    const auto live = s.ranks - static_cast<std::int32_t>(gone.size());
    if (live < s.ranks_min || static_cast<double>(live) < spec.width_min * static_cast<double>(s.ranks)) return false;
    leaving[g] = std::move(gone);
  }
  if (!loses) {
    if (x.reformed.ns >= 0 && now < x.reformed + kReformAgain) return false;
    x.reformed = now;
  }
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    if (groups >> g & 1) x.leaving[g] = std::move(leaving[g]), x.joining[g].clear();
  }
  x.failed = 0;
  pause_groups(i, groups, out);
  tell_routers(i, out);
  return true;
}

void FleetManager::pause_groups(std::uint32_t i, GroupMask groups, Commands& out) {
  Instance& x = instances_[i];
  const Epoch epoch = newest_epoch(x) + 1;
  x.stage = Stage::pausing;
  x.starting |= groups;
  x.up &= ~groups;
  out.push_back(NotePhase{.phase = Phase::fence, .instance = InstanceId{i}, .groups = groups});
  for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
    if (!(groups >> g & 1)) continue;
    x.epochs[g] = epoch;
    x.restoring &= ~(GroupMask{1} << g);  // of another incarnation
    out.push_back(Send{leader_of(i), PauseGroup{g, epoch, x.leaving[g], setup_.term}});
  }
}

void FleetManager::group_paused(Instant, std::uint32_t i, const GroupPaused& paused, Commands& out) {
  Instance& x = instances_[i];
  const GroupMask bit = GroupMask{1} << paused.group;
  if (x.stage != Stage::pausing && x.stage != Stage::starting) return;
  if (paused.epoch != x.epochs[paused.group] || !(x.starting & bit)) return;
  x.stage = Stage::starting;
  out.push_back(NotePhase{.phase = Phase::repair_state, .instance = InstanceId{i}, .groups = bit});
  StartGroup s = start_of(x, i, paused.group, paused.epoch);
  const bool restored = x.restored & bit && x.leaving[paused.group] == x.absent[paused.group];
  x.restored &= ~bit;
  s.kind = policy_.spec().policy == RecoveryAction::mask && !x.leaving[paused.group].empty() && !restored
               ? StartGroup::Kind::survivors_unrepaired
               : StartGroup::Kind::survivors;
  s.absent = x.leaving[paused.group];
  out.push_back(Send{agent_of(x.groups[paused.group].head(s.absent)), s});
}

/// A group is up: of survivors alone, or whole again.
void FleetManager::survivors_started(Instant now, std::uint32_t i, const GroupStarted& started, Commands& out) {
  Instance& x = instances_[i];
  const std::uint32_t g = started.group;
  const std::size_t before = x.absent[g].size();
  x.absent[g] = std::move(x.leaving[g]);
  x.leaving[g].clear();
  x.ended[g].clear();
  x.missing[g] = started.missing_experts;
  x.fenced &= ~(GroupMask{1} << g);
  // Others of the instance still wait for hardware; the look at it may have been put off for this group.
  if (x.waiting && policy_.spec().keeps_survivors()) out.push_back(ArmTimer{kFleetRetryTimer | i, now + x.retry_wait});
  if (x.absent[g].size() < before)
    out.push_back(NotePhase{.phase = Phase::rejoin, .instance = InstanceId{i}, .groups = GroupMask{1} << g});
  const bool degraded = has_absent(x) || x.switched;
  if (degraded)
    out.push_back(NotePhase{.phase = Phase::degraded, .instance = InstanceId{i}, .groups = GroupMask{1} << g});
  else if (x.was_degraded)
    out.push_back(NotePhase{.phase = Phase::restore, .instance = InstanceId{i}, .groups = GroupMask{1} << g});
  x.was_degraded = degraded;
}

/// Every rejoin_check: is the hardware of absent ranks well again?
void FleetManager::look_at_absent(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (!has_absent(x)) return;
  if (x.stage == Stage::none) {
    for (std::uint32_t g = 0; g < x.groups.size(); ++g) restore_masked(x, i, g, out);
  }
  if (x.stage == Stage::none && policy_.spec().elastic.rejoin) {
    place_spares(i, out);
    std::vector<std::uint32_t> nodes;
    for (std::size_t g = 0; g < x.groups.size(); ++g) {
      for (const std::uint32_t r : x.absent[g]) {
        const std::uint32_t node = x.groups[g].node_of(static_cast<std::int32_t>(r));
        if (x.joining[g].empty() && !detector_.silent(node) &&
            std::find(nodes.begin(), nodes.end(), node) == nodes.end())
          nodes.push_back(node);
      }
    }
    for (const std::uint32_t node : nodes) {
      probes_.emplace(++tokens_, node);
      out.push_back(Send{agent_of(node), ProbeNode{tokens_}});
    }
  }
  out.push_back(ArmTimer{kFleetAbsentTimer | i, now + policy_.spec().elastic.rejoin_check});
}

/// Starts the absent ranks whose hardware is well, beside the running group.
void FleetManager::try_join(std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (x.stage != Stage::none || !policy_.spec().elastic.rejoin) return;
  for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
    if (x.absent[g].empty() || !x.joining[g].empty() || (x.restoring >> g & 1)) continue;
    const std::vector<std::uint32_t> dead = dead_ranks(x, g);
    for (const std::uint32_t r : x.absent[g]) {
      if (std::find(dead.begin(), dead.end(), r) == dead.end()) x.joining[g].push_back(r);
    }
    if (x.joining[g].empty()) continue;
    StartGroup s = start_of(x, i, g, x.epochs[g]);
    s.kind = StartGroup::Kind::join;
    s.absent = x.absent[g];
    s.joining = x.joining[g];
    for (const std::uint32_t r : s.joining) {
      const std::uint32_t node = x.groups[g].node_of(static_cast<std::int32_t>(r));
      if (attaching_.contains(node)) s.delay = policy_.spec().node_attach;
    }
    out.push_back(Send{agent_of(x.groups[g].head(x.absent[g])), s});
  }
}

void FleetManager::rank_joined(std::uint32_t i, const GroupStarted& started, Commands& out) {
  Instance& x = instances_[i];
  const std::uint32_t g = started.group;
  const GroupMask bit = GroupMask{1} << g;
  if (started.epoch != x.epochs[g]) return;  // of a group that has changed since
  if (x.restoring & bit) {
    x.restoring &= ~bit;
    if (started.cause != Cause::none || x.stage != Stage::none) return;
    x.restored |= bit;
    x.leaving[g] = x.absent[g];
    pause_groups(i, bit, out);
    tell_routers(i, out);
    return;
  }
  if (x.joining[g].empty()) return;
  const std::vector<std::uint32_t> joining = std::move(x.joining[g]);
  x.joining[g].clear();
  if (started.cause != Cause::none || x.stage != Stage::none) return;  // the next look starts them again
  x.leaving[g].clear();
  for (const std::uint32_t r : x.absent[g]) {
    if (std::find(joining.begin(), joining.end(), r) == joining.end()) x.leaving[g].push_back(r);
  }
  for (const std::uint32_t r : joining) attaching_.erase(x.groups[g].node_of(static_cast<std::int32_t>(r)));
  pause_groups(i, bit, out);
  tell_routers(i, out);
}

/// Policy mask: what no rank has is copied to slots of the survivors while they serve.
void FleetManager::restore_masked(Instance& x, std::uint32_t i, std::uint32_t g, Commands& out) const {
  const GroupMask bit = GroupMask{1} << g;
  if (policy_.spec().policy != RecoveryAction::mask || !policy_.spec().elastic.restore_masked || x.missing[g] == 0 ||
      x.absent[g].empty() || !x.joining[g].empty() || (x.restoring & bit) || !(x.up & bit))
    return;
  x.restoring |= bit;
  StartGroup s = start_of(x, i, g, x.epochs[g]);
  s.kind = StartGroup::Kind::restore;
  s.absent = x.absent[g];
  out.push_back(Send{agent_of(x.groups[g].head(s.absent)), s});
}

/// A dead node without a rank that takes part is replaced by a spare, whose ranks then join.
void FleetManager::place_spares(std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (spare_nodes_.empty()) return;
  std::vector<std::uint32_t> dead;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    for (const std::uint32_t node : x.groups[g].nodes) {
      if (node != x.leader_node && detector_.silent(node) && std::find(dead.begin(), dead.end(), node) == dead.end())
        dead.push_back(node);
    }
  }
  std::erase_if(dead, [&](std::uint32_t node) {
    for (std::size_t g = 0; g < x.groups.size(); ++g) {
      for (std::int32_t r = 0; r < x.groups[g].ranks; ++r) {
        const bool absent = std::binary_search(x.absent[g].begin(), x.absent[g].end(), static_cast<std::uint32_t>(r));
        if (x.groups[g].node_of(r) == node && (!absent || !x.joining[g].empty())) return true;
      }
    }
    return false;
  });
  const std::vector<std::uint32_t> spares = spares_for(dead);
  for (std::size_t k = 0; k < dead.size(); ++k) {
    if (spares[k] == kUnknownRank) continue;
    std::erase(spare_nodes_, spares[k]);
    attaching_.insert(spares[k]);
    out.push_back(NotePhase{
        .phase = Phase::replace, .instance = InstanceId{i}, .groups = groups_on(x, dead[k]), .node = spares[k]});
    for (GroupSetup& g : x.groups) std::replace(g.nodes.begin(), g.nodes.end(), dead[k], spares[k]);
  }
}

}  // namespace faultline::control
