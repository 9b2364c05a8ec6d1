#include "core/fault/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/fault/actuator.h"
#include "tests/unit/core/fault/world.h"

namespace faultline::fault {
namespace {

using namespace literals;
using testing::expand_text;

Instant at_of(const ScheduledFault& fault) { return std::get<Instant>(fault.trigger); }

/// `count` links that can all fail, for statistics.
Candidates many_links(std::uint32_t count) {
  return {.resolve =
              [](std::string_view name) {
                return ComponentId{static_cast<std::uint32_t>(std::stoul(std::string(name.substr(5))))};
              },
          .kind_of = [](std::string_view, ComponentId) { return TargetKind::cable; },
          .names =
              [count](TargetKind kind) {
                std::vector<std::string> out;
                for (std::uint32_t i = 0; kind == TargetKind::cable && i < count; ++i)
                  out.push_back("link-" + std::to_string(i));
                return out;
              }};
}

TEST(FaultSchedule, IsSortedByInstantWithCausalTriggersLast) {
  const auto schedule = expand_text(R"(faults:
  - {id: late, kind: switch.down, target: leaf-0, at: 60 s}
  - {id: causal, kind: node.crash, target: node-0, after: {event: decode_step, nth: 5}, repair: 10 s}
  - {id: early, kind: gpu.hang, target: instance-0.gpu-1, at: 1 s, duration: 2 s}
  - {id: same, kind: placebo, at: 60 s}
)");
  ASSERT_EQ(schedule.size(), 4u);
  EXPECT_EQ(schedule[0].name, "early");
  EXPECT_EQ(schedule[0].component, ComponentId{2});
  EXPECT_EQ(schedule[0].target, "instance-0.gpu-1");
  EXPECT_EQ(schedule[0].revert(), Instant{} + 3_s);
  EXPECT_EQ(schedule[1].name, "late");
  EXPECT_EQ(schedule[1].revert(), kNever);
  EXPECT_EQ(schedule[2].name, "same");
  EXPECT_FALSE(schedule[2].component.valid());
  EXPECT_EQ(schedule[3].name, "causal");
  EXPECT_EQ(std::get<AfterEvent>(schedule[3].trigger).nth, 5);
  EXPECT_EQ(schedule[3].revert(), kNever) << "unknown before it is applied";
  EXPECT_EQ(schedule[3].revert_at(Instant{} + 7_s), Instant{} + 17_s);
  for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(schedule[i].id, FaultId{i});
}

TEST(FaultSchedule, AFlapGoesDownAndUpOnceACycle) {
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.flap, target: node-0.nic-0.cable, at: 10 s, down: 1 s, up: 3 s, cycles: 2}\n");
  using T = ScheduledFault::Transition;
  EXPECT_EQ(
      schedule[0].transitions(at_of(schedule[0])),
      (std::vector<T>{
          {Instant{} + 10_s, true}, {Instant{} + 11_s, false}, {Instant{} + 14_s, true}, {Instant{} + 15_s, false}}));
  EXPECT_EQ(schedule[0].revert(), Instant{} + 15_s) << "the last up is the revert";
}

TEST(FaultSchedule, AFaultThatStaysHasOneTransition) {
  const auto schedule = expand_text("faults:\n  - {kind: switch.down, target: leaf-0, at: 10 s}\n");
  EXPECT_EQ(schedule[0].transitions(Instant{} + 10_s),
            (std::vector<ScheduledFault::Transition>{{Instant{} + 10_s, true}}));
}

TEST(FaultSchedule, TheSameSeedDrawsTheSameAndAnotherSeedDoesNot) {
  const std::string text =
      "faults:\n  - {kind: gpu.failstop, target: '*', random: {mean_interval: 10 s, until: 1000 s}, repair: 5 s}\n";
  const auto a = expand_text(text, {.seed = 7}), b = expand_text(text, {.seed = 7}), c = expand_text(text, {.seed = 8});
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(at_of(a[i]), at_of(b[i]));
    EXPECT_EQ(a[i].target, b[i].target);
  }
  EXPECT_NE(at_of(a[0]), at_of(c[0]));
  EXPECT_EQ(a[0].name, "gpu.failstop");
  EXPECT_EQ(a[1].name, "gpu.failstop#2");
}

