// The part of Clock that is the same for every kind of time: which keys are armed and which fire first.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "core/ports/clock.h"

namespace faultline::inproc {

class TimerQueue {
 public:
  void arm(TimerKey key, Instant deadline) {
    disarm(key);
    const Place place{deadline, ++armings_};
    by_key_[key] = place;
    by_time_[place] = key;
  }
  void disarm(TimerKey key) {
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) return;
    by_time_.erase(it->second);
    by_key_.erase(it);
  }
  std::size_t poll(Instant now, std::span<TimerKey> out) {
    std::size_t count = 0;
    while (count < out.size() && !by_time_.empty() && by_time_.begin()->first.first <= now) {
      out[count++] = by_time_.begin()->second;
      by_key_.erase(by_time_.begin()->second);
      by_time_.erase(by_time_.begin());
    }
    return count;
  }
  /// kNever when nothing is armed.
  Instant next() const { return by_time_.empty() ? kNever : by_time_.begin()->first.first; }

 private:
  using Place = std::pair<Instant, std::uint64_t>;  // deadline, number of the arming
  std::map<TimerKey, Place> by_key_;
  std::map<Place, TimerKey> by_time_;
  std::uint64_t armings_ = 0;
};

}  // namespace faultline::inproc
