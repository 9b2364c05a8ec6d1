// Transport over TCP, the default where no RDMA NIC exists, with a same-host path over shared memory.
//
// Per peer: `connections` authenticated sockets (or one ring in a memfd when both ends share a kernel and network
// namespace). Receivers check key and range of every write before a byte lands. The causes are those of verbs:
//   link_down   the path does not answer (TCP_USER_TIMEOUT, unreachable, heartbeats unacknowledged)
//   timeout     the path answers, the peer's progress thread does not (stopped, stuck), or nobody called open() there
//   peer_lost   connection reset or closed, process gone
//   protection  an unknown key or a range outside it; an unauthenticated or misbehaving peer
// Threads: one owner thread calls everything; one progress thread of its own moves bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/transport/batch_settings.h"
#include "backend/transport/shared_memory.h"
#include "core/config/fields.h"
#include "core/ports/transport.h"

namespace faultline::transport {

struct TcpSettings : BatchSettings {
  std::string secret;                      // of the cluster; must not be empty (asserted)
  std::string bind_address = "127.0.0.1";  // numeric IPv4; where to listen and what peers are told
  std::uint16_t port = 0;                  // 0: any
  std::uint32_t connections = 2;           // per peer
  bool same_host_path = true;
  Duration failure_budget{500'000'000};
  Duration connect_timeout{2'000'000'000};
  Bytes backlog{4 << 20};                       // queued per connection; later batches can still be canceled
  std::uint32_t handshakes_max = 64;            // unauthenticated connections at a time; more are closed at once
  std::uint32_t notifies_unread_max = 1 << 16;  // a peer that floods a sleeping owner is dropped with overload
  Duration spin{};                              // progress thread polls this long before it sleeps
};
void describe(config::Fields& f, TcpSettings& s);

/// What the progress thread counted; for reports and leak tests.
struct TcpCounters {
  std::uint64_t sessions_opened = 0;
  std::uint64_t sessions_lost = 0;
  std::uint64_t handshakes_refused = 0;
  std::uint64_t shm_sessions = 0;
  std::uint64_t wakeups = 0;
};

class TcpTransport final : public Transport {
 public:
  /// Throws std::runtime_error if the address cannot be bound.
  explicit TcpTransport(const TcpSettings& settings);
  ~TcpTransport() override;
  TcpTransport(const TcpTransport&) = delete;
  TcpTransport& operator=(const TcpTransport&) = delete;

  TransportLimits limits() const override;
  std::vector<std::byte> local_address() const override;
  Status open(EndpointId peer, std::span<const std::byte> address) override;
  void close(EndpointId peer) override;
  Status register_memory(RegionId region, std::span<std::byte> memory) override;
  /// As register_memory() of its bytes, and peers on this host read them in place. The memory outlives the
  /// registration.
  Status register_shared(RegionId region, const SharedMemory& memory);
  Status deregister(RegionId region) override;
  std::vector<std::byte> export_region(RegionId region) const override;
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override;
  Status post(const WriteBatch& batch) override;
  void cancel(OpId op) override;
  std::size_t poll(std::span<TransportEvent> out) override;

  /// Readable (poll, epoll) while poll() has events, so that an owner can sleep. Cleared by polling everything.
  int event_descriptor() const;
  TcpCounters counters() const;
  std::uint16_t port() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace faultline::transport
