// Two rails between two transports, on four software RoCE devices: what happens to the traffic when one of them fails,
// in each way in which a path fails. No operation may fail, no byte may be wrong and each notify comes exactly once.
// Runs inside tests/support/rxe-vm.sh -n 4 (skipped visibly elsewhere); rail 0 is h0-p0 to p1-h1, rail 1 is h2-p2 to
// p3-h3.
#ifdef FAULTLINE_VERBS
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "backend/transport/verbs_transport.h"
#include "core/base/random.h"

namespace faultline::transport {
namespace {

using Clock = std::chrono::steady_clock;

constexpr EndpointId kPeer{5};
constexpr RegionId kLocal{1}, kRemote{2};
constexpr std::size_t kSlot = 32 << 10, kSlots = 32;

void shell(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }

class RailFailover : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto devices = verbs_devices();
    for (const char* name : {"rxe0", "rxe1", "rxe2", "rxe3"}) {
      if (std::find(devices.begin(), devices.end(), name) == devices.end())
        GTEST_SKIP() << "no software RoCE device " << name << ": run inside tests/support/rxe-vm.sh -n 4";
    }
    for (std::size_t i : {0U, 1U}) {
      VerbsSettings settings;
      settings.devices = {i == 0 ? "rxe0" : "rxe1", i == 0 ? "rxe2" : "rxe3"};
      settings.qps = 2;
      settings.timeout = 15;  // 0.94 s with 6 retries
      settings.transfer_deadline = Duration{8'000'000'000};
      settings.rail_pause = Duration{500'000'000};
      settings.chunk = Bytes{16 << 10};
      settings.stripe_min = Bytes{24 << 10};
      settings.control.secret = "rails";
      settings.control.failure_budget = Duration{20'000'000'000};
      settings.control.connect_timeout = Duration{20'000'000'000};
      sides_[i] = std::make_unique<VerbsTransport>(settings);
      memory_[i].resize(2 * kSlot * kSlots);
      ASSERT_TRUE(sides_[i]->register_memory(kLocal, memory_[i]));
    }
    for (std::size_t i : {0U, 1U}) ASSERT_TRUE(sides_[i]->open(kPeer, sides_[1 - i]->local_address()));
    ASSERT_TRUE(run([this] { return rails_up(0) == 2 && rails_up(1) == 2; }, 20));
    ASSERT_TRUE(sides_[0]->import_region(kRemote, kPeer, sides_[1]->export_region(kLocal)));
    if (::testing::Test::HasFailure()) return;
    static bool printed = false;
    if (!std::exchange(printed, true)) std::printf("%s", sides_[0]->description().c_str());
  }
  std::uint64_t rails_up(std::size_t side) const { return sides_[side]->counters().rails_up; }

  /// Polls both sides until done() or `seconds` have passed; returns done().
  bool run(const std::function<bool()>& done, int seconds) {
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    std::array<TransportEvent, 64> events;
    while (!done()) {
      if (Clock::now() > end) return false;
      std::size_t any = 0;
      for (std::size_t side : {0U, 1U}) {
        const std::size_t count = sides_[side]->poll(events);
        any += count;
        for (std::size_t k = 0; k < count; ++k) handle(side, events[k]);
      }
      if (any == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(300));  // the emulated cores are the progress threads'
    }
    return true;
  }
  void handle(std::size_t side, const TransportEvent& event) {
    if (const auto* told = std::get_if<Notified>(&event); told && side == 1) {
      ++notified_[told->tag];
      // Every byte of the batch is there when its notify is.
      const std::size_t slot = told->tag % kSlots;
      const auto place = std::span(memory_[1]).subspan((kSlots + slot) * kSlot, kSlot);
      const auto expected = static_cast<std::byte>(told->tag);
      wrong_ += std::all_of(place.begin(), place.end(), [&](std::byte b) { return b == expected; }) ? 0 : 1;
    } else if (const auto* done = std::get_if<OpCompleted>(&event)) {
      ++completed_;
      last_completion_ = Clock::now();
      in_flight_.erase(done->op);
    } else if (const auto* lost = std::get_if<OpFailed>(&event)) {
      ++failed_;
      in_flight_.erase(lost->op);
    } else if (const auto* down = std::get_if<EndpointDown>(&event)) {
      ended_[side] = down->cause;
    }
  }
  /// Keeps `depth` slots in flight: batch n fills slot n mod 32 with the byte n.
  void post_some(std::size_t depth) {
    while (in_flight_.size() < depth && !down()) {
      const std::uint32_t n = next_;
      const std::size_t slot = n % kSlots;
      if (n >= kSlots && !notified_.contains(n - static_cast<std::uint32_t>(kSlots)))
        return;  // the slot's last batch has not been looked at
      const auto source = std::span(memory_[0]).subspan(slot * kSlot, kSlot);
      std::fill(source.begin(), source.end(), static_cast<std::byte>(n));
      const auto half = static_cast<std::int64_t>(kSlot / 2);
      const auto from = static_cast<std::int64_t>(slot * kSlot),
                 to = static_cast<std::int64_t>((kSlots + slot) * kSlot);
      std::vector<WriteSpan> spans{{kLocal, {from}, kRemote, {to}, {half}},
                                   {kLocal, {from + half}, kRemote, {to + half}, {half}}};
      if (!sides_[0]->post({OpId{n + 1}, kPeer, std::move(spans), n})) return;
      in_flight_.insert(OpId{n + 1});
      ++next_;
    }
  }
  void traffic(std::size_t until, int seconds) {
    run(
        [&] {
          return post_some(next_ < until ? 12 : 0),
                 down() || (next_ >= until && in_flight_.empty() && notified_.size() >= next_);
        },
        seconds);
  }
  void expect_everything_once() {
    EXPECT_FALSE(down());
    EXPECT_EQ(failed_, 0U);
    EXPECT_EQ(wrong_, 0U);
    EXPECT_EQ(notified_.size(), next_);
    for (const auto& [tag, times] : notified_) EXPECT_EQ(times, 1) << "notify " << tag;
    EXPECT_EQ(completed_, next_);
  }
  void fail_and_mend(const char* what, const std::string& breaks, const std::string& mends) {
    traffic(40, 30);
    const auto start = Clock::now();
    std::thread injector([&] { shell(breaks); });
    ASSERT_TRUE(run(
        [&] {
          return post_some(12), sides_[0]->counters().rails_lost + sides_[1]->counters().rails_lost > 0 || down();
        },
        30));
    const auto found = Clock::now() - start;
    injector.join();
    traffic(next_ + 60, 40);  // over the other rail
    EXPECT_EQ(rails_up(0), 1U);
    shell(mends);
    EXPECT_TRUE(run([&] { return rails_up(0) == 2 && rails_up(1) == 2; }, 40)) << "the rail did not come back";
    traffic(next_ + 60, 40);
    expect_everything_once();
    const auto counters = sides_[0]->counters();
    std::printf("  %-22s found after %lld ms, %llu chains moved, %u batches, rails up %llu\n", what,
                static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(found).count()),
                static_cast<unsigned long long>(counters.chains_moved), next_,
                static_cast<unsigned long long>(counters.rails_up));
  }

  std::array<std::unique_ptr<VerbsTransport>, 2> sides_;
  std::array<std::vector<std::byte>, 2> memory_;
  std::set<OpId> in_flight_;
  std::map<std::uint32_t, int> notified_;
  std::uint32_t next_ = 0;
  std::size_t completed_ = 0, failed_ = 0, wrong_ = 0;
  std::array<std::optional<Cause>, 2> ended_;
  bool down() const { return ended_[0] || ended_[1]; }
  Clock::time_point last_completion_;
};

TEST_F(RailFailover, ABlackholeOnOneRailMovesItsTrafficToTheOther) {
  fail_and_mend("blackhole", "tc qdisc add dev p1 root netem loss 100%", "tc qdisc del dev p1 root");
}

TEST_F(RailFailover, LostAcknowledgementsRepeatNoNotify) {
  fail_and_mend("acknowledgements lost", "tc qdisc add dev p0 root netem loss 100%", "tc qdisc del dev p0 root");
}

TEST_F(RailFailover, ALostCarrierHereMovesTheTrafficAtOnce) {
  fail_and_mend("local carrier", "ip link set p0 down", "ip link set p0 up");
}

TEST_F(RailFailover, ALostCarrierThereDoesToo) {
  fail_and_mend("peer's carrier", "ip link set p1 down", "ip link set p1 up");
}

/// The kernel looks for the neighbour's address when a queue pair is connected, 300 ms here and a second by default;
/// the rail is tried again every half second. Nobody who posts or polls may wait for that.
TEST_F(RailFailover, APathThatCannotBeConnectedHoldsNobodyUp) {
  traffic(40, 30);
  shell(
      "tc qdisc add dev p0 root netem loss 100%; tc qdisc add dev p1 root netem loss 100%;"
      "ip neigh flush dev h0; ip neigh flush dev h1");
  const auto lost = [&] { return sides_[0]->counters().rails_lost + sides_[1]->counters().rails_lost; };
  Clock::duration longest{};
  EXPECT_TRUE(run(
      [&] {
        const auto before = Clock::now();
        post_some(4);
        const bool enough = lost() >= 8 || down();  // attempts of two queue pairs on two sides, four of each
        longest = std::max(longest, Clock::now() - before);
        return enough;
      },
      60));
  shell("tc qdisc del dev p0 root; tc qdisc del dev p1 root");
  EXPECT_TRUE(run([&] { return rails_up(0) == 2 && rails_up(1) == 2; }, 40)) << "the rail did not come back";
  traffic(next_ + 60, 40);
  expect_everything_once();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(longest).count();
  std::printf("  %-22s a rail lost %llu times, the longest post took %lld ms\n", "no neighbour",
              static_cast<unsigned long long>(lost()), static_cast<long long>(ms));
  EXPECT_LT(ms, 150) << "half of what one neighbour takes; an emulated core may be away for some of it";
}

TEST_F(RailFailover, WithoutAnyRailThePeerIsLost) {
  traffic(20, 30);
  std::thread injector(
      [] { shell("tc qdisc add dev p1 root netem loss 100%; tc qdisc add dev p3 root netem loss 100%"); });
  const auto start = Clock::now();
  const auto since = [&] {
    return static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
  };
  std::array<long long, 2> at{};
  EXPECT_TRUE(run(
      [&] {
        post_some(12);
        for (std::size_t side : {0U, 1U})
          if (ended_[side] && at[side] == 0) at[side] = since();
        return ended_[0] && ended_[1];
      },
      60));
  injector.join();
  shell("tc qdisc del dev p1 root; tc qdisc del dev p3 root");
  // The writer runs out of retries on both rails. It then gives the peer up, which is all that the other side may hear.
  EXPECT_EQ(ended_[0], Cause::link_down);
  EXPECT_TRUE(ended_[1] == Cause::link_down || ended_[1] == Cause::peer_lost)
      << static_cast<int>(ended_[1].value_or(Cause::none));
  std::printf("  %-22s ended after %lld ms here, %lld ms there, first error: %s\n", "both rails", at[0], at[1],
              sides_[0]->counters().first_error.c_str());
  EXPECT_TRUE(in_flight_.empty());
  EXPECT_EQ(wrong_, 0U);
  for (const auto& [tag, times] : notified_) EXPECT_EQ(times, 1) << "notify " << tag;
}

}  // namespace
}  // namespace faultline::transport
#endif
