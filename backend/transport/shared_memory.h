// Memory that a process of the same host may read in place: a memfd, sealed so that nobody can cut it off under a
// reader. A KV pool that lies in one leaves over the same-host path with one copy, made by the receiver after its
// checks; other memory is copied into the ring and out of it.
#pragma once

#include <cstddef>
#include <span>

#include "backend/transport/fd.h"

namespace faultline::transport {

class SharedMemory {
 public:
  /// Zeroed, populated. Throws std::runtime_error if the system has no memory or no memfd left.
  explicit SharedMemory(std::size_t bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();
  std::span<std::byte> bytes() const { return bytes_; }
  const Fd& descriptor() const { return descriptor_; }

 private:
  Fd descriptor_;
  std::span<std::byte> bytes_;
};

/// A peer's memory, mapped for reading. Empty if the descriptor is not sealed, empty, or cannot be mapped.
class PeerMemory {
 public:
  PeerMemory() = default;
  explicit PeerMemory(const Fd& descriptor);
  PeerMemory(PeerMemory&& other) noexcept;
  PeerMemory& operator=(PeerMemory&& other) noexcept;
  ~PeerMemory();
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace faultline::transport
