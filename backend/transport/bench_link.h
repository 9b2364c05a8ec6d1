// Two processes with a transport each, for measurements and for tests that need a peer that can really die: the parent
// drives, the child registers memory and waits. Linux only; forks, so make it before any thread exists.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/transport/shared_memory.h"
#include "core/ports/transport.h"

namespace faultline::transport {

struct LinkSettings {
  /// Makes the transport of the parent (side 0) or the child (side 1), in that process.
  std::function<std::unique_ptr<Transport>(int side)> make;
  std::size_t region_bytes = 64 << 20;  // registered on both sides, region id 1; imported as 101
  bool shared_memory = false;  // the regions lie in SharedMemory and are registered as such (TcpTransport only)
  std::string child_netns;     // name under /run/netns; empty: the caller's
  std::string parent_netns;
};

inline constexpr RegionId kLinkLocal{1};
inline constexpr RegionId kLinkRemote{101};
inline constexpr EndpointId kLinkPeer{1};

class ProcessLink {
 public:
  /// Throws std::runtime_error if the two do not come up within 20 s.
  explicit ProcessLink(const LinkSettings& settings);
  ~ProcessLink();
  ProcessLink(const ProcessLink&) = delete;
  ProcessLink& operator=(const ProcessLink&) = delete;

  Transport& transport() { return *transport_; }
  std::span<std::byte> memory() { return memory_; }
  pid_t child() const { return child_; }
  /// Posts the spans and waits for the terminal event. Cause::none if it completed.
  Cause write(std::vector<WriteSpan> spans, std::int64_t timeout_ms = 20'000);
  /// Keeps `depth` batches in flight until `total` bytes have completed; make_spans(i) gives batch i.
  struct Flow {
    double seconds = 0;
    std::int64_t bytes = 0;
    std::uint64_t batches = 0;
    double post_seconds = 0;  // inside post()
    Cause cause = Cause::none;
  };
  Flow stream(std::int64_t total, std::size_t depth,
              const std::function<std::vector<WriteSpan>(std::uint64_t)>& make_spans);
  /// Byte sum of the child's region, computed there; 0 if the child is gone.
  std::uint64_t remote_checksum();
  void signal_child(int signal);
  /// The blob of the child's region, as it was imported.
  const std::vector<std::byte>& remote_blob() const { return remote_blob_; }
  /// The child deregisters its region; its memory stays.
  bool revoke_remote();

 private:
  OpId next_op() { return OpId{++ops_}; }
  pid_t child_ = -1;
  int socket_ = -1;
  std::optional<SharedMemory> shared_;
  std::span<std::byte> memory_;
  std::unique_ptr<Transport> transport_;
  std::vector<std::byte> remote_blob_;
  std::uint64_t ops_ = 0;
};

/// Order-dependent sum of 64-bit words; the same in both processes.
std::uint64_t checksum(std::span<const std::byte> bytes);
/// Enters the named network namespace (/run/netns/<name>) with the calling thread. False if that is not possible.
bool enter_netns(const std::string& name);

}  // namespace faultline::transport