TEST(FaultSchedule, AnotherFaultShiftsNoDraw) {
  const std::string random =
      "  - {id: r, kind: gpu.failstop, target: '*', random: {rate_per_hour: 60, until: 1000 s}, repair: 5 s}\n";
  const auto alone = expand_text("faults:\n" + random);
  const auto beside = expand_text(
      "faults:\n  - {id: o, kind: link.down, target: node-0.nic-0.cable, random: {rate_per_hour: 60, until: "
      "1000 s}, repair: 1 s}\n" +
      random);
  std::vector<Instant> a, b;
  for (const auto& f : alone) a.push_back(at_of(f));
  for (const auto& f : beside) {
    if (f.kind == FaultKind::gpu_failstop) b.push_back(at_of(f));
  }
  ASSERT_FALSE(a.empty());
  EXPECT_EQ(a, b);
}

TEST(FaultSchedule, AnotherComponentShiftsNoDrawOfARate) {
  const std::string text =
      "faults:\n  - {kind: link.down, target: '*', random: {rate_per_hour: 10, until: 5 h}, repair: 1 s}\n";
  std::map<std::string, std::vector<Instant>> few, more;
  for (const auto& f : expand_text(text, {}, many_links(5))) few[f.target].push_back(at_of(f));
  for (const auto& f : expand_text(text, {}, many_links(50))) more[f.target].push_back(at_of(f));
  ASSERT_EQ(few.size(), 5u);
  for (const auto& [name, times] : few) EXPECT_EQ(times, more[name]) << name;
}

TEST(FaultSchedule, ARateIsThatOfEachComponent) {
  // 400 links, 0.05 per hour, 200 h, repair 1 ns: 4,000 expected; standard deviation 63, bound 4 of them.
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', random: {rate_per_hour: 0.05, until: 200 h}, repair: 1 ns}\n",
      {.seed = 3}, many_links(400));
  EXPECT_NEAR(static_cast<double>(schedule.size()), 4000, 4 * 63.2);
  for (std::size_t i = 1; i < schedule.size(); ++i) ASSERT_LE(at_of(schedule[i - 1]), at_of(schedule[i]));
}

TEST(FaultSchedule, AMeanIntervalIsThatOfAllTogether) {
  // 1,000 s at one every 0.5 s: 2,000 expected, standard deviation 45.
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', random: {mean_interval: 500 ms, until: 1000 s}, repair: 1 ns}\n",
      {.seed = 4}, many_links(40));
  EXPECT_NEAR(static_cast<double>(schedule.size()), 2000, 4 * 44.7);
  std::map<std::string, int> hits;
  for (const auto& f : schedule) ++hits[f.target];
  EXPECT_EQ(hits.size(), 40u);  // each is missed with probability 40 * (39/40)^2000 < 1e-20
}

TEST(FaultSchedule, WeibullGapsKeepTheirMeanAndCluster) {
  // Shape 0.5: mean of the gaps as asked, coefficient of variation sqrt(5) = 2.236 (theory).
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', random: {mean_interval: 1 s, until: 40000 s, "
      "distribution: weibull, shape: 0.5}, repair: 1 ns}\n",
      {.seed = 5}, many_links(3));
  double sum = 0, squares = 0;
  for (std::size_t i = 1; i < schedule.size(); ++i) {
    const double gap = seconds(at_of(schedule[i]) - at_of(schedule[i - 1]));
    sum += gap;
    squares += gap * gap;
  }
  const double n = static_cast<double>(schedule.size() - 1), mean = sum / n;
  EXPECT_NEAR(mean, 1, 4 * 2.236 / 200);                                  // four standard errors of 40,000 gaps
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean) / mean, 2.236, 0.15);  // heavy fourth moment: about 3 %, times two
}

