// Messenger: small control messages between the roles of a cluster. Ordered per pair, at most once, may be lost with a
// peer. Heartbeats live inside: callers see only suspected, lost and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/base/result.h"

namespace faultline {

/// One process of the control plane. Index is within its role.
enum class Role : std::uint8_t { client, router, fleet, instance, node };
struct Address {
  Role role{};
  std::uint32_t index{};
  friend constexpr auto operator<=>(Address, Address) = default;
};

struct MessageReceived {
  Address from;
  std::vector<std::byte> payload;
};
struct PeerSuspected {
  Address peer;
};
struct PeerLost {
  Address peer;
  Cause cause;
};
struct PeerBack {
  Address peer;
  std::uint64_t incarnation;  // differs after a restart of the peer
};
using MessengerEvent = std::variant<MessageReceived, PeerSuspected, PeerLost, PeerBack>;

class Messenger {
 public:
  virtual ~Messenger() = default;
  /// Watches a peer: heartbeats flow until unwatch().
  virtual void watch(Address peer) = 0;
  virtual void unwatch(Address peer) = 0;
  /// Accepted means delivered at most once, in order with earlier messages to that peer. No terminal event: a message
  /// to a peer that is lost vanishes, and PeerLost says so to those who watch. Errors: peer_lost (known to be lost),
  /// overload (queue bound), too_large.
  virtual Status send(Address to, std::span<const std::byte> payload) = 0;
  virtual std::size_t poll(std::span<MessengerEvent> out) = 0;
};

}  // namespace faultline
