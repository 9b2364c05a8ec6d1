#include "core/experiment/replay.h"

#include <gtest/gtest.h>

#include "core/record/codec.h"
#include "core/record/event_log.h"
#include "tests/unit/core/experiment/support.h"

namespace faultline::experiment {
namespace {

using namespace testing;
using control::Command;
using control::Commands;

/// A log of one router that gets three requests, as a driver would have written it; `tamper` may change a record.
template <class Tamper>
std::string log_of(Tamper tamper) {
  const ExperimentSpec spec = load(kBase, "e.yaml", {}, read_repository);
  const auto d = deploy(spec);
  control::RouterSetup setup = d->router;
  for (const auto& i : d->fleet.instances) setup.accepting.push_back(i.serving);
  control::Router router(setup);
  std::string bytes;
  record::EventLogWriter log(resolved(spec), [&](std::string_view piece) { bytes += piece; });
  const auto step = [&](int k, const control::Event& event) {
    Commands commands;
    router.step(Instant{k}, event, commands);
    std::uint64_t digest = router.digest();
    tamper(k, commands, digest);
    log.append(Instant{k}, {Role::router, 0}, 0, event, commands, digest);
  };
  step(0, control::Started{});
  for (int k = 1; k <= 3; ++k)
    step(k, control::RequestArrived{RequestId{static_cast<std::uint32_t>(k)}, 100, 10, 0, 0});
  log.finish();
  return bytes;
}

TEST(Replay, AnUntouchedLogMatches) {
  const ReplayResult r = replay(log_of([](int, Commands&, std::uint64_t&) {}), read_repository);
  EXPECT_TRUE(r.matches) << r.difference;
  EXPECT_EQ(r.records, 4U);
}

TEST(Replay, AChangedCommandIsFoundAndShown) {
  const ReplayResult r = replay(log_of([](int k, Commands& commands, std::uint64_t&) {
                                  if (k != 2) return;
                                  for (Command& c : commands) {
                                    if (auto* s = std::get_if<control::Send>(&c)) s->to.index = 3;
                                  }
                                }),
                                read_repository);
  EXPECT_FALSE(r.matches);
  EXPECT_EQ(r.records, 3U);
  EXPECT_EQ(r.at, Instant{2});
  EXPECT_EQ(r.who, "router 0");
  EXPECT_NE(r.difference.find("recorded: #0 ( 3/3 "), std::string::npos) << r.difference;
  EXPECT_NE(r.difference.find("replayed: #0 ( 3/2 "), std::string::npos) << r.difference;
}

TEST(Replay, AMissingCommandAndAChangedDigestAreFound) {
  const ReplayResult missing = replay(log_of([](int k, Commands& commands, std::uint64_t&) {
                                        if (k == 3) commands.pop_back();
                                      }),
                                      read_repository);
  EXPECT_FALSE(missing.matches);
  EXPECT_NE(missing.difference.find("recorded: (none)"), std::string::npos) << missing.difference;
  const ReplayResult digest = replay(log_of([](int k, Commands&, std::uint64_t& d) { d ^= k == 1; }), read_repository);
  EXPECT_FALSE(digest.matches);
  EXPECT_EQ(digest.records, 2U);
  EXPECT_NE(digest.difference.find("digest:"), std::string::npos) << digest.difference;
}

TEST(Replay, ARecordOfNobodyIsRefused) {
  for (const Address who : {Address{Role::client, 0}, Address{Role::instance, 4}}) {
    std::string bytes;
    record::EventLogWriter log(resolved(load(kBase, "e.yaml", {}, read_repository)),
                               [&](std::string_view piece) { bytes += piece; });
    log.append(Instant{0}, who, 0, control::Started{}, {}, 0);
    log.finish();
    EXPECT_THROW(replay(bytes, read_repository), record::CodecError);
  }
}

TEST(Replay, ALogWhoseExperimentNoLongerReadsSaysWhy) {
  std::string bytes;
  record::EventLogWriter log("name: x\n", [&](std::string_view piece) { bytes += piece; });
  log.finish();
  EXPECT_THROW(replay(bytes, read_repository), config::ConfigError);
}

}  // namespace
}  // namespace faultline::experiment
