// Strangers, wrong secrets, wrong addresses, floods and random bytes at a TcpMessenger's door; and its frames under a
// fuzzer.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "backend/inproc/clocks.h"
#include "backend/messenger/frame.h"
#include "backend/messenger/tcp_messenger.h"
#include "backend/transport/net.h"
#include "core/base/random.h"

namespace faultline::messenger {
namespace {

constexpr Address kServer{Role::fleet, 0}, kClient{Role::node, 7};
constexpr std::uint64_t kSeed = 20'261'123;

TcpMessengerSettings settings_of(Address self, const std::string& secret, std::map<Address, std::uint16_t> ports) {
  TcpMessengerSettings s;
  s.self = self;
  s.secret = secret;
  s.lost_after = Duration{500'000'000};
  s.suspect_after = Duration{400'000'000};
  s.handshake_max = Duration{200'000'000};
  s.find = [ports = std::move(ports)](Address peer) -> std::optional<Endpoint> {
    const auto it = ports.find(peer);
    return it == ports.end() ? std::nullopt : std::optional(Endpoint{"127.0.0.1", it->second});
  };
  return s;
}

bool wait(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::vector<MessengerEvent> take(TcpMessenger& m) {
  std::vector<MessengerEvent> events(64);
  events.resize(m.poll(events));
  return events;
}

TEST(TcpMessenger, AMemberWithAnotherSecretIsRefusedAndHearsOnlyThatItsPeerIsLost) {
  TcpMessenger server(settings_of(kServer, "right", {}));
  TcpMessenger stranger(settings_of(kClient, "wrong", {{kServer, server.port()}}));
  stranger.watch(kServer);
  ASSERT_TRUE(stranger.send(kServer, std::vector<std::byte>(3)));
  bool lost = false;
  ASSERT_TRUE(wait([&] {
    for (const auto& event : take(stranger)) lost = lost || std::holds_alternative<PeerLost>(event);
    return lost;
  }));
  EXPECT_TRUE(take(server).empty());
  EXPECT_EQ(server.counters().received, 0U);
  EXPECT_GE(stranger.counters().refused + server.counters().refused, 1U);
}

TEST(TcpMessenger, WhoCallsTheWrongMemberIsRefused) {
  TcpMessenger server(settings_of(kServer, "secret", {}));
  // The address book is wrong: instance 3 is not there, the fleet manager is.
  TcpMessenger client(settings_of(kClient, "secret", {{{Role::instance, 3}, server.port()}}));
  ASSERT_TRUE(client.send({Role::instance, 3}, std::vector<std::byte>(3)));
  ASSERT_TRUE(wait([&] { return server.counters().refused > 0; }));
  EXPECT_TRUE(take(server).empty());
}

TEST(TcpMessenger, AnUnknownAddressIsALostPeer) {
  TcpMessenger client(settings_of(kClient, "secret", {}));
  EXPECT_EQ(client.send({Role::instance, 3}, {}).cause(), Cause::peer_lost);
}

TEST(TcpMessenger, RandomBytesAndHalfOpenConnectionsDoNotKeepAnHonestMemberOut) {
  TcpMessenger server(settings_of(kServer, "secret", {}));
  std::vector<transport::Fd> strangers;
  for (std::uint64_t k = 0; k < 200; ++k) {
    Random random(kSeed, "test/messenger/garbage", k);
    transport::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = *transport::parse_ipv4("127.0.0.1", server.port());
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) continue;
    std::vector<unsigned char> bytes(random.below(300));
    for (auto& byte : bytes) byte = static_cast<unsigned char>(random.bits());
    const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent;
    strangers.push_back(std::move(fd));
  }
  TcpMessenger client(settings_of(kClient, "secret", {{kServer, server.port()}}));
  // While the door is full of strangers a connection may be refused; a watched peer is tried again and again.
  client.watch(kServer);
  bool heard = false;
  ASSERT_TRUE(wait([&] {
    const Status sent = client.send(kServer, std::vector<std::byte>(5));
    (void)sent;
    take(client);
    for (const auto& event : take(server)) {
      const auto* message = std::get_if<MessageReceived>(&event);
      EXPECT_TRUE(message != nullptr && message->from == kClient && message->payload.size() == 5);
      heard = true;
    }
    return heard;
  }));
}

TEST(MessengerFrame, AnyBytesAreAFrameOrMoreIsNeededOrTheyAreRefusedAndNothingIsReadBeyondThem) {
  RecordProperty("seed", std::to_string(kSeed));
  std::uint64_t frames = 0, refused = 0;
  for (std::uint64_t k = 0; k < 20'000; ++k) {
    Random random(kSeed, "test/messenger/frame", k);
    std::string bytes(random.below(64), '\0');
    for (char& c : bytes) c = static_cast<char>(random.bits());
    if (bytes.size() > 5 && random.chance(0.5)) {  // plausible lengths and types
      bytes[0] = static_cast<char>(random.below(64));
      bytes[1] = bytes[2] = bytes[3] = 0;
      bytes[4] = static_cast<char>(1 + random.below(5));
    }
    const Cut cut = cut_frame(bytes, 40);
    refused += cut.bad;
    if (!cut.frame) continue;
    ++frames;
    ASSERT_FALSE(cut.bad);
    ASSERT_LE(cut.size, bytes.size());
    ASSERT_LE(cut.frame->payload.size(), 40U);
    std::string again;
    append_frame(again, cut.frame->type, cut.frame->payload);
    ASSERT_EQ(again, bytes.substr(0, cut.size)) << "seed " << kSeed << " case " << k;
  }
  EXPECT_GT(frames, 100U);
  EXPECT_GT(refused, 1'000U);
}

TEST(MessengerFrame, AnIntroductionReadsBackAndNoDamagedOneIsTaken) {
  const Introduction said{{Role::node, 12}, {Role::fleet, 0}};
  const auto bytes = encode(said);
  EXPECT_EQ(decode_introduction(bytes), said);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_introduction(std::span(bytes).first(size))) << "cut at " << size;
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_introduction(longer));
  for (std::uint64_t k = 0; k < 5'000; ++k) {  // must not crash; what it takes must be an address
    Random random(kSeed, "test/messenger/introduction", k);
    std::vector<std::byte> any(random.below(20));
    for (auto& byte : any) byte = static_cast<std::byte>(random.bits());
    if (const auto read = decode_introduction(any)) {
      EXPECT_LE(static_cast<int>(read->from.role), static_cast<int>(Role::node));
    }
  }
}

}  // namespace
}  // namespace faultline::messenger
