// Groups whose head this node is: starting their workers, running their steps, noticing their ends.
#include <algorithm>

#include "backend/driver/node_member.h"

namespace faultline::live {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kLaunchMax{20};  // real, after the planned time

}  // namespace

NodeMember::Led* NodeMember::led(const GroupId& id) {
  const auto it = led_.find({id.instance, id.group});
  return it == led_.end() || it->second.epoch() != id.epoch || it->second.state == Led::State::stopped ? nullptr
                                                                                                       : &it->second;
}

// ---- starting
// ---------------------------------------------------------------------------------------------------------

void NodeMember::launch(const control::StartGroup& start, bool initial) {
  const Key key{start.instance.v, start.group};
  kill_group(key);
  const auto& engine = cluster().spec().engine;
  Led& led = led_[key];
  led = Led{};
  led.state = Led::State::launching;
  led.start = start;
  led.initial = initial;
  led.nodes.resize(start.nodes.size());
  led.spawn_at = initial ? now() : now() + start.delay;
  led.check_at = led.spawn_at + (initial || start.warm ? Duration{0} : engine.restart_process);
  led.end_at = led.check_at + (initial || start.warm ? Duration{0} : engine.restart_total() - engine.restart_process);
  // Of other incarnations on the nodes where this one will run.
  if (start.epoch > 0) tell_members(led, KillWorkers{{key.first, key.second, start.epoch - 1}});
}

/// Whoever has not answered by then has failed. Before the run begins its time stands still.
NodeMember::Time NodeMember::give_up(const Led& led, Instant planned) const {
  const Time real = steady_clock::now();
  return (led.initial ? real : std::max(clock().real(planned), real)) + kLaunchMax;
}

void NodeMember::launch_work(Led& led) {
  const auto& s = led.start;
  const GroupId id{s.instance.v, s.group, s.epoch};
  if (!led.spawned) {
    if (now() < led.spawn_at) return;
    led.spawned = true;
    led.give_up = give_up(led, led.check_at);
    const auto& setup = cluster().deployment().instances[s.instance.v].groups[s.group];
    const auto tp = static_cast<std::uint32_t>(cluster().deployment().group_roles[s.group]->plan.tp);
    const auto count = static_cast<std::uint32_t>(s.nodes.size());
    const std::uint32_t gpus = static_cast<std::uint32_t>(setup.ranks) * tp / count;
    for (std::uint32_t k = 0; k < count; ++k) tell(s.nodes[k], SpawnWorker{id, k, count, gpus});
  }
  const bool late = steady_clock::now() >= led.give_up;
  const auto bad = [&](auto&& holds) {
    for (std::size_t k = 0; k < led.nodes.size(); ++k) {
      if (holds(led.nodes[k])) return s.nodes[k];
    }
    return control::kUnknownRank;
  };
  if (!led.checked) {
    if (now() < led.check_at) return;
    const std::uint32_t silent = bad([](const Led::Node& n) { return !n.up; });
    if (silent != control::kUnknownRank && !late) return;
    const std::uint32_t broken = bad([](const Led::Node& n) { return n.cause != Cause::none || n.gone || !n.up; });
    if (broken != control::kUnknownRank) {
      end_launch(led, Cause::device_lost, broken);
      return;
    }
    led.checked = true;
    led.give_up = give_up(led, led.end_at);
    JoinWorkers join{id, {}};
    for (const auto& n : led.nodes) join.workers.push_back(n.info);
    tell_members(led, join);
    if (!led.initial) tell(s.leader_node, StartLeader{s.instance.v});
  }
  const std::uint32_t gone = bad([](const Led::Node& n) { return n.gone; });
  const bool joined = bad([](const Led::Node& n) { return !n.joined; }) == control::kUnknownRank;
  if (now() < led.end_at) return;
  if (gone != control::kUnknownRank) end_launch(led, Cause::device_lost, gone);
  else if (joined && (led.leader_up || led.initial)) end_launch(led, Cause::none, control::kUnknownRank);
  else if (late) end_launch(led, Cause::timeout, bad([](const Led::Node& n) { return !n.joined; }));
}

