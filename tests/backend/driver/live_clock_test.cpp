// The time of a live run: the machine's, counted from the run's beginning and multiplied.
#include "backend/driver/live_clock.h"

#include <gtest/gtest.h>

#include <thread>

namespace faultline::live {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(LiveClock, TimeStandsStillBeforeTheRunBegins) {
  LiveClock clock(10);
  EXPECT_EQ(clock.now(), Instant{0});
  EXPECT_EQ(clock.real(Instant{1}), LiveClock::Time::max());
  clock.set_begin(steady_clock::now() + std::chrono::hours(1));
  EXPECT_EQ(clock.now(), Instant{0});
}

TEST(LiveClock, ATimeOfTheRunAndItsRealTimeAreOneInstant) {
  for (const double speed : {0.5, 1.0, 10.0, 333.0}) {
    const auto begin = steady_clock::now() - milliseconds(5);
    const LiveClock clock(begin, speed);
    const Instant t = clock.now();
    EXPECT_GE(static_cast<double>(t.ns), 5e6 * speed * 0.999);
    // Back to real time it is the past, by no more than has passed since and a nanosecond of rounding.
    EXPECT_LE(clock.real(t), steady_clock::now() + std::chrono::nanoseconds(2));
    EXPECT_GE(clock.real(t), begin + milliseconds(5));
    EXPECT_EQ(clock.real(Duration{1'000'000'000}).v, static_cast<std::int64_t>(1e9 / speed));
    EXPECT_EQ(clock.real(Duration{10}, Duration{5'000'000}).v, 5'000'000);
  }
}

TEST(LiveClock, ATimerFiresWhenItsTimeOfTheRunHasCome) {
  LiveClock clock(steady_clock::now(), 100);
  clock.arm(7, Instant{300'000'000});  // 3 ms of real time
  TimerKey key = 0;
  while (clock.poll({&key, 1}) == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  EXPECT_EQ(key, 7U);
  EXPECT_GE(clock.now(), Instant{300'000'000});
  EXPECT_EQ(clock.next_timer(), kNever);
}

}  // namespace
}  // namespace faultline::live
