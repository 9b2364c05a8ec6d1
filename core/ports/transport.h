// Transport: one-sided batched writes with an optional notify, and nothing else. Implementations: simulated (sim),
// in-process, TCP and verbs (backend). One contract suite (tests/contract) runs on all of them.
//
// Guarantees
//  - post() accepted means exactly one OpCompleted or OpFailed for that op, later, from poll(); also after cancel() and
//    close(). Nothing is delivered from inside post(), cancel() or close().
//  - OpCompleted: every span is visible at the peer. A notify arrives there once, only after every byte of its batch is
//    visible, and never for a failed batch whose bytes did not all arrive.
//  - OpFailed says *unknown*, not *nothing*: none, some or all spans may be visible. The destination is dirty.
//  - After the terminal event no byte of the operation moves any more: at once while the peer is up, and after
//    EndpointDown at the latest when the two have opened each other again. The source may be reused.
//  - Operations to one peer may complete in any order; batches do not order each other.
//  - EndpointDown comes after the terminal events of all operations to that peer. A peer goes down once per open().
//  - A rejected post() (Status with a cause) has no effect and no later event.
//  - An operation is in flight (for limits and deregister) until poll() hands its terminal event out.
//  - EndpointDown ends the imports of that peer's regions; their ids may be used again.
//  - failure_budget counts from the last progress of the peer's connection; moving the bytes that came before is extra.
// Threads: one owner thread calls everything; implementations hide their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/base/result.h"

namespace faultline {

/// Source bytes [local_offset, +length) of a registered region go to [remote_offset, +length) of an imported one.
struct WriteSpan {
  RegionId local;
  Bytes local_offset;
  RegionId remote;
  Bytes remote_offset;
  Bytes length;
};

/// Ids are allocated by the caller, so a recording needs no translation when it is replayed.
struct WriteBatch {
  OpId op;
  EndpointId peer;
  std::vector<WriteSpan> spans;         // may be empty: completes (and notifies) without moving a byte
  std::optional<std::uint32_t> notify;  // 32 bits of the caller's, delivered to the peer as Notified
};

struct OpCompleted {
  OpId op;
  Bytes bytes;  // sum of the spans
};
struct OpFailed {
  OpId op;
  Cause cause;  // link_down, peer_lost, timeout, canceled, protection, device_lost
};
struct Notified {
  EndpointId from;
  std::uint32_t tag;
};
struct EndpointUp {
  EndpointId peer;
};
struct EndpointDown {
  EndpointId peer;
  Cause cause;  // canceled after close(), else why the peer or the path was given up
};
using TransportEvent = std::variant<OpCompleted, OpFailed, Notified, EndpointUp, EndpointDown>;

/// Limits are data, not functions that answer "not supported".
struct TransportLimits {
  std::uint32_t ops_in_flight_max = 0;  // per peer; one more is refused with Cause::overload
  std::uint32_t spans_per_batch_max = 0;
  Duration failure_budget;     // a broken path or a silent peer fails its operations within this time
  bool device_memory = false;  // register_memory accepts GPU memory
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual TransportLimits limits() const = 0;

  /// What a peer needs in order to open() this side; opaque.
  virtual std::vector<std::byte> local_address() const = 0;
  /// Starts connecting. Later exactly one of EndpointUp and EndpointDown; after EndpointUp at most one EndpointDown.
  /// Errors: protection (malformed address), overload (id in use).
  virtual Status open(EndpointId peer, std::span<const std::byte> address) = 0;
  /// Fails the peer's operations with Cause::canceled, then EndpointDown. Closing an unknown or closed peer does
  /// nothing.
  virtual void close(EndpointId peer) = 0;

  /// The memory stays valid until deregister() and the terminal events of every operation that uses it.
  /// Errors: overload (id in use or no resources), protection (memory that cannot be registered).
  virtual Status register_memory(RegionId region, std::span<std::byte> memory) = 0;
  /// Refused with Cause::overload while operations use the region.
  virtual Status deregister(RegionId region) = 0;
  /// Key, address and length for a peer; opaque.
  virtual std::vector<std::byte> export_region(RegionId region) const = 0;
  /// Errors: protection (malformed blob), overload (id in use).
  virtual Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) = 0;

  /// Errors, all without effect: protection (unknown region, span out of range, region of another peer), peer_lost
  /// (peer not up), overload (limits). Precondition (asserted): the op id was never used.
  virtual Status post(const WriteBatch& batch) = 0;
  /// Best effort; the terminal event still comes (OpCompleted if it was too late).
  virtual void cancel(OpId op) = 0;
  /// Moves up to out.size() events to `out`, oldest first; never blocks and never re-enters the caller.
  virtual std::size_t poll(std::span<TransportEvent> out) = 0;
};

}  // namespace faultline