void NodeMember::end_launch(Led& led, Cause cause, std::uint32_t bad_node) {
  const auto& s = led.start;
  led.state = cause == Cause::none ? Led::State::running : Led::State::stopped;
  if (cause != Cause::none) tell_members(led, KillWorkers{{s.instance.v, s.group, s.epoch}});
  if (!led.initial) post(control::LaunchEnded{s.instance, s.group, s.epoch, cause, bad_node});
  else if (cause != Cause::none) {
    throw std::runtime_error(fmt::format("instance {} group {}: the worker on node {} does not start ({})",
                                         s.instance.v, s.group, bad_node, name_of(cause)));
  }
}

void NodeMember::led_packet(Address from, const Packet& packet) {
  if (const auto* up = std::get_if<WorkerUp>(&packet)) {
    Led* l = led(up->id);
    if (l == nullptr || l->state != Led::State::launching || up->index >= l->nodes.size()) return;
    auto& n = l->nodes[up->index];
    n.up = true;
    n.cause = up->cause;
    n.info = {up->address, up->window};
  } else if (const auto* joined = std::get_if<WorkerJoined>(&packet)) {
    Led* l = led(joined->id);
    if (l != nullptr && joined->index < l->nodes.size()) l->nodes[joined->index].joined = true;
  } else if (const auto* gone = std::get_if<WorkerGone>(&packet)) {
    Led* l = led(gone->id);
    if (l == nullptr || gone->index >= l->nodes.size()) return;
    l->nodes[gone->index].gone = true;
    if (l->state == Led::State::running)
      fail_later(*l, cluster().spec().engine.process_exit_notice, Cause::device_lost);
  } else if (const auto* there = std::get_if<AreYouThere>(&packet)) {
    Led* l = there->answer ? led(there->id) : nullptr;
    if (!there->answer) send(from, AreYouThere{there->id, there->op, true});
    else if (l != nullptr && l->op == there->op) l->there.insert(from.index);
  } else if (const auto* leader = std::get_if<LeaderUp>(&packet)) {
    for (auto& [key, l] : led_) {
      if (key.first == leader->instance) l.leader_up = true;
    }
  }
}

// ---- steps
// ------------------------------------------------------------------------------------------------------------

void NodeMember::submit(const control::SubmitStep& s) {
  const Key key{s.instance.v, s.step.group};
  const auto it = led_.find(key);
  if (it == led_.end() || it->second.state != Led::State::running || it->second.op.valid()) {
    post(control::StepEnded{s.step.op, 0, Cause::device_lost, control::kUnknownRank});
    return;
  }
  Led& led = it->second;
  led.op = s.step.op;
  led.prefill = !s.step.items.empty();
  led.stalled_at = led.stall_ends = kNever;
  led.submitted = now();
  order(key, RunOrder{s.step});
}

void NodeMember::op_ended(Led& led, std::int64_t steps, Cause cause) {
  const OpId op = std::exchange(led.op, OpId{});
  led.stalled_at = led.stall_ends = kNever;
  if (led.prefill) tell_members(led, PassEnded{op, cause == Cause::none});
  post(control::StepEnded{op, steps, cause, control::kUnknownRank});
}

