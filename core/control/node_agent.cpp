#include "core/control/node_agent.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::control {
namespace {
constexpr TimerKey kWakeUp = 1;
constexpr Address kFleet{Role::fleet, 0};
constexpr Address leader(std::uint32_t instance) { return {Role::instance, instance}; }
}  // namespace

void describe(config::Fields& f, TransferSpec& s) {
  f.field("deadline", s.deadline, config::kPositive);
  f.field("tries_max", s.tries_max, {.min = 1, .max = 100});
  f.field("retry_delay", s.retry_delay, config::kNotNegative);
}

std::uint64_t NodeAgent::hash_of(const GroupKey& key, const Group& g) const {
  return entry_hash(21, key.first, key.second, g.epoch, g.running, g.op.v, g.stopped, g.led);
}
std::uint64_t NodeAgent::hash_of(const Push& p) const {
  return entry_hash(22, p.push.op.v, p.tries, p.posted.v, p.deadline.ns, p.canceled);
}
std::uint64_t NodeAgent::full_digest() const {
  Digest d;
  for (const auto& [key, g] : groups_) d.add(hash_of(key, g));
  for (const auto& [op, p] : pushes_) d.add(hash_of(p));
  for (const auto& [key, s] : launching_) d.add(hash_of(s));
  return whole(d);
}

/// False for a command of a fleet manager that has been replaced.
bool NodeAgent::current(Term term) {
  if (term < term_) return false;
  term_ = term;
  return true;
}

AgentState NodeAgent::state(Term term) const {
  AgentState state{.term = term, .groups = {}};
  for (const auto& [key, g] : groups_) {
    if (launching_.contains(key)) continue;
    state.groups.push_back({.instance = InstanceId{key.first},
                            .group = key.second,
                            .epoch = g.epoch,
                            .running = !g.stopped,
                            .nodes = g.nodes,
                            .leader_node = g.leader_node,
                            .absent = g.absent,
                            .survivors = g.survivors,
                            .role = g.role});
  }
  for (const auto& [key, s] : launching_) {
    state.groups.push_back({.instance = s.instance,
                            .group = s.group,
                            .epoch = s.epoch,
                            .launching = true,
                            .nodes = s.nodes,
                            .leader_node = s.leader_node,
                            .absent = s.absent,
                            .survivors = s.kind != StartGroup::Kind::whole,
                            .role = s.role});
  }
  return state;
}

