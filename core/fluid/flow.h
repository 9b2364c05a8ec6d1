// The requests of a fluid run: a rate against a capacity, and the queue between them. Closed forms between changes:
// with arrivals a and capacity c < a the queue grows at a - c, and afterwards drains at c - a. Who arrives while the
// wait ahead is longer than the SLO allows is late; a wait beyond the routers' time-out is refused.
#pragma once

#include <algorithm>

namespace faultline::fluid {

class Flow {
 public:
  struct Step {
    double arrived = 0, late = 0, rejected = 0, served = 0, queue_s = 0, short_s = 0;
  };
  Flow(double slack_s, double timeout_s) : slack_s_(slack_s), timeout_s_(timeout_s) {}

  /// `seconds` at constant rate and capacity (requests/s).
  Step advance(double seconds, double rate, double capacity) {
    Step s;
    s.arrived = rate * seconds;
    if (capacity < rate) s.short_s = seconds;
    double left = seconds;
    while (left > 0) {
      const double wait_late = slack_s_ * capacity, full = timeout_s_ * capacity;  // queue lengths of those waits
      const double growth = rate - capacity;
      // Up to the next queue length at which something changes.
      double span = left;
      const bool late =
          capacity <= 0 ? backlog_ > 0 || rate > 0 : backlog_ > wait_late || (backlog_ == wait_late && growth > 0);
      const bool refusing = capacity > 0 && growth > 0 && backlog_ >= full;
      if (!refusing && growth != 0) {
        for (const double level : {0.0, wait_late, full}) {
          const double t = (level - backlog_) / growth;
          if (t > 1e-12 * (1 + seconds) && t < span) span = t;
        }
      }
      if (backlog_ <= 0 && growth <= 0) {
        s.served += rate * span;
      } else {
        s.queue_s += late ? span : 0;
        if (late) s.late += rate * span;
        if (refusing) {
          s.rejected += growth * span;
          s.late -= growth * span;
        }
        s.served += capacity * span;
        backlog_ = refusing ? full : std::max(0.0, backlog_ + growth * span);
        if (capacity <= 0 &&
            backlog_ > timeout_s_ * rate) {  // nothing is served: who waits longer than the time-out is refused
          s.rejected += backlog_ - timeout_s_ * rate;
          s.late -= std::min(s.late, backlog_ - timeout_s_ * rate);
          backlog_ = timeout_s_ * rate;
        }
      }
      left -= span;
      if (left < 1e-12 * (1 + seconds)) left = 0;
    }
    return s;
  }
  double backlog() const { return backlog_; }

 private:
  double slack_s_, timeout_s_;
  double backlog_ = 0;
};

}  // namespace faultline::fluid
