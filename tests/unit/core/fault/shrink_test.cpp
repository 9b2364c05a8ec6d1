#include "core/fault/shrink.h"

#include <gtest/gtest.h>

#include <set>

#include "core/base/random.h"
#include "tests/unit/core/fault/world.h"

namespace faultline::fault {
namespace {

TEST(Shrink, FindsAnySmallSetOfCulpritsAndNothingElse) {
  constexpr std::uint64_t kSeed = 20261123;
  for (std::uint64_t round = 0; round < 300; ++round) {
    Random r(kSeed, "shrink", round);
    std::vector<int> all(2 + r.below(60));
    for (std::size_t k = 0; k < all.size(); ++k) all[k] = static_cast<int>(k);
    std::set<int> culprits;
    const std::uint64_t wanted = 1 + r.below(5);
    while (culprits.size() < std::min<std::size_t>(wanted, all.size()))
      culprits.insert(static_cast<int>(r.below(all.size())));
    int calls = 0;
    const auto small = shrink<int>(all, [&](const std::vector<int>& some) {
      ++calls;
      return std::all_of(culprits.begin(), culprits.end(),
                         [&](int c) { return std::find(some.begin(), some.end(), c) != some.end(); });
    });
    EXPECT_EQ(std::set<int>(small.begin(), small.end()), culprits) << "seed " << kSeed << " round " << round;
    EXPECT_LT(calls, 1 + static_cast<int>(all.size() * all.size())) << round;
  }
}

Candidates chained() {
  Candidates c = testing::candidates();
  c.container = [](TargetKind kind, ComponentId id) -> std::optional<std::string> {
    const std::string& name = testing::world()[id.v].first;
    return kind == TargetKind::node ? std::optional(name.substr(0, 6)) : std::nullopt;
  };
  return c;
}

TEST(Shrink, AScheduleIsWrittenOutAsFixedFaultsThatGiveTheSameSchedule) {
  const auto schedule = testing::expand_text(R"(faults:
  - {id: random, kind: gpu.failstop, target: "node-*.gpu-*", random: {rate_per_hour: 60}, repair: 10 s, repair_spread: 1, then: [{kind: node.crash, probability: 0.5, delay: 1 s}]}
  - {id: slow, kind: gpu.slow, target: node-0.gpu-0, factor: 2, at: 3 s, duration: 4 s}
  - {id: flap, kind: link.flap, target: node-0.nic-0.cable, at: 2 s, down: 1 s, up: 5 s, cycles: 4}
)",
                                             {.seed = 4, .run_end = Instant{100'000'000'000}}, chained());
  ASSERT_GT(schedule.size(), 5u);
  const auto specs = scripted(schedule);
  config::Diagnostics diagnostics;
  const auto again = expand(specs, {.seed = 99}, testing::candidates(), diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  ASSERT_EQ(again.size(), schedule.size());
  for (std::size_t k = 0; k < again.size(); ++k) {
    EXPECT_EQ(again[k].name, schedule[k].name);
    EXPECT_EQ(again[k].trigger, schedule[k].trigger);
    EXPECT_EQ(again[k].length, schedule[k].length);
    EXPECT_EQ(again[k].component, schedule[k].component);
    EXPECT_EQ(again[k].factor, schedule[k].factor);
    EXPECT_EQ(again[k].transitions(Instant{5}), schedule[k].transitions(Instant{5}));
  }
}

}  // namespace
}  // namespace faultline::fault
