#include "backend/driver/node_member.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

namespace faultline::live {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A healthy GPU answers a probe within this; sim/driver/world_faults.cpp has the same.
constexpr Duration kProbeAnswer{100'000'000};
// Of a hand-off in real time. A machine that is busy with other things may not run a thread for some 100 ms; a shorter
// budget, of a run at high speed, would see broken paths everywhere.
constexpr Duration kBudgetLeast{500'000'000};

std::unique_ptr<control::Controller> agent(const Cluster& cluster, std::uint32_t node) {
  control::NodeAgentSetup setup = cluster.deployment().agent;
  setup.node = node;
  return std::make_unique<control::NodeAgent>(setup);
}

}  // namespace

NodeMember::NodeMember(const Cluster& cluster, Address self, std::uint32_t incarnation)
    : Member(cluster, self, incarnation, agent(cluster, self.index)),
      kv_(cluster, self.index, incarnation,
          clock().real(cluster.spec().network.retransmission_budget(), kBudgetLeast)) {}

void NodeMember::tell(std::uint32_t node, Packet packet) {
  if (node == self().index) own_.emplace_back(self(), std::move(packet));
  else send({Role::node, node}, packet);
}

void NodeMember::tell_members(const Led& led, const Packet& packet) {
  for (const std::uint32_t node : led.start.nodes) tell(node, packet);
}

void NodeMember::execute(control::Command& command) {
  if (auto* step = std::get_if<control::SubmitStep>(&command)) {
    submit(*step);
  } else if (const auto* interrupt = std::get_if<control::InterruptStep>(&command)) {
    order({interrupt->instance.v, interrupt->group}, InterruptOrder{interrupt->op});
  } else if (const auto* abort = std::get_if<control::AbortGroup>(&command)) {
    const auto it = led_.find({abort->instance.v, abort->group});
    if (it != led_.end() && it->second.op.valid()) order(it->first, AbortOrder{it->second.op});
  } else if (const auto* write = std::get_if<control::PostWrite>(&command)) {
    kv_.post(write->op, write->push.to_node, write->push.bytes, write->push.step);
  } else if (const auto* cancel = std::get_if<control::CancelWrite>(&command)) {
    kv_.cancel(cancel->op);
  } else if (const auto* start = std::get_if<control::LaunchGroup>(&command)) {
    launch(start->start, false);
  } else if (const auto* kill = std::get_if<control::KillGroup>(&command)) {
    kill_group({kill->instance.v, kill->group});
  } else if (const auto* run = std::get_if<control::RunProbe>(&command)) {
    probe(*run);
  }
}

void NodeMember::packet(Address from, Packet& packet) {
  if (const auto* start = std::get_if<SpawnWorker>(&packet)) spawn(from.index, *start);
  else if (const auto* kill = std::get_if<KillWorkers>(&packet)) kill_workers(kill->id);
  else if (auto* join = std::get_if<JoinWorkers>(&packet)) order({join->id.instance, join->id.group}, std::move(*join));
  else if (const auto* pass = std::get_if<PassEnded>(&packet)) kv_.pass_ended(pass->op, pass->done);
  else if (const auto* hello = std::get_if<TransportHello>(&packet)) kv_.hello(from.index, *hello);
  else if (const auto* leader = std::get_if<StartLeader>(&packet)) start_leader(leader->instance, from.index);
  else led_packet(from, packet);
}

/// Groups that are up when the run begins, and their leaders.
bool NodeMember::prepare() {
  const auto& d = cluster().deployment();
  if (!prepared_) {
    prepared_ = true;
    for (std::uint32_t i = 0; i < d.instances.size(); ++i) {
      if (d.fleet.instances[i].leader_node == self().index) start_leader(i, self().index);
      for (std::uint32_t g = 0; g < d.instances[i].groups.size() && d.instances[i].up; ++g) {
        const auto& setup = d.instances[i].groups[g];
        if (setup.nodes.front() != self().index) continue;
        control::StartGroup start;
        start.instance = InstanceId{i};
        start.group = g;
        start.nodes = setup.nodes;
        start.leader_node = d.fleet.instances[i].leader_node;
        launch(start, true);
      }
    }
  }
  return leader_asked_.empty() &&
         std::all_of(led_.begin(), led_.end(), [](const auto& l) { return l.second.state != Led::State::launching; });
}

