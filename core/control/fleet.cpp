#include "core/control/fleet.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::control {
namespace {

// Timer keys: kind in the top byte, instance below.
constexpr TimerKey kKindMask = TimerKey{0xff} << 56;

constexpr Address leader_of(std::uint32_t instance) { return {Role::instance, instance}; }
constexpr Address agent_of(std::uint32_t node) { return {Role::node, node}; }

GroupMask mask_of_all(std::size_t groups) {
  return groups == kGroupsMax ? ~GroupMask{0} : (GroupMask{1} << groups) - 1;
}

}  // namespace

FleetManager::FleetManager(FleetSetup setup)
    : setup_(std::move(setup)),
      detector_(setup_.detector),
      policy_(setup_.recovery, setup_.restart_unit),
      autoscaler_(setup_.autoscaler),
      spare_nodes_(setup_.spare_nodes) {
  for (const auto& s : setup_.instances) {
    Instance x;
    x.groups = s.groups;
    for (const GroupSetup& g : s.groups) x.home.push_back(g.role);
    x.epochs.assign(s.groups.size(), 0);
    x.absent.resize(s.groups.size());
    x.leaving.resize(s.groups.size());
    x.joining.resize(s.groups.size());
    x.ended.resize(s.groups.size());
    x.missing.resize(s.groups.size());
    x.leader_node = s.leader_node;
    x.serving = x.accepting = x.told_serving = s.serving;
    x.warm = s.warm;
    x.up = s.warm ? mask_of_all(s.groups.size()) : 0;
    x.retry_wait = setup_.recovery.retry_interval;
    instances_.push_back(std::move(x));
  }
}

std::uint64_t FleetManager::hash_of(std::size_t i, const Instance& x) const {
  std::uint64_t h = entry_hash(41, i, x.leader_node, x.leader_lost, x.serving, x.accepting, x.draining, x.warm, x.up,
                               static_cast<int>(x.stage), x.failed, x.starting, x.waiting, x.rank, x.retry_wait.v,
                               x.replacement, x.scaling_up, x.probes.size(), x.told_serving, x.load_tokens);
  if (x.parked) h = hash_combine(h, 1);
  if (x.switched) h = hash_combine(h, entry_hash(43, x.switched, x.returning));
  if (x.restoring | x.restored) h = hash_combine(h, entry_hash(44, x.restoring, x.restored));
  h = hash_combine(h, x.fenced);
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    h = hash_combine(h, x.epochs[g]);
    for (const std::uint32_t node : x.groups[g].nodes) h = hash_combine(h, node);
    for (const auto* ranks : {&x.absent[g], &x.leaving[g], &x.joining[g], &x.ended[g]}) {
      for (const std::uint32_t rank : *ranks) h = hash_combine(h, rank);
      h = hash_combine(h, ranks->size());
    }
    h = hash_combine(h, static_cast<std::uint64_t>(x.missing[g]));
  }
  return h;
}

// The fleet manager acts a few times per fault, not per request: its digest is computed when asked for.
std::uint64_t FleetManager::full_digest() const {
  std::uint64_t h = detector_.full_digest();
  for (std::size_t i = 0; i < instances_.size(); ++i) h = hash_combine(h, hash_of(i, instances_[i]));
  for (const std::uint32_t node : spare_nodes_) h = hash_combine(h, node);
  for (const std::uint32_t node : maintenance_) h = hash_combine(h, node + 1);
  for (const auto& [node, gpus] : unusable_gpus_) h = hash_combine(hash_combine(h, node), gpus);
  for (const auto& [token, node] : probes_) h = hash_combine(hash_combine(h, token), node);
  if (answers_)
    h = hash_combine(h, entry_hash(42, answers_->awaited.size(), answers_->agents.size(), answers_->leaders.size(),
                                   answers_->routers.size(), answers_->later.size()));
  return hash_combine(hash_combine(h, tokens_), autoscaler_.digest());
}
std::uint64_t FleetManager::digest() const { return full_digest(); }

