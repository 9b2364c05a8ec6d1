// Starting what is to run: the groups of an incident, those whose hardware is back, a standby that takes a place, an
// instance more or less for the load.
#include <algorithm>

#include "core/control/fleet.h"

namespace faultline::control {
namespace {

constexpr Address leader_of(std::uint32_t instance) { return {Role::instance, instance}; }
constexpr Address agent_of(std::uint32_t node) { return {Role::node, node}; }

GroupMask mask_of_all(std::size_t groups) {
  return groups == kGroupsMax ? ~GroupMask{0} : (GroupMask{1} << groups) - 1;
}

}  // namespace

/// What the groups held is gone; the next start of any of them has at least the epoch that is told here.
void FleetManager::fence(std::uint32_t i, GroupMask groups, Commands& out) const {
  const Instance& x = instances_[i];
  if (!x.leader_lost)
    out.push_back(Send{leader_of(i), FenceGroups{groups, newest_epoch(x) + 1, Cause::device_lost, setup_.term}});
}

Epoch FleetManager::newest_epoch(const Instance& x) { return *std::max_element(x.epochs.begin(), x.epochs.end()); }

GroupMask FleetManager::blocked(std::uint32_t i, GroupMask groups) const {
  const Instance& x = instances_[i];
  const std::vector<std::uint32_t> dead = dead_nodes(x);
  // Whoever has lost its leader needs one, and a leader needs a node.
  if (x.leader_lost && detector_.level(x.leader_node) == FailureDetector::Level::red) return groups;
  GroupMask lacking = 0;
  for (const std::uint32_t node : dead) lacking |= groups_on(x, node);
  lacking &= groups;
  return lacking ? groups & policy_of(i).unit_of(x.groups, lacking) : 0;
}

void FleetManager::unblock(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (x.stage != Stage::waiting && x.stage != Stage::starting) return;
  const GroupMask ready = x.waiting & ~blocked(i, x.waiting);
  if (!ready) return;
  x.waiting &= ~ready;
  x.failed &= ~ready;
  if (!x.waiting) out.push_back(DisarmTimer{kFleetRetryTimer | i});
  fence(i, ready, out);
  start(now, i, ready, Duration{0}, false, kUnknownRank, out);
}

void FleetManager::give_up_start(Instant now, std::uint32_t i, GroupMask groups, Commands& out) {
  Instance& x = instances_[i];
  const GroupMask given_up = x.starting & policy_of(i).unit_of(x.groups, groups);
  const bool armed = x.waiting != 0;
  x.starting &= ~given_up;
  x.waiting |= given_up;
  if (!armed) wait(now, i, out);
  else if (!x.starting) x.stage = Stage::waiting;
}

std::vector<std::uint32_t> FleetManager::spares_for(const std::vector<std::uint32_t>& dead) const {
  std::vector<std::uint32_t> left = spare_nodes_, chosen;
  for (const std::uint32_t node : dead) {
    const auto fits = [&](std::uint32_t spare) {
      const auto same = [&](const std::vector<std::uint32_t>& of) { return of.empty() || of[spare] == of[node]; };
      switch (policy_.spec().substitution) {
        case SubstitutionRule::any: return true;
        case SubstitutionRule::same_fabric: return same(setup_.fabric_of);
        case SubstitutionRule::same_rack: return same(setup_.rack_of);
      }
      return false;
    };
    const auto it = std::find_if(left.begin(), left.end(), fits);
    chosen.push_back(it == left.end() ? kUnknownRank : *it);
    if (it != left.end()) left.erase(it);
  }
  return chosen;
}

void FleetManager::wait(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (!x.starting) x.stage = Stage::waiting;
  x.rank = kUnknownRank;
  out.push_back(ArmTimer{kFleetRetryTimer | i, now + x.retry_wait});
  x.retry_wait = std::min(x.retry_wait * 2, policy_.spec().retry_interval_max);
}

StartGroup FleetManager::start_of(const Instance& x, std::uint32_t i, std::uint32_t g, Epoch epoch) const {
  StartGroup s;
  s.instance = InstanceId{i};
  s.group = g;
  s.epoch = epoch;
  s.nodes = x.groups[g].nodes;
  s.leader_node = x.leader_node;
  s.term = setup_.term;
  return s;
}

void FleetManager::start(Instant, std::uint32_t i, GroupMask groups, Duration delay, bool warm, std::uint32_t rank,
                         Commands& out) {
  Instance& x = instances_[i];
  x.stage = Stage::starting;
  x.starting |= groups;
  x.warm = true;
  const Epoch epoch = newest_epoch(x) + 1;
  x.fenced |= groups;
  forget_absent(x, groups);
  for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
    if (!(groups >> g & 1)) continue;
    x.epochs[g] = epoch;
    StartGroup s = start_of(x, i, g, epoch);
    s.delay = delay;
    s.warm = warm;
    s.rank = rank;
    s.role = told_role(x, g);
    out.push_back(Send{agent_of(s.nodes.front()), s});
  }
}

