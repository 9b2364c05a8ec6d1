// The simulator's own events: a binary heap on (time, sequence), so that events of one instant run in the order in
// which they were made. Entries are small; what an event means is in the tables of whoever made it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/base/quantity.h"

namespace faultline::sim {

struct QueuedEvent {
  Instant at;
  std::uint64_t sequence = 0;
  std::uint32_t kind = 0;
  std::uint32_t index = 0;  // of the entity
  std::uint64_t token = 0;  // generation or handle: a stale one is skipped by its owner
};

class EventQueue {
 public:
  void push(Instant at, std::uint32_t kind, std::uint32_t index, std::uint64_t token) {
    heap_.push_back({at, sequence_++, kind, index, token});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  bool empty() const { return heap_.empty(); }
  const QueuedEvent& top() const { return heap_.front(); }
  QueuedEvent pop() {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const QueuedEvent e = heap_.back();
    heap_.pop_back();
    return e;
  }

 private:
  static bool later(const QueuedEvent& a, const QueuedEvent& b) {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
  }
  std::vector<QueuedEvent> heap_;
  std::uint64_t sequence_ = 0;
};

}  // namespace faultline::sim