void FleetManager::step(Instant now, const Event& event, Commands& out) {
  if (answers_ || (setup_.term > 0 && std::get_if<Started>(&event))) {
    gather(now, event, out);
    return;
  }
  if (const auto* received = std::get_if<Received>(&event)) {
    const std::uint32_t from = received->from.index;
    const Message& m = received->message;
    if (const auto* failed = std::get_if<GroupFailed>(&m)) group_failed(now, from, *failed, out);
    else if (const auto* started = std::get_if<GroupStarted>(&m)) group_started(now, *started, out);
    else if (const auto* transfer = std::get_if<TransferFailed>(&m)) transfer_failed(now, *transfer, out);
    else if (const auto* probe = std::get_if<ProbeResult>(&m)) probe_result(now, *probe, out);
    else if (const auto* load = std::get_if<LoadReport>(&m)) instances_[from].load_tokens = load->outstanding_tokens;
    else if (std::get_if<Drained>(&m)) drained(now, from, out);
    else if (const auto* planned = std::get_if<Maintenance>(&m)) maintenance(now, *planned, out);
    else if (const auto* paused = std::get_if<GroupPaused>(&m)) group_paused(now, from, *paused, out);
  } else if (const auto* peer = std::get_if<PeerChanged>(&event)) {
    const std::uint32_t index = peer->peer.index;
    const bool lost = peer->to == PeerChanged::To::lost, back = peer->to == PeerChanged::To::back;
    if (peer->peer.role == Role::node) {
      if (lost) node_lost(now, index, out);
      else if (back) node_back(now, index, out);
      else detector_.node_suspected(index);
    } else if (peer->peer.role == Role::instance && (lost || back)) {
      leader_changed(now, index, lost, out);
    } else if (peer->peer.role == Role::router && back) {
      for (std::uint32_t i = 0; i < instances_.size(); ++i) {
        send_update(index, i, out);
      }
    }
  } else if (const auto* timer = std::get_if<TimerFired>(&event)) {
    const auto i = static_cast<std::uint32_t>(timer->key & ~kKindMask);
    switch (timer->key & kKindMask) {
      case kFleetDecideTimer: decide(now, i, out); break;
      case kFleetRetryTimer: retry(now, i, out); break;
      case kFleetScaleTimer: scale(now, out); break;
      case kFleetHealthTimer: check_health(now, out); break;
      case kFleetAbsentTimer: look_at_absent(now, i, out); break;
    }
  } else if (std::get_if<Started>(&event)) {
    for (std::uint32_t n = 0; n < setup_.nodes; ++n) out.push_back(Watch{agent_of(n)});
    for (std::uint32_t i = 0; i < instances_.size(); ++i) out.push_back(Watch{leader_of(i)});
    for (std::uint32_t r = 0; r < setup_.routers; ++r) out.push_back(Watch{Address{Role::router, r}});
    if (setup_.autoscaler.enabled) out.push_back(ArmTimer{kFleetScaleTimer, now + setup_.autoscaler.interval});
    if (setup_.detector.health_period) out.push_back(ArmTimer{kFleetHealthTimer, now + *setup_.detector.health_period});
  }
}

bool FleetManager::can_serve(const Instance& x) const {
  bool prefill = false, decode = false;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    if (!(x.up >> g & 1)) continue;
    prefill |= x.groups[g].role != GroupRole::decode;
    decode |= x.groups[g].role != GroupRole::prefill;
  }
  return prefill && decode && !x.leader_lost;
}

void FleetManager::tell_routers(std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  const bool accepting = x.serving && !x.draining && can_serve(x);
  if (accepting == x.accepting && x.serving == x.told_serving) return;
  x.accepting = accepting;
  x.told_serving = x.serving;
  for (std::uint32_t r = 0; r < setup_.routers; ++r) send_update(r, i, out);
}

std::vector<std::uint32_t> FleetManager::dead_nodes(const Instance& x) const {
  std::vector<std::uint32_t> dead;
  for (const GroupSetup& g : x.groups) {
    for (const std::uint32_t node : g.nodes) {
      if (detector_.level(node) == FailureDetector::Level::red &&
          std::find(dead.begin(), dead.end(), node) == dead.end())
        dead.push_back(node);
    }
  }
  return dead;
}

