// A peer that lies: bad frames, wrong keys, ranges outside the region, replays, floods, half-open connections. Whatever
// it does, the process lives, nothing outside the registered region changes, and honest peers keep working.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "backend/transport/frame.h"
#include "backend/transport/handshake.h"
#include "backend/transport/net.h"
#include "backend/transport/tcp_engine.h"
#include "backend/transport/tcp_transport.h"
#include "core/base/random.h"

namespace faultline::transport {
namespace {

constexpr EndpointId kHostile{7}, kHonest{8};
constexpr std::size_t kGuard = 4096, kRegion = 64 << 10;

TcpSettings settings_of(const std::string& secret) {
  TcpSettings settings;
  settings.secret = secret;
  settings.connections = 1;
  settings.same_host_path = false;
  settings.failure_budget = Duration{5'000'000'000};  // no test here waits for silence
  settings.connect_timeout = Duration{10'000'000'000};
  settings.handshakes_max = 16;
  settings.notifies_unread_max = 500;
  return settings;
}

/// The end under attack: memory with guards on both sides of the registered region.
struct Target {
  TcpTransport transport{settings_of("cluster")};
  std::vector<std::byte> memory = std::vector<std::byte>(kRegion + 2 * kGuard, std::byte{0xa5});
  std::vector<TransportEvent> events;

  Target() { EXPECT_TRUE(transport.register_memory(RegionId{1}, std::span(memory).subspan(kGuard, kRegion))); }
  std::uint64_t key() const {
    std::uint64_t key = 0;
    std::memcpy(&key, transport.export_region(RegionId{1}).data() + 24, sizeof key);
    return key;
  }
  bool guards_whole() const {
    const auto whole = [](std::span<const std::byte> part) {
      return std::all_of(part.begin(), part.end(), [](std::byte b) { return b == std::byte{0xa5}; });
    };
    return whole(std::span(memory).first(kGuard)) && whole(std::span(memory).last(kGuard));
  }
  void collect() {
    std::array<TransportEvent, 64> out;
    for (std::size_t count = 0; (count = transport.poll(out)) > 0;)
      events.insert(events.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count));
  }
  template <class Event>
  bool wait_for(EndpointId peer, int seconds = 20) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < end) {
      collect();
      for (const TransportEvent& event : events) {
        if (const auto* e = std::get_if<Event>(&event); e && e->peer == peer) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  std::size_t notifies() const {
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [](const auto& e) { return std::holds_alternative<Notified>(e); }));
  }
};

/// Speaks the protocol by hand. Its id is the smallest, so that it is the one who connects.
class Attacker {
 public:
  explicit Attacker(const Target& target) : target_(*decode_address(target.transport.local_address())) {
    id_.fill(0);
    const auto random = random_value<std::uint32_t>();
    std::memcpy(id_.data() + 12, &random, sizeof random);
  }
  std::vector<std::byte> address() const {
    TcpAddress mine = target_;
    mine.id = id_;
    mine.flags = 0;
    return encode(mine);
  }
  bool dial() {
    socket_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = target_.ipv4;
    to.sin_port = htons(target_.port);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  /// The whole handshake; true if the target answered with a frame (it attached us).
  bool shake_hands(const std::string& secret) {
    const Hello hello{.from = id_,
                      .to = target_.id,
                      .session = random_value<std::uint64_t>(),
                      .stream = 0,
                      .streams = 1,
                      .ops_in_flight_max = 8,
                      .info_length = 0,
                      .nonce = random_value<Nonce>()};
    const auto bytes = encode(hello);
    std::array<std::byte, kChallengeBytes> challenge;
    if (!dial() || !send(bytes) || !receive(challenge)) return false;
    if (!send(make_proof(secret, bytes, challenge))) return false;
    std::array<std::byte, kFrameBytes> ready;
    if (!receive(ready)) return false;
    return decode(std::span<const std::byte, kFrameBytes>(ready)).has_value() && send(Frame{.type = FrameType::ready});
  }
  bool send(std::span<const std::byte> bytes) {
    return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  bool send(const Frame& frame, std::size_t payload = 0) {
    const auto header = encode(frame);
    std::vector<std::byte> all(header.begin(), header.end());
    all.resize(all.size() + payload, std::byte{0x66});
    return send(std::span<const std::byte>(all));
  }
  bool receive(std::span<std::byte> out) {
    return ::recv(socket_.get(), out.data(), out.size(), MSG_WAITALL) == static_cast<ssize_t>(out.size());
  }
  /// The next frame that is not a heartbeat; nullopt when the connection ends.
  std::optional<Frame> next_frame() {
    std::array<std::byte, kFrameBytes> bytes;
    while (receive(bytes)) {
      const auto frame = decode(std::span<const std::byte, kFrameBytes>(bytes));
      if (!frame ||
          (frame->type != FrameType::ping && frame->type != FrameType::pong && frame->type != FrameType::ready))
        return frame;
    }
    return std::nullopt;
  }
  bool dropped() { return !next_frame().has_value(); }
  void hang_up() { socket_.reset(); }

 private:
  TcpAddress target_;
  Uuid id_{};
  Fd socket_;
};

/// Attack, then show that the target still serves an honest peer and that its guards are whole.
template <class Attack>
void survives(Attack attack) {
  Target target;
  {
    Attacker attacker(target);
    ASSERT_TRUE(target.transport.open(kHostile, attacker.address()));
    attack(target, attacker);
  }
  EXPECT_TRUE(target.guards_whole());
  TcpTransport honest(settings_of("cluster"));
  std::vector<std::byte> source(1000, std::byte{0x11});
  ASSERT_TRUE(honest.register_memory(RegionId{1}, source));
  ASSERT_TRUE(honest.open(kHonest, target.transport.local_address()));
  ASSERT_TRUE(target.transport.open(kHonest, honest.local_address()));
  ASSERT_TRUE(target.wait_for<EndpointUp>(kHonest));
  std::array<TransportEvent, 4> out;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  bool up = false;
  bool done = false;
  while (!done && std::chrono::steady_clock::now() < end) {
    const std::size_t count = honest.poll(out);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::holds_alternative<OpCompleted>(out[i])) done = true;
      if (!std::holds_alternative<EndpointUp>(out[i]) || up) continue;
      up = true;
      ASSERT_TRUE(honest.import_region(RegionId{2}, kHonest, target.transport.export_region(RegionId{1})));
      ASSERT_TRUE(honest.post({OpId{1}, kHonest, {{RegionId{1}, {0}, RegionId{2}, {500}, {1000}}}, {}}));
    }
    if (count == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(done) << "the honest peer was not served";
  EXPECT_EQ(std::memcmp(target.memory.data() + kGuard + 500, source.data(), 1000), 0);
}

Frame write_frame(std::uint64_t key, std::uint64_t offset, std::uint32_t length, std::uint64_t sequence = 0) {
  return {.type = FrameType::data,
          .flags = 0,
          .length = length,
          .sequence = sequence,
          .key = key,
          .offset = offset,
          .tag = 0,
          .parts = 1};
}

TEST(HostilePeer, AWrongOrMissingSecretIsRefused) {
  survives([](Target& target, Attacker& attacker) {
    EXPECT_FALSE(attacker.shake_hands("guess"));
    EXPECT_FALSE(attacker.shake_hands(""));
    EXPECT_GE(target.transport.counters().handshakes_refused, 2U);
  });
}

TEST(HostilePeer, AWrongKeyIsAnsweredAndWritesNothing) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    ASSERT_TRUE(attacker.send(write_frame(target.key() ^ 1, 0, 500), 500));
    const auto answer = attacker.next_frame();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->type, FrameType::nack);
    EXPECT_EQ(answer->tag, static_cast<std::uint32_t>(Cause::protection));
    EXPECT_TRUE(
        std::all_of(target.memory.begin(), target.memory.end(), [](std::byte b) { return b == std::byte{0xa5}; }));
  });
}

