// A paced step that also waits for a meeting: the boundary needs both, and lateness does not add up.
#include <gtest/gtest.h>

#include "backend/inproc/clocks.h"
#include "backend/inproc/paced_executor.h"

namespace faultline::inproc {
namespace {

struct Meeting final : Rendezvous {
  void begin() override { ++begun; }
  bool ended() const override { return held == begun; }
  int begun = 0, held = 0;
};

struct Bench {
  ManualClock clock;
  Meeting meeting;
  PacedExecutor executor{clock,
                         {.prefill = [](const PrefillStep&) { return Duration{100}; },
                          .decode = [](const DecodeRun&, std::int64_t) { return Duration{10}; },
                          .rendezvous = &meeting}};
  std::vector<ExecutorEvent> poll() {
    std::vector<ExecutorEvent> events(8);
    events.resize(executor.poll(events));
    return events;
  }
  Bench(std::int64_t steps) {
    EXPECT_TRUE(executor.submit({OpId{1}, DecodeRun{{{.sequences = 1, .context_tokens = 1}}, steps}}));
  }
};

TEST(PacedExecutor, AStepWhoseMeetingHasNotEndedReachesNoBoundary) {
  Bench b(2);
  EXPECT_EQ(b.meeting.begun, 1);
  b.clock.advance(Duration{15});
  EXPECT_TRUE(b.poll().empty());
  EXPECT_EQ(b.executor.running().second, 0);
  EXPECT_EQ(b.executor.next_due(), kNever);  // its owner hears of the meeting's end
  b.meeting.held = 1;
  b.poll();
  EXPECT_EQ(b.executor.running().second, 1);
  EXPECT_EQ(b.meeting.begun, 2);
}

TEST(PacedExecutor, AMeetingThatEndedEarlyDoesNotEndTheStep) {
  Bench b(1);
  b.meeting.held = 1;
  b.clock.advance(Duration{9});
  EXPECT_TRUE(b.poll().empty());
  b.clock.advance(Duration{1});
  EXPECT_EQ(b.poll().size(), 1U);
}

TEST(PacedExecutor, ALateMeetingDoesNotMoveTheBoundariesAfterIt) {
  Bench b(3);
  b.clock.advance(Duration{18});
  b.meeting.held = 1;
  b.poll();
  b.meeting.held = 2;
  EXPECT_EQ(b.executor.next_due(), Instant{20});
  b.clock.advance(Duration{2});
  b.poll();
  b.meeting.held = 3;
  b.clock.advance(Duration{10});
  const auto events = b.poll();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(std::get<StepDone>(events[0]).busy, Duration{30});
}

}  // namespace
}  // namespace faultline::inproc
