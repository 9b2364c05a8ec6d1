// The owner's side of every transport: which ids are in use, what a batch may touch, which events are still owed. All
// rejections of the contract (core/ports/transport.h) are decided here, so every implementation refuses the same way;
// an implementation adds how bytes move. No thread, lock or socket: the caller serialises access.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "core/ports/transport.h"

namespace faultline::transport {

/// A peer's region as its blob described it. The key is whatever the implementation exports (rkey, random 64 bits).
struct RemoteRegion {
  EndpointId owner;
  std::uint64_t key = 0;
  std::uint64_t address = 0;  // of the region's first byte at the peer; only verbs uses it
  std::int64_t length = 0;
};

class Book {
 public:
  explicit Book(const TransportLimits& limits) : limits_(limits) {}
  const TransportLimits& limits() const { return limits_; }
  void set_limits(const TransportLimits& limits) { limits_ = limits; }

  /// Errors: overload (id in use).
  Status add_region(RegionId region, std::span<std::byte> memory);
  /// Errors: overload (operations use it). Unknown regions: protection.
  Status remove_region(RegionId region);
  /// Empty for an unknown region.
  std::span<std::byte> region(RegionId region) const;
  bool has_region(RegionId region) const { return regions_.contains(region); }

  /// Errors: overload (id in use), protection (the owner is not open or the length is negative).
  Status add_remote(RegionId region, const RemoteRegion& remote);
  const RemoteRegion& remote(RegionId region) const;

  /// Errors: overload (id in use: opening or up).
  Status opening(EndpointId peer);
  bool known(EndpointId peer) const { return peers_.contains(peer); }
  bool up(EndpointId peer) const;
  void went_up(EndpointId peer);
  /// The owner gave the peer up: nothing more is admitted or notified, operations end when went_down() is called.
  /// False if the peer is not open.
  bool closing(EndpointId peer);
  /// Fails what is left of the peer's operations with `op_cause`, then queues EndpointDown. Drops the peer's imports.
  /// No effect for a peer that is not open.
  void went_down(EndpointId peer, Cause op_cause, Cause down_cause);

  /// All checks of Transport::post(). On success the operation is in flight until poll() hands its terminal event out.
  Status admit(const WriteBatch& batch);
  bool in_flight(OpId op) const;  // accepted, terminal event not yet queued
  void completed(OpId op);
  void failed(OpId op, Cause cause);
  /// Dropped when the peer is not up: a notify never follows EndpointDown.
  void notified(EndpointId from, std::uint32_t tag);

  std::size_t poll(std::span<TransportEvent> out);
  bool idle() const { return events_.empty(); }
  std::size_t peer_count() const { return peers_.size(); }

 private:
  struct Operation {
    EndpointId peer;
    std::uint64_t generation = 0;  // of the peer's open(): late events of an earlier one do not count against this one
    std::int64_t bytes = 0;
    bool terminal_queued = false;
    std::vector<RegionId> locals;
  };
  struct Region {
    std::span<std::byte> memory;
    std::uint32_t uses = 0;
  };
  struct Peer {
    bool up = false;
    bool closing = false;
    std::uint64_t generation = 0;
    std::uint32_t ops = 0;  // accepted and not handed out
    std::set<OpId> open_ops;
  };
  void retire(OpId op);

  TransportLimits limits_;
  std::map<RegionId, Region> regions_;
  std::map<RegionId, RemoteRegion> remotes_;
  std::map<EndpointId, Peer> peers_;
  std::map<OpId, Operation> operations_;
  std::deque<TransportEvent> events_;
  std::uint64_t generations_ = 0;
};

}  // namespace faultline::transport
