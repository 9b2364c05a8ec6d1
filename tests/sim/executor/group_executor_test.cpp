// A jump over many decode steps against the same steps one by one, to the nanosecond, whatever happens in between.
#include "sim/executor/group_executor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "core/base/random.h"
#include "core/model/roofline.h"
#include "tests/unit/core/model/model_files.h"

namespace faultline::sim {
namespace {

using model::RankLoad;
constexpr int kRanks = 4;

/// 4 ranks of one node, or one rank on each of so many nodes' worth of NICs: what matters is that every environment
/// factor changes the price.
const model::StepPricer& pricer() {
  static const model::DeviceSpec device = model::shipped_device("mi300x");
  static const model::StepPricer p(model::shipped_model("qwen3-235b-a22b"), device, {.dp = kRanks, .ep = kRanks},
                                   std::make_shared<model::RooflineCost>(device));
  return p;
}

/// The same group, one step at a time: the price of a step is asked when the step before it ends.
class OneByOne {
 public:
  void start(Instant now, std::vector<RankLoad> loads, std::int64_t steps_max) {
    boundary_ = (now.ns << 16) + (boundary_ & 0xffff);
    loads_ = std::move(loads);
    steps_ = 0;
    steps_max_ = steps_max;
    stalled_since_ = now;
    price();
  }
  void pass(Instant now) {
    while (!stalled_ && steps_ < steps_max_ && (next_ >> 16) <= now.ns) {
      boundary_ = next_;
      ++steps_;
      for (RankLoad& l : loads_) l.context_tokens += l.sequences;
      price();
    }
  }
  void environment(Instant now, std::vector<double> slow, double rdma, double xgmi) {
    pass(now);  // the step under way keeps its price
    slow_ = std::move(slow);
    rdma_ = rdma;
    xgmi_ = xgmi;
  }
  void stall(Instant now) {
    pass(now);
    if (!stalled_) stalled_since_ = now;
    stalled_ = true;
  }
  void resume(Instant now) {
    if (!stalled_) return;
    stalled_ = false;
    const std::int64_t lost = (now - stalled_since_).v << 16;
    boundary_ += lost;
    next_ += lost;
    pass(now);
  }
  void interrupt(Instant now) {
    pass(now);
    steps_max_ = std::min(steps_max_, steps_ + 1);
  }
  std::int64_t steps() const { return steps_; }
  /// When the last step ends, if nothing more happens.
  Instant end() const {
    OneByOne rest = *this;
    while (rest.steps_ < rest.steps_max_) rest.pass(Instant{rest.next_ >> 16});
    return Instant{rest.boundary_ >> 16};
  }

 private:
  void price() { next_ = boundary_ + pricer().step({}, loads_, {slow_, rdma_, xgmi_}).v; }
  std::vector<RankLoad> loads_;
  std::int64_t boundary_ = 0, next_ = 0;  // 2^-16 ns
  std::int64_t steps_ = 0, steps_max_ = 0;
  bool stalled_ = false;
  Instant stalled_since_{0};
  std::vector<double> slow_;
  double rdma_ = 1, xgmi_ = 1;
};

std::vector<RankLoad> random_loads(Random& r) {
  std::vector<RankLoad> loads(kRanks);
  for (RankLoad& l : loads) {
    l.sequences = static_cast<std::int32_t>(r.below(40));
    l.context_tokens = l.sequences * static_cast<std::int64_t>(r.below(5'000));
  }
  loads[0].sequences += 1;
  return loads;
}

TEST(GroupExecutor, AJumpEndsAtTheNanosecondOfItsSingleSteps) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random r(seed, "jump");
    GroupExecutor jump(pricer());
    OneByOne single;
    Instant now{static_cast<std::int64_t>(r.below(1'000'000))};
    for (std::uint64_t run = 0; run < 5; ++run) {  // fractions of a nanosecond carry over from run to run
      const auto loads = random_loads(r);
      const auto steps = static_cast<std::int64_t>(1 + r.below(400));
      jump.start_decode(now, OpId{run}, loads, steps);
      single.start(now, loads, steps);
      ASSERT_EQ(jump.end().ns, single.end().ns);
      now = jump.end();
      single.pass(now);
      const auto ended = jump.finish(now);
      ASSERT_EQ(ended.steps, steps);
      ASSERT_EQ(single.steps(), steps);
    }
  }
}

TEST(GroupExecutor, InterruptsSlowDownsAndStallsCutAJumpWhereTheyCutSingleSteps) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random r(seed, "disturbed");
    GroupExecutor jump(pricer());
    OneByOne single;
    Instant now{0};
    std::uint64_t op = 0;
    for (int act = 0; act < 60; ++act) {
      if (!jump.busy()) {
        const auto loads = random_loads(r);
        const auto steps = static_cast<std::int64_t>(1 + r.below(50));
        jump.start_decode(now, OpId{op}, loads, steps);
        single.start(now, loads, steps);
        ++op;
      }
      // Often several acts within one step, which lasts some 10 to 30 ms.
      const Instant next = now + Duration{static_cast<std::int64_t>(r.below(r.chance(0.5) ? 2'000'000 : 200'000'000))};
      if (jump.end() <= next) {
        now = jump.end();
        single.pass(now);
        const auto ended = jump.finish(now);
        ASSERT_EQ(ended.steps, single.steps()) << "act " << act;
        continue;
      }
      now = next;
      switch (r.below(6)) {
        case 0: jump.stall(now), single.stall(now); break;
        case 1:
        case 2: jump.resume(now), single.resume(now); break;
        case 3: jump.interrupt(now, jump.op()), single.interrupt(now); break;
        case 4: {
          std::vector<double> slow;
          if (r.chance(0.7)) {
            slow.assign(kRanks, 1.0);
            slow[r.below(kRanks)] = 1 + r.uniform();
          }
          const double xgmi = r.chance(0.5) ? 1 : 0.1 + 0.9 * r.uniform();
          jump.set_environment(now, slow, 1, xgmi);
          single.environment(now, slow, 1, xgmi);
          break;
        }
        case 5:
          if (!r.chance(0.2)) break;
          single.pass(now);  // an abort: what was reached counts, the step under way does not
          ASSERT_EQ(jump.finish(now).steps, single.steps()) << "act " << act;
          single.resume(now);
          continue;
      }
      single.pass(now);
      ASSERT_EQ(jump.steps_by(now), single.steps()) << "act " << act << " at " << now.ns;
      if (!jump.stalled()) {
        ASSERT_EQ(jump.end().ns, single.end().ns) << "act " << act << " at " << now.ns;
      }
    }
  }
}

