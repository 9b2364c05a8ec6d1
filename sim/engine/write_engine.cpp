#include "sim/engine/write_engine.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::sim {

WriteEngine::Write WriteEngine::add(std::uint32_t user) {
  Write write = 0;
  if (free_.empty()) {
    write = static_cast<Write>(writes_.size());
    writes_.emplace_back();
  } else {
    write = free_.back();
    free_.pop_back();
  }
  State& s = writes_[write];
  s.user = user;
  s.live = true;
  s.started = s.routed = false;
  s.flow = 0;
  s.stamp = ++stamps_;
  s.path.clear();
  return write;
}

void WriteEngine::start(Write write) {
  State& s = writes_[write];
  FAULTLINE_ASSERT(s.live && !s.started, "write {}", write);
  s.started = true;
  s.routed = owner_->route(s.user, s.path, s.bytes);
  if (s.routed) launch(write);
  else wait(write);
}

void WriteEngine::launch(Write write) {
  State& s = writes_[write];
  s.stamp = ++stamps_;
  if (s.path.empty()) {
    const std::uint32_t user = s.user;
    cancel(write);
    owner_->written(user);
    return;
  }
  s.flow = net_->start(s.path, s.bytes, paths_->latency_of(s.path));
  by_flow_.emplace(s.flow, write);
}

void WriteEngine::wait(Write write) {
  State& s = writes_[write];
  s.stamp = ++stamps_;
  owner_->wake_at(owner_->write_time() + budget_, write, s.stamp);
}

void WriteEngine::cancel(Write write) {
  State& s = writes_[write];
  FAULTLINE_ASSERT(s.live, "write {}", write);
  if (s.flow != 0) {
    by_flow_.erase(s.flow);
    net_->cancel(s.flow);
    s.flow = 0;
  }
  s.live = false;
  free_.push_back(write);
}

bool WriteEngine::way_is_up(const State& s) const {
  return std::all_of(s.path.begin(), s.path.end(), [this](topology::LinkIndex l) { return links_->up(l); }) &&
         owner_->peer_up(s.user);
}

void WriteEngine::links_changed() {
  for (Write write = 0; write < writes_.size(); ++write) {
    State& s = writes_[write];
    if (!s.live || !s.started) continue;
    if (s.flow != 0) {
      if (way_is_up(s)) continue;
      s.bytes = net_->remaining(s.flow);
      by_flow_.erase(s.flow);
      net_->cancel(s.flow);
      s.flow = 0;
      wait(write);
    } else if (s.routed) {
      if (way_is_up(s)) launch(write);
    } else {
      s.routed = owner_->route(s.user, s.path, s.bytes);
      if (s.routed) launch(write);
    }
  }
}

std::size_t WriteEngine::flows_done(std::span<const FlowId> flows) {
  std::size_t count = 0;
  for (const FlowId flow : flows) {
    const auto it = by_flow_.find(flow);
    if (it == by_flow_.end()) continue;
    const Write write = it->second;
    by_flow_.erase(it);
    writes_[write].flow = 0;
    const std::uint32_t user = writes_[write].user;
    cancel(write);
    ++count;
    owner_->written(user);
  }
  return count;
}

void WriteEngine::due(Write write, std::uint64_t stamp) {
  const State& s = writes_[write];
  if (!s.live || s.stamp != stamp) return;
  const std::uint32_t user = s.user;
  cancel(write);
  owner_->gave_up(user);
}

}  // namespace faultline::sim
