// Transport over RDMA verbs (RC), over one or several rails (devices): rail i of one side is joined with rail i of the
// other. Batches are spread over the rails that are up. A rail that fails (error completion, port event, deadline) is
// fenced at both ends, what it had not delivered goes over another one, each notify once; after a pause it is tried
// again. Only when the last rail fails is the peer lost.
//
// Control (authentication, addresses of queue pairs, heartbeats, death of the peer's process) runs over an inner
// TcpTransport: completions alone never tell that a peer was killed before the whole retransmission budget is over, and
// an idle queue pair notices nothing. A peer is given up at the first of: an error completion, an asynchronous event of
// the device (port down, fatal), the deadline of a transfer, the end of the control connection. Every open() makes new
// queue pairs, and a lost peer's are destroyed before its operations end, so that a late write of a dead incarnation
// has nowhere to land and no source buffer is read after its terminal event. Threads: one owner thread; one progress
// thread (completions, asynchronous events, deadlines).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/transport/tcp_transport.h"
#include "core/config/fields.h"
#include "core/ports/transport.h"

namespace faultline::transport {

struct VerbsSettings : BatchSettings {
  VerbsSettings()
      : BatchSettings{.ops_in_flight_max = 128,
                      .spans_per_batch_max = 1 << 14,
                      .chunk = Bytes{1 << 20},
                      .stripe_min = Bytes{1 << 18}} {}
  std::vector<std::string> devices;  // names, e.g. mlx5_0, one a rail; empty: the `rails` nearest with an active port
  std::uint32_t rails = 1;
  std::string near;  // PCI address of the GPU whose memory moves; empty: the calling thread's NUMA node
  std::uint32_t port = 1;
  std::int64_t gid_index = -1;  // -1: the first RoCE v2 GID that maps an IPv4 address, else the first RoCE v2, else 0
  std::uint32_t qps = 1;        // per peer
  std::uint32_t mtu = 4096;     // upper bound; the port's active MTU may be smaller
  // Local ACK timeout 4.096 us * 2^timeout and retries (IBTA 1.4, 9.7.6.1.3): 14 and 6 give up after about 0.47 s.
  std::uint32_t timeout = 14;
  std::uint32_t retry_count = 6;  // rxe takes 7 for "for ever": capped at 6 there
  std::uint32_t rnr_retry = 7;
  std::uint32_t min_rnr_timer = 12;  // 0.64 ms
  std::uint32_t traffic_class = 0;
  std::uint32_t send_queue = 256;  // requests per queue pair
  std::uint32_t sge_max = 16;
  std::uint32_t inline_max = 0;
  Duration transfer_deadline{1'000'000'000};  // without any completion of the peer: timeout
  Duration rail_pause{1'000'000'000};         // a failed rail is tried again after this
  bool polling = false;  // the progress thread polls the completion queue instead of waiting for events
  TcpSettings control;   // secret, bind_address, connect_timeout, failure_budget
};
void describe(config::Fields& f, VerbsSettings& s);

struct VerbsCounters {
  std::uint64_t requests = 0;   // posted work requests
  std::uint64_t doorbells = 0;  // chains
  std::uint64_t completions = 0;
  std::uint64_t flushed = 0;
  std::uint64_t port_errors = 0;
  std::uint64_t queue_pairs = 0;   // that exist now
  std::uint64_t rails_up = 0;      // now, over all peers
  std::uint64_t rails_lost = 0;    // while another rail of that peer was up
  std::uint64_t rails_back = 0;    // after a pause
  std::uint64_t chains_moved = 0;  // from a lost rail to another
  std::string first_error;         // text of the first error completion; empty if none
};

class VerbsTransport final : public Transport {
 public:
  /// Throws std::runtime_error: no device, port not active, resources.
  explicit VerbsTransport(const VerbsSettings& settings);
  ~VerbsTransport() override;
  VerbsTransport(const VerbsTransport&) = delete;
  VerbsTransport& operator=(const VerbsTransport&) = delete;

  TransportLimits limits() const override;
  std::vector<std::byte> local_address() const override;
  Status open(EndpointId peer, std::span<const std::byte> address) override;
  void close(EndpointId peer) override;
  Status register_memory(RegionId region, std::span<std::byte> memory) override;
  /// GPU memory exported as dma-buf: `offset` is the exporter's. Unproven: no machine of this project has had an RDMA
  /// NIC with peer memory. Errors: protection where the device or kernel cannot (rxe: EOPNOTSUPP).
  Status register_dmabuf(RegionId region, int dmabuf, Bytes offset, Bytes length, std::uint64_t address);
  Status deregister(RegionId region) override;
  std::vector<std::byte> export_region(RegionId region) const override;
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override;
  Status post(const WriteBatch& batch) override;
  void cancel(OpId op) override;
  std::size_t poll(std::span<TransportEvent> out) override;

  VerbsCounters counters() const;
  /// Device, port, GID and every attribute in force, one "key value" a line; for reports.
  std::string description() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

/// Names of devices with an active port, nearest to the PCI device `near` first (empty: to the calling thread's NUMA
/// node). Empty where there is no RDMA.
std::vector<std::string> verbs_devices(const std::string& near = {});

}  // namespace faultline::transport
