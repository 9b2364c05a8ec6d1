// Clock: timers for drivers. A state machine gets `now` as an argument and asks for a timer by a command.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/quantity.h"

namespace faultline {

/// Names a timer of one owner; the owner chooses the values.
using TimerKey = std::uint64_t;

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic.
  virtual Instant now() const = 0;
  /// Arms or moves a timer. A deadline in the past fires at the next poll. Equal deadlines fire in the order of arming.
  virtual void arm(TimerKey key, Instant deadline) = 0;
  /// After this the key does not fire until it is armed again. Unknown keys are ignored.
  virtual void disarm(TimerKey key) = 0;
  /// Keys whose deadline has passed, in order of (deadline, arming); each is disarmed by firing.
  virtual std::size_t poll(std::span<TimerKey> out) = 0;
};

}  // namespace faultline
