// What the simulator's world relies on beyond the Messenger port: exact times of deliveries and of what watchers are
// told.
#include "core/ports/message_net.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace faultline::ports {
namespace {

constexpr Duration kLatency{50}, kBeat{1'000};

class Net final : public MessageNet<std::string>::Owner {
 public:
  Net() : net(*this, {.latency = kLatency, .heartbeat = kBeat, .suspected_after = 2, .lost_after = 3, .seed = 1}) {
    for (std::uint32_t host = 0; host < 3; ++host) net.add(host, true);
    neighbour = net.add(0, true);
  }
  void run_to(Instant end) {
    while (!due_.empty() && due_.begin()->first.first <= end) {
      const auto [place, token] = *due_.begin();
      due_.erase(due_.begin());
      now = place.first;
      net.due(token);
    }
    now = end;
  }
  Instant message_time() const override { return now; }
  void wake_at(Instant at, std::uint32_t token) override { due_[{at, ++order_}] = token; }
  void received(Member to, Member from, std::string&& text) override {
    add(std::to_string(from) + ">" + std::to_string(to) + " " + text);
  }
  void changed(Member watcher, Member peer, PeerChange to, Cause) override {
    add(std::to_string(watcher) + ": " + std::to_string(peer) +
        (to == PeerChange::lost   ? " lost"
         : to == PeerChange::back ? " back"
                                  : " suspected"));
  }
  void vanished(Member, Member) override { ++lost_messages; }
  void add(const std::string& text) { heard.emplace_back(now.ns, text); }

  Instant now{0};
  MessageNet<std::string> net;
  Member neighbour = 0;  // on the host of member 0
  std::vector<std::pair<std::int64_t, std::string>> heard;
  int lost_messages = 0;

 private:
  std::map<std::pair<Instant, std::uint64_t>, std::uint32_t> due_;
  std::uint64_t order_ = 0;
};

using Heard = std::vector<std::pair<std::int64_t, std::string>>;

TEST(MessageNet, AMessageTakesOneLatencyBetweenHostsAndNoneWithinOne) {
  Net n;
  n.net.send(0, 1, "a");
  n.net.send(0, n.neighbour, "b");
  n.run_to(Instant{1'000});
  EXPECT_EQ(n.heard, (Heard{{0, "0>3 b"}, {50, "0>1 a"}}));
}

TEST(MessageNet, AResetIsHeardAfterOneLatency) {
  Net n;
  n.net.watch(0, 1);
  n.now = Instant{777};
  n.net.crash(1, true);
  n.run_to(Instant{100'000});
  EXPECT_EQ(n.heard, (Heard{{827, "0: 1 lost"}}));
}

TEST(MessageNet, SilenceIsCountedFromTheLastBeatAtTheMembersOwnPhase) {
  Net n;
  n.net.watch(0, 1);
  n.net.watch(0, 2);
  n.now = Instant{10'400};
  n.net.crash(1, false);
  n.net.crash(2, false);
  n.run_to(Instant{100'000});
  ASSERT_EQ(n.heard.size(), 4u);
  std::map<std::string, std::int64_t> at;
  for (const auto& [time, text] : n.heard) at[text] = time;
  for (const std::string peer : {"1", "2"}) {
    const std::int64_t last_beat = at["0: " + peer + " lost"] - 3 * kBeat.v - kLatency.v;
    EXPECT_EQ(at["0: " + peer + " suspected"], last_beat + 2 * kBeat.v + kLatency.v);
    EXPECT_GT(last_beat, 10'400 - kBeat.v);
    EXPECT_LE(last_beat, 10'400);
  }
  EXPECT_NE(at["0: 1 lost"], at["0: 2 lost"]);  // phases of their own
}

// Closed form 10 of leases: one of length T renewed every r is noticed to have ended after a time uniform on [T - r,
// T].
TEST(MessageNet, ALeaseEndsAfterATimeUniformOnOneRenewalPeriod) {
  std::vector<double> after;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    Net n;
    n.net.watch(0, 1);
    n.now = Instant{static_cast<std::int64_t>(20'000 + mix64(seed) % 100'000)};
    const Instant crash = n.now;
    n.net.crash(1, false);
    n.run_to(Instant{1'000'000});
    ASSERT_EQ(n.heard.size(), 2u);
    after.push_back(static_cast<double>(n.heard.back().first - crash.ns - kLatency.v) / static_cast<double>(kBeat.v));
  }
  std::sort(after.begin(), after.end());
  EXPECT_GT(after.front(), 2.0 - 1e-9);  // lost_after = 3 periods
  EXPECT_LE(after.back(), 3.0);
  double distance = 0;  // Kolmogorov-Smirnov against the uniform distribution
  for (std::size_t k = 0; k < after.size(); ++k) {
    distance =
        std::max(distance, std::abs(after[k] - 2 - (static_cast<double>(k) + 0.5) / static_cast<double>(after.size())));
  }
  EXPECT_LT(distance, 1.63 / std::sqrt(static_cast<double>(after.size())) + 0.00125);  // 1% critical value
}

TEST(MessageNet, APeerThatWasReportedLostIsNotReportedLostAgainWhenItIsBack) {
  Net n;
  n.net.watch(0, 1);
  n.net.crash(1, true);
  n.run_to(Instant{1'000});
  n.net.restart(1);
  n.run_to(Instant{2'000});
  EXPECT_EQ(n.heard, (Heard{{50, "0: 1 lost"}, {1'050, "0: 1 back"}}));
}

TEST(MessageNet, ARestartTooQuickToBeMissedIsStillAnnounced) {
  Net n;
  n.net.watch(0, 1);
  n.net.crash(1, false);
  n.net.send(1, 0, "from a dead process's buffers");
  n.net.restart(1);
  n.net.send(1, 0, "new");
  n.run_to(Instant{100'000});
  EXPECT_EQ(n.heard, (Heard{{50, "0: 1 lost"}, {50, "0: 1 back"}, {50, "1>0 new"}}));
  EXPECT_EQ(n.lost_messages, 1);
}

TEST(MessageNet, ASilenceShorterThanTheLimitIsNotReportedLost) {
  Net n;
  n.net.watch(0, 1);
  n.now = Instant{5'000};
  n.net.break_route(0, 1);
  n.run_to(Instant{5'100});
  n.net.mend_route(0, 1);
  n.run_to(Instant{100'000});
  EXPECT_TRUE(n.heard.empty());
}

TEST(MessageNet, WatchesEndWithTheWatcher) {
  Net n;
  n.net.watch(0, 1);
  n.net.crash(1, false);
  n.net.crash(0, true);
  n.net.restart(0);
  n.run_to(Instant{100'000});
  EXPECT_TRUE(n.heard.empty());
  n.net.watch(0, 1);  // not there: lost when it could have been heard three times
  n.run_to(Instant{200'000});
  EXPECT_EQ(n.heard, (Heard{{103'050, "0: 1 lost"}}));
}

}  // namespace
}  // namespace faultline::ports
