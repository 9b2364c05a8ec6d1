// Whether turning prefill into decode pays (experiments/recovery/role_switch, docs/recovery.md section 3): a decode
// group is lost for minutes, there is no spare, and the other instance can or cannot carry the load alone.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/metrics/summary.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

struct Served {
  std::int64_t met = 0, arrived = 0;
  double degraded = -1;  // s, from the fault until the instance serves again with other roles
};

Served run(const char* policy, const std::string& rate) {
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/experiments/recovery/role_switch.yaml";
  experiment::Overrides overrides;
  overrides.set = {std::string("recovery.policy=") + policy, "workload.arrivals.rate=" + rate, "end=600 s",
                   "workload.duration=600 s"};
  const test::Outcome o =
      test::simulate(experiment::load(test::read_file(path).value_or(""), path, overrides, test::read_file));
  const metrics::Summary s = metrics::summarise(o.run);
  Served out;
  for (const auto& c : s.slo_classes) {
    out.met += static_cast<std::int64_t>(c.met);
    out.arrived += static_cast<std::int64_t>(c.arrived);
  }
  for (const auto& f : o.run.faults) {
    if (f.phases.degraded != kNever) out.degraded = seconds(f.phases.degraded - f.at);
  }
  std::printf("    %s, %s requests/s: %lld of %lld within the SLO\n", policy, rate.c_str(),
              static_cast<long long>(out.met), static_cast<long long>(out.arrived));
  return out;
}

TEST(RoleSwitchUnderLoad, PaysWhereTheOtherInstanceCannotCarryTheLoadAlone) {
  const Served restart = run("restart", "80"), switched = run("role_switch", "80");
  ASSERT_EQ(restart.arrived, switched.arrived);
  EXPECT_GT(switched.met, restart.met + restart.arrived / 10);
  // Process, graphs and warm-up of the engine's profile (20 + 30 + 10 s); the weights stay where they are.
  EXPECT_GT(switched.degraded, 60);
  EXPECT_LT(switched.degraded, 70);
}

TEST(RoleSwitchUnderLoad, CostsLittleWhereItCan) {
  const Served restart = run("restart", "40"), switched = run("role_switch", "40");
  EXPECT_GT(switched.met, restart.met - restart.arrived / 200);
}

}  // namespace
}  // namespace faultline