void FleetManager::group_started(Instant now, const GroupStarted& started, Commands& out) {
  const std::uint32_t i = started.instance.v;
  Instance& x = instances_[i];
  const GroupMask bit = GroupMask{1} << started.group;
  if (started.joined) return rank_joined(i, started, out);
  if (started.epoch != x.epochs[started.group] || !(x.starting & bit)) return;
  if (started.cause != Cause::none) {
    if (policy_.spec().keeps_survivors() && !(x.fenced & bit)) {  // one more is gone: who is left is asked anew
      x.failed |= bit;
      x.starting &= ~bit;
      if (x.starting == 0) {
        x.stage = Stage::deciding;
        out.push_back(ArmTimer{kFleetDecideTimer | i, now + policy_.spec().decision_delay});
      }
      return;
    }
    give_up_start(now, i, bit, out);
    switch_roles(now, i, out);
    if (started.bad_node != kUnknownRank && policy_.spec().policy == RecoveryAction::spare_node) {
      detector_.node_bad(started.bad_node);
      hit_groups_on(now, started.bad_node, out);  // whatever else runs there moves too
      if (!spare_nodes_.empty()) carry_out(now, i, out);
    }
    return;
  }
  x.starting &= ~bit;
  x.up |= bit;
  survivors_started(now, i, started, out);
  GroupReady ready;
  ready.group = started.group;
  ready.epoch = started.epoch;
  ready.head_node = x.groups[started.group].head(x.absent[started.group]);
  ready.nodes = x.groups[started.group].nodes;
  ready.absent = x.absent[started.group];
  ready.term = setup_.term;
  ready.role = told_role(x, started.group);
  out.push_back(Send{leader_of(i), std::move(ready)});
  if (x.starting == 0) {
    x.stage = x.waiting ? Stage::waiting : Stage::none;
    x.rank = kUnknownRank;
  }
  if (x.stage == Stage::none) {
    x.retry_wait = policy_.spec().retry_interval;
    if (x.scaling_up) {
      x.scaling_up = false;
      x.serving = true;
    }
    if (x.replacement != kUnknownRank) {
      Instance& r = instances_[x.replacement];
      if (r.serving && !r.draining && can_serve(r)) x.serving = false;  // its place is taken: it is the spare now
      else if (!r.draining) r.scaling_up = r.serving = false;           // it is back first, and keeps its place
      tell_routers(x.replacement, out);
      x.replacement = kUnknownRank;
    }
    out.push_back(NotePhase{.phase = Phase::ready, .instance = InstanceId{i}, .groups = x.up});
    if (has_absent(x)) out.push_back(ArmTimer{kFleetAbsentTimer | i, now + policy_.spec().elastic.rejoin_check});
    if (x.draining) out.push_back(Send{leader_of(i), Drain{true, setup_.term}});  // a new leader does not know
    begin_return(i, out);
  }
  if (x.starting == 0) {
    if (const GroupMask more = x.failed) {
      x.failed = 0;
      x.up |= more;
      open_incident(now, i, more, kUnknownRank, out);
    }
  }
  tell_routers(i, out);
}

