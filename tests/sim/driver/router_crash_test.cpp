// What becomes of requests on their way to a router that dies and comes back.
#include <gtest/gtest.h>

#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

using namespace faultline::literals;

std::string station(const char* timing, const char* duration) {
  return fmt::format(R"(
name: station
seed: 3
topology: {{name: one node, nodes: 1, hosts: 1, node: ../../topologies/nodes/mi300x-1gpu.yaml, fabric: ../../topologies/fabrics/rail-optimised.yaml}}
model: ../../topologies/models/dense-7b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: ../../topologies/engines/ideal.yaml
fleet: {{instances: 1, layout: 1PD, both: {{dp: 1, ep: 1}}}}
timing: {{{}}}
workload:
  arrivals: {{kind: poisson, rate: 100}}
  lengths: {{kind: independent, prompt: {{kind: fixed, tokens: 50}}, output: {{kind: fixed, tokens: 20}}}}
  duration: 8 s
faults: [{{kind: router.crash, target: router-0, at: 4 s, duration: {}}}]
)",
                     timing, duration);
}

/// Their connections went to the process that died: they end once, with it, whoever listens when they get there.
TEST(RouterCrash, ARequestOnItsWayToARouterThatIsBackBeforeItArrivesEndsOnce) {
  const test::Outcome o = test::simulate(station("client_latency: 300 ms", "100 ms"));
  std::size_t on_their_way = 0;
  for (const auto& r : o.run.requests) {
    ASSERT_NE(r.outcome, record::Outcome::unfinished);
    const Duration before = Instant{4'000'000'000} - r.arrival;
    if (before < 0_s || before >= 300_ms) continue;
    EXPECT_EQ(r.outcome, record::Outcome::failed) << "sent " << before.v << " ns before the crash";
    EXPECT_EQ(r.cause, Cause::router_lost);
    EXPECT_EQ(r.attempts, 0);
    ++on_their_way;
  }
  EXPECT_GT(on_their_way, 10U);  // 30 expected
  EXPECT_EQ(o.count(record::Outcome::rejected), 0U);
}

/// Clients hear of the crash late; by then the next incarnation serves others.
TEST(RouterCrash, TheResetOfOldConnectionsDoesNotEndRequestsOfTheNextIncarnation) {
  const test::Outcome o = test::simulate(station("control_latency: 500 ms", "10 ms"));
  std::size_t of_the_next = 0;
  for (const auto& r : o.run.requests) {
    const Duration after = r.arrival - Instant{4'010'000'000};
    if (after < 0_s || after >= 490_ms) continue;
    EXPECT_EQ(r.outcome, record::Outcome::completed) << "sent " << after.v << " ns after the restart";
    ++of_the_next;
  }
  EXPECT_GT(of_the_next, 20U);  // 49 expected
}

}  // namespace
}  // namespace faultline
