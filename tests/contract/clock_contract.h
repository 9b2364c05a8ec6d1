// What every Clock promises (core/ports/clock.h), one function a clause.
#pragma once

#include <array>
#include <vector>

#include "core/ports/clock.h"
#include "tests/contract/verdict.h"

namespace faultline::contract {

class ClockWorld {
 public:
  virtual ~ClockWorld() = default;
  virtual Clock& clock() = 0;
  /// Returns when now() is at `t` or later.
  virtual void pass_until(Instant t) = 0;
};

namespace clock_clauses_detail {

inline constexpr Duration kTick{2'000'000};

inline std::vector<TimerKey> fired(Clock& clock) {
  std::vector<TimerKey> all;
  std::array<TimerKey, 16> out{};
  for (std::size_t count = 0; (count = clock.poll(out)) > 0;)
    all.insert(all.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count));
  return all;
}
inline std::string text(const std::vector<TimerKey>& keys) { return fmt::format("{}", fmt::join(keys, " ")); }
inline void expect_fired(Clock& clock, const std::vector<TimerKey>& expected, Verdict& v) {
  const auto got = fired(clock);
  v.expect(got == expected, "fired [{}], expected [{}]", text(got), text(expected));
}

inline void time_never_goes_back(ClockWorld& w, Verdict& v) {
  Instant last = w.clock().now();
  for (int i = 0; i < 100; ++i) {
    if (i % 10 == 0) w.pass_until(last + Duration{100'000});
    const Instant now = w.clock().now();
    v.expect(now >= last, "now {} after {}", now.ns, last.ns);
    last = now;
  }
}
inline void timers_fire_in_order_of_deadline(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now() + 50 * kTick;
  w.clock().arm(1, t + 3 * kTick);
  w.clock().arm(2, t + kTick);
  w.clock().arm(3, t + 2 * kTick);
  w.pass_until(t + 3 * kTick);
  expect_fired(w.clock(), {2, 3, 1}, v);
}
inline void equal_deadlines_fire_in_order_of_arming(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now() + kTick;
  for (const TimerKey key : {7, 3, 9, 1}) w.clock().arm(key, t);
  w.pass_until(t);
  expect_fired(w.clock(), {7, 3, 9, 1}, v);
}
inline void no_timer_fires_before_its_deadline(ClockWorld& w, Verdict& v) {
  const Instant deadline = w.clock().now() + 10 * kTick;
  w.clock().arm(1, deadline);
  for (int i = 0; i < 5; ++i) {
    w.pass_until(w.clock().now() + kTick);
    const bool some = !fired(w.clock()).empty();
    const Instant now = w.clock().now();
    v.expect(!some || now >= deadline, "fired at or before {}, deadline {}", now.ns, deadline.ns);
    if (some) return;
  }
}
inline void a_deadline_in_the_past_fires_at_the_next_poll(ClockWorld& w, Verdict& v) {
  w.pass_until(w.clock().now() + kTick);
  w.clock().arm(4, Instant{0});
  expect_fired(w.clock(), {4}, v);
}
inline void arming_again_moves_a_timer(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now() + kTick;
  w.clock().arm(1, t);
  w.clock().arm(2, t);
  w.clock().arm(1, t + Duration{3'600'000'000'000});
  w.pass_until(t);
  expect_fired(w.clock(), {2}, v);
  w.clock().arm(1, t);
  expect_fired(w.clock(), {1}, v);
}
inline void disarming_wins_even_after_the_deadline(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now() + kTick;
  w.clock().arm(1, t);
  w.clock().arm(2, t);
  w.pass_until(t + kTick);
  w.clock().disarm(1);
  expect_fired(w.clock(), {2}, v);
}
inline void a_timer_fires_once(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now();
  w.clock().arm(1, t);
  expect_fired(w.clock(), {1}, v);
  w.pass_until(t + kTick);
  expect_fired(w.clock(), {}, v);
}
inline void unknown_keys_are_ignored(ClockWorld& w, Verdict& v) {
  w.clock().disarm(99);
  expect_fired(w.clock(), {}, v);
}
inline void a_short_buffer_loses_no_timer(ClockWorld& w, Verdict& v) {
  const Instant t = w.clock().now();
  for (TimerKey key = 0; key < 10; ++key) w.clock().arm(key, t);
  v.expect(w.clock().poll({}) == 0, "poll into nothing returned something");
  std::vector<TimerKey> got;
  std::array<TimerKey, 3> out{};
  for (std::size_t count = 0; (count = w.clock().poll(out)) > 0;) {
    v.expect(count <= out.size(), "poll wrote {} keys into {}", count, out.size());
    got.insert(got.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count));
  }
  v.expect(got == std::vector<TimerKey>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}), "got [{}]", text(got));
}

}  // namespace clock_clauses_detail

inline const std::vector<Clause<ClockWorld>>& clock_clauses() {
  using namespace clock_clauses_detail;
#define FAULTLINE_CLAUSE(name) \
  { #name, name }
  static const std::vector<Clause<ClockWorld>> clauses{
      FAULTLINE_CLAUSE(time_never_goes_back),
      FAULTLINE_CLAUSE(timers_fire_in_order_of_deadline),
      FAULTLINE_CLAUSE(equal_deadlines_fire_in_order_of_arming),
      FAULTLINE_CLAUSE(no_timer_fires_before_its_deadline),
      FAULTLINE_CLAUSE(a_deadline_in_the_past_fires_at_the_next_poll),
      FAULTLINE_CLAUSE(arming_again_moves_a_timer),
      FAULTLINE_CLAUSE(disarming_wins_even_after_the_deadline),
      FAULTLINE_CLAUSE(a_timer_fires_once),
      FAULTLINE_CLAUSE(unknown_keys_are_ignored),
      FAULTLINE_CLAUSE(a_short_buffer_loses_no_timer),
  };
#undef FAULTLINE_CLAUSE
  return clauses;
}

}  // namespace faultline::contract
