// Messenger over TCP between the processes of a cluster.
//
// Each member listens; a member that has something to say to another, or watches it, connects to it. A connection
// carries messages one way and heartbeats back, and begins with the proof of the cluster's secret
// (backend/transport/handshake.h) over both addresses: who does not know the secret, or calls the wrong member, is
// refused before a frame is read.
//
//   ordered, at most once   one connection a direction; what a broken one had not delivered is gone, never sent again
//   lost                    connection reset: at once. Silence of a watched peer, or one that never answers: lost_after
//   bounded                 queue_messages_max messages to one peer that its owner has not polled yet; then `overload`.
//   The
//                           receiver's inbox is bounded by the same count for each peer: who exceeds it is disconnected
//   heartbeats              a watched member beats at beat_base + phase + k * heartbeat on every connection that
//   watches it
//
// Times are real ones. Threads: one owner thread calls everything; one progress thread of its own moves bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/ports/messenger.h"

namespace faultline::messenger {

struct Endpoint {
  std::string address = "127.0.0.1";  // numeric IPv4
  std::uint16_t port = 0;
};

struct TcpMessengerSettings {
  Address self;
  std::uint64_t incarnation = 1;  // of this process; a later one of the same address has another, larger one
  std::string secret;             // of the cluster; must not be empty (asserted)
  Endpoint listen;                // port 0: any
  /// Where a member listens; nullopt for one that does not exist. Called on the owner's thread only.
  std::function<std::optional<Endpoint>(Address)> find;
  Duration heartbeat{50'000'000};
  Duration suspect_after{100'000'000};
  Duration lost_after{150'000'000};
  std::chrono::steady_clock::time_point beat_base{};
  Duration phase{};
  Duration reconnect{20'000'000};  // between two attempts to reach a watched peer
  Duration handshake_max{2'000'000'000};
  std::size_t message_bytes_max = 1 << 20;
  std::size_t queue_messages_max = 4096;
  std::uint32_t handshakes_max = 64;  // unauthenticated connections at a time; more are closed at once
};

struct TcpMessengerCounters {
  std::uint64_t sent = 0, received = 0;
  std::uint64_t refused = 0;     // connections that did not prove themselves
  std::uint64_t misbehaved = 0;  // authenticated ones that were closed for what they sent
};

class TcpMessenger final : public Messenger {
 public:
  /// Throws std::runtime_error if the address cannot be bound.
  explicit TcpMessenger(TcpMessengerSettings settings);
  ~TcpMessenger() override;
  TcpMessenger(const TcpMessenger&) = delete;
  TcpMessenger& operator=(const TcpMessenger&) = delete;

  void watch(Address peer) override;
  void unwatch(Address peer) override;
  /// A peer that is not known to be lost is connected to when the first message goes to it. Besides the port's errors:
  /// peer_lost for an address that `find` does not know.
  Status send(Address to, std::span<const std::byte> payload) override;
  std::size_t poll(std::span<MessengerEvent> out) override;

  /// Heartbeats begin to count from here; before it none is sent. Watches that exist start anew.
  void set_beat_base(std::chrono::steady_clock::time_point base);
  /// Whether `peer` has proved itself on a connection of its own and watches this member.
  bool watched_by(Address peer) const;
  /// Readable (poll, epoll) while poll() has events; cleared by polling everything.
  int event_descriptor() const;
  std::uint16_t port() const;
  TcpMessengerCounters counters() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace faultline::messenger
