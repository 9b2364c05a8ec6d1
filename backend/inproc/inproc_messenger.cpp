#include "backend/inproc/inproc_messenger.h"

namespace faultline::inproc {

void Switchboard::catch_up() {
  const Instant now = clock_->now();
  while (!due_.empty() && due_.begin()->first.first <= now) {
    const auto [place, token] = *due_.begin();
    due_.erase(due_.begin());
    running_ = place.first;
    due(token);
  }
  running_ = kNever;
}

}  // namespace faultline::inproc
