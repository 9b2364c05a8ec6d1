// An ordered byte stream to a peer: a TCP connection, or a ring in memory shared with a process of the same host.
// Non-blocking; driven by the progress thread through epoll.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/transport/fd.h"
#include "core/base/cause.h"
#include "core/base/quantity.h"

namespace faultline::transport {

struct StreamResult {
  std::size_t bytes = 0;      // moved
  Cause cause = Cause::none;  // the stream is over: peer_lost (closed or reset), link_down (the path gave up)
};

class Stream {
 public:
  virtual ~Stream() = default;
  /// Fewer bytes than offered: would block, or the stream is over.
  virtual StreamResult write(std::span<const iovec> parts) = 0;
  virtual StreamResult read(std::span<const iovec> parts) = 0;
  /// Descriptors to watch (edge-triggered, in and out).
  virtual std::vector<int> descriptors() const = 0;
  /// Before the thread sleeps: asks the peer for a wake-up. False if there is work after all (`wants_to_write`: room
  /// counts).
  virtual bool may_sleep(bool wants_to_write) = 0;
  /// After a descriptor fired: Cause::none, or the peer is gone.
  virtual Cause woken() = 0;
  /// Why nothing was heard: link_down if the path does not answer, timeout if it does and the peer does not.
  virtual Cause cause_of_silence() const = 0;
  /// From now on nothing that was written and not yet sent goes out (a reset, not an orderly end).
  virtual void abandon() = 0;
  virtual const char* kind() const = 0;

  // Same host only: memory that the receiver reads in place.
  /// Gives the peer the descriptor of a SharedMemory under a number of ours. False: send the bytes instead.
  virtual bool share(std::uint64_t number, int memory) {
    (void)number, (void)memory;
    return false;
  }
  /// What the peer shared under its number. Empty: no such memory.
  virtual std::span<const std::byte> shared(std::uint64_t number) {
    (void)number;
    return {};
  }
  /// The peer had not given this session up a moment ago: what was read from its memory before was meant.
  virtual bool still_there() { return true; }
};

/// A connected TCP socket. `user_timeout`: unacknowledged data older than this ends the connection (TCP_USER_TIMEOUT);
/// keepalive 1 s / 1 s / 2 for idle ones.
std::unique_ptr<Stream> make_tcp_stream(Fd socket, Duration user_timeout);

/// Same-host ring. The acceptor makes the memory (memfd, sealed) and sends it over the connected unix socket; the
/// initiator receives it. `socket` stays open as the witness of the peer's life, beside a pidfd where one can be had.
inline constexpr std::size_t kRingBytes =
    1 << 20;  // per direction; fits into a level 2 cache, so the second copy is cheap
/// nullptr if the system has no memfd or eventfd left.
std::unique_ptr<Stream> offer_shm_stream(Fd socket);
/// The initiator's part once the socket is readable: nullptr while nothing has come (bad = false) or on nonsense (bad =
/// true).
std::unique_ptr<Stream> accept_shm_stream(Fd& socket, bool& bad);

}  // namespace faultline::transport