void FleetManager::group_failed(Instant now, std::uint32_t i, const GroupFailed& failed, Commands& out) {
  if (failed.epoch != instances_[i].epochs[failed.group]) return;  // of an incarnation that was fenced
  open_incident(now, i, GroupMask{1} << failed.group, failed.suspect_rank, out);
}

void FleetManager::open_incident(Instant now, std::uint32_t i, GroupMask groups, std::uint32_t rank, Commands& out) {
  Instance& x = instances_[i];
  if (!x.warm) return;  // nothing runs there
  const GroupMask fresh = groups & ~x.failed & x.up;
  x.failed |= groups & ~x.waiting;  // those that wait are to be started anyway
  x.up &= ~groups;
  if (fresh) {
    out.push_back(NotePhase{.phase = Phase::detect, .instance = InstanceId{i}, .groups = fresh});
    tell_routers(i, out);
  }
  // While others only wait for hardware, a new failure is decided at once; otherwise it joins: carry_out() sees it.
  const bool waits = x.stage == Stage::waiting && (groups & ~x.waiting);
  if (x.stage != Stage::none && !waits) {
    if (fresh) x.rank = kUnknownRank;  // more than one rank failed
    return;
  }
  if (waits) out.push_back(DisarmTimer{kFleetRetryTimer | i});
  x.rank = waits ? kUnknownRank : rank;
  if (policy_.spec().policy == RecoveryAction::none) return;
  x.stage = Stage::deciding;
  out.push_back(ArmTimer{kFleetDecideTimer | i, now + policy_.spec().decision_delay});
}

GroupMask FleetManager::groups_on(const Instance& x, std::uint32_t node) {
  GroupMask hit = 0;
  for (std::size_t g = 0; g < x.groups.size(); ++g) {
    const auto& nodes = x.groups[g].nodes;
    if (std::find(nodes.begin(), nodes.end(), node) != nodes.end()) hit |= GroupMask{1} << g;
  }
  return hit;
}

void FleetManager::hit_groups_on(Instant now, std::uint32_t node, Commands& out) {
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    if (const GroupMask hit = serving_on(instances_[i], node)) open_incident(now, i, hit, kUnknownRank, out);
  }
}

void FleetManager::node_lost(Instant now, std::uint32_t node, Commands& out) {
  detector_.node_lost(node);
  spare_nodes_.erase(std::remove(spare_nodes_.begin(), spare_nodes_.end(), node), spare_nodes_.end());
  maintained_node_lost(now, node, out);
  ranks_ended(node);
  hit_groups_on(now, node, out);
  // Whom the agent owed an answer waits for nothing any more.
  forget_probes(now, node, out);
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    const GroupMask hit = serving_on(x, node) & x.starting;
    if ((x.stage != Stage::starting && x.stage != Stage::pausing) || !hit) continue;
    if (policy_.spec().keeps_survivors()) {
      // Survivors ask anew who is left; a group that nobody survived waits for hardware.
      const GroupMask survive = hit & ~x.fenced;
      if (const GroupMask whole = hit & x.fenced) give_up_start(now, i, whole, out);
      if (survive) {
        x.failed |= survive;
        x.starting &= ~survive;
        carry_out(now, i, out);
      }
      continue;
    }
    give_up_start(now, i, groups_on(x, node), out);
    if (policy_.spec().policy == RecoveryAction::spare_node && !spare_nodes_.empty()) carry_out(now, i, out);
  }
}

/// Probes of a node that will not answer: those who wait for them go on without.
void FleetManager::forget_probes(Instant now, std::uint32_t node, Commands& out) {
  for (auto it = probes_.begin(); it != probes_.end();) {
    if (it->second != node) {
      ++it;
      continue;
    }
    for (Instance& x : instances_) x.probes.erase(it->first);
    it = probes_.erase(it);
  }
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    if (instances_[i].stage == Stage::probing && instances_[i].probes.empty()) carry_out(now, i, out);
  }
}