void NodeMember::report(Worker& worker, const WorkerReport& report) {
  const Key key{worker.id.instance, worker.id.group};
  if (const auto* listening = std::get_if<Listening>(&report)) {
    tell(worker.head, WorkerUp{worker.id, worker.index, Cause::none, listening->address, listening->window});
    return;
  }
  if (std::holds_alternative<Joined>(report)) {
    tell(worker.head, WorkerJoined{worker.id, worker.index});
    return;
  }
  Led* l = led(worker.id);
  if (l == nullptr || l->state != Led::State::running || worker.index != 0)
    return;  // the head's worker speaks for the group
  if (const auto* ended = std::get_if<OpEnded>(&report)) {
    if (ended->op == l->op) op_ended(*l, ended->steps, ended->cause);
  } else if (const auto* stalled = std::get_if<Stalled>(&report)) {
    if (stalled->op != l->op) return;
    l->stalled_at = now();
    l->stall_ends = l->stalled_at + cluster().spec().network.retransmission_budget() / 2;
    l->there = {self().index};
    for (const std::uint32_t node : l->start.nodes) {
      if (node != self().index) send({Role::node, node}, AreYouThere{worker.id, l->op, false});
    }
  } else if (const auto* gone = std::get_if<PeerGone>(&report)) {
    // Its own agent tells of an end of its process; if that does not come, its node is gone with it.
    const auto& spec = cluster().spec();
    if (l->fail_at == kNever)
      fail_later(*l, spec.engine.process_exit_notice + spec.network.retransmission_budget(), gone->cause);
  }
}

// ---- ends
// -------------------------------------------------------------------------------------------------------------

void NodeMember::fail_later(Led& led, Duration after, Cause cause) {
  const Instant at = now() + after;
  if (at >= led.fail_at) return;
  led.fail_at = at;
  led.fail_cause = cause;
}

/// When a step that does not end is given up.
Instant NodeMember::silence_ends(const Led& led) const {
  if (!led.op.valid()) return kNever;
  const auto it = workers_.find({led.start.instance.v, led.start.group});
  Instant last = led.submitted;
  if (it != workers_.end() && it->second.page->op == led.op.v)
    last = std::max(last, Instant{it->second.page->at_ns.load()});
  return last + cluster().spec().engine.collective_timeout;
}

void NodeMember::watchdog(Led& led) {
  const Instant t = now();
  if (t >= led.fail_at) {
    fail(led, led.fail_cause);
  } else if (t >= led.stall_ends) {
    const auto worker = workers_.find({led.start.instance.v, led.start.group});
    const bool goes_on = worker != workers_.end() && Instant{worker->second.page->at_ns.load()} > led.stalled_at;
    const bool all = std::all_of(led.start.nodes.begin(), led.start.nodes.end(),
                                 [&](std::uint32_t node) { return led.there.contains(node); });
    led.stalled_at = led.stall_ends = kNever;
    if (!goes_on && !all) fail(led, Cause::peer_lost);
  }
  if (led.state == Led::State::running && t >= silence_ends(led)) fail(led, Cause::timeout);
}

/// The engine ends all ranks of a group when one fails: their peers' state is not trusted any more.
void NodeMember::fail(Led& led, Cause cause) {
  const auto& s = led.start;
  std::int64_t steps = 0;
  const auto worker = workers_.find({s.instance.v, s.group});
  if (worker != workers_.end() && led.op.valid() && worker->second.page->op == led.op.v)
    steps = worker->second.page->steps;
  led.state = Led::State::stopped;
  led.fail_at = led.stall_ends = kNever;
  tell_members(led, KillWorkers{{s.instance.v, s.group, s.epoch}});
  // Idle groups notice only a dead process.
  if (led.op.valid()) op_ended(led, steps, cause);
  else if (cause == Cause::device_lost)
    post(control::WorkersExited{s.instance, s.group, s.epoch, cause, control::kUnknownRank});
}

void NodeMember::kill_group(const Key& key) {
  const auto it = led_.find(key);
  if (it == led_.end()) {
    kill_workers({key.first, key.second, ~control::Epoch{0} - 1});
    return;
  }
  Led& l = it->second;
  if (l.state == Led::State::stopped) return;
  const GroupId id{key.first, key.second, l.epoch()};
  std::int64_t steps = 0;
  if (const auto worker = workers_.find(key); worker != workers_.end() && worker->second.page->op == l.op.v)
    steps = worker->second.page->steps;
  l.state = Led::State::stopped;
  tell_members(l, KillWorkers{id});
  if (l.op.valid()) op_ended(l, steps, Cause::canceled);
}

}  // namespace faultline::live
