// Traffic of others on the fabric's links, at step fidelity: exchanges and hand-offs are slower from the start, nothing
// is counted as lost, and fluid fidelity says the same of the steps.
#include <gtest/gtest.h>

#include "core/fluid/capacity.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

std::string text(const std::string& rest) {
  return "name: background\n"
         "topology: ../../topologies/fleets/mi300x-32-rail.yaml\n"
         "model: ../../topologies/models/deepseek-v3.yaml\n"
         "device: ../../topologies/devices/mi300x.yaml\n"
         "engine: ../../topologies/engines/sglang.yaml\n"
         "fleet: {instances: 2, layout: 2P2D, prefill: {dp: 8, ep: 8, kv_precision: fp8}, decode: {dp: 16, ep: 16, "
         "kv_precision: fp8}, restart_unit: ep_group, spare_nodes: 2}\n"
         "workload: {arrivals: {kind: poisson, rate: 20}, duration: 30 s, lengths: {kind: independent, prompt: {kind: "
         "uniform, min: 1000, max: 1000}, output: {kind: uniform, min: 100, max: 100}}}\n"
         "recovery: {policy: spare_node}\n" +
         rest;
}

double mean_tpot_ms(const record::RunRecord& run) {
  double sum = 0, count = 0;
  for (const auto& r : run.requests) {
    if (r.outcome != record::Outcome::completed || r.attempts > 1) continue;
    sum += seconds(r.end - r.first_token) / (r.output_tokens - 1);
    ++count;
  }
  return 1e3 * sum / count;
}

TEST(BackgroundTraffic, SlowsEveryStepThatCrossesTheFabricAndLosesNothing) {
  const auto alone = test::simulate(text(""));
  const auto shared = test::simulate(text("network: {background: [{target: 'node-*', share: 0.95}]}\n"));
  ASSERT_EQ(alone.completed(), alone.run.requests.size());
  ASSERT_EQ(shared.completed(), shared.run.requests.size());
  EXPECT_GT(mean_tpot_ms(shared.run), 1.02 * mean_tpot_ms(alone.run));
  EXPECT_TRUE(shared.run.capacity.empty()) << "no fault took capacity";
  EXPECT_TRUE(shared.run.faults.empty());
}

// A node is lost and replaced: what the fault costs is counted against the shared fabric, before, in and after it.
TEST(BackgroundTraffic, AFaultIsChargedForWhatItTakesAlone) {
  const std::string fault = "faults: [{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-1, at: 5 s}]\nend: 250 s\n";
  const auto lost = [](const record::RunRecord& run) {
    double sum = 0;
    for (const auto& c : run.capacity) sum += seconds(c.to - c.from) * (1 - c.usable);
    return sum;
  };
  const auto alone = test::simulate(text(fault));
  const auto shared = test::simulate(text(fault + "network: {background: [{target: 'node-*', share: 0.95}]}\n"));
  ASSERT_GT(lost(alone.run), 500);
  EXPECT_NEAR(lost(shared.run), lost(alone.run), 0.02 * lost(alone.run));  // notice times differ by a step
  EXPECT_EQ(shared.completed(), shared.run.requests.size());
}

TEST(BackgroundTraffic, StepsSlowByWhatTheClosedFormsSay) {
  const auto alone_spec = test::spec_of(text(""));
  const auto alone = test::simulate(text(""));
  const auto shared = test::simulate(text("network: {background: [{target: 'node-*', share: 0.95}]}\n"));
  const auto d = experiment::deploy(alone_spec);
  const auto capacity = fluid::capacity_of(alone_spec, *d, fluid::load_of(alone_spec, test::read_file));
  // 20 requests/s of 100 tokens on 2 x 16 ranks: two sequences a rank. The busiest rank paces the exchange, and of 16
  // with a Poisson number of mean two it has no fewer than one and hardly more than eight.
  const double least = capacity.decode.slowdown(1, 1, 0.05, 1), most = capacity.decode.slowdown(8, 1, 0.05, 1);
  const double ratio = mean_tpot_ms(shared.run) / mean_tpot_ms(alone.run);
  std::printf("    steps are %.4f times as long, closed form %.4f to %.4f\n", ratio, least, most);
  EXPECT_GT(ratio, least);
  EXPECT_LT(ratio, most);
}

}  // namespace
}  // namespace faultline
