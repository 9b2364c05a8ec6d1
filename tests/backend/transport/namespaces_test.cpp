// A real path that falls silent: two network namespaces joined by a bridge in a third; the bridge port stops forwarding
// while every carrier stays up, as a switch does that loses its tables. Needs root and iproute2; skipped visibly
// without.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "backend/transport/bench_link.h"
#include "backend/transport/tcp_transport.h"

namespace faultline::transport {
namespace {

using Clock = std::chrono::steady_clock;

bool shell(const std::string& command) { return std::system((command + " > /dev/null 2>&1").c_str()) == 0; }

class Namespaces : public ::testing::Test {
 protected:
  void SetUp() override {
    made_ = ::geteuid() == 0 && shell("ip netns add " + name("s")) &&
            shell("ip -n " + name("s") + " link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0") &&
            shell("ip -n " + name("s") + " link set br0 up");
    for (const char* side : {"0", "1"}) {
      const std::string ns = name(side), port = std::string("pp") + side;
      made_ = made_ && shell("ip netns add " + ns) &&
              shell("ip link add ee0 netns " + ns + " type veth peer name " + port + " netns " + name("s")) &&
              shell("ip -n " + name("s") + " link set " + port + " master br0 up") &&
              shell("ip -n " + ns + " addr add 10.92.0." + (*side == '0' ? "1" : "2") + "/24 dev ee0") &&
              shell("ip -n " + ns + " link set lo up") && shell("ip -n " + ns + " link set ee0 up");
    }
    if (!made_) GTEST_SKIP() << "no network namespaces with a bridge here (root and iproute2 are needed)";
  }
  void TearDown() override {
    for (const char* which : {"0", "1", "s"}) shell("ip netns del " + name(which));
  }
  static std::string name(const std::string& which) { return "flt" + std::to_string(::getpid()) + which; }
  static void set_forwarding(bool on) {
    EXPECT_TRUE(shell("ip netns exec " + name("s") + " bridge link set dev pp1 state " + (on ? "3" : "0")));
  }
  static LinkSettings link(Duration budget) {
    LinkSettings settings;
    settings.region_bytes = 4 << 20;
    settings.parent_netns = name("0");
    settings.child_netns = name("1");
    settings.make = [budget](int side) -> std::unique_ptr<Transport> {
      TcpSettings tcp;
      tcp.secret = "namespaces";
      tcp.bind_address = side == 0 ? "10.92.0.1" : "10.92.0.2";
      tcp.failure_budget = budget;
      tcp.connect_timeout = Duration{20'000'000'000};
      return std::make_unique<TcpTransport>(tcp);
    };
    return settings;
  }
  bool made_ = false;
};

TEST_F(Namespaces, ABlackholeUnderLoadEndsEverythingAsLinkDown) {
  ProcessLink link(Namespaces::link(Duration{1'000'000'000}));
  std::array<TransportEvent, 32> events;
  std::uint64_t op = 1'000'000;
  std::size_t unfinished = 0;
  Cause down = Cause::none;
  const auto turn = [&](bool post) {
    while (post && unfinished < 4 &&
           link.transport().post({OpId{++op}, kLinkPeer, {{kLinkLocal, {0}, kLinkRemote, {0}, {1 << 20}}}, {}}))
      ++unfinished;
    const std::size_t count = link.transport().poll(events);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::holds_alternative<OpCompleted>(events[i]) || std::holds_alternative<OpFailed>(events[i])) --unfinished;
      if (const auto* end = std::get_if<EndpointDown>(&events[i])) down = end->cause;
    }
    if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  };
  for (int i = 0; i < 50; ++i) turn(true);
  set_forwarding(false);
  const auto start = Clock::now();
  while (down == Cause::none && Clock::now() - start < std::chrono::seconds(60)) turn(true);
  std::printf(
      "  given up after %lld ms of a budget of 1000\n",
      static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count()));
  EXPECT_EQ(down, Cause::link_down);
  EXPECT_EQ(unfinished, 0U);
  // Nothing of it lands when the path is back.
  const std::uint64_t before = link.remote_checksum();
  std::fill(link.memory().begin(), link.memory().end(), std::byte{0x5c});
  set_forwarding(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ(link.remote_checksum(), before);
}

TEST_F(Namespaces, AShortSilenceIsOnlySlow) {
  ProcessLink link(Namespaces::link(Duration{10'000'000'000}));
  ASSERT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {1 << 20}}}), Cause::none);
  set_forwarding(false);
  std::thread mender([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    set_forwarding(true);
  });
  EXPECT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {1 << 20}}}), Cause::none);
  mender.join();
}

}  // namespace
}  // namespace faultline::transport
