// Routers, leaders, agents and the fleet manager together under random faults. Whatever happens: every request ends
// exactly once, digests follow the state, no operation has two ends, KV is conserved (in builds with FAULTLINE_CHECKS),
// and after the last repair everything drains, is up again and serves without a loss.
//
// FAULTLINE_TEST_SEED=<seed> runs one seed (with FAULTLINE_TEST_TRACE=1 every event goes to stderr),
// FAULTLINE_TEST_SEEDS=<n> the first n; FAULTLINE_TEST_FAULTS=<bits> keeps only some of its faults. A failure is
// reduced to the faults that show it, and prints the command.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "core/fault/shrink.h"
#include "tests/unit/core/control/random_world.h"

namespace faultline::control {
namespace {

using testing::RandomWorld;
using testing::WorldOptions;

volatile std::sig_atomic_t running_seed = 0;
void print_seed(int) {
  std::fprintf(stderr, "random world: FAULTLINE_TEST_SEED=%ld\n", static_cast<long>(running_seed));
}

/// What the seeds together had to do with: a policy that never acts proves nothing.
struct Seen {
  std::uint64_t cached = 0, cache_lost = 0, resumed = 0, role_switches = 0, replaced = 0, restored = 0;
};

Seen check(WorldOptions options) {
  // A broken assertion ends the process: say at least where it happened.
  const auto before = std::signal(SIGABRT, print_seed);
  const char* given = std::getenv("FAULTLINE_TEST_SEED");
  const char* count = std::getenv("FAULTLINE_TEST_SEEDS");
  const std::uint64_t first = given ? std::strtoull(given, nullptr, 10) : 1;
  const std::uint64_t last = given ? first : count ? std::strtoull(count, nullptr, 10) : 40;
  Seen seen;
  std::uint64_t steps = 0, completed = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    running_seed = static_cast<std::sig_atomic_t>(seed);
    options.seed = seed;
    if (const char* kept = std::getenv("FAULTLINE_TEST_FAULTS"))
      options.kept = static_cast<std::uint32_t>(std::strtoul(kept, nullptr, 10));
    RandomWorld world(options);
    if (std::getenv("FAULTLINE_TEST_TRACE"))
      world.trace([](const std::string& line) { std::fputs(line.c_str(), stderr); });
    std::string wrong = world.run();
    steps += world.steps();
    completed += world.completed();
    seen.resumed += world.resumed();
    seen.cached += world.cached();
    seen.cache_lost += world.cache_lost();
    seen.role_switches += world.role_switches();
    seen.replaced += world.replaced();
    seen.restored += world.restored();
    if (wrong.empty()) continue;
    // The few faults that show it, and the command that does.
    std::vector<std::uint32_t> all;
    for (int k = 0; k < options.faults; ++k) {
      if (options.kept >> k & 1) all.push_back(static_cast<std::uint32_t>(k));
    }
    WorldOptions smaller = options;
    const auto keep = [&](const std::vector<std::uint32_t>& faults) {
      smaller.kept = 0;
      for (const std::uint32_t k : faults) smaller.kept |= 1U << k;
      return RandomWorld(smaller).run();
    };
    if (!all.empty()) all = fault::shrink<std::uint32_t>(all, [&](const auto& some) { return !keep(some).empty(); });
    const std::string still = keep(all);
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    ADD_FAILURE() << (still.empty() ? wrong : still) << "\n  shown by " << all.size() << " of " << options.faults
                  << " faults:\n  FAULTLINE_TEST_SEED=" << seed << " FAULTLINE_TEST_FAULTS=" << smaller.kept
                  << " test_unit --gtest_filter=" << info->test_suite_name() << "." << info->name();
  }
  std::signal(SIGABRT, before);
  if (given) return {~0ULL, ~0ULL, ~0ULL, ~0ULL};
  EXPECT_GT(steps, last * 5'000);
  EXPECT_GT(completed, last * 250);  // of 300 each; those of crashed routers and spent retries are the rest
  return seen;
}

TEST(RandomWorld, RestartOfInstances) { check({.unit = RestartUnit::instance, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfRoles) { check({.unit = RestartUnit::role, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfGroups) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfRanks) { check({.unit = RestartUnit::rank, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, SpareNodesForInstances) {
  check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_node});
}
TEST(RandomWorld, SpareNodesForGroups) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::spare_node}); }
TEST(RandomWorld, SpareInstances) { check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_instance}); }
TEST(RandomWorld, Scaling) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart, .scaling = true});
}
TEST(RandomWorld, ScalingWithSpareInstances) {
  check({.unit = RestartUnit::role, .policy = RecoveryAction::spare_instance, .scaling = true});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongRestarts) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart, .fleet_crashes = 4});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongSpareNodes) {
  check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_node, .fleet_crashes = 6});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongSpareInstances) {
  check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_instance, .fleet_crashes = 4});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainWhileScaling) {
  check({.unit = RestartUnit::role, .policy = RecoveryAction::restart, .scaling = true, .fleet_crashes = 4});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongSurvivors) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::elastic_ep, .fleet_crashes = 4});
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongMaskedExperts) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::mask, .fleet_crashes = 4});
}
TEST(RandomWorld, ManyFaultsAtOnce) {
  const Seen seen = check({.unit = RestartUnit::rank, .policy = RecoveryAction::spare_node, .faults = 16});
  EXPECT_GT(seen.cached, 10'000U);
  EXPECT_GT(seen.cache_lost, 1'000U);
}
TEST(RandomWorld, ElasticGroups) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::elastic_ep}); }
TEST(RandomWorld, ElasticGroupsThatRestartWithTheirInstance) {
  check({.unit = RestartUnit::instance, .policy = RecoveryAction::elastic_ep});
}
TEST(RandomWorld, MaskedExperts) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::mask}); }
TEST(RandomWorld, ElasticGroupsUnderManyFaultsAtOnce) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::elastic_ep, .faults = 16});
}
TEST(RandomWorld, GroupsThatTakeOverTheOtherRole) {
  const Seen seen = check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::role_switch});
  EXPECT_GT(seen.role_switches, 20U);
}
TEST(RandomWorld, GroupsThatTakeOverTheOtherRoleUnderManyFaultsAtOnce) {
  const Seen seen = check({.unit = RestartUnit::rank, .policy = RecoveryAction::role_switch, .faults = 16});
  EXPECT_GT(seen.role_switches, 40U);
}
TEST(RandomWorld, TheFleetManagerIsStartedAgainAmongGroupsOfOtherRoles) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::role_switch, .fleet_crashes = 4});
}
TEST(RandomWorld, GroupsOfOtherRolesWhileScaling) {
  check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::role_switch, .scaling = true});
}
TEST(RandomWorld, CopiesOfSequencesOnOtherGroups) {
  const Seen seen = check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart, .replicate = true});
  EXPECT_GT(seen.resumed, 8U);
}
TEST(RandomWorld, CopiesOfSequencesAmongSurvivors) {
  const Seen seen =
      check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::elastic_ep, .replicate = true, .faults = 16});
  EXPECT_GT(seen.resumed, 8U);
}
TEST(RandomWorld, CopiesOfSequencesWhereRanksRestartAlone) {
  check({.unit = RestartUnit::rank, .policy = RecoveryAction::restart, .replicate = true, .fleet_crashes = 2});
}
TEST(RandomWorld, SpareNodesTakeThePlaceOfAbsentRanks) {
  const Seen seen =
      check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::elastic_ep, .spares = true, .faults = 12});
  EXPECT_GT(seen.replaced, 10U);
}
TEST(RandomWorld, SpareNodesTakeThePlaceOfAbsentRanksWhenTheFleetManagerIsStartedAgain) {
  check({.unit = RestartUnit::ep_group,
         .policy = RecoveryAction::mask,
         .spares = true,
         .fleet_crashes = 4,
         .faults = 12});
}
TEST(RandomWorld, MaskedExpertsComeBackBesideTheRunningGroup) {
  const Seen seen = check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::mask, .faults = 12});
  EXPECT_GT(seen.restored, 5U);
}
TEST(RandomWorld, WithoutFaultsEveryRequestCompletes) {
  RandomWorld world({.seed = 4, .faults = 0});
  EXPECT_EQ(world.run(), "");
}

}  // namespace
}  // namespace faultline::control