TEST(HostilePeer, RangesOutsideTheRegionAreRefused) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    std::uint64_t sequence = 0;
    for (const std::uint64_t offset : {std::uint64_t{kRegion}, std::uint64_t{kRegion - 99}, ~std::uint64_t{0},
                                       ~std::uint64_t{0} - 50, std::uint64_t{1} << 63}) {
      ASSERT_TRUE(attacker.send(write_frame(target.key(), offset, 100, sequence), 100));
      std::optional<Frame> answer;
      do answer = attacker.next_frame();
      while (answer && answer->type == FrameType::ack);
      ASSERT_TRUE(answer.has_value()) << offset;
      EXPECT_EQ(answer->type, FrameType::nack) << offset;
      EXPECT_EQ(answer->sequence, sequence++);
    }
  });
}

TEST(HostilePeer, NamingMemoryThatWasNeverSharedEndsTheConnection) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    Frame frame = write_frame(target.key(), 0, 2 * sizeof(SharedPiece));
    frame.flags = kSharedFlag;
    ASSERT_TRUE(attacker.send(frame, frame.length));
    EXPECT_TRUE(attacker.dropped());
    EXPECT_TRUE(
        std::all_of(target.memory.begin(), target.memory.end(), [](std::byte b) { return b == std::byte{0xa5}; }));
  });
}