std::uint32_t FleetManager::find_standby(std::uint32_t fleet) const {
  for (std::uint32_t s = 0; s < instances_.size(); ++s) {
    const Instance& x = instances_[s];
    if (fleet_of(s) == fleet && !x.serving && !x.scaling_up && !x.parked && x.stage == Stage::none &&
        (!x.warm || can_serve(x)) && dead_nodes(x).empty())
      return s;
  }
  return kUnknownRank;
}

void FleetManager::promote_standby(Instant now, std::uint32_t failed, Commands& out) {
  const std::uint32_t s = find_standby(fleet_of(failed));
  if (s == kUnknownRank) return;
  instances_[failed].replacement = s;
  out.push_back(NotePhase{.phase = Phase::replace, .instance = InstanceId{failed}});
  bring_up(now, s, out);
}

/// A standby takes traffic: at once where its workers run, else once they are started.
void FleetManager::bring_up(Instant now, std::uint32_t s, Commands& out) {
  Instance& x = instances_[s];
  if (x.warm) {
    x.serving = true;
    tell_routers(s, out);
  } else {
    x.scaling_up = true;
    start(now, s, mask_of_all(x.groups.size()), Duration{0}, false, kUnknownRank, out);
  }
}

void FleetManager::scale(Instant now, Commands& out) {
  std::int32_t active = 0, starting = 0, standby = 0, accepting = 0;
  std::int64_t tokens = 0;
  for (const Instance& x : instances_) {
    if (x.serving && !x.draining) {
      ++active;
      accepting += x.accepting;
      tokens += x.load_tokens;
    } else if (x.scaling_up) {
      ++starting;
    }
  }
  const std::uint32_t next = find_standby(0);  // there is one fleet where instances come and go with the load
  standby = next != kUnknownRank ? 1 : 0;
  const int change = autoscaler_.decide({.now = now,
                                         .active = active,
                                         .accepting = accepting,
                                         .starting = starting,
                                         .standby = standby,
                                         .outstanding_tokens = tokens});
  if (change > 0) {
    bring_up(now, next, out);
  } else if (change < 0) {
    for (auto i = static_cast<std::uint32_t>(instances_.size()); i-- > 0;) {
      Instance& x = instances_[i];
      if (!x.serving || x.draining || x.stage != Stage::none) continue;
      x.draining = true;
      tell_routers(i, out);
      out.push_back(Send{leader_of(i), Drain{true, setup_.term}});
      break;
    }
  }
  out.push_back(ArmTimer{kFleetScaleTimer, now + setup_.autoscaler.interval});
}

void FleetManager::drained(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (!x.draining || returned(now, i, out)) return;
  x.draining = false;
  x.serving = false;
  x.warm = false;
  x.up = 0;
  x.load_tokens = 0;
  forget_switch(i, out);
  // Its incident, if it has one, is over: nothing of it is to run.
  if (x.stage == Stage::deciding) out.push_back(DisarmTimer{kFleetDecideTimer | i});
  if (x.waiting) out.push_back(DisarmTimer{kFleetRetryTimer | i});
  x.stage = Stage::none;
  x.failed = x.starting = x.waiting = 0;
  x.probes.clear();
  forget_absent(x, mask_of_all(x.groups.size()));
  x.replacement = x.rank = kUnknownRank;
  x.retry_wait = policy_.spec().retry_interval;
  const Epoch epoch = newest_epoch(x);
  out.push_back(Send{leader_of(i), FenceGroups{mask_of_all(x.groups.size()), epoch + 1, Cause::canceled, setup_.term}});
  out.push_back(Send{leader_of(i), Drain{false, setup_.term}});
  for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
    out.push_back(Send{agent_of(x.groups[g].nodes.front()), StopGroup{InstanceId{i}, g, epoch, setup_.term}});
  }
  for (Epoch& e : x.epochs) e = epoch + 1;
  tell_routers(i, out);
}

}  // namespace faultline::control
