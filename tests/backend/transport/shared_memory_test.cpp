// The two ways of bytes over the same-host path: read in place in shared memory, and through the ring. The same checks
// and the same ends.
#include "backend/transport/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <thread>

#include "backend/transport/bench_link.h"
#include "backend/transport/tcp_transport.h"
#include "core/base/random.h"

namespace faultline::transport {
namespace {

constexpr std::int64_t kBytes = 8 << 20;

LinkSettings link_of(bool shared) {
  LinkSettings settings;
  settings.region_bytes = kBytes;
  settings.shared_memory = shared;
  settings.make = [](int) -> std::unique_ptr<Transport> {
    TcpSettings tcp;
    tcp.secret = "shared";
    tcp.failure_budget = Duration{10'000'000'000};
    tcp.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<TcpTransport>(tcp);
  };
  return settings;
}

void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(mix64(seed + i / 8) >> (8 * (i % 8)));
}

class SameHost : public ::testing::TestWithParam<bool> {};

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

INSTANTIATE_TEST_SUITE_P(Ways, SameHost, ::testing::Bool(),
                         [](const auto& shared) { return shared.param ? "Shared" : "Ring"; });

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