TEST(FaultSchedule, AComponentDoesNotFailAgainWhileItIsDown) {
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', random: {mean_interval: 1 s, until: 2000 s}, repair: 30 s}\n",
      {.seed = 6}, many_links(20));
  std::map<std::string, Instant> up_again;
  for (const auto& f : schedule) {
    EXPECT_GE(at_of(f), up_again[f.target]) << f.name;
    up_again[f.target] = f.revert();
  }
  EXPECT_GT(schedule.size(), 500u);  // at most 20/30 s of 2,000 s would be 1,333
}

TEST(FaultSchedule, WithoutRepairEachComponentFailsOnce) {
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', random: {mean_interval: 1 s, until: 2000 s}}\n", {}, many_links(20));
  std::map<std::string, int> hits;
  for (const auto& f : schedule) ++hits[f.target];
  EXPECT_EQ(schedule.size(), 20u);
  EXPECT_EQ(hits.size(), 20u);
}

TEST(FaultSchedule, AProcessThatDiedMayDieAgain) {
  // Nothing of the hardware is down afterwards: four GPUs at one an hour for 100 h, within four standard deviations.
  const auto schedule =
      expand_text("faults: [{kind: process.crash, target: \"*gpu-*\", random: {rate_per_hour: 1, until: 100 h}}]");
  EXPECT_GT(schedule.size(), 320U);
  EXPECT_LT(schedule.size(), 480U);
}

TEST(FaultSchedule, MaxKeepsTheEarliest) {
  const std::string text =
      "faults:\n  - {kind: link.down, target: '*', repair: 1 s, random: {rate_per_hour: 60, until: 1 h";
  const auto all = expand_text(text + "}}\n", {}, many_links(9));
  const auto three = expand_text(text + ", max: 3}}\n", {}, many_links(9));
  ASSERT_GT(all.size(), 3u);
  ASSERT_EQ(three.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(at_of(three[i]), at_of(all[i]));
}

TEST(FaultSchedule, RandomFaultsStayInTheirWindowAndInTheRun) {
  const auto schedule = expand_text(
      "faults:\n  - {kind: link.down, target: '*', repair: 1 s, random: {mean_interval: 1 s, from: 10 s, until: 500 "
      "s}}\n",
      {.run_end = Instant{} + 100_s}, many_links(9));
  ASSERT_FALSE(schedule.empty());
  EXPECT_GE(at_of(schedule.front()), Instant{} + 10_s);
  EXPECT_LT(at_of(schedule.back()), Instant{} + 100_s);
}

TEST(FaultPattern, AStarStandsForAnyText) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("node-*.gpu-*", "node-12.gpu-3"));
  EXPECT_TRUE(matches("node-*.gpu-3", "node-1.gpu-2.gpu-3"));
  EXPECT_FALSE(matches("node-*.gpu-3", "node-1.gpu-33"));
  EXPECT_FALSE(matches("leaf", "leaf-0"));
  EXPECT_TRUE(matches("a*a*a", "aaa"));
  EXPECT_FALSE(matches("a*a*a", "aa"));
  EXPECT_FALSE(matches("", "x"));
}

/// Supports links only.
class LinksOnly : public FaultActuator {
 public:
  Support supports(const ScheduledFault& fault) const override {
    if (fault.kind == FaultKind::link_down) return {};
    return {false, "this backend has no access to it"};
  }
  Status apply(const ScheduledFault&, Instant) override { return ok(); }
  Status revert(const ScheduledFault&, Instant) override { return ok(); }
};

TEST(FaultActuator, EveryUnsupportedFaultIsAnErrorWithItsPlace) {
  const auto schedule = expand_text(R"(faults:
  - {kind: link.down, target: node-0.nic-0.cable, at: 1 s}
  - {kind: switch.down, target: leaf-0, at: 1 s}
  - {kind: placebo, at: 2 s}
)");
  config::Diagnostics diagnostics;
  check_supported(schedule, LinksOnly(), diagnostics);
  EXPECT_EQ(diagnostics.text(),
            "e.yaml:3:5: error: fault 'switch.down' (switch.down on leaf-0) cannot be applied: this backend has no "
            "access to it\n"
            "e.yaml:4:5: error: fault 'placebo' (placebo) cannot be applied: this backend has no access to it\n");
}

}  // namespace
}  // namespace faultline::fault
