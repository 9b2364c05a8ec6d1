// Logs of several processes: what was received must have been sent, in order and once; what was lost may be missing.
#include "core/experiment/delivery.h"

#include <gtest/gtest.h>

#include "core/record/event_log.h"

namespace faultline::experiment {
namespace {

constexpr Address kA{Role::fleet, 0}, kB{Role::node, 1};

control::Send probe(std::uint64_t token) { return {kB, control::ProbeNode{token}}; }

/// A log of one incarnation of A that sends these, or of B that receives them.
std::string log_of(Address who, std::uint32_t incarnation, const std::vector<std::uint64_t>& tokens) {
  std::string bytes;
  record::EventLogWriter log("experiment", [&](std::string_view b) { bytes += b; });
  std::int64_t t = 0;
  for (const std::uint64_t token : tokens) {
    if (who == kA)
      log.append(Instant{++t}, who, incarnation, control::TimerFired{1}, control::Commands{probe(token)}, 0);
    else log.append(Instant{++t}, who, incarnation, control::Received{kA, control::ProbeNode{token}}, {}, 0);
  }
  log.finish();
  return bytes;
}

DeliveryResult check(const std::vector<std::string>& logs) { return check_delivery({logs.begin(), logs.end()}); }

TEST(Delivery, MessagesThatWereLostAreCountedAndNoDifference) {
  const auto result = check({log_of(kA, 0, {1, 2, 3, 4}), log_of(kB, 0, {1, 3})});
  EXPECT_EQ(result.difference, "");
  EXPECT_EQ(result.received, 2U);
  EXPECT_EQ(result.lost, 2U);
}

TEST(Delivery, AMessageThatNobodySentIsNamed) {
  const auto result = check({log_of(kA, 0, {1, 2}), log_of(kB, 0, {1, 9})});
  EXPECT_NE(result.difference.find("node 1 received from fleet 0, as message 2"), std::string::npos)
      << result.difference;
}

TEST(Delivery, TwiceOrOutOfOrderIsADifference) {
  EXPECT_NE(check({log_of(kA, 0, {1, 2}), log_of(kB, 0, {1, 1})}).difference, "");
  EXPECT_NE(check({log_of(kA, 0, {1, 2}), log_of(kB, 0, {2, 1})}).difference, "");
}

TEST(Delivery, ANewIncarnationGoesOnWhereTheOldOneStopped) {
  EXPECT_EQ(check({log_of(kA, 0, {1, 2, 3}), log_of(kB, 0, {1}), log_of(kB, 1, {3})}).difference, "");
  EXPECT_NE(check({log_of(kA, 0, {1, 2, 3}), log_of(kB, 0, {2}), log_of(kB, 1, {1})}).difference, "");
  EXPECT_EQ(check({log_of(kA, 0, {1, 2}), log_of(kA, 1, {1}), log_of(kB, 0, {2, 1})}).difference, "");
}

TEST(Delivery, ALogThatEndsInTheMiddleOfARecordCountsUpToThere) {
  std::string cut = log_of(kB, 0, {1, 2});
  cut.pop_back();
  const auto result = check({log_of(kA, 0, {1, 2}), cut});
  EXPECT_EQ(result.difference, "");
  EXPECT_EQ(result.received, 1U);
}

}  // namespace
}  // namespace faultline::experiment