void NodeAgent::step(Instant now, const Event& event, Commands& out) {
  if (const auto* received = std::get_if<Received>(&event)) {
    const std::uint32_t from = received->from.index;
    const Message& m = received->message;
    if (const auto* run = std::get_if<RunStep>(&m)) {
      run_step(from, *run, out);
    } else if (const auto* interrupt = std::get_if<InterruptRun>(&m)) {
      const auto it = steps_.find(interrupt->op);
      if (it != steps_.end()) out.push_back(InterruptStep{interrupt->op, InstanceId{from}, interrupt->group});
    } else if (const auto* push = std::get_if<PushKv>(&m)) {
      push_kv(now, from, *push, out);
    } else if (const auto* start = std::get_if<StartGroup>(&m)) {
      if (!current(start->term)) return;
      const GroupKey key{start->instance.v, start->group};
      if (!start->beside()) {  // who starts beside it changes nothing of the group that runs
        const auto [launching, fresh] = launching_.try_emplace(key, *start);
        if (!fresh && launching->second.epoch < start->epoch) {
          digest_.remove(hash_of(launching->second));
          launching->second = *start;
          digest_.add(hash_of(*start));
        } else if (fresh) {
          digest_.add(hash_of(*start));
        }
      }
      if (start->kind == StartGroup::Kind::whole) stop_group(key, start->epoch - 1, out);  // else its survivors go on
      out.push_back(LaunchGroup{*start});
    } else if (const auto* stop = std::get_if<StopGroup>(&m)) {
      if (!current(stop->term)) return;
      const GroupKey key{stop->instance.v, stop->group};
      // Workers that have been idle since before this agent's start are not known here, but run.
      if (!groups_.contains(key)) out.push_back(KillGroup{stop->instance, stop->group, stop->epoch});
      stop_group(key, stop->epoch, out);
    } else if (const auto* probe = std::get_if<ProbeNode>(&m)) {
      out.push_back(RunProbe{probe->token, setup_.detector.probe_timeout});
    } else if (const auto* claim = std::get_if<ClaimFleet>(&m)) {
      term_ = std::max(term_, claim->term);
      out.push_back(Send{received->from, state(claim->term)});
    }
  } else if (const auto* ended = std::get_if<StepEnded>(&event)) {
    step_ended(*ended, out);
  } else if (const auto* written = std::get_if<WriteEnded>(&event)) {
    write_ended(now, *written, out);
  } else if (const auto* launched = std::get_if<LaunchEnded>(&event)) {
    const GroupKey key{launched->instance.v, launched->group};
    StartGroup asked;
    if (const auto it = launching_.find(key);
        !launched->joined && it != launching_.end() && it->second.epoch == launched->epoch) {
      digest_.remove(hash_of(it->second));
      asked = std::move(it->second);
      launching_.erase(it);
    }
    if (launched->cause == Cause::none && !launched->joined) {
      const auto [it, fresh] = groups_.try_emplace(key);
      if (fresh) out.push_back(Watch{leader(launched->instance.v)});
      if (fresh ||
          it->second.epoch <= launched->epoch) {  // else a later start was faster: its workers are the ones that run
        if (!fresh) digest_.remove(hash_of(key, it->second));
        it->second = Group{.epoch = launched->epoch,
                           .op = {},
                           .nodes = asked.nodes,
                           .leader_node = asked.leader_node,
                           .absent = asked.absent,
                           .survivors = asked.kind != StartGroup::Kind::whole,
                           .role = asked.role};
        digest_.add(hash_of(key, it->second));
      }
    }
    out.push_back(Send{kFleet, GroupStarted{launched->instance, launched->group, launched->epoch, launched->cause,
                                            launched->bad_node, launched->joined, launched->missing_experts}});
  } else if (const auto* exited = std::get_if<WorkersExited>(&event)) {
    const auto it = groups_.find({exited->instance.v, exited->group});
    if (it != groups_.end() && it->second.epoch == exited->epoch && !it->second.stopped) {  // nothing is left to stop
      digest_.remove(hash_of(it->first, it->second));
      it->second.stopped = true;
      digest_.add(hash_of(it->first, it->second));
    }
    out.push_back(Send{leader(exited->instance.v),
                       StepReport{OpId{}, exited->group, exited->epoch, 0, exited->cause, exited->rank}});
  } else if (const auto* probed = std::get_if<ProbeEnded>(&event)) {
    out.push_back(Send{kFleet, ProbeResult{probed->token, probed->bad_gpus, probed->network_ok, probed->cut_gpus}});
  } else if (const auto* peer = std::get_if<PeerChanged>(&event)) {
    // Without its leader a group has nobody to report to: its work stops, so that a new incarnation finds a clean node.
    // Workers that were started for the leader's next incarnation have had no work yet: the loss is not theirs.
    if (peer->to == PeerChanged::To::lost && peer->peer.role == Role::instance) {
      for (auto& [key, g] : groups_) {
        if (key.first == peer->peer.index && g.led) stop_group(key, g.epoch, out);
      }
    }
  } else if (std::get_if<TimerFired>(&event)) {
    fire(now, out);
  }
  arm(out);
}

void NodeAgent::run_step(std::uint32_t instance, const RunStep& run, Commands& out) {
  const GroupKey key{instance, run.group};
  const auto [it, fresh] = groups_.try_emplace(key);
  Group& g = it->second;
  if (fresh) {
    g.epoch = run.epoch;  // the incarnation that was up when the run began
    out.push_back(Watch{leader(instance)});
    digest_.add(hash_of(key, g));
  }
  if (run.epoch != g.epoch || g.stopped) {
    out.push_back(
        Send{leader(instance), StepReport{run.op, run.group, run.epoch, 0, Cause::stale_epoch, kUnknownRank}});
    return;
  }
  digest_.remove(hash_of(key, g));
  g.running = g.led = true;
  g.op = run.op;
  digest_.add(hash_of(key, g));
  steps_.emplace(run.op, std::pair{key, run.epoch});
  out.push_back(SubmitStep{InstanceId{instance}, run});
}

void NodeAgent::step_ended(const StepEnded& ended, Commands& out) {
  const auto it = steps_.find(ended.op);
  if (it == steps_.end()) return;  // submitted by the incarnation before, whose leader has given it up with its agent
  const auto [key, epoch] = it->second;
  steps_.erase(it);
  Group& g = groups_.at(key);
  if (g.op == ended.op) {
    digest_.remove(hash_of(key, g));
    g.running = false;
    digest_.add(hash_of(key, g));
  }
  out.push_back(
      Send{leader(key.first), StepReport{ended.op, key.second, epoch, ended.steps, ended.cause, ended.suspect_rank}});
}

