// A run's record names what priced its steps, and which operations lay outside of what was measured.
#include <gtest/gtest.h>

#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

constexpr const char* kFleet = R"(
name: prices
seed: 3
topology:
  name: tiny
  nodes: 3
  hosts: 1
  node: {from: ../../topologies/nodes/mi300x-8gpu.yaml}
  fabric: {from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}
model: ../../topologies/models/deepseek-v3.yaml
device: ../../topologies/devices/mi300x.yaml
engine: {name: ideal}
fleet: {instances: 1, layout: 1P2D, prefill: {dp: 8, ep: 8}, decode: {dp: 16, ep: 16, kv_precision: fp8}}
workload:
  arrivals: {kind: poisson, rate: 8}
  lengths: {kind: independent, prompt: {kind: uniform, min: 500, max: 1500}, output: {kind: uniform, min: 50, max: 150}}
  duration: 30 s
)";

TEST(CostModelOfARun, NamesTheCalibrationAndTheSharesOfWhatItExtrapolated) {
  const auto outcome = test::simulate(std::string(kFleet) + "calibration: ../calibration/mi300x.yaml\n");
  const record::CostModelUse& use = outcome.run.cost_model;
  EXPECT_EQ(use.hardware, "MI300X");
  EXPECT_EQ(use.hash.size(), 16U);
  EXPECT_FALSE(use.name.empty());
  EXPECT_FALSE(use.software_date.empty());
  ASSERT_FALSE(use.extrapolated.empty());
  double sum = 0, before = 1;
  bool decode = false;
  for (const auto& e : use.extrapolated) {
    EXPECT_GT(e.share, 0) << e.op;
    EXPECT_LE(e.share, before) << "the largest first";
    EXPECT_FALSE(e.why.empty()) << e.op;
    before = e.share;
    sum += e.share;
    // Attention was measured at up to 64 cached tokens; these contexts have hundreds.
    if (e.op == "mla_decode") decode = e.why == "contexts longer than any measured";
    // Fused MoE over 16 to 32 experts of these widths is measured.
    EXPECT_NE(e.op, "experts_up");
  }
  EXPECT_TRUE(decode);
  EXPECT_LT(sum, 1);
}

TEST(CostModelOfARun, TheRooflineOfTwoNodesIsNoCalibrationAndStaysInItsRange) {
  const auto outcome = test::simulate(std::string(kFleet));
  EXPECT_EQ(outcome.run.cost_model.name, "roofline");
  EXPECT_EQ(outcome.run.cost_model.hash, "");
  for (const auto& e : outcome.run.cost_model.extrapolated) EXPECT_EQ(e.why, "exchange over more nodes than measured");
}

TEST(CostModelOfARun, TheSameCalibrationInlineHasTheSameHash) {
  const auto spec = test::spec_of(std::string(kFleet) + "calibration: ../calibration/mi300x.yaml\n");
  const auto again = test::spec_of(experiment::resolved(spec));
  ASSERT_TRUE(again.calibration.has_value());
  EXPECT_EQ(calibration::content_hash(*again.calibration), calibration::content_hash(*spec.calibration));
  auto other = *spec.calibration;
  other.models[0].parameters[0].value *= 1.0001;
  EXPECT_NE(calibration::content_hash(other), calibration::content_hash(*spec.calibration));
}

}  // namespace
}  // namespace faultline
