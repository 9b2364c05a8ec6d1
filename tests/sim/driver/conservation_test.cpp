// Tokens are conserved: what the groups generated is what clients were given, what was made again and what came too
// late for anybody, whichever process or part dies in the middle of whatever it does.
#include <gtest/gtest.h>

#include "core/metrics/summary.h"
#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/tiny_fleet.h"

namespace faultline {
namespace {

/// The leader is on the first prefill node, so that a fault of the decode side leaves it alive and one of its own node
/// leaves decode running without it.
std::string fleet(const char* fault, const char* extra) {
  return test::text_of({.seed = "5",
                        .rate = "4",
                        .output_max = 900,
                        .duration = "60 s",
                        .end = "400 s",
                        .rest = fmt::format("faults: [{{id: fault, at: 20 s, {}}}]\n{}", fault, extra)});
}

constexpr const char* kFaults[] = {
    "kind: router.crash, target: router-0",
    "kind: rack.power, target: rack-0, duration: 5 s",
    "kind: gpu.failstop, target: inst-0.p-0.gpu-0, duration: 5 s",
    "kind: gpu.failstop, target: inst-0.d-0.gpu-0, duration: 5 s",
    "kind: gpu.hang, target: inst-0.d-1.gpu-0, duration: 5 s",
    "kind: node.crash, target: inst-0.p-0, duration: 5 s",
    "kind: node.crash, target: inst-0.p-1, duration: 5 s",
    "kind: node.crash, target: inst-0.d-0, duration: 5 s",
    "kind: node.crash, target: inst-0.d-1, duration: 5 s",
};

struct Tokens {
  std::int64_t made = 0, delivered = 0, lost = 0;
};
Tokens tokens_of(const test::Outcome& o) {
  Tokens t;
  for (const auto& bin : o.run.throughput) t.made += bin.output_tokens;
  for (const auto& r : o.run.requests) {
    t.delivered += r.output_delivered;
    t.lost += r.tokens_lost;
  }
  return t;
}

std::string violations(const test::Outcome& o) {
  std::string all;
  for (const std::string& v : metrics::summarise(o.run).violations) all += v + "\n";
  return all;
}

TEST(Conservation, WithoutRetriesEveryTokenMadeIsDeliveredOrLost) {
  for (const char* fault : kFaults) {
    for (const int routers : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} with {} routers", fault, routers));
      experiment::ExperimentSpec spec = test::spec_of(fleet(fault, ""));
      spec.engine.gateway_replays = false;
      spec.router.replicas = routers;
      const test::Outcome o = test::simulate(spec);
      ASSERT_TRUE(o.run.faults.at(0).applied);
      EXPECT_GT(o.count(record::Outcome::failed), 0u) << "the fault hit nothing";
      const Tokens t = tokens_of(o);
      EXPECT_EQ(t.made, t.delivered + t.lost);
      EXPECT_EQ(violations(o), "");
    }
  }
}

TEST(Conservation, WithRetriesOrMigrationNoTokenIsCountedTwice) {
  for (const char* fault : kFaults) {
    for (const bool migrate : {false, true}) {
      SCOPED_TRACE(fmt::format("{}{}", fault, migrate ? ", streams migrate" : ""));
      experiment::ExperimentSpec spec = test::spec_of(fleet(fault, "router: {replicas: 2}"));
      spec.router.retry.migrate = migrate;
      const test::Outcome o = test::simulate(spec);
      ASSERT_TRUE(o.run.faults.at(0).applied);
      EXPECT_EQ(violations(o), "");
      // A stream that migrates goes on after what its client has: nothing is generated again.
      if (const Tokens t = tokens_of(o); migrate) {
        EXPECT_EQ(t.made, t.delivered + t.lost);
      }
    }
  }
}

TEST(Conservation, GroupsThatRestartAloneOrGoOnWithoutARankKeepTheBooks) {
  using control::RestartUnit;
  for (const char* fault : kFaults) {
    for (const auto unit : {RestartUnit::rank, RestartUnit::ep_group, RestartUnit::role}) {
      for (const bool elastic : {false, true}) {
        SCOPED_TRACE(fmt::format("{}, restart unit {}{}", fault, static_cast<int>(unit), elastic ? ", elastic" : ""));
        std::string text = fleet(fault, "");
        for (std::size_t at = 0; elastic && (at = text.find("ep: 4", at)) != std::string::npos; at += 5)
          text.insert(at + 5, ", redundant_experts: 48");
        experiment::ExperimentSpec spec = test::spec_of(text);
        spec.engine.gateway_replays = false;
        spec.engine.peers_die = false;
        spec.fleet.restart_unit = unit;
        if (elastic) spec.recovery.policy = control::RecoveryAction::elastic_ep;
        const test::Outcome o = test::simulate(spec);
        ASSERT_TRUE(o.run.faults.at(0).applied);
        const Tokens t = tokens_of(o);
        EXPECT_EQ(t.made, t.delivered + t.lost);
        EXPECT_EQ(violations(o), "");
      }
    }
  }
}

/// A stream is cut by its router's end: its client keeps what it had, and nobody gets the rest.
TEST(Conservation, AClientKeepsWhatItsRouterHadPassedOn) {
  const test::Outcome o =
      test::simulate(fleet("kind: router.crash, target: router-0, duration: 5 s", "router: {replicas: 2}"));
  std::int64_t kept = 0;
  for (const auto& r : o.run.requests) {
    if (r.outcome != record::Outcome::failed) continue;
    EXPECT_EQ(r.cause, Cause::router_lost);
    EXPECT_EQ(r.first_token != kNever, r.output_delivered > 0);
    EXPECT_LE(r.first_token == kNever ? r.end.ns : r.first_token.ns, r.end.ns);
    kept += r.output_delivered;
  }
  EXPECT_GT(kept, 0);
}

}  // namespace
}  // namespace faultline
