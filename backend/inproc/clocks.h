// Two clocks: ManualClock moves only when it is told to (deterministic tests, virtual time), SteadyClock is the
// machine's monotonic clock counted from its construction.
#pragma once

#include <chrono>

#include "backend/inproc/timer_queue.h"
#include "core/base/assert.h"

namespace faultline::inproc {

class ManualClock final : public Clock {
 public:
  Instant now() const override { return now_; }
  void arm(TimerKey key, Instant deadline) override { timers_.arm(key, deadline); }
  void disarm(TimerKey key) override { timers_.disarm(key); }
  std::size_t poll(std::span<TimerKey> out) override { return timers_.poll(now_, out); }

  Instant next_timer() const { return timers_.next(); }
  /// Never backwards (asserted).
  void advance_to(Instant t) {
    FAULTLINE_ASSERT(t >= now_, "now={} to={}", now_.ns, t.ns);
    now_ = t;
  }
  void advance(Duration by) { advance_to(now_ + by); }

 private:
  Instant now_{};
  TimerQueue timers_;
};

class SteadyClock final : public Clock {
 public:
  Instant now() const override {
    return {std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start_).count()};
  }
  void arm(TimerKey key, Instant deadline) override { timers_.arm(key, deadline); }
  void disarm(TimerKey key) override { timers_.disarm(key); }
  std::size_t poll(std::span<TimerKey> out) override { return timers_.poll(now(), out); }
  Instant next_timer() const { return timers_.next(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  TimerQueue timers_;
};

}  // namespace faultline::inproc
