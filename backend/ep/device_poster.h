// The GPU-initiated mode of an exchange: its writes become work requests of an mlx5 send queue, written with their
// doorbell by device code (kernels/ops/rdma_write.h). One queue pair to each peer.
//
// UNPROVEN on hardware: no machine of this project has such a NIC beside a GPU. In the tests the emulator runs the
// device code and a NIC of software executes what it finds in the queue.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "backend/ep/poster.h"
#include "kernels/ops/rdma_write_args.h"

namespace faultline::ep {

class DevicePoster final : public Poster {
 public:
  /// Memory as the NIC knows it: lkey of an own region, rkey of a peer's.
  struct Memory {
    std::uint64_t address = 0;
    std::uint32_t key = 0;
    std::uint64_t length = 0;
  };
  /// Runs rdma_write of the arguments as a kernel and returns when it has ended; what the arguments point to is
  /// device-accessible then.
  using Launch = std::function<void(const kernels::RdmaWriteArgs&)>;

  explicit DevicePoster(Launch launch) : launch_(std::move(launch)) {}
  void add_peer(EndpointId peer, const kernels::RdmaQueue& queue) { peers_[peer].queue = queue; }
  void add_memory(RegionId region, const Memory& memory) { memory_[region] = memory; }

  /// One request a span; the notify is immediate data of the last one, or of a write without bytes. overload: fewer
  /// slots are free than the batch needs; protection: an unknown region, a range outside it, or 2 GiB in one span;
  /// peer_lost.
  Status post(const WriteBatch& batch) override;

  /// A completion of the peer's send queue. `index`: of the request that it names, as the NIC counts (16 bits).
  /// Requests end in order: every batch up to it has.
  std::vector<TransportEvent> completed(EndpointId peer, std::uint16_t index);
  /// Its queue pair failed: every batch in it ends so.
  std::vector<TransportEvent> failed(EndpointId peer, Cause cause);

 private:
  struct Posted {
    OpId op;
    std::uint32_t requests = 0;
    Bytes bytes;
  };
  struct Peer {
    kernels::RdmaQueue queue;
    std::deque<Posted> posted;
    std::uint32_t used = 0;   // slots
    std::uint32_t freed = 0;  // requests that have ended, ever
  };
  std::optional<std::uint64_t> address(RegionId region, Bytes offset, Bytes length) const;

  Launch launch_;
  std::map<EndpointId, Peer> peers_;
  std::map<RegionId, Memory> memory_;
};

}  // namespace faultline::ep
