// Clock in simulated time, on the simulator's event queue. The owner moves time; nothing happens by itself.
#pragma once

#include <algorithm>
#include <unordered_map>

#include "core/ports/clock.h"
#include "sim/engine/event_queue.h"

namespace faultline::sim {

class SimClock final : public Clock {
 public:
  Instant now() const override { return now_; }
  /// Time never goes back: an earlier `t` is ignored.
  void advance_to(Instant t) { now_ = std::max(now_, t); }

  void arm(TimerKey key, Instant deadline) override {
    disarm(key);
    live_[key] = ++generation_;
    keys_[generation_] = key;
    queue_.push(deadline, 0, 0, generation_);
  }
  void disarm(TimerKey key) override {
    const auto it = live_.find(key);
    if (it == live_.end()) return;
    keys_.erase(it->second);
    live_.erase(it);
  }
  std::size_t poll(std::span<TimerKey> out) override {
    std::size_t count = 0;
    while (count < out.size() && !queue_.empty() && queue_.top().at <= now_) {
      const auto it = keys_.find(queue_.pop().token);
      if (it == keys_.end()) continue;  // moved or disarmed since
      out[count++] = it->second;
      live_.erase(it->second);
      keys_.erase(it);
    }
    return count;
  }

 private:
  Instant now_{0};
  EventQueue queue_;
  std::uint64_t generation_ = 0;
  std::unordered_map<TimerKey, std::uint64_t> live_;  // generation that counts
  std::unordered_map<std::uint64_t, TimerKey> keys_;  // by generation
};

}  // namespace faultline::sim