TEST(HostilePeer, AReplayedBatchEndsTheConnection) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    ASSERT_TRUE(attacker.send(write_frame(target.key(), 0, 100), 100));
    const auto answer = attacker.next_frame();
    ASSERT_TRUE(answer && answer->type == FrameType::ack);
    attacker.send(write_frame(target.key(), 0, 100), 100);
    EXPECT_TRUE(attacker.dropped());
    EXPECT_TRUE(target.wait_for<EndpointDown>(kHostile));
  });
}

TEST(HostilePeer, AcknowledgingWhatWasNeverSentEndsTheConnection) {
  for (const Frame& lie :
       {Frame{.type = FrameType::ack, .sequence = 5}, Frame{.type = FrameType::pong, .sequence = 1'000'000},
        Frame{.type = FrameType::nack, .sequence = 0, .tag = 6}}) {
    survives([&](Target&, Attacker& attacker) {
      ASSERT_TRUE(attacker.shake_hands("cluster"));
      attacker.send(lie);
      EXPECT_TRUE(attacker.dropped());
    });
  }
}

TEST(HostilePeer, MoreOpenBatchesThanAnnouncedEndTheConnection) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    for (std::uint64_t sequence = 0; sequence < 20; ++sequence) {
      Frame frame = write_frame(target.key(), 0, 10, sequence);
      frame.parts = 2;  // never completed
      if (!attacker.send(frame, 10)) break;
    }
    EXPECT_TRUE(attacker.dropped());
  });
}

TEST(HostilePeer, AFloodOfNotifiesForASleepingOwnerIsBounded) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    ASSERT_TRUE(target.wait_for<EndpointUp>(kHostile));
    for (std::uint64_t sequence = 0; sequence < 20'000; ++sequence) {
      if (!attacker.send(Frame{
              .type = FrameType::data, .flags = kNotifyFlag | kEmptyFlag, .sequence = sequence, .tag = 1, .parts = 1}))
        break;
    }
    while (attacker.next_frame()) {
    }
    EXPECT_TRUE(target.wait_for<EndpointDown>(kHostile));
    EXPECT_LE(target.notifies(), 501U);
  });
}

TEST(HostilePeer, HalfOpenConnectionsDoNotKeepOthersOut) {
  survives([](Target& target, Attacker&) {
    std::vector<std::unique_ptr<Attacker>> crowd;
    for (int i = 0; i < 100; ++i) {
      crowd.push_back(std::make_unique<Attacker>(target));
      crowd.back()->dial();  // and says nothing
    }
    for (auto& one : crowd) one->hang_up();
  });
}

TEST(HostilePeer, DyingInTheMiddleOfAFrameIsAnEndLikeAnyOther) {
  survives([](Target& target, Attacker& attacker) {
    ASSERT_TRUE(attacker.shake_hands("cluster"));
    ASSERT_TRUE(attacker.send(write_frame(target.key(), 0, 50'000), 20'000));
    attacker.hang_up();
    EXPECT_TRUE(target.wait_for<EndpointDown>(kHostile));
  });
}

TEST(HostilePeer, FuzzedFramesNeitherCrashNorWriteOutside) {
  const std::uint64_t seed = 11;
  std::printf("seed=%llu\n", static_cast<unsigned long long>(seed));
  Target target;
  for (std::uint64_t round = 0; round < 150; ++round) {
    Random r(seed, "test/hostile", round);
    Attacker attacker(target);
    const EndpointId peer{static_cast<std::uint32_t>(1000 + round)};
    ASSERT_TRUE(target.transport.open(peer, attacker.address()));
    ASSERT_TRUE(attacker.shake_hands("cluster")) << "seed " << seed << " round " << round;
    for (int k = 0; k < 30; ++k) {
      Frame frame = write_frame(r.chance(0.8) ? target.key() : r.bits(), r.chance(0.7) ? r.below(kRegion) : r.bits(),
                                static_cast<std::uint32_t>(r.below(3000)),
                                r.chance(0.8) ? static_cast<std::uint64_t>(k) : r.below(100));
      if (r.chance(0.2)) frame.parts = static_cast<std::uint32_t>(r.below(4));
      if (r.chance(0.1)) frame.type = static_cast<FrameType>(r.below(9));
      auto bytes = encode(frame);
      if (r.chance(0.2)) bytes[r.below(bytes.size())] ^= static_cast<std::byte>(1U << r.below(8));
      std::vector<std::byte> all(bytes.begin(), bytes.end());
      all.resize(all.size() + (r.chance(0.9) ? frame.length : r.below(4000)), static_cast<std::byte>(r.bits()));
      if (!attacker.send(std::span<const std::byte>(all))) break;
    }
    attacker.hang_up();
    ASSERT_TRUE(target.guards_whole()) << "seed " << seed << " round " << round;
  }
  survives([](Target&, Attacker&) {});
}

}  // namespace
}  // namespace faultline::transport
