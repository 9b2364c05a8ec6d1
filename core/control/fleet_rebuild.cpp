// What a fleet manager that was started again knows: nothing. It claims the fleet under its term, so that its peers
// refuse what an incarnation before may still send, and rebuilds its view from what they report: agents which start of
// each group they were asked for last, leaders which groups are up, routers which instances are to serve. A spare that
// the incarnation before has spent is on some agent's list, so it is not spent twice. Who is silent is lost, and
// handled as such afterwards. The operator's plans stand outside the fleet (in the orchestrator's store, as a cordon of
// a node does): the operator tells them again to whoever manages, before the fleet is rebuilt.
#include <algorithm>

#include "core/control/fleet.h"

namespace faultline::control {
namespace {

constexpr Address leader_of(std::uint32_t instance) { return {Role::instance, instance}; }
constexpr Address agent_of(std::uint32_t node) { return {Role::node, node}; }
constexpr Address router_of(std::uint32_t router) { return {Role::router, router}; }
GroupMask mask_of(std::size_t groups) { return groups == kGroupsMax ? ~GroupMask{0} : (GroupMask{1} << groups) - 1; }

}  // namespace

void FleetManager::send_update(std::uint32_t router, std::uint32_t i, Commands& out) const {
  const Instance& x = instances_[i];
  out.push_back(Send{router_of(router), InstanceUpdate{InstanceId{i}, x.accepting, x.serving, setup_.term}});
}

void FleetManager::claim(Commands& out) {
  answers_.emplace();
  tokens_ = std::uint64_t{setup_.term} << 32;  // an answer to a probe of the incarnation before is not one of ours
  const auto ask = [&](Address peer) {
    out.push_back(Watch{peer});
    out.push_back(Send{peer, ClaimFleet{setup_.term}});
    answers_->awaited.insert(peer);
  };
  for (std::uint32_t n = 0; n < setup_.nodes; ++n) ask(agent_of(n));
  for (std::uint32_t i = 0; i < instances_.size(); ++i) ask(leader_of(i));
  for (std::uint32_t r = 0; r < setup_.routers; ++r) ask(router_of(r));
}

void FleetManager::gather(Instant now, const Event& event, Commands& out) {
  if (std::get_if<Started>(&event)) {
    claim(out);
    return;
  }
  const auto* received = std::get_if<Received>(&event);
  const auto keep = [&](const auto* state, auto& states) {
    if (state == nullptr) return false;
    if (state->term == setup_.term) {
      states[received->from.index] = *state;
      answers_->awaited.erase(received->from);
    }
    return true;
  };
  const bool answer = received && (keep(std::get_if<AgentState>(&received->message), answers_->agents) ||
                                   keep(std::get_if<LeaderState>(&received->message), answers_->leaders) ||
                                   keep(std::get_if<RouterState>(&received->message), answers_->routers));
  const auto* planned = received ? std::get_if<Maintenance>(&received->message) : nullptr;
  if (planned != nullptr) {
    if (planned->begins) maintenance_.insert(planned->node);
    else maintenance_.erase(planned->node);
  } else if (!answer) {
    answers_->later.push_back(event);
    if (const auto* peer = std::get_if<PeerChanged>(&event)) {
      if (peer->to == PeerChanged::To::lost) {
        answers_->awaited.erase(peer->peer);
      } else if (peer->to == PeerChanged::To::back) {
        out.push_back(Send{peer->peer, ClaimFleet{setup_.term}});
        answers_->awaited.insert(peer->peer);
      }
    }
  }
  if (answers_->awaited.empty()) rebuild(now, out);
}

/// `placed`: groups of which somebody alive knows where they are; `failed`: groups that are to be recovered.
void FleetManager::rebuild_instance(std::uint32_t i, GroupMask& placed, GroupMask& failed) {
  Instance& x = instances_[i];
  const auto leader = answers_->leaders.find(i);
  const bool led = leader != answers_->leaders.end() && leader->second.groups.size() == x.groups.size();
  if (!answers_->routers.empty()) {
    x.serving = x.accepting = false;
    for (const auto& [r, state] : answers_->routers) {
      if (i >= state.instances.size()) continue;
      x.serving |= state.instances[i].serving;
      x.accepting |= state.instances[i].accepting;
    }
  }
  x.told_serving = x.serving;
  x.draining = led && leader->second.draining;
  x.load_tokens = led ? leader->second.outstanding_tokens : 0;
  x.up = x.starting = 0;
  placed = failed = 0;
  for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
    const GroupMask bit = GroupMask{1} << g;
    const GroupAtAgent* newest = nullptr;
    for (const auto& [node, state] : answers_->agents) {
      for (const GroupAtAgent& a : state.groups) {
        if (a.instance.v == i && a.group == g && (newest == nullptr || a.epoch > newest->epoch)) newest = &a;
      }
    }
    GroupRole role = GroupRole::as_set_up;
    const GroupAtLeader* known = led ? &leader->second.groups[g] : nullptr;
    if (known) {
      x.epochs[g] = known->epoch;
      x.groups[g].nodes = known->nodes;
      role = known->role;
    }
    if (newest && newest->epoch >= x.epochs[g]) {
      x.epochs[g] = newest->epoch;
      if (!newest->nodes.empty()) {
        x.groups[g].nodes = newest->nodes;
        x.leader_node = newest->leader_node;
        role = newest->role;
      }
    } else {
      newest = nullptr;  // of an incarnation that the leader knows to be over
    }
    if (role != GroupRole::as_set_up) {
      x.groups[g].role = role;
      x.switched |= bit;
    }
    if ((known && known->up) || newest)
      placed |= bit;  // a leader that was started again knows only where its groups began
    const bool latest = known && known->epoch == x.epochs[g];
    const bool up = latest && known->up;
    if (up && !(newest && !newest->running)) x.up |= bit;
    else if (newest && newest->launching) x.starting |= bit;
    else if (!(newest && newest->running && led) || (latest && known->failed)) failed |= bit;
    // else they run, and their leader has not heard of it
    forget_absent(x, bit);
    // Survivors are asked who is left only where the leader has kept what they hold and nobody has stopped them.
    const bool kept = latest && known->failed && !(newest && !newest->running);
    if ((x.up & bit) || ((failed & bit) && kept)) x.absent[g] = known->absent;
    else if (newest && !(failed & bit)) x.leaving[g] = newest->absent;
    const bool survive = (x.up & bit) || (failed & bit ? kept : newest && newest->survivors);
    if (survive) x.fenced &= ~bit;
    else x.fenced |= bit;
  }
  x.returning = x.draining && x.switched;
  // A standby of which nothing runs is cold, not broken, unless it is one that is kept warm.
  const bool kept_warm = setup_.instances[i].warm && !setup_.autoscaler.enabled;
  x.was_degraded = has_absent(x);
  x.warm = x.serving || x.draining || kept_warm || failed != mask_of(x.groups.size());
  if (!x.warm) failed = 0;
}

