#include "core/topology/cuts.h"

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>
#include <map>

namespace faultline::topology {
namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using FlowGraph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<boost::edge_capacity_t, std::int64_t,
                    boost::property<boost::edge_residual_capacity_t, std::int64_t,
                                    boost::property<boost::edge_reverse_t, Traits::edge_descriptor>>>>;

/// One merged edge: `links` real links of equal capacity, summed.
struct Pipe {
  std::uint32_t from, to;
  std::int64_t capacity;
  std::int64_t links;
  CutTier tier;
};

struct Pipes {
  std::uint32_t vertices = 2;  // 0 is the source, 1 the target
  std::vector<Pipe> list;
};

struct FlowResult {
  std::int64_t value = 0;
  CutTier tier = CutTier::none;
};

/// Maximum flow with the capacities that `measure` reads from a pipe.
template <class Measure>
FlowResult max_flow(const Pipes& pipes, const Measure& measure) {
  FlowGraph g(pipes.vertices);
  auto capacity = boost::get(boost::edge_capacity, g);
  auto residual = boost::get(boost::edge_residual_capacity, g);
  auto reversed = boost::get(boost::edge_reverse, g);
  std::vector<Traits::edge_descriptor> edges;
  for (const Pipe& p : pipes.list) {
    const auto there = boost::add_edge(p.from, p.to, g).first, back = boost::add_edge(p.to, p.from, g).first;
    capacity[there] = measure(p);
    capacity[back] = 0;
    reversed[there] = back;
    reversed[back] = there;
    edges.push_back(there);
  }
  FlowResult out;
  out.value = boost::push_relabel_max_flow(g, 0, 1);
  // The cut: pipes from what the residual graph still reaches to what it does not.
  std::vector<char> reached(pipes.vertices, 0);
  std::vector<std::uint32_t> todo{0};
  reached[0] = 1;
  while (!todo.empty()) {
    const std::uint32_t v = todo.back();
    todo.pop_back();
    for (auto [e, end] = boost::out_edges(v, g); e != end; ++e) {
      const auto w = static_cast<std::uint32_t>(boost::target(*e, g));
      if (residual[*e] > 0 && !reached[w]) {
        reached[w] = 1;
        todo.push_back(w);
      }
    }
  }
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const Pipe& p = pipes.list[i];
    if (!reached[p.from] || reached[p.to] || measure(p) == 0) continue;
    out.tier = out.tier == CutTier::none || out.tier == p.tier ? p.tier : CutTier::mixed;
  }
  return out;
}

class PipeBuilder {
 public:
  explicit PipeBuilder(const Topology& t) : t_(t), l_(t.layout) {
    split_rails_ = l_.kind == FabricKind::rail_optimised && t.spec.fabric.cross_rail == CrossRail::forward;
  }

  Pipes build(const std::vector<NodeId>& source, const std::vector<NodeId>& target) {
    const auto from = cables_by_leaf(source), to = cables_by_leaf(target);
    const std::int64_t cable = t_.spec.node.nic.bandwidth.v / l_.ports;
    for (const auto& [leaf, count] : from) pipe(0, leaf_vertex(leaf), cable, count, CutTier::source_cables);
    for (const auto& [leaf, count] : to) pipe(leaf_vertex(leaf), 1, cable, count, CutTier::target_cables);
    if (l_.spines_per_plane == 0) return std::move(out_);
    const std::int64_t link = t_.spec.fabric.link_bandwidth.v;
    for (const auto& [leaf, count] : from)
      pipe(leaf_vertex(leaf), spine_vertex(leaf), link, l_.uplinks(), CutTier::leaf_uplinks);
    for (const auto& [leaf, count] : to)
      pipe(spine_vertex(leaf), leaf_vertex(leaf), link, l_.uplinks(), CutTier::leaf_downlinks);
    if (l_.cores > 0) {
      const std::uint32_t core = out_.vertices++;
      const std::int64_t links = std::int64_t{l_.spines_per_plane} * l_.cores_per_spine;
      for (const auto& [group, vertex] : spine_) {
        pipe(vertex, core, link, links, CutTier::core_links);
        pipe(core, vertex, link, links, CutTier::core_links);
      }
    }
    return std::move(out_);
  }

 private:
  std::map<std::uint32_t, std::int64_t> cables_by_leaf(const std::vector<NodeId>& nodes) const {
    std::map<std::uint32_t, std::int64_t> out;
    for (const NodeId n : nodes) {
      for (std::uint32_t nic = 0; nic < l_.nics; ++nic) {
        for (std::uint32_t port = 0; port < l_.ports; ++port) ++out[l_.leaf_of(n, nic, port)];
      }
    }
    return out;
  }
  std::uint32_t vertex(std::map<std::uint32_t, std::uint32_t>& of, std::uint32_t key) {
    const auto [at, fresh] = of.emplace(key, out_.vertices);
    if (fresh) ++out_.vertices;
    return at->second;
  }
  std::uint32_t leaf_vertex(std::uint32_t leaf) { return vertex(leaf_, leaf); }
  std::uint32_t spine_vertex(std::uint32_t leaf) {
    if (l_.kind == FabricKind::fat_tree) return vertex(spine_, l_.pod_of_leaf(leaf));
    return vertex(spine_, split_rails_ ? leaf % l_.leaves_per_pod / l_.ports : l_.plane_of_leaf(leaf));
  }
  void pipe(std::uint32_t from, std::uint32_t to, std::int64_t each, std::int64_t links, CutTier tier) {
    out_.list.push_back({.from = from, .to = to, .capacity = each * links, .links = links, .tier = tier});
  }

  const Topology& t_;
  const Layout& l_;
  bool split_rails_ = false;
  Pipes out_;
  std::map<std::uint32_t, std::uint32_t> leaf_, spine_;
};

}  // namespace

Cut min_cut(const Topology& topology, const std::vector<NodeId>& source, const std::vector<NodeId>& target) {
  const Pipes pipes = PipeBuilder(topology).build(source, target);
  const FlowResult bytes = max_flow(pipes, [](const Pipe& p) { return p.capacity; });
  const FlowResult links = max_flow(pipes, [](const Pipe& p) { return p.links; });
  return {.capacity = {bytes.value}, .links = static_cast<std::uint64_t>(links.value), .tier = bytes.tier};
}

Bisection bisection(const Topology& topology) {
  Bisection out;
  const std::uint32_t nodes = topology.layout.nodes;
  if (nodes < 2) return out;
  std::vector<NodeId> a, b;
  for (std::uint32_t n = 0; n < nodes; ++n) (n < nodes / 2 ? a : b).push_back({n});
  out.cut = min_cut(topology, a, b);
  out.nodes_a = nodes / 2;
  out.nodes_b = nodes - out.nodes_a;
  out.injection = topology.spec.node.nic.bandwidth * topology.layout.nics * out.nodes_a;
  return out;
}

}  // namespace faultline::topology
