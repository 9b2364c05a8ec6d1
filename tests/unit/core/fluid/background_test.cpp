// Traffic of others on the fabric's links, at fluid fidelity.
#include <gtest/gtest.h>

#include "tests/unit/core/fluid/scenario.h"

namespace faultline::fluid {
namespace {

using testing::run;

/// Four prefill nodes an instance, so that decode, whose EP16 groups span two nodes, is what limits it.
std::string fleet_text(const std::string& faults, const std::string& rest) {
  std::string text = testing::fleet_text(faults, rest);
  return text.replace(text.find("2P2D"), 4, "4P2D");
}

std::string shared(const std::string& background) { return "network: {background: [" + background + "]}\n"; }

TEST(BackgroundTraffic, TakesCapacityOfGroupsThatSpanNodesAndNothingElse) {
  const auto alone = run(fleet_text("", ""));
  const auto half = run(fleet_text("", shared("{target: 'node-*', share: 0.5}")));
  const auto most = run(fleet_text("", shared("{target: 'node-*', share: 0.9}")));
  EXPECT_LT(half.result.capacity_healthy, alone.result.capacity_healthy);
  EXPECT_LT(most.result.capacity_healthy, half.result.capacity_healthy);
  EXPECT_EQ(half.result.lost_gpu_s, 0) << "no fault took it";
  EXPECT_EQ(half.result.incidents, 0);
  EXPECT_EQ(half.result.late, 0);
  // Decode groups are EP16 on two nodes; those of an instance that fits into its nodes' own links lose nothing.
  const auto narrow =
      run(fleet_text("", shared("{target: 'node-*', share: 0.9}")), 1, {"fleet.decode.ep=8", "fleet.decode.dp=8"});
  const auto narrow_alone = run(fleet_text("", ""), 1, {"fleet.decode.ep=8", "fleet.decode.dp=8"});
  EXPECT_EQ(narrow.result.capacity_healthy, narrow_alone.result.capacity_healthy);
}

TEST(BackgroundTraffic, ARateIsAShareOfTheLinksCapacity) {
  const auto share = run(fleet_text("", shared("{target: 'node-*', share: 0.25}")));
  const double capacity =
      static_cast<double>(share.spec.topology.node.nic.bandwidth.v) / share.spec.topology.node.nic.ports;
  const auto rate = run(fleet_text("", shared(fmt::format("{{target: 'node-*', rate: {:.0f} B/s}}", capacity / 4))));
  EXPECT_NEAR(rate.result.capacity_healthy, share.result.capacity_healthy, 1e-6 * share.result.capacity_healthy);
  const auto twice = run(fleet_text("", shared("{target: 'node-*', share: 0.15}, {target: 'node-*', share: 0.1}")));
  EXPECT_NEAR(twice.result.capacity_healthy, share.result.capacity_healthy, 1e-6 * share.result.capacity_healthy);
}

TEST(BackgroundTraffic, OneNodeSlowsOnlyItsOwnInstance) {
  const auto alone = run(fleet_text("", ""));
  const auto one = run(fleet_text("", shared("{target: inst-0.d-0, share: 0.9}")));
  const auto all = run(fleet_text("", shared("{target: 'node-*', share: 0.9}")));
  const double of_one = alone.result.capacity_healthy - one.result.capacity_healthy;
  const double of_all = alone.result.capacity_healthy - all.result.capacity_healthy;
  EXPECT_GT(of_one, 0);
  EXPECT_NEAR(of_all, 4 * of_one, 0.01 * of_all);  // four instances of equal load
}

// A fault comes and goes: what others use was no part of it, and is not charged to it afterwards.
TEST(BackgroundTraffic, AFaultIsChargedForWhatItTakesAlone) {
  const std::string fault = "{kind: node.crash, target: inst-1.d-0, at: 50 s, duration: 30 s}";
  const auto alone = run(fleet_text(fault, ""));
  const auto busy = run(fleet_text(fault, shared("{target: 'node-*', share: 0.8}")));
  ASSERT_GT(alone.result.lost_gpu_s, 1000);
  EXPECT_NEAR(busy.result.lost_gpu_s, alone.result.lost_gpu_s, 1e-6 * alone.result.lost_gpu_s);
  EXPECT_LE(busy.result.capacity_mean, busy.result.capacity_healthy);
  EXPECT_LT(busy.result.capacity_healthy, alone.result.capacity_healthy);
}

TEST(BackgroundTraffic, WhatLeavesNothingOrHasNoLinkIsAnError) {
  const auto error_of = [](const std::string& background) -> std::string {
    try {
      run(fleet_text("", shared(background)));
    } catch (const config::ConfigError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(error_of("{target: 'node-*', share: 0.6}, {target: node-1, share: 0.6}").find("at most 95 %"),
            std::string::npos);
  EXPECT_NE(error_of("{target: 'nodes-*', share: 0.6}").find("has no link"), std::string::npos);
  EXPECT_NE(error_of("{target: node-99, share: 0.6}").find("unknown component 'node-99'"), std::string::npos);
  EXPECT_NE(error_of("{target: node-1}").find("a 'share' of its links or a 'rate'"), std::string::npos);
}

}  // namespace
}  // namespace faultline::fluid