/// Where all who knew on which nodes a group was have died, it is believed to be where it began, and another instance
/// may have that node by now: whose place is known keeps it, the other takes a node that nobody uses (and finds out
/// what that one is worth).
void FleetManager::resolve_places(const std::vector<GroupMask>& placed, std::set<std::uint32_t>& unused) {
  std::map<std::uint32_t, std::uint32_t> owner;  // node -> instance
  for (const bool known_first : {true, false}) {
    for (std::uint32_t i = 0; i < instances_.size(); ++i) {
      Instance& x = instances_[i];
      std::map<std::uint32_t, std::uint32_t> instead;  // the same for all groups of the instance
      for (std::size_t g = 0; g < x.groups.size(); ++g) {
        if ((placed[i] >> g & 1) != known_first) continue;
        for (std::uint32_t& node : x.groups[g].nodes) {
          const auto [holder, fresh] = owner.emplace(node, i);
          if (fresh || holder->second == i) continue;
          auto other = instead.find(node);
          if (other == instead.end()) {
            if (unused.empty()) continue;
            other = instead.emplace(node, *unused.begin()).first;
            unused.erase(unused.begin());
            owner.emplace(other->second, i);
          }
          if (x.leader_node == node) x.leader_node = other->second;
          node = other->second;
        }
      }
    }
  }
}

bool FleetManager::maintained(const Instance& x) const {
  return std::any_of(maintenance_.begin(), maintenance_.end(), [&](std::uint32_t n) { return groups_on(x, n) != 0; });
}

std::vector<std::uint32_t> FleetManager::rebuild_parked(std::vector<GroupMask>& failed, Commands& out) {
  std::vector<std::uint32_t> to_serve;
  if (setup_.autoscaler.enabled) return to_serve;  // it starts what the load needs
  std::map<std::uint32_t, std::int64_t> vacant;    // by fleet
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    const Instance& x = instances_[i];
    std::int64_t& places = vacant[fleet_of(i)];
    places += setup_.instances[i].serving;
    places -= x.serving || x.scaling_up;
    places += x.replacement != kUnknownRank;  // its standby serves, or is about to, for it
  }
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    if (vacant[fleet_of(i)] <= 0) continue;
    if (!setup_.instances[i].serving || x.serving || x.scaling_up) continue;
    --vacant[fleet_of(i)];
    // What runs of it was stopped on purpose: there is nothing to recover.
    x.warm = false;
    x.up = failed[i] = 0;
    forget_switch(i, out);
    x.parked = maintained(x);
    if (!x.parked) to_serve.push_back(i);
  }
  return to_serve;
}

