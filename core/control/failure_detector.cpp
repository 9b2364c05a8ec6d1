#include "core/control/failure_detector.h"

namespace faultline::control {

FailureDetector::State FailureDetector::state(std::uint32_t node) const {
  const auto it = states_.find(node);
  return it == states_.end() ? State{} : it->second;
}

FailureDetector::Level FailureDetector::level(std::uint32_t node) const {
  const State s = state(node);
  return s.bad ? Level::red : s.heartbeat;
}

std::vector<std::uint32_t> FailureDetector::bad_nodes() const {
  std::vector<std::uint32_t> nodes;
  for (const auto& [node, s] : states_) {
    if (s.bad && s.heartbeat != Level::red) nodes.push_back(node);
  }
  return nodes;
}

void FailureDetector::set(std::uint32_t node, Level heartbeat, bool bad) {
  const State before = state(node), after{heartbeat, bad};
  if (before == after) return;
  if (before != State{}) digest_.remove(entry_hash(31, node, static_cast<int>(before.heartbeat), before.bad));
  if (after == State{}) states_.erase(node);
  else states_[node] = after;
  if (after != State{}) digest_.add(entry_hash(31, node, static_cast<int>(heartbeat), bad));
}

std::vector<std::uint32_t> FailureDetector::transfer_failed(Instant now, std::uint32_t from, std::uint32_t to) {
  std::vector<std::uint32_t> suspects;
  for (const std::uint32_t node : {from, to}) {
    auto& times = failures_[node];
    const auto forget_first = [&] {
      digest_.remove(entry_hash(32, node, times.front().ns));
      times.pop_front();
    };
    while (!times.empty() && times.front() + spec_.transfer_window < now) forget_first();
    times.push_back(now);
    digest_.add(entry_hash(32, node, now.ns));
    if (times.size() >= static_cast<std::size_t>(spec_.transfer_failures)) {
      while (!times.empty()) forget_first();
      suspects.push_back(node);
    }
  }
  return suspects;
}

std::uint64_t FailureDetector::full_digest() const {
  Digest d;
  for (const auto& [node, s] : states_) d.add(entry_hash(31, node, static_cast<int>(s.heartbeat), s.bad));
  for (const auto& [node, times] : failures_) {
    for (const Instant t : times) d.add(entry_hash(32, node, t.ns));
  }
  return d.value();
}

}  // namespace faultline::control
