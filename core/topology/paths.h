// Routes: the ordered directed links between two GPUs, as a real cluster would choose them.
//
// Same node: the direct xGMI link; with xgmi_transit, two xGMI links through another GPU when the direct one is down;
// in a node without xGMI, through its NICs. Other node: the sender's NIC cable, its leaf, (spine, core by ECMP,) leaf,
// a cable of the receiver's node. With `cross_rail: forward` both cables are of the sender's rail, and a last xGMI link
// leads to a receiver whose own NIC is another; with `fabric` the receiver's own NIC is used. With nic_failover, other
// NICs of the node step in when the usual way is down; their traffic crosses the host's PCIe, which is not modelled as
// a link (64 GB/s a slot against 50 GB/s a NIC).
//
// ECMP hashes the flow key over the healthy candidates so that a flow keeps its path while that path is healthy: a
// fault moves only the flows that crossed it, evenly over the rest, and they return after the repair (resilient
// hashing). A dead GPU is not looked at: only its links are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/topology/link_state.h"
#include "core/topology/topology.h"

namespace faultline::topology {

class PathTable {
 public:
  /// Copies what it needs: the topology need not outlive it.
  explicit PathTable(const Topology& topology);

  /// Writes the path from src to dst into `path` (cleared first), sender's side first. True if there is one; src == dst
  /// has the empty path. No allocation once `path` has room for 8 links; constant time while the first hash choices are
  /// up.
  bool choose(NodeGpu src, NodeGpu dst, std::uint64_t flow_key, const LinkState& up,
              std::vector<LinkIndex>& path) const;

  /// Between two nodes, NIC to NIC without a forwarding GPU: where the GPU that would forward is dead but the
  /// receiver's own NIC is well. False within one node, or where no switch joins the two rails.
  bool choose_direct(NodeGpu src, NodeGpu dst, std::uint64_t flow_key, const LinkState& up,
                     std::vector<LinkIndex>& path) const;

  std::size_t size() const { return capacity_.size(); }                   // directed links
  std::span<const BytesPerSecond> capacity() const { return capacity_; }  // by LinkIndex, nominal
  std::span<const Duration> latency() const { return latency_; }          // by LinkIndex
  Duration latency_of(std::span<const LinkIndex> path) const;             // sum
  /// Smallest effective capacity on the path (nominal times factor); 0 where a link is down, the maximum for an empty
  /// path.
  BytesPerSecond bottleneck_of(std::span<const LinkIndex> path, const LinkState& state) const;
  /// The rail (NIC number) that a GPU sends on when all is well.
  std::uint32_t rail_of(NodeGpu gpu) const { return layout_.rail_of(gpu.gpu); }

 private:
  bool inside_node(NodeId node, std::uint32_t from, std::uint32_t to, std::uint64_t key, const LinkState& up,
                   std::vector<LinkIndex>& path) const;
  bool by_rail(NodeGpu src, NodeGpu dst, std::uint64_t key, const LinkState& up, std::vector<LinkIndex>& path) const;
  bool by_fabric(NodeGpu src, NodeGpu dst, std::uint64_t key, const LinkState& up, std::vector<LinkIndex>& path) const;
  bool between_nics(NodeId a, std::uint32_t nic_a, NodeId b, std::uint32_t nic_b, std::uint64_t key,
                    const LinkState& up, std::vector<LinkIndex>& path) const;
  bool between_leaves(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                      std::vector<LinkIndex>& path) const;
  bool over_spine(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                  std::vector<LinkIndex>& path) const;
  bool over_core(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                 std::vector<LinkIndex>& path) const;

  Layout layout_;
  bool transit_ = false, failover_ = false, forward_ = false;
  std::vector<BytesPerSecond> capacity_;
  std::vector<Duration> latency_;
};

}  // namespace faultline::topology