void FleetManager::node_back(Instant now, std::uint32_t node, Commands& out) {
  detector_.node_back(node);
  unusable_gpus_.erase(node);
  node_usable(now, node, out);
}

void FleetManager::node_usable(Instant now, std::uint32_t node, Commands& out) {
  bool used = false;
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    if (!groups_on(x, node)) continue;
    used = true;
    unblock(now, i, out);
  }
  // A repaired node that was replaced meanwhile becomes a spare.
  if (!used && std::find(spare_nodes_.begin(), spare_nodes_.end(), node) == spare_nodes_.end())
    spare_nodes_.push_back(node);
}

void FleetManager::leader_changed(Instant now, std::uint32_t i, bool lost, Commands& out) {
  Instance& x = instances_[i];
  if (lost && x.leader_lost) return;  // told again by the next incarnation, which the incident under way has started
  x.leader_lost = lost;
  if (lost && x.warm) open_incident(now, i, mask_of_all(x.groups.size()), kUnknownRank, out);
  else tell_routers(i, out);
  // Survivors that were to stop for a new group hear nothing any more from a dead leader: all that it led starts anew.
  const GroupMask survive = x.starting & ~x.fenced;
  if (lost) x.fenced = mask_of_all(x.groups.size());  // what they held was the leader's: a new one keeps none of it
  if (lost && survive && policy_.spec().keeps_survivors() &&
      (x.stage == Stage::pausing || x.stage == Stage::starting)) {
    x.failed |= survive;
    x.starting &= ~survive;
    carry_out(now, i, out);
  }
}

void FleetManager::transfer_failed(Instant now, const TransferFailed& failed, Commands& out) {
  for (const std::uint32_t node : detector_.transfer_failed(now, failed.from_node, failed.to_node)) {
    if (detector_.level(node) == FailureDetector::Level::red) continue;
    probes_.emplace(++tokens_, node);
    out.push_back(Send{agent_of(node), ProbeNode{tokens_}});
  }
}

void FleetManager::probe_result(Instant now, const ProbeResult& result, Commands& out) {
  const auto asked = probes_.find(result.token);
  if (asked == probes_.end()) return;
  const std::uint32_t node = asked->second;
  probes_.erase(asked);
  const bool was_red = detector_.level(node) == FailureDetector::Level::red;
  for (Instance& x : instances_) x.probes.erase(result.token);
  const bool news = node_hardware(node, result.bad_gpus | result.cut_gpus);
  if (result.bad_gpus != 0 || !result.network_ok) {
    detector_.node_bad(node);
    if (!was_red) out.push_back(NotePhase{.phase = Phase::detect, .instance = {}, .node = node});
    // Survivors go on beside hardware that is known to be bad.
    if (news || !policy_.spec().keeps_survivors()) hit_groups_on(now, node, out);
  } else if (was_red) {
    detector_.node_good(node);
    if (detector_.level(node) != FailureDetector::Level::red) node_usable(now, node, out);
  }
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    if (instances_[i].probes.empty() && instances_[i].stage == Stage::probing) carry_out(now, i, out);
    else if (has_absent(instances_[i]) && groups_on(instances_[i], node)) try_join(i, out);
  }
}

/// Hardware that failed a check may have been repaired, or its network may be back, without its agent ever going away:
/// only another probe can tell.
void FleetManager::retry(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (x.waiting == 0 || (x.stage != Stage::waiting && x.stage != Stage::starting)) return;
  for (const std::uint32_t node : detector_.bad_nodes()) {
    probes_.emplace(++tokens_, node);
    if (groups_on(x, node)) x.probes.insert(tokens_);
    out.push_back(Send{agent_of(node), ProbeNode{tokens_}});
  }
  if (x.stage == Stage::starting) x.probes.clear();  // others are on their way: an answer unblocks what waits for it
  if (x.probes.empty()) carry_out(now, i, out);
  else x.stage = Stage::probing;
}