void NodeMember::add_descriptors(std::vector<pollfd>& fds) {
  fds.push_back({kv_.event_descriptor(), POLLIN, 0});
  for (const auto& [key, worker] : workers_) fds.push_back({worker.control.get(), POLLIN, 0});
}

void NodeMember::work() {
  const Time real = steady_clock::now();
  take_reports();
  while (!own_.empty()) {
    auto [from, p] = std::move(own_.front());
    own_.pop_front();
    packet(from, p);
  }
  for (auto& [key, led] : led_) {
    if (led.state == Led::State::launching) launch_work(led);
    else if (led.state == Led::State::running) watchdog(led);
  }
  kv_.work(real);
  for (const auto& ended : kv_.take_ended()) post(control::WriteEnded{ended.op, ended.cause});
  for (auto& [node, hello] : kv_.take_hellos()) send({Role::node, node}, hello);
  for (auto it = probes_.begin(); it != probes_.end();) {
    if (now() < it->at) {
      ++it;
      continue;
    }
    control::ProbeEnded ended{.token = it->token};
    for (std::uint32_t g = 0; g < cluster().deployment().topology.layout.gpus; ++g) {
      if (board().nodes[self().index].gpu[g] != GpuState::well) ended.bad_gpus |= 1U << g;
    }
    post(ended);
    it = probes_.erase(it);
  }
  for (auto it = leader_asked_.begin(); it != leader_asked_.end();) {
    const auto ready = board().ready[cluster().member_of({Role::instance, it->first})].load();
    if (ready == Ready::serving || (ready == Ready::listening && board().begin_ns == 0)) {
      tell(it->second, LeaderUp{it->first});
      it = leader_asked_.erase(it);
    } else {
      ++it;
    }
  }
  for (auto it = leaders_.begin(); it != leaders_.end();) {
    if (::waitpid(it->second, nullptr, WNOHANG) == it->second) {
      pid_t mine = it->second;
      board().leader[it->first].compare_exchange_strong(mine, 0);
      it = leaders_.erase(it);
    } else {
      ++it;
    }
  }
}

NodeMember::Time NodeMember::next_work() const {
  Time next = kv_.next_work();
  if (!own_.empty()) next = steady_clock::now();
  if (!leader_asked_.empty()) next = std::min(next, steady_clock::now() + milliseconds(2));
  for (const auto& p : probes_) next = std::min(next, clock().real(p.at));
  for (const auto& [key, led] : led_) {
    if (led.state == Led::State::launching) {
      const Instant at = !led.spawned ? led.spawn_at : !led.checked ? led.check_at : led.end_at;
      next = std::min(next, at > now() ? clock().real(at) : steady_clock::now() + milliseconds(5));
    } else if (led.state == Led::State::running) {
      next = std::min(next, clock().real(std::min({led.fail_at, led.stall_ends, silence_ends(led)})));
    }
  }
  return next;
}

void NodeMember::probe(const control::RunProbe& run) {
  bool hangs = false;
  for (const auto& gpu : board().nodes[self().index].gpu) hangs = hangs || gpu == GpuState::hung;
  probes_.push_back({run.token, now() + (hangs ? run.timeout : kProbeAnswer)});
}

void NodeMember::start_leader(std::uint32_t instance, std::uint32_t asked_by) {
  const std::uint32_t member = cluster().member_of({Role::instance, instance});
  leader_asked_.emplace(instance, asked_by);
  if (board().leader[instance] != 0) return;  // it runs, here or elsewhere
  board().ready[member] = Ready::no;
  const std::uint32_t incarnation = board().starts[member]++;
  const auto& s = cluster().settings();
  const pid_t pid = start_process(s.program,
                                  {"cluster", "member", "--role", "instance", "--index", std::to_string(instance),
                                   "--incarnation", std::to_string(incarnation)},
                                  {kSettingsFd, kBoardFd}, false);
  board().leader_node[instance] = self().index;
  board().leader[instance] = pid;
  leaders_[instance] = pid;
}

}  // namespace faultline::live
