#include "backend/inproc/inproc_transport.h"

namespace faultline::inproc {

void Fabric::carry(Slot slot, Number from, Number to, Bytes bytes) {
  Instant& busy = busy_until_[{from, to}];
  busy = std::max(busy, clock_->now()) +
         duration_from_seconds(static_cast<double>(bytes.v) / static_cast<double>(settings_.bandwidth.v));
  wake_at(busy + settings_.latency, slot);
}

void Fabric::catch_up() {
  while (!due_.empty() && due_.begin()->first.first <= clock_->now()) {
    const Slot slot = due_.begin()->second;
    due_.erase(due_.begin());
    due(slot);
  }
}

}  // namespace faultline::inproc
