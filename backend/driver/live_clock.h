// Clock of a live run: the machine's monotonic clock, counted from the run's common beginning and multiplied by the
// speed of the replay. All processes of a host agree on it. Everything above the ports is in this time; sockets are in
// real time.
#pragma once

#include <chrono>
#include <cstdint>

#include "backend/inproc/timer_queue.h"
#include "core/base/assert.h"

namespace faultline::live {

class LiveClock final : public Clock {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// speed: seconds of the run for each real one, > 0.
  LiveClock(Time begin, double speed) : begin_(begin), speed_(speed) { FAULTLINE_ASSERT(speed > 0, "speed={}", speed); }
  /// The beginning may become known later; until then time stands at 0.
  explicit LiveClock(double speed) : LiveClock(Time::max(), speed) {}
  void set_begin(Time begin) { begin_ = begin; }

  Instant now() const override {
    const Time real = std::chrono::steady_clock::now();
    if (real <= begin_) return {0};
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(real - begin_).count();
    return {static_cast<std::int64_t>(static_cast<double>(ns) * speed_)};
  }
  void arm(TimerKey key, Instant deadline) override { timers_.arm(key, deadline); }
  void disarm(TimerKey key) override { timers_.disarm(key); }
  std::size_t poll(std::span<TimerKey> out) override { return timers_.poll(now(), out); }

  Instant next_timer() const { return timers_.next(); }
  /// When `t` comes; Time::max() for never and while the beginning is unknown.
  Time real(Instant t) const {
    if (t == kNever || begin_ == Time::max()) return Time::max();
    const double ns = static_cast<double>(t.ns) / speed_;
    return ns > 4e18 ? Time::max() : begin_ + std::chrono::nanoseconds(static_cast<std::int64_t>(ns) + 1);
  }
  /// A duration of the run in real time, at least `least`.
  Duration real(Duration d, Duration least = Duration{1}) const {
    const Duration real{static_cast<std::int64_t>(static_cast<double>(d.v) / speed_)};
    return real < least ? least : real;
  }
  double speed() const { return speed_; }

 private:
  Time begin_;
  double speed_;
  inproc::TimerQueue timers_;
};

}  // namespace faultline::live