void FleetManager::rebuild(Instant now, Commands& out) {
  std::vector<GroupMask> placed(instances_.size()), failed(instances_.size()), announce(instances_.size());
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    const Instance& x = instances_[i];
    rebuild_instance(i, placed[i], failed[i]);
    if (x.warm) announce[i] = mask_of(x.groups.size()) & ~(failed[i] | x.up | x.starting);
  }
  // Every node of ours that no group uses is a spare; those that are lost are taken out below.
  std::set<std::uint32_t> spares(setup_.spare_nodes.begin(), setup_.spare_nodes.end());
  for (const FleetSetup::Instance& s : setup_.instances) {
    for (const GroupSetup& g : s.groups) spares.insert(g.nodes.begin(), g.nodes.end());
  }
  for (const Instance& x : instances_) {
    for (const GroupSetup& g : x.groups) {
      for (const std::uint32_t node : g.nodes) spares.erase(node);
    }
  }
  resolve_places(placed, spares);
  for (const std::uint32_t node : maintenance_) spares.erase(node);
  spare_nodes_.assign(spares.begin(), spares.end());
  const std::vector<Event> later = std::move(answers_->later);
  answers_.reset();

  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    if (!x.serving && (x.starting | announce[i])) x.scaling_up = true;  // it was on its way to serve
    if (x.starting | announce[i]) x.stage = Stage::starting;
    x.starting |= announce[i];
  }
  if (policy_.spec().policy == RecoveryAction::spare_instance && !setup_.autoscaler.enabled) {
    // A broken instance and a standby that serves, or is about to, in its place: which of several does not matter.
    std::set<std::uint32_t> taken;
    for (std::uint32_t i = 0; i < instances_.size(); ++i) {
      Instance& x = instances_[i];
      if (!x.serving || (!failed[i] && x.stage == Stage::none)) continue;
      for (std::uint32_t s = 0; s < instances_.size(); ++s) {
        const Instance& r = instances_[s];
        const bool stands_in = s != i && fleet_of(s) == fleet_of(i) && !setup_.instances[s].serving &&
                               (r.scaling_up || (r.serving && !failed[s] && r.stage == Stage::none));
        if (!stands_in || !taken.insert(s).second) continue;
        x.replacement = s;
        break;
      }
    }
  }
  const std::vector<std::uint32_t> to_serve = rebuild_parked(failed, out);
  for (std::uint32_t i = 0; i < instances_.size(); ++i) {
    Instance& x = instances_[i];
    if (x.draining && !x.returning && !maintained(x) && !setup_.autoscaler.enabled) {
      x.draining = false;  // called off while nobody managed
      out.push_back(Send{leader_of(i), Drain{false, setup_.term}});
    }
    for (std::uint32_t g = 0; g < x.groups.size(); ++g) {
      if (announce[i] >> g & 1) group_started(now, {InstanceId{i}, g, x.epochs[g], Cause::none, kUnknownRank}, out);
    }
    if (failed[i]) {
      x.up |= failed[i];  // as far as anybody was told
      open_incident(now, i, failed[i], kUnknownRank, out);
    }
    if (x.warm && has_absent(x))
      out.push_back(ArmTimer{kFleetAbsentTimer | i, now + policy_.spec().elastic.rejoin_check});
    for (std::uint32_t g = 0; !x.warm && g < x.groups.size(); ++g) {  // nothing is to be left of what nobody reports
      out.push_back(Send{agent_of(x.groups[g].nodes.front()), StopGroup{InstanceId{i}, g, x.epochs[g], setup_.term}});
    }
    x.accepting = x.serving && !x.draining && can_serve(x);
    x.told_serving = x.serving;
    if (!x.draining) begin_return(i, out);
    for (std::uint32_t r = 0; r < setup_.routers; ++r) send_update(r, i, out);
  }
  for (const std::uint32_t i : to_serve) bring_up(now, i, out);
  const std::set<std::uint32_t> planned = maintenance_;
  for (const std::uint32_t node : planned) maintenance(now, {node, true}, out);
  if (setup_.autoscaler.enabled) step(now, TimerFired{kFleetScaleTimer}, out);
  if (setup_.detector.health_period) check_health(now, out);
  for (const Event& e : later) step(now, e, out);
}

}  // namespace faultline::control
