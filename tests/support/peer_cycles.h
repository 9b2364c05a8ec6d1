// A peer that is killed and started again, many times, while this side's transport stays: nothing may be left over,
// nothing may hang. The peers are forked from a process that was itself forked before any thread existed.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "core/base/random.h"
#include "core/ports/transport.h"

namespace faultline::test {

struct Footprint {
  std::size_t descriptors = 0;
  std::size_t threads = 0;
  std::size_t resident_kib = 0;
};

inline Footprint footprint() {
  const auto entries = [](const char* path) {
    std::size_t count = 0;
    DIR* dir = ::opendir(path);
    while (dir && ::readdir(dir)) ++count;
    if (dir) ::closedir(dir);
    return count;
  };
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  file >> total >> resident;
  return {entries("/proc/self/fd"), entries("/proc/self/task"), resident * 4};
}

/// FAULTLINE_CYCLES, else `otherwise`.
inline std::uint64_t cycles_wanted(std::uint64_t otherwise) {
  const char* text = std::getenv("FAULTLINE_CYCLES");
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class PeerNursery {
 public:
  /// `make` makes a peer's transport, in the peer's process.
  explicit PeerNursery(const std::function<std::unique_ptr<Transport>()>& make) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
    nurse_ = ::fork();
    if (nurse_ != 0) {
      ::close(ends[1]);
      socket_ = ends[0];
      return;
    }
    ::close(ends[0]);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGCHLD, SIG_IGN);
    std::array<std::byte, 4096> address;
    for (;;) {
      const ssize_t size = ::recv(ends[1], address.data(), address.size(), 0);
      if (size <= 0) ::_exit(0);
      if (::fork() == 0) live(ends[1], make, std::span(address).first(static_cast<std::size_t>(size)));
    }
  }
  ~PeerNursery() {
    ::close(socket_);
    ::kill(nurse_, SIGKILL);
    ::waitpid(nurse_, nullptr, 0);
  }
  PeerNursery(const PeerNursery&) = delete;
  PeerNursery& operator=(const PeerNursery&) = delete;

  struct Peer {
    pid_t pid = -1;
    std::vector<std::byte> address, region;
  };
  /// A new peer, which opens `address`. nullopt if it does not answer.
  std::optional<Peer> bear(std::span<const std::byte> address) {
    if (::send(socket_, address.data(), address.size(), MSG_NOSIGNAL) < 0) return {};
    Peer peer;
    std::array<std::byte, 4096> text;
    if (::recv(socket_, &peer.pid, sizeof peer.pid, 0) != sizeof peer.pid) return {};
    for (auto* blob : {&peer.address, &peer.region}) {
      const ssize_t size = ::recv(socket_, text.data(), text.size(), 0);
      if (size <= 0) return {};
      blob->assign(text.begin(), text.begin() + size);
    }
    return peer;
  }

 private:
  [[noreturn]] static void live(int socket, const std::function<std::unique_ptr<Transport>()>& make,
                                std::span<const std::byte> address) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    static std::array<std::byte, 256 << 10> memory;
    const auto transport = make();
    const pid_t self = ::getpid();
    if (!transport->register_memory(RegionId{1}, memory) || !transport->open(EndpointId{1}, address)) ::_exit(1);
    ::send(socket, &self, sizeof self, MSG_NOSIGNAL);
    for (const auto& blob : {transport->local_address(), transport->export_region(RegionId{1})})
      ::send(socket, blob.data(), blob.size(), MSG_NOSIGNAL);
    std::array<TransportEvent, 32> events;
    for (;;) {
      transport->poll(events);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  pid_t nurse_ = -1;
  int socket_ = -1;
};

/// `cycles` peers, each killed at an arbitrary moment of its traffic. Afterwards everything is as after the first few.
inline void run_peer_cycles(PeerNursery& nursery, Transport& stays, std::uint64_t cycles,
                            std::uint64_t kill_within_us) {
  constexpr EndpointId kPeer{1};
  constexpr RegionId kLocal{1}, kRemote{2};
  std::vector<std::byte> memory(256 << 10);
  ASSERT_TRUE(stays.register_memory(kLocal, memory));
  std::optional<Footprint> early;
  std::uint64_t op = 0, completed = 0, failed = 0;
  for (std::uint64_t cycle = 0; cycle < cycles; ++cycle) {
    Random r(7, "test/cycles", cycle);
    const auto peer = nursery.bear(stays.local_address());
    ASSERT_TRUE(peer.has_value()) << "cycle " << cycle;
    ASSERT_TRUE(stays.open(kPeer, peer->address)) << "cycle " << cycle;
    bool up = false, down = false;
    std::size_t in_flight = 0;
    std::optional<std::chrono::steady_clock::time_point> kill_at;
    bool killed = false;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    std::array<TransportEvent, 32> events;
    while (!down) {
      const auto now = std::chrono::steady_clock::now();
      ASSERT_LT(now, end) << "cycle " << cycle << " hangs: up " << up << ", killed " << killed << ", in flight "
                          << in_flight;
      const std::size_t count = stays.poll(events);
      for (std::size_t i = 0; i < count; ++i) {
        if (std::holds_alternative<EndpointUp>(events[i])) {
          up = true;
          ASSERT_TRUE(stays.import_region(kRemote, kPeer, peer->region));
          kill_at = now + std::chrono::microseconds(r.below(kill_within_us));
        } else if (std::holds_alternative<OpCompleted>(events[i])) {
          --in_flight, ++completed;
        } else if (std::holds_alternative<OpFailed>(events[i])) {
          --in_flight, ++failed;
        } else if (std::holds_alternative<EndpointDown>(events[i])) {
          down = true;
        }
      }
      if (up && !down) {
        while (in_flight < 4) {
          const auto length = static_cast<std::int64_t>(1 + r.below(memory.size()));
          if (!stays.post({OpId{++op}, kPeer, {{kLocal, {0}, kRemote, {0}, {length}}}, 1})) break;
          ++in_flight;
        }
      }
      if (!killed && kill_at && now >= *kill_at) {
        ::kill(peer->pid, SIGKILL);
        killed = true;
      }
      if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    ASSERT_TRUE(up) << "cycle " << cycle << " never came up";
    ASSERT_EQ(in_flight, 0U) << "cycle " << cycle;
    if (cycle == std::min<std::uint64_t>(cycles / 4, 100)) early = footprint();
  }
  EXPECT_TRUE(stays.deregister(kLocal));
  const Footprint late = footprint();
  std::printf(
      "  %llu cycles: %llu operations completed, %llu failed; descriptors %zu -> %zu, threads %zu -> %zu, resident %zu "
      "-> %zu KiB\n",
      static_cast<unsigned long long>(cycles), static_cast<unsigned long long>(completed),
      static_cast<unsigned long long>(failed), early->descriptors, late.descriptors, early->threads, late.threads,
      early->resident_kib, late.resident_kib);
  EXPECT_EQ(late.descriptors, early->descriptors);
  EXPECT_EQ(late.threads, early->threads);
  EXPECT_LT(late.resident_kib, early->resident_kib + 4096) << "4 MiB is allocator noise";
  EXPECT_GT(completed, 0U);
}

}  // namespace faultline::test
