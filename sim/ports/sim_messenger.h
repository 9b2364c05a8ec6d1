// Messenger in simulated time: a message board woken by the simulator's event queue. The simulator's world carries its
// controllers' messages with the same MessageNet, typed instead of in bytes.
#pragma once

#include "core/ports/clock.h"
#include "core/ports/message_board.h"
#include "sim/engine/event_queue.h"

namespace faultline::sim {

class SimMessageBoard final : public ports::MessageBoard {
 public:
  /// Events of `kind` in `queue` are this board's: their owner hands each to due(). References must outlive it.
  SimMessageBoard(const Clock& clock, EventQueue& queue, std::uint32_t kind, const ports::MessageNetSettings& settings,
                  const ports::MessageLimits& limits = {})
      : MessageBoard(settings, limits), clock_(&clock), queue_(&queue), kind_(kind) {}
  void due(const QueuedEvent& e) { MessageBoard::due(e.index); }

 private:
  Instant message_time() const override { return clock_->now(); }
  void wake_at(Instant at, std::uint32_t token) override { queue_->push(at, kind_, token, 0); }

  const Clock* clock_;
  EventQueue* queue_;
  std::uint32_t kind_;
};

using SimMessenger = ports::BoardMessenger;

}  // namespace faultline::sim