void FleetManager::decide(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (x.stage != Stage::deciding) return;
  out.push_back(NotePhase{.phase = Phase::decide,
                          .instance = InstanceId{i},
                          .groups = x.failed,
                          .action = static_cast<std::uint8_t>(policy_.spec().policy)});
  if (policy_.spec().policy == RecoveryAction::spare_instance && x.replacement == kUnknownRank && x.serving)
    promote_standby(now, i, out);
  // Which hardware is to be replaced is known only after a health check; a policy without spares finds out by trying.
  if (policy_.spec().looks_at_hardware()) {
    for (std::size_t g = 0; g < x.groups.size(); ++g) {
      if (!(x.failed >> g & 1)) continue;
      for (const std::uint32_t node : x.groups[g].nodes) {
        if (policy_.spec().keeps_survivors() ? detector_.silent(node)
                                             : detector_.level(node) == FailureDetector::Level::red)
          continue;
        probes_.emplace(++tokens_, node);
        x.probes.insert(tokens_);
        out.push_back(Send{agent_of(node), ProbeNode{tokens_}});
      }
    }
    if (!x.probes.empty()) {
      x.stage = Stage::probing;
      return;
    }
  }
  carry_out(now, i, out);
}

void FleetManager::carry_out(Instant now, std::uint32_t i, Commands& out) {
  Instance& x = instances_[i];
  if (reform(now, i, out)) return;
  const std::vector<std::uint32_t> dead = dead_nodes(x);
  const std::vector<std::uint32_t> spares = spares_for(dead);
  const RecoveryPlan plan =
      policy_of(i).plan({.groups = &x.groups,
                         .failed = x.failed | x.waiting,
                         .leader_lost = x.leader_lost,
                         .rank_known = x.rank != kUnknownRank,
                         .dead_nodes = dead,
                         .spare_nodes = static_cast<std::size_t>(std::count_if(
                             spares.begin(), spares.end(), [](std::uint32_t s) { return s != kUnknownRank; })),
                         .standby_instance = find_standby(fleet_of(i)) != kUnknownRank});
  Duration delay{0};
  if (plan.replace_nodes) {
    for (std::size_t k = 0; k < dead.size(); ++k) {
      const std::uint32_t node = dead[k], spare = spares[k];
      if (spare == kUnknownRank) continue;
      std::erase(spare_nodes_, spare);
      for (GroupSetup& g : x.groups) std::replace(g.nodes.begin(), g.nodes.end(), node, spare);
      if (x.leader_node == node) x.leader_node = spare;
      delay = policy_.spec().node_attach;
      out.push_back(NotePhase{.phase = Phase::replace, .instance = InstanceId{i}, .groups = plan.scope, .node = spare});
    }
  }
  if (!plan.rank_only) fence(i, plan.scope, out);
  x.up &= ~plan.scope;
  x.starting &= ~plan.scope;
  if (!plan.rank_only) x.fenced |= plan.scope;
  x.failed = 0;
  tell_routers(i, out);
  x.waiting = blocked(i, plan.scope);
  if (plan.scope == mask_of_all(x.groups.size())) forget_switch(i, out);
  if (const GroupMask ready = plan.scope & ~x.waiting)
    start(now, i, ready, delay, false, plan.rank_only ? x.rank : kUnknownRank, out);
  if (x.waiting) wait(now, i, out);
  switch_roles(now, i, out);
}

/// The health daemon's round: every node whose agent answers, the bad ones too, which may have been repaired.
void FleetManager::check_health(Instant now, Commands& out) {
  const std::vector<std::uint32_t> bad = detector_.bad_nodes();
  for (std::uint32_t node = 0; node < setup_.nodes; ++node) {
    const bool silent =
        detector_.level(node) == FailureDetector::Level::red && std::find(bad.begin(), bad.end(), node) == bad.end();
    if (silent || maintenance_.contains(node)) continue;
    probes_.emplace(++tokens_, node);
    out.push_back(Send{agent_of(node), ProbeNode{tokens_}});
  }
  out.push_back(ArmTimer{kFleetHealthTimer, now + *setup_.detector.health_period});
}

}  // namespace faultline::control
