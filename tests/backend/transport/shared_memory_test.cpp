// The three ways of bytes over the same-host path: read in place in shared memory, read in place in the sender's
// private memory, and through the ring. The same checks and the same ends.
#include "backend/transport/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "backend/transport/bench_link.h"
#include "backend/transport/tcp_transport.h"
#include "core/base/random.h"

namespace faultline::transport {
namespace {

constexpr std::int64_t kBytes = 8 << 20;

enum class Way : std::uint8_t { shared, in_place, ring };

TcpSettings settings_of(Way way) {
  TcpSettings tcp;
  tcp.secret = "shared";
  tcp.read_in_place = way != Way::ring;
  tcp.failure_budget = Duration{10'000'000'000};
  tcp.connect_timeout = Duration{20'000'000'000};
  return tcp;
}

LinkSettings link_of(Way way) {
  LinkSettings settings;
  settings.region_bytes = kBytes;
  settings.shared_memory = way == Way::shared;
  settings.make = [way](int) -> std::unique_ptr<Transport> { return std::make_unique<TcpTransport>(settings_of(way)); };
  return settings;
}

void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(mix64(seed + i / 8) >> (8 * (i % 8)));
}

class SameHost : public ::testing::TestWithParam<Way> {};

TEST_P(SameHost, LargeAndScatteredWritesArriveWhole) {
  ProcessLink link(link_of(GetParam()));
  fill(link.memory(), 1);
  ASSERT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {kBytes}}}), Cause::none);
  EXPECT_EQ(link.remote_checksum(), checksum(link.memory()));
  // Pieces in another order at the other end: the model is this side's own copy.
  std::vector<std::byte> expected(link.memory().begin(), link.memory().end());
  fill(link.memory(), 2);
  std::vector<WriteSpan> spans;
  const std::int64_t piece = 40'000;
  for (std::int64_t i = 0; i < 60; ++i) {
    const std::int64_t from = i * piece, to = (59 - i) * (piece + 64);
    spans.push_back({kLinkLocal, {from}, kLinkRemote, {to}, {piece}});
    std::copy_n(link.memory().begin() + from, piece, expected.begin() + to);
  }
  ASSERT_EQ(link.write(spans), Cause::none);
  EXPECT_EQ(link.remote_checksum(), checksum(expected));
  ASSERT_EQ(link.write({{kLinkLocal, {5}, kLinkRemote, {9}, {100}}}),
            Cause::none);  // a small one goes through the ring
  std::copy_n(link.memory().begin() + 5, 100, expected.begin() + 9);
  EXPECT_EQ(link.remote_checksum(), checksum(expected));
}

TEST_P(SameHost, ARevokedRegionIsNotWritten) {
  ProcessLink link(link_of(GetParam()));
  ASSERT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {1 << 20}}}), Cause::none);
  ASSERT_TRUE(link.revoke_remote());
  const std::uint64_t before = link.remote_checksum();
  fill(link.memory(), 3);
  EXPECT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {1 << 20}}}), Cause::protection);
  EXPECT_EQ(link.remote_checksum(), before);
}

TEST_P(SameHost, AKilledPeerEndsEverything) {
  for (std::uint64_t round = 0; round < 6; ++round) {
    ProcessLink link(link_of(GetParam()));
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(Random(5, "test/shared", round).below(5'000)));
      link.signal_child(SIGKILL);
    });
    Cause cause = Cause::none;
    while (cause == Cause::none) cause = link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {kBytes}}});
    killer.join();
    EXPECT_EQ(cause, Cause::peer_lost) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, SameHost, ::testing::Values(Way::shared, Way::in_place, Way::ring), [](const auto& way) {
  return way.param == Way::shared ? "Shared" : way.param == Way::in_place ? "InPlace" : "Ring";
});

/// Bytes that the receiver took from the sender's memory when `bytes` were written from memory that nobody shared.
std::uint64_t in_place_bytes(Way way, std::size_t bytes) {
  TcpTransport from(settings_of(way)), to(settings_of(way));
  std::vector<std::byte> source(bytes), target(bytes);
  fill(source, 4);
  EXPECT_TRUE(from.register_memory(kLinkLocal, source));
  EXPECT_TRUE(to.register_memory(kLinkLocal, target));
  EXPECT_TRUE(from.open(kLinkPeer, to.local_address()));
  EXPECT_TRUE(to.open(kLinkPeer, from.local_address()));
  std::array<TransportEvent, 8> events;
  std::size_t up = 0, done = 0;
  const auto until = [&](const std::size_t& counter, std::size_t wanted) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (counter < wanted && std::chrono::steady_clock::now() < end) {
      for (TcpTransport* side : {&from, &to}) {
        for (std::size_t count = side->poll(events), i = 0; i < count; ++i) {
          up += std::holds_alternative<EndpointUp>(events[i]) ? 1 : 0;
          done += std::holds_alternative<OpCompleted>(events[i]) ? 1 : 0;
        }
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    EXPECT_GE(counter, wanted);
  };
  until(up, 2);
  EXPECT_TRUE(from.import_region(kLinkRemote, kLinkPeer, to.export_region(kLinkLocal)));
  // What one end may do the other learns with the first bytes that come back: an acknowledgement, at the latest.
  for (std::uint64_t op = 1; op <= 2; ++op) {
    std::ranges::fill(target, std::byte{0});
    EXPECT_TRUE(from.post(
        {OpId{op}, kLinkPeer, {{kLinkLocal, {0}, kLinkRemote, {0}, {static_cast<std::int64_t>(bytes)}}}, {}}));
    until(done, op);
    EXPECT_TRUE(source == target) << "write " << op;
  }
  return to.counters().in_place_bytes;
}

TEST(SameHostPath, LargeWritesAreReadInTheSendersMemoryAndSmallOnesAreNot) {
  EXPECT_GE(in_place_bytes(Way::in_place, 1 << 20), 1U << 20) << "a process may always read itself";
  EXPECT_EQ(in_place_bytes(Way::in_place, 4096), 0U);
}

TEST(SameHostPath, WithoutReadingInPlaceEverythingGoesThroughTheRing) {
  EXPECT_EQ(in_place_bytes(Way::ring, 1 << 20), 0U);
}

TEST(SameHostPath, MemoryThatCouldBeCutOffIsNotMapped) {
  const Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 4096), 0);
  EXPECT_TRUE(PeerMemory(unsealed).bytes().empty());
  const SharedMemory sealed(4096);
  EXPECT_EQ(PeerMemory(sealed.descriptor()).bytes().size(), 4096U);
  EXPECT_NE(::ftruncate(sealed.descriptor().get(), 0), 0);
}

}  // namespace
}  // namespace faultline::transport