TEST(GroupExecutor, WorkThatStartsDuringAStallLosesOnlyWhatIsLeftOfTheStall) {
  GroupExecutor g(pricer()), healthy(pricer());
  const std::vector<RankLoad> loads(kRanks, RankLoad{4, 4'000});
  healthy.start_decode(Instant{0}, OpId{1}, loads, 10);
  g.stall(Instant{0});
  g.start_decode(Instant{5'000'000'000}, OpId{1}, loads, 10);
  EXPECT_EQ(g.end(), kNever);
  g.resume(Instant{6'000'000'000});
  EXPECT_EQ(g.end().ns, 6'000'000'000 + healthy.end().ns);
}

TEST(GroupExecutor, OnlyTheRestOfAPrefillPassIsPricedAnew) {
  GroupExecutor g(pricer());
  const std::vector<model::PrefillItem> items{{0, 4'000, 0}};
  const std::vector<double> slow{3.0, 3.0, 3.0, 3.0};
  g.start_prefill(Instant{0}, OpId{1}, items, {});
  const double whole = static_cast<double>(g.end().ns);
  const double slowed = model::nanoseconds(pricer().step(items, {}, {.rank_slowdown = slow}));
  ASSERT_GT(slowed, 1.5 * whole);
  const auto at = [&](double share) { return Instant{static_cast<std::int64_t>(whole * share)}; };
  g.set_environment(at(0.5), slow, 1, 1);
  EXPECT_NEAR(static_cast<double>(g.end().ns), 0.5 * whole + 0.5 * slowed, 2);
  // At 0.75 of the healthy time a quarter of it went by at the slowed rate; then the rank is healthy again.
  g.set_environment(at(0.75), {}, 1, 1);
  const double left = 0.5 - 0.25 * whole / slowed;
  EXPECT_NEAR(static_cast<double>(g.end().ns), (0.75 + left) * whole, 4);
  // A stall moves the end and does not change what is left.
  g.stall(at(0.8));
  g.set_environment(at(5), slow, 1, 1);
  g.resume(at(10));
  EXPECT_NEAR(static_cast<double>(g.end().ns), 10 * whole + (left - 0.05) * slowed, 6);
  EXPECT_EQ(g.finish(g.end()).prefill_tokens, 4'000);
}

TEST(GroupExecutor, AnAbortedPrefillHasDoneNothing) {
  GroupExecutor g(pricer());
  g.start_prefill(Instant{0}, OpId{1}, {{0, 1'000, 0}}, {});
  const auto ended = g.finish(g.end() - Duration{1});
  EXPECT_EQ(ended.steps, 0);
  EXPECT_EQ(ended.prefill_tokens, 0);
  EXPECT_FALSE(g.busy());
}

}  // namespace
}  // namespace faultline::sim
