#include "core/topology/paths.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/assert.h"
#include "core/base/hash.h"

namespace faultline::topology {
namespace {

// Each choice along a path hashes the key with its own salt, so that the choices are independent.
enum class Stage : std::uint64_t { transit = 1, failover, port, spine, parallel_up, parallel_down, core };

std::uint32_t hashed(std::uint64_t key, Stage stage, std::uint64_t attempt, std::uint32_t n) {
  const std::uint64_t h = mix64(key + 0x9e3779b97f4a7c15ULL * (static_cast<std::uint64_t>(stage) + 16 * attempt));
  return static_cast<std::uint32_t>((h >> 32) * n >> 32);
}

/// Resilient hashing: the first healthy one of a few independent hash choices, else the hash over the healthy ones.
/// Uniform over the healthy candidates; n if there is none.
template <class Healthy>
std::uint32_t pick(std::uint64_t key, Stage stage, std::uint32_t n, const Healthy& healthy) {
  constexpr std::uint64_t kTries = 8;
  for (std::uint64_t attempt = 0; attempt < kTries; ++attempt) {
    const std::uint32_t i = hashed(key, stage, attempt, n);
    if (healthy(i)) return i;
  }
  std::uint32_t alive = 0;
  for (std::uint32_t i = 0; i < n; ++i) alive += healthy(i) ? 1 : 0;
  if (alive == 0) return n;
  std::uint32_t left = hashed(key, stage, kTries, alive);
  for (std::uint32_t i = 0;; ++i) {
    if (healthy(i) && left-- == 0) return i;
  }
}

}  // namespace

PathTable::PathTable(const Topology& topology) : layout_(topology.layout) {
  transit_ = topology.spec.node.xgmi_transit;
  failover_ = topology.spec.node.nic_failover;
  forward_ = layout_.kind == FabricKind::rail_optimised && topology.spec.fabric.cross_rail == CrossRail::forward;
  for (std::uint32_t i = 0; i < topology.graph.link_count(); ++i) {
    const Link& link = topology.graph.link(i);
    capacity_.insert(capacity_.end(), 2, link.capacity);
    latency_.insert(latency_.end(), 2, link.latency);
  }
}

bool PathTable::choose(NodeGpu src, NodeGpu dst, std::uint64_t flow_key, const LinkState& up,
                       std::vector<LinkIndex>& path) const {
  FAULTLINE_ASSERT(
      src.node.v < layout_.nodes && src.gpu < layout_.gpus && dst.node.v < layout_.nodes && dst.gpu < layout_.gpus,
      "src {}.{} dst {}.{}", src.node.v, src.gpu, dst.node.v, dst.gpu);
  path.clear();
  if (src == dst) return true;
  if (src.node == dst.node && layout_.mesh > 0) return inside_node(src.node, src.gpu, dst.gpu, flow_key, up, path);
  return forward_ ? by_rail(src, dst, flow_key, up, path) : by_fabric(src, dst, flow_key, up, path);
}

bool PathTable::choose_direct(NodeGpu src, NodeGpu dst, std::uint64_t flow_key, const LinkState& up,
                              std::vector<LinkIndex>& path) const {
  path.clear();
  return src.node != dst.node &&
         between_nics(src.node, layout_.rail_of(src.gpu), dst.node, layout_.rail_of(dst.gpu), flow_key, up, path);
}

bool PathTable::inside_node(NodeId node, std::uint32_t from, std::uint32_t to, std::uint64_t key, const LinkState& up,
                            std::vector<LinkIndex>& path) const {
  const LinkIndex direct = layout_.xgmi(node, from, to);
  if (up.up(direct)) {
    path.push_back(direct);
    return true;
  }
  if (!transit_) return false;
  const std::uint32_t via = pick(key, Stage::transit, layout_.gpus, [&](std::uint32_t g) {
    return g != from && g != to && up.up(layout_.xgmi(node, from, g)) && up.up(layout_.xgmi(node, g, to));
  });
  if (via == layout_.gpus) return false;
  path.push_back(layout_.xgmi(node, from, via));
  path.push_back(layout_.xgmi(node, via, to));
  return true;
}

bool PathTable::by_rail(NodeGpu src, NodeGpu dst, std::uint64_t key, const LinkState& up,
                        std::vector<LinkIndex>& path) const {
  const std::uint32_t own = layout_.rail_of(src.gpu), theirs = layout_.rail_of(dst.gpu);
  const auto on = [&](std::uint32_t rail) { return between_nics(src.node, rail, dst.node, rail, key, up, path); };
  if (own == theirs) {
    if (on(own)) return true;
  } else if (layout_.mesh > 0) {
    if (on(own) && inside_node(dst.node, layout_.first_gpu_of(own), dst.gpu, key, up, path)) return true;
  }
  path.clear();
  if (!failover_) return false;
  if (theirs != own && on(theirs)) return true;
  const std::uint32_t rail = pick(key, Stage::failover, layout_.nics, [&](std::uint32_t r) {
    path.clear();
    return on(r);
  });
  if (rail == layout_.nics) return false;
  path.clear();
  return on(rail);
}

bool PathTable::by_fabric(NodeGpu src, NodeGpu dst, std::uint64_t key, const LinkState& up,
                          std::vector<LinkIndex>& path) const {
  const std::uint32_t own = layout_.rail_of(src.gpu), theirs = layout_.rail_of(dst.gpu), n = layout_.nics;
  if (between_nics(src.node, own, dst.node, theirs, key, up, path)) return true;
  if (!failover_) return false;
  // The own NIC is kept at either end while it works.
  const auto first_way = [&](std::uint32_t ways, const auto& nics_of) {
    const auto on = [&](std::uint32_t way) {
      path.clear();
      const auto [a, b] = nics_of(way);
      return between_nics(src.node, a, dst.node, b, key, up, path);
    };
    const std::uint32_t way = pick(key, Stage::failover, ways, on);
    return way < ways && on(way);
  };
  using Pair = std::pair<std::uint32_t, std::uint32_t>;
  return first_way(n,
                   [&](std::uint32_t i) {
                     return Pair{own, i};
                   }) ||
         first_way(n,
                   [&](std::uint32_t i) {
                     return Pair{i, theirs};
                   }) ||
         first_way(n * n, [&](std::uint32_t i) {
           return Pair{i / n, i % n};
         });
}

bool PathTable::between_nics(NodeId a, std::uint32_t nic_a, NodeId b, std::uint32_t nic_b, std::uint64_t key,
                             const LinkState& up, std::vector<LinkIndex>& path) const {
  const std::uint32_t ports = layout_.ports, first = ports == 1 ? 0 : hashed(key, Stage::port, 0, ports);
  for (std::uint32_t i = 0; i < ports; ++i) {
    const std::uint32_t p = (first + i) % ports;
    const LinkIndex out = layout_.cable(a, nic_a, p);
    if (!up.up(out)) continue;
    for (std::uint32_t j = 0; j < ports; ++j) {  // the same port number first: in a dual-ToR pod that is the same leaf
      const std::uint32_t q = (p + j) % ports;
      const LinkIndex in = reverse(layout_.cable(b, nic_b, q));
      if (!up.up(in)) continue;
      const std::size_t before = path.size();
      path.push_back(out);
      if (between_leaves(layout_.leaf_of(a, nic_a, p), layout_.leaf_of(b, nic_b, q), key, up, path)) {
        path.push_back(in);
        return true;
      }
      path.resize(before);
    }
  }
  return false;
}

bool PathTable::between_leaves(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                               std::vector<LinkIndex>& path) const {
  if (a == b) return true;
  if (layout_.spines_per_plane == 0 || layout_.plane_of_leaf(a) != layout_.plane_of_leaf(b)) return false;
  if (layout_.kind == FabricKind::fat_tree && layout_.pod_of_leaf(a) != layout_.pod_of_leaf(b)) {
    return over_core(a, b, key, up, path);
  }
  return over_spine(a, b, key, up, path);
}

bool PathTable::over_spine(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                           std::vector<LinkIndex>& path) const {
  const auto up_link = [&](std::uint32_t s, std::uint32_t w) { return layout_.uplink(a, s, w); };
  const auto down_link = [&](std::uint32_t s, std::uint32_t w) { return reverse(layout_.uplink(b, s, w)); };
  const auto any = [&](const auto& link, std::uint32_t s) {
    for (std::uint32_t w = 0; w < layout_.parallel; ++w) {
      if (up.up(link(s, w))) return true;
    }
    return false;
  };
  const std::uint32_t s = pick(key, Stage::spine, layout_.spines_per_plane,
                               [&](std::uint32_t i) { return any(up_link, i) && any(down_link, i); });
  if (s == layout_.spines_per_plane) return false;
  const std::uint32_t w_up =
      pick(key, Stage::parallel_up, layout_.parallel, [&](std::uint32_t w) { return up.up(up_link(s, w)); });
  const std::uint32_t w_down =
      pick(key, Stage::parallel_down, layout_.parallel, [&](std::uint32_t w) { return up.up(down_link(s, w)); });
  path.push_back(up_link(s, w_up));
  path.push_back(down_link(s, w_down));
  return true;
}

bool PathTable::over_core(std::uint32_t a, std::uint32_t b, std::uint64_t key, const LinkState& up,
                          std::vector<LinkIndex>& path) const {
  // A core is reached through the spine of the same number in every pod: one number is a whole way up and down.
  const std::uint32_t spines = layout_.spines_per_plane, cores = layout_.cores_per_spine;
  const std::uint32_t spines_a = layout_.pod_of_leaf(a) * spines, spines_b = layout_.pod_of_leaf(b) * spines;
  const auto link = [&](std::uint32_t way, int hop) {
    const std::uint32_t s = way / cores, c = way % cores;
    switch (hop) {
      case 0: return layout_.uplink(a, s);
      case 1: return layout_.core_link(spines_a + s, c);
      case 2: return reverse(layout_.core_link(spines_b + s, c));
      default: return reverse(layout_.uplink(b, s));
    }
  };
  const std::uint32_t way = pick(key, Stage::core, spines * cores, [&](std::uint32_t i) {
    return up.up(link(i, 0)) && up.up(link(i, 1)) && up.up(link(i, 2)) && up.up(link(i, 3));
  });
  if (way == spines * cores) return false;
  for (int hop = 0; hop < 4; ++hop) path.push_back(link(way, hop));
  return true;
}

Duration PathTable::latency_of(std::span<const LinkIndex> path) const {
  Duration sum{};
  for (const LinkIndex link : path) sum += latency_[link.v];
  return sum;
}

BytesPerSecond PathTable::bottleneck_of(std::span<const LinkIndex> path, const LinkState& state) const {
  BytesPerSecond least{std::numeric_limits<std::int64_t>::max()};
  for (const LinkIndex link : path) {
    if (!state.up(link)) return {0};
    const auto effective = static_cast<std::int64_t>(static_cast<double>(capacity_[link.v].v) * state.factor(link));
    least = std::min(least, BytesPerSecond{effective});
  }
  return least;
}

}  // namespace faultline::topology
