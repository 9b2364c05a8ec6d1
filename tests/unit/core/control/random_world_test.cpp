// Routers, leaders, agents and the fleet manager together under random faults. Whatever happens: every request ends exactly
// once, digests follow the state, no operation has two ends, KV is conserved (in builds with FAULTLINE_CHECKS), and after
// the last repair everything drains, is up again and serves without a loss.
//
// FAULTLINE_TEST_SEED=<seed> runs one seed (with FAULTLINE_TEST_TRACE=1 every event goes to stderr), FAULTLINE_TEST_SEEDS=<n> the first n; a failure prints the seed and the smallest number of faults that shows it.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/unit/core/control/random_world.h"

namespace faultline::control {
namespace {

using testing::RandomWorld;
using testing::WorldOptions;

volatile std::sig_atomic_t running_seed = 0;
void print_seed(int) { std::fprintf(stderr, "random world: FAULTLINE_TEST_SEED=%ld\n", static_cast<long>(running_seed)); }

void check(WorldOptions options) {
  // A broken assertion ends the process: say at least where it happened.
  const auto before = std::signal(SIGABRT, print_seed);
  const char* given = std::getenv("FAULTLINE_TEST_SEED");
  const char* count = std::getenv("FAULTLINE_TEST_SEEDS");
  const std::uint64_t first = given ? std::strtoull(given, nullptr, 10) : 1;
  const std::uint64_t last = given ? first : count ? std::strtoull(count, nullptr, 10) : 40;
  std::uint64_t steps = 0, completed = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    running_seed = static_cast<std::sig_atomic_t>(seed);
    options.seed = seed;
    RandomWorld world(options);
    if (std::getenv("FAULTLINE_TEST_TRACE")) world.trace([](const std::string& line) { std::fputs(line.c_str(), stderr); });
    std::string wrong = world.run();
    steps += world.steps();
    completed += world.completed();
    if (wrong.empty()) continue;
    WorldOptions smaller = options;
    for (int faults = 0; faults < options.faults; ++faults) {
      smaller.faults = faults;
      if (const std::string still = RandomWorld(smaller).run(); !still.empty()) {
        wrong = still;
        break;
      }
      smaller.faults = options.faults;
    }
    ADD_FAILURE() << wrong << "\n  FAULTLINE_TEST_SEED=" << seed << ", shown by the first " << smaller.faults << " faults";
  }
  std::signal(SIGABRT, before);
  if (given) return;
  EXPECT_GT(steps, last * 5'000);
  EXPECT_GT(completed, last * 250);  // of 300 each; those of crashed routers and spent retries are the rest
}

TEST(RandomWorld, RestartOfInstances) { check({.unit = RestartUnit::instance, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfRoles) { check({.unit = RestartUnit::role, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfGroups) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, RestartOfRanks) { check({.unit = RestartUnit::rank, .policy = RecoveryAction::restart}); }
TEST(RandomWorld, SpareNodesForInstances) { check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_node}); }
TEST(RandomWorld, SpareNodesForGroups) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::spare_node}); }
TEST(RandomWorld, SpareInstances) { check({.unit = RestartUnit::instance, .policy = RecoveryAction::spare_instance}); }
TEST(RandomWorld, Scaling) { check({.unit = RestartUnit::ep_group, .policy = RecoveryAction::restart, .scaling = true}); }
TEST(RandomWorld, ScalingWithSpareInstances) {
  check({.unit = RestartUnit::role, .policy = RecoveryAction::spare_instance, .scaling = true});
}
TEST(RandomWorld, ManyFaultsAtOnce) { check({.unit = RestartUnit::rank, .policy = RecoveryAction::spare_node, .faults = 16}); }
TEST(RandomWorld, WithoutFaultsEveryRequestCompletes) {
  RandomWorld world({.seed = 4, .faults = 0});
  EXPECT_EQ(world.run(), "");
}

}  // namespace
}  // namespace faultline::control