void NodeAgent::push_kv(Instant now, std::uint32_t instance, const PushKv& push, Commands& out) {
  Push p{.push = push, .instance = instance, .deadline = now + setup_.transfer.deadline, .posted = {}};
  const auto it = pushes_.emplace(push.op, p).first;
  deadlines_.emplace_back(p.deadline, push.op);
  digest_.add(hash_of(it->second));
  post(it->second, out);
}

void NodeAgent::post(Push& p, Commands& out) {
  digest_.remove(hash_of(p));
  p.posted = OpId{(std::uint64_t{1} << 63) | (std::uint64_t{setup_.node} << 40) | ++ops_};
  ++p.tries;
  digest_.add(hash_of(p));
  attempts_.emplace(p.posted, p.push.op);
  out.push_back(PostWrite{p.posted, InstanceId{p.instance}, p.push, p.tries - 1});
}

void NodeAgent::write_ended(Instant now, const WriteEnded& ended, Commands& out) {
  const auto attempt = attempts_.find(ended.op);
  FAULTLINE_ASSERT(attempt != attempts_.end(), "op={}", ended.op.v);
  const auto it = pushes_.find(attempt->second);
  attempts_.erase(attempt);
  FAULTLINE_ASSERT(it != pushes_.end(), "op={}", ended.op.v);
  Push& p = it->second;
  digest_.remove(hash_of(p));
  p.posted = OpId{};
  digest_.add(hash_of(p));
  const bool again = ended.cause == Cause::link_down && !p.canceled && p.deadline > now + setup_.transfer.retry_delay &&
                     p.tries < static_cast<std::uint32_t>(setup_.transfer.tries_max);
  if (again) {
    retries_.emplace(std::pair{now + setup_.transfer.retry_delay, p.push.op}, true);
  } else {
    // A canceled attempt ran into its deadline: that is what the leader should hear.
    end_push(it, ended.cause == Cause::canceled && p.canceled ? Cause::timeout : ended.cause, out);
  }
}

void NodeAgent::end_push(std::unordered_map<OpId, Push>::iterator it, Cause cause, Commands& out) {
  const Push& p = it->second;
  out.push_back(Send{leader(p.instance), KvReport{p.push.op, p.push.slot, cause, p.tries}});
  if (cause == Cause::link_down || cause == Cause::timeout || cause == Cause::peer_lost) {
    out.push_back(Send{kFleet, TransferFailed{setup_.node, p.push.to_node, cause}});
  }
  digest_.remove(hash_of(p));
  pushes_.erase(it);
}

void NodeAgent::stop_group(const GroupKey& key, Epoch epoch, Commands& out) {
  const auto it = groups_.find(key);
  if (it == groups_.end() || it->second.epoch > epoch || it->second.stopped) return;
  digest_.remove(hash_of(key, it->second));
  it->second.stopped = true;
  digest_.add(hash_of(key, it->second));
  out.push_back(KillGroup{InstanceId{key.first}, key.second, epoch});
}

void NodeAgent::fire(Instant now, Commands& out) {
  armed_ = kNever;
  while (!retries_.empty() && retries_.begin()->first.first <= now) {
    const auto it = pushes_.find(retries_.begin()->first.second);
    retries_.erase(retries_.begin());
    if (it != pushes_.end() && !it->second.posted.valid()) post(it->second, out);
  }
  while (!deadlines_.empty() && deadlines_.front().first <= now) {
    const auto it = pushes_.find(deadlines_.front().second);
    deadlines_.pop_front();
    if (it == pushes_.end()) continue;
    Push& p = it->second;
    if (p.posted.valid()) {
      digest_.remove(hash_of(p));
      p.canceled = true;
      digest_.add(hash_of(p));
      out.push_back(CancelWrite{p.posted});
    } else {
      end_push(it, Cause::timeout, out);
    }
  }
}

void NodeAgent::arm(Commands& out) {
  // Finished pushes are dropped lazily from the front, so that the timer is armed for a live one.
  while (!deadlines_.empty() && pushes_.find(deadlines_.front().second) == pushes_.end()) deadlines_.pop_front();
  Instant first = deadlines_.empty() ? kNever : deadlines_.front().first;
  if (!retries_.empty()) first = std::min(first, retries_.begin()->first.first);
  // An earlier timer that fires in vain costs less than moving it with every transfer.
  if (first >= armed_) return;
  out.push_back(ArmTimer{kWakeUp, first});
  armed_ = first;
}

}  // namespace faultline::control
