// Making faults true on a live cluster.
#include <signal.h>

#include <algorithm>

#include "backend/driver/conductor.h"

namespace faultline::live {

using fault::FaultKind;

fault::Support Conductor::supports(const fault::ScheduledFault& f) const {
  if (!std::holds_alternative<Instant>(f.trigger))
    return {false, "a live run knows only triggers at a time ('at', 'random')"};
  switch (f.kind) {
    case FaultKind::node_crash:
    case FaultKind::gpu_failstop:
    case FaultKind::gpu_hang:
    case FaultKind::router_crash: return {};
    default: return {false, "a live run on one host can do node.crash, gpu.failstop, gpu.hang and router.crash"};
  }
}

void Conductor::change(std::uint32_t index, bool active) {
  const fault::ScheduledFault& f = cluster_->deployment().faults[index];
  const Instant now = clock_.now();
  const Status status = active ? apply(f, now) : revert(f, now);
  truth_.append(now, f.name, name_of(f.kind), f.target, active, status.cause());
  run_.changes.push_back({now, index, active, status.cause()});
}

void Conductor::signal_workers(std::uint32_t node, std::uint32_t gpu, int signal) {
  for (auto& w : board_->nodes[node].workers) {
    const pid_t pid = w.pid;
    if (pid > 0 && gpu < w.gpus) ::kill(pid, signal);
  }
}

Status Conductor::apply(const fault::ScheduledFault& f, Instant) {
  const topology::Topology& topology = cluster_->deployment().topology;
  switch (f.kind) {
    case FaultKind::gpu_failstop:
    case FaultKind::gpu_hang: {
      const auto gpu = topology.gpu_of(f.component);
      if (!gpu) return Cause::device_lost;
      const bool dies = f.kind == FaultKind::gpu_failstop;
      auto& state = board_->nodes[gpu->node.v].gpu[gpu->gpu];
      if (state == GpuState::dead) return Cause::device_lost;
      state = dies ? GpuState::dead : GpuState::hung;
      signal_workers(gpu->node.v, gpu->gpu, dies ? SIGKILL : SIGSTOP);
      return ok();
    }
    case FaultKind::node_crash: {
      const NodeId node = topology.node_of(f.component);
      if (!node.valid() || processes_[{Role::node, node.v}].pid == 0) return Cause::peer_lost;
      crash_node(node.v);
      return ok();
    }
    case FaultKind::router_crash: {
      const auto& hosts = cluster_->deployment().placement.routers;
      Status status = Cause::peer_lost;
      for (std::uint32_t r = 0; r < cluster_->routers(); ++r) {
        const bool named = f.target == "router-" + std::to_string(r);
        const bool there = f.target.rfind("router-", 0) != 0 && hosts[r] == f.component;
        Process& process = processes_[{Role::router, r}];
        if ((!named && !there) || process.pid == 0) continue;
        end_process(process, SIGKILL);
        const Duration after = f.length == kForever ? cluster_->spec().router_restart : f.length;
        at(clock_.now() + after, [this, r] {
          if (processes_[{Role::router, r}].pid == 0) start({Role::router, r});
        });
        status = ok();
      }
      return status;
    }
    default: return Cause::protection;
  }
}

Status Conductor::revert(const fault::ScheduledFault& f, Instant) {
  const topology::Topology& topology = cluster_->deployment().topology;
  if (f.kind == FaultKind::gpu_failstop || f.kind == FaultKind::gpu_hang) {
    const auto gpu = topology.gpu_of(f.component);
    if (!gpu) return Cause::device_lost;
    auto& state = board_->nodes[gpu->node.v].gpu[gpu->gpu];
    if (f.kind == FaultKind::gpu_failstop) {
      state = GpuState::well;
    } else if (state == GpuState::hung) {
      state = GpuState::well;
      signal_workers(gpu->node.v, gpu->gpu, SIGCONT);
    }
  } else if (f.kind == FaultKind::node_crash) {
    const NodeId node = topology.node_of(f.component);
    bury_node(node.v);
    start({Role::node, node.v});
    const auto& hosts = cluster_->deployment().placement.routers;
    for (std::uint32_t r = 0; r < cluster_->routers(); ++r) {
      if (hosts[r] == f.component && processes_[{Role::router, r}].pid == 0) start({Role::router, r});
    }
    if (hosts[0] == f.component && processes_[{Role::fleet, 0}].pid == 0) start({Role::fleet, 0});
  }
  return ok();
}

/// Silent at once; gone when everybody has had the time to notice the silence.
void Conductor::crash_node(std::uint32_t node) {
  const auto& spec = cluster_->spec();
  const ComponentId component = cluster_->deployment().topology.node(NodeId{node});
  const auto& hosts = cluster_->deployment().placement.routers;
  const auto stop = [&](Address who) {
    Process& process = processes_[who];
    if (process.pid == 0) return;
    process.stopped = true;
    ::kill(-process.pid, SIGSTOP);
  };
  stop({Role::node, node});
  for (std::uint32_t r = 0; r < cluster_->routers(); ++r) {
    if (hosts[r] == component) stop({Role::router, r});
  }
  if (hosts[0] == component) stop({Role::fleet, 0});
  for (std::uint32_t i = 0; i < cluster_->deployment().instances.size(); ++i) {
    if (board_->leader[i] != 0 && board_->leader_node[i] == node)
      board_->leader[i] = 0;  // another may be started elsewhere
  }
  const Duration unheard = spec.detector.heartbeat_period * (spec.detector.heartbeats_missed + 1);
  const Duration unacked = spec.network.retransmission_budget() * 2;
  at(clock_.now() + std::max(unheard, unacked), [this, node] { bury_node(node); });
}

void Conductor::bury_node(std::uint32_t node) {
  const ComponentId component = cluster_->deployment().topology.node(NodeId{node});
  const auto& hosts = cluster_->deployment().placement.routers;
  for (auto& [who, process] : processes_) {
    const bool here = (who.role == Role::node && who.index == node) ||
                      (who.role == Role::router && hosts[who.index] == component) ||
                      (who.role == Role::fleet && hosts[0] == component);
    if (!here || !process.stopped) continue;
    end_process(process, SIGKILL);
    process.stopped = false;
    if (who.role == Role::node) {
      for (auto& w : board_->nodes[node].workers) w.pid = 0;
    }
  }
}

}  // namespace faultline::live
