// A sans-IO state machine: events in, commands out. No clock, thread, socket, file, random device or global.
#pragma once

#include <cstdint>

#include "core/control/messages.h"

namespace faultline::control {

class Controller {
 public:
  virtual ~Controller() = default;
  /// Appends to `out`. Never re-entered. `now` never goes back.
  virtual void step(Instant now, const Event& event, Commands& out) = 0;
  /// Hash of the whole state, kept incrementally.
  virtual std::uint64_t digest() const = 0;
  /// The same, computed from scratch: drivers that check every step compare.
  virtual std::uint64_t full_digest() const = 0;
  /// Asserts the conservation laws of the state. Slow: for drivers that check every step.
  virtual void check() const {}
};

}  // namespace faultline::control
