// What becomes of requests on their way to a router that dies and comes back.
#include <gtest/gtest.h>

#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/station.h"

namespace faultline {
namespace {

using namespace faultline::literals;

std::string station(const std::string& timing, const std::string& outage) {
  return test::text_of(
      test::Station{.arrivals = "{kind: poisson, rate: 100}",
                    .prompt = "{kind: fixed, tokens: 50}",
                    .output = "{kind: fixed, tokens: 20}",
                    .workload = "duration: 8 s",
                    .rest = "seed: 3\ntiming: {" + timing +
                            "}\nfaults: [{kind: router.crash, target: router-0, at: 4 s, duration: " + outage + "}]"});
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
