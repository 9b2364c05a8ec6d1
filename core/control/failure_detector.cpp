#include "core/control/failure_detector.h"

namespace faultline::control {

FailureDetector::Level FailureDetector::level(std::uint32_t node) const {
  const auto it = levels_.find(node);
  return it == levels_.end() ? Level::green : it->second;
}

void FailureDetector::set(std::uint32_t node, Level level) {
  const Level before = this->level(node);
  if (before == level) return;
  if (before != Level::green) digest_.remove(entry_hash(31, node, static_cast<int>(before)));
  if (level == Level::green) levels_.erase(node);
  else levels_[node] = level;
  if (level != Level::green) digest_.add(entry_hash(31, node, static_cast<int>(level)));
}

std::vector<std::uint32_t> FailureDetector::transfer_failed(Instant now, std::uint32_t from, std::uint32_t to) {
  std::vector<std::uint32_t> suspects;
  for (const std::uint32_t node : {from, to}) {
    auto& times = failures_[node];
    while (!times.empty() && times.front() + spec_.transfer_window < now) times.pop_front();
    times.push_back(now);
    if (times.size() >= static_cast<std::size_t>(spec_.transfer_failures)) {
      times.clear();
      suspects.push_back(node);
    }
  }
  return suspects;
}

std::uint64_t FailureDetector::full_digest() const {
  Digest d;
  for (const auto& [node, level] : levels_) d.add(entry_hash(31, node, static_cast<int>(level)));
  return d.value();
}

}  // namespace faultline::control
