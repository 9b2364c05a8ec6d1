// KV pushes: one flow for a hand-off, bound to the prefill step that makes its bytes.
//
// A push moves layer by layer behind the computation: its flow starts when the first layer is done and the hand-off is
// complete when the flow has ended and the last layer's bytes have followed the end of the step. A tensor-parallel
// hand-off has one path per shard, all with the same bytes at the same time: the slowest path stands for all of them.
#include <algorithm>
#include <cmath>

#include "core/base/assert.h"
#include "sim/driver/world.h"

namespace faultline::sim {

void World::post_write(std::uint32_t agent, const control::PostWrite& w) {
  std::uint32_t index = 0;
  if (free_transfers_.empty()) {
    index = static_cast<std::uint32_t>(transfers_.size());
    transfers_.emplace_back();
  } else {
    index = free_transfers_.back();
    free_transfers_.pop_back();
  }
  Transfer& t = transfers_[index];
  t = Transfer{};
  t.live = true;
  t.op = w.op;
  t.agent = agent;
  t.agent_incarnation = incarnation(agent);
  t.push = w.push;
  t.instance = w.instance.v;
  t.generation = ++generation_;
  const Group& from = group(t.instance, w.push.from_group);
  const Group& to = group(t.instance, w.push.to_group);
  t.from_node = gpu_of(from, w.push.from_rank, 0).node;
  t.to_node = gpu_of(to, w.push.to_rank, 0).node;
  transfer_of_op_.emplace(t.op, index);
  count_event(fault::CausalEvent::kv_transfer_started, t.instance);

  // The step may have ended already: a second attempt, or a message that took longer than the step.
  const bool computing = from.exec->busy() && from.exec->op() == w.push.step;
  Duration wait{0};
  if (computing) {
    transfers_of_step_[w.push.step].push_back(index);
    if (from.exec->end() != kNever) {
      wait = (from.exec->end() - from.exec->began()) / std::max(1U, shape_of(from).layers);
    }
  } else {
    t.step_done = true;
  }
  queue_.push(now_ + wait, kTransferStart, index, t.generation);
}

bool World::choose_path(Transfer& t, std::vector<topology::LinkIndex>& path, Bytes& bytes) {
  const Group& from = group(t.instance, t.push.from_group);
  const Group& to = group(t.instance, t.push.to_group);
  const std::uint32_t shards = std::min(from.gpus_per_rank, to.gpus_per_rank);
  const std::uint32_t candidates = truth_.fabric_healthy() ? 1 : shards;
  // Ranks of the two sides with unequal shard counts pair up in order; extra receivers get copies within their node.
  BytesPerSecond worst{0};
  for (std::uint32_t s = 0; s < candidates; ++s) {
    auto& way = s == 0 ? path : other_path_;
    const topology::NodeGpu a = gpu_of(from, t.push.from_rank, s), b = gpu_of(to, t.push.to_rank, s);
    // Beside a dead GPU that would have forwarded, survivors are reached over their own NIC.
    if (!paths_.choose(a, b, t.op.v, truth_.links(), way) &&
        (to.absent.empty() || !paths_.choose_direct(a, b, t.op.v, truth_.links(), way))) {
      return false;
    }
    const BytesPerSecond rate = way.empty() ? BytesPerSecond{1} : paths_.bottleneck_of(way, truth_.links());
    if (s > 0 && rate >= worst) continue;
    worst = rate;
    if (s > 0) path.swap(other_path_);
  }
  bytes = t.push.bytes / shards;
  const std::int64_t layers = std::max(1U, shape_of(from).layers);
  t.tail = path.empty() ? Duration{0}
                        : Duration{static_cast<std::int64_t>(static_cast<double>((bytes / layers).v) * 1e9 /
                                                             static_cast<double>(worst.v))} +
                              paths_.latency_of(path);
  return true;
}

void World::start_flow(std::uint32_t index) {
  transfers_[index].write = writes_->add(index);
  writes_->start(transfers_[index].write);
}

bool World::route(std::uint32_t index, std::vector<topology::LinkIndex>& path, Bytes& bytes) {
  if (!peer_up(index) || !choose_path(transfers_[index], path, bytes)) return false;
  for (const topology::LinkIndex l : path) share_with_exchange(l);
  return true;
}

bool World::peer_up(std::uint32_t index) const {
  const Transfer& t = transfers_[index];
  return !truth_.down(setup_.topology->node(t.to_node)) && !truth_.transfers_blocked(t.from_node) &&
         !truth_.transfers_blocked(t.to_node);
}

void World::written(std::uint32_t index) {
  transfers_[index].write = WriteEngine::kNone;
  transfers_[index].flow_done = true;
  maybe_complete(index);
}

void World::gave_up(std::uint32_t index) {
  transfers_[index].write = WriteEngine::kNone;
  const bool gone = truth_.down(setup_.topology->node(transfers_[index].to_node));
  end_transfer(index, gone ? Cause::peer_lost : Cause::link_down);
}

/// Expert-parallel traffic loads the same NICs as the pushes. It is not made of flows at this fidelity: when a push
/// starts, the mean rate of the exchanges of the groups on the link's node is taken off the link, down to half of it,
/// which is what two equal claimants would get. The exchange's own slow-down by pushes is not modelled (docs/model.md).
void World::share_with_exchange(topology::LinkIndex link) {
  const topology::Topology& topology = *setup_.topology;
  const ComponentId component = topology.graph.link(link).component;
  if (topology.graph[component].kind != topology::Kind::cable) return;
  const NodeId node = topology.node_of(component);
  double rate = 0;
  for (const std::uint32_t g : groups_on_node_[node.v]) {
    if (groups_[g].nodes.size() > 1) rate += groups_[g].exec->exchange_rate();
  }
  rate *= static_cast<double>(topology.layout.gpus) / (topology.layout.nics * topology.layout.ports);
  const double capacity = static_cast<double>(paths_.capacity()[link.v].v) * truth_.links().factor(link);
  const double left = std::max(capacity / 2, capacity - rate);
  // In steps of a sixteenth, so that small changes of load do not solve the network anew.
  const double rounded = capacity * std::max(8.0, std::floor(left / capacity * 16)) / 16;
  net_->set_capacity(link, BytesPerSecond{std::max<std::int64_t>(1, static_cast<std::int64_t>(rounded))});
}

void World::flows_done(Instant at, std::span<const FlowId> flows) {
  if (stop_) return;
  now_ = std::max(now_, at);
  events_ += writes_->flows_done(flows);
  drain_local();
  if (finished()) stop_ = true;
  net_->rearm();
}

/// The prefill step of some pushes ended.
void World::step_bound(OpId step, bool done) {
  const auto it = transfers_of_step_.find(step);
  if (it == transfers_of_step_.end()) return;
  const std::vector<std::uint32_t> bound = std::move(it->second);
  transfers_of_step_.erase(it);
  for (const std::uint32_t index : bound) {
    Transfer& t = transfers_[index];
    if (!t.live || t.push.step != step) continue;
    if (done) {
      t.step_done = true;
      // Usually the flow has kept up with the layers and only the last one follows.
      if (t.flow_done) {
        t.generation = ++generation_;
        queue_.push(now_ + t.tail, kTransferDone, index, t.generation);
      }
    } else {
      end_transfer(index, Cause::canceled);
    }
  }
}

void World::maybe_complete(std::uint32_t index) {
  Transfer& t = transfers_[index];
  if (t.flow_done && t.step_done) end_transfer(index, Cause::none);
}

void World::end_transfer(std::uint32_t index, Cause cause) {
  Transfer& t = transfers_[index];
  if (t.write != WriteEngine::kNone) writes_->cancel(t.write);
  t.write = WriteEngine::kNone;
  transfer_of_op_.erase(t.op);
  t.live = false;
  free_transfers_.push_back(index);
  const std::uint32_t agent = t.agent;
  const bool same = alive(agent) && incarnation(agent) == t.agent_incarnation;
  if (cause == Cause::none && !t.push.step.valid()) run_.replica_bytes_written += t.push.bytes.v;
  if (cause == Cause::none) count_event(fault::CausalEvent::kv_transfer_completed, t.instance);
  else if (cause != Cause::canceled) observer_.symptom(now_, t.instance);
  if (same) post_local(agent, control::WriteEnded{t.op, cause});
}

void World::cancel_write(OpId op) {
  const auto it = transfer_of_op_.find(op);
  if (it == transfer_of_op_.end()) return;
  Transfer& t = transfers_[it->second];
  if (t.write != WriteEngine::kNone) writes_->cancel(t.write);
  t.write = WriteEngine::kNone;
  t.generation = ++generation_;
  queue_.push(now_, kTransferCanceled, it->second, t.generation);
}

void World::set_capacities() {
  for (std::uint32_t l = 0; l < paths_.size(); ++l) {
    const topology::LinkIndex link{l};
    if (!truth_.links().up(link)) continue;
    const double effective = static_cast<double>(paths_.capacity()[l].v) * truth_.links().factor(link);
    net_->set_capacity(link, BytesPerSecond{std::max<std::int64_t>(1, static_cast<std::int64_t>(effective))});
  }
}

void World::transfers_after_link_change() {
  if (!net_) return;
  set_capacities();
  writes_->links_changed();
  net_->rearm();
}

/// The sender is gone with its node: nobody is left to be told.
void World::drop_transfers_of(NodeId node) {
  for (std::uint32_t index = 0; index < transfers_.size(); ++index) {
    if (transfers_[index].live && transfers_[index].from_node == node) end_transfer(index, Cause::canceled);
  }
}

}  // namespace faultline::sim
