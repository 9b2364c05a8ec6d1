#include "core/topology/connectivity.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/biconnected_components.hpp>
#include <boost/pending/disjoint_sets.hpp>
#include <boost/property_map/property_map.hpp>
#include <numeric>

namespace faultline::topology {
namespace {

constexpr std::uint32_t kNoLink = LinkIndex::kInvalid;

/// One edge of the routed graph; parallel links between the same two devices are one edge, which is then no bridge.
struct Edge {
  std::uint32_t a, b;            // vertices
  std::uint32_t link = kNoLink;  // the link number, or none where a GPU hangs on its NIC
  std::uint32_t parallel = 1;
};

struct RoutedGraph {
  std::vector<ComponentId> component;  // by vertex
  std::vector<std::uint32_t> vertex;   // by component
  std::vector<std::uint32_t> weight;   // 1 for a GPU
  std::vector<Edge> edges;
};

RoutedGraph routed_graph(const Topology& t) {
  RoutedGraph g;
  g.vertex.assign(t.graph.size(), 0);
  for (const Kind kind : {Kind::core, Kind::spine, Kind::leaf, Kind::nic, Kind::gpu}) {
    for (const ComponentId id : t.graph.of_kind(kind)) {
      g.vertex[id.v] = static_cast<std::uint32_t>(g.component.size());
      g.component.push_back(id);
      g.weight.push_back(kind == Kind::gpu ? 1 : 0);
    }
  }
  const Layout& l = t.layout;
  for (std::uint32_t n = 0; n < l.nodes; ++n) {
    for (std::uint32_t gpu = 0; gpu < l.gpus; ++gpu) {
      const std::uint32_t v = g.vertex[t.gpu({.node = {n}, .gpu = gpu}).v];
      for (std::uint32_t nic = 0; nic < l.nics; ++nic) {
        if (nic == l.rail_of(gpu) || t.spec.node.nic_failover)
          g.edges.push_back({.a = v, .b = g.vertex[t.nic({n}, nic).v]});
      }
    }
  }
  for (std::uint32_t i = 0; i < t.graph.link_count(); ++i) {
    const Link& link = t.graph.link(i);
    if (t.graph[link.component].kind == Kind::xgmi_link) continue;
    const std::uint32_t a = g.vertex[link.a.v], b = g.vertex[link.b.v];
    Edge& last = g.edges.back();  // parallel links are made one after the other
    if (last.link != kNoLink && last.a == a && last.b == b) ++last.parallel;
    else g.edges.push_back({.a = a, .b = b, .link = i});
  }
  return g;
}

using BoostGraph = boost::adjacency_list<boost::vecS, boost::vecS, boost::undirectedS, boost::no_property,
                                         boost::property<boost::edge_index_t, std::uint32_t>>;

/// The depth-first tree of every part with its low points; weights are summed below each vertex.
struct Tree {
  std::vector<std::size_t> discovered, low;
  std::vector<std::uint32_t> parent;  // itself for a root
  std::vector<std::uint32_t> below;   // GPUs in the subtree
  std::vector<std::uint32_t> root;
  std::vector<std::uint32_t> articulation;
};

Tree search(const RoutedGraph& g) {
  const auto n = static_cast<std::uint32_t>(g.component.size());
  BoostGraph graph(n);
  for (std::uint32_t i = 0; i < g.edges.size(); ++i) boost::add_edge(g.edges[i].a, g.edges[i].b, i, graph);
  Tree t;
  t.discovered.assign(n, 0);
  t.low.assign(n, 0);
  t.parent.resize(n);
  std::iota(t.parent.begin(), t.parent.end(), 0U);
  std::vector<std::size_t> block(g.edges.size());
  const auto vertices = boost::get(boost::vertex_index, graph);
  boost::biconnected_components(
      graph, boost::make_iterator_property_map(block.begin(), boost::get(boost::edge_index, graph)),
      std::back_inserter(t.articulation),
      boost::discover_time_map(boost::make_iterator_property_map(t.discovered.begin(), vertices))
          .lowpoint_map(boost::make_iterator_property_map(t.low.begin(), vertices))
          .predecessor_map(boost::make_iterator_property_map(t.parent.begin(), vertices)));
  std::sort(t.articulation.begin(), t.articulation.end());
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return t.discovered[a] < t.discovered[b]; });
  t.below.assign(g.weight.begin(), g.weight.end());
  t.root.resize(n);
  for (const std::uint32_t v : order) t.root[v] = t.parent[v] == v ? v : t.root[t.parent[v]];
  for (auto v = order.rbegin(); v != order.rend(); ++v) {
    if (t.parent[*v] != *v) t.below[t.parent[*v]] += t.below[*v];
  }
  return t;
}

/// Sizes of the parts of one graph part, of which all but the largest are cut off.
struct Pieces {
  std::uint32_t sum = 0, largest = 0;
  void add(std::uint32_t size) {
    sum += size;
    largest = std::max(largest, size);
  }
  std::uint32_t cut_off() const { return sum - largest; }
};

/// Alive GPUs in every remaining part against the whole part they came from, by disjoint sets.
class Separation {
 public:
  explicit Separation(const Topology& t) : t_(t), g_(routed_graph(t)), whole_(parts({}, {})) {}

  std::uint32_t cut_off(const std::vector<ComponentId>& lost) {
    std::vector<char> dead_vertex(g_.component.size(), 0), dead_link(t_.graph.link_count(), 0);
    for (const ComponentId top : lost) {
      for (const ComponentId id : t_.graph.implied(top)) {
        const Component& c = t_.graph[id];
        if (c.link != kNoLink) dead_link[c.link] = 1;
        else if (c.kind == Kind::gpu || c.kind == Kind::nic || is_switch(c.kind)) dead_vertex[g_.vertex[id.v]] = 1;
      }
    }
    const auto now = parts(dead_vertex, dead_link);
    std::vector<std::uint32_t> size(g_.component.size(), 0);
    for (std::uint32_t v = 0; v < now.size(); ++v) {
      if (!dead_vertex[v]) size[now[v]] += g_.weight[v];
    }
    std::vector<Pieces> pieces(g_.component.size());
    for (std::uint32_t v = 0; v < now.size(); ++v) {
      if (now[v] == v && !dead_vertex[v]) pieces[whole_[v]].add(size[v]);
    }
    std::uint32_t out = 0;
    for (const Pieces& p : pieces) out += p.cut_off();
    return out;
  }

 private:
  /// The representative of every vertex's part.
  std::vector<std::uint32_t> parts(const std::vector<char>& dead_vertex, const std::vector<char>& dead_link) const {
    const std::size_t n = g_.component.size();
    std::vector<std::uint32_t> rank(n, 0), parent(n);
    boost::disjoint_sets<std::uint32_t*, std::uint32_t*> sets(rank.data(), parent.data());
    for (std::uint32_t v = 0; v < n; ++v) sets.make_set(v);
    for (const Edge& e : g_.edges) {
      if (!dead_vertex.empty() && (dead_vertex[e.a] || dead_vertex[e.b])) continue;
      if (!dead_link.empty() && e.link != kNoLink && alive(e, dead_link) == 0) continue;
      sets.union_set(e.a, e.b);
    }
    std::vector<std::uint32_t> out(n);
    for (std::uint32_t v = 0; v < n; ++v) out[v] = sets.find_set(v);
    return out;
  }
  static std::uint32_t alive(const Edge& e, const std::vector<char>& dead_link) {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < e.parallel; ++i) count += dead_link[e.link + i] ? 0 : 1;
    return count;
  }

  const Topology& t_;
  RoutedGraph g_;
  std::vector<std::uint32_t> whole_;
};

bool by_component(const CutPoint& a, const CutPoint& b) { return a.component < b.component; }

}  // namespace

SinglePoints single_points(const Topology& t) {
  SinglePoints out;
  const RoutedGraph g = routed_graph(t);
  const Tree tree = search(g);

  // Removing v leaves one piece per child whose subtree cannot climb past v, and the rest of its part.
  std::vector<Pieces> pieces(g.component.size());
  for (std::uint32_t v = 0; v < g.component.size(); ++v) {
    const std::uint32_t p = tree.parent[v];
    if (p != v && tree.low[v] >= tree.discovered[p]) pieces[p].add(tree.below[v]);
  }
  for (const std::uint32_t v : tree.articulation) {
    if (t.graph[g.component[v]].kind == Kind::gpu) continue;  // a GPU relays for nobody
    Pieces at = pieces[v];
    at.add(tree.below[tree.root[v]] - g.weight[v] - at.sum);
    if (at.cut_off() > 0) out.articulation_points.push_back({g.component[v], at.cut_off()});
  }
  for (const Edge& e : g.edges) {
    if (e.link == kNoLink || e.parallel > 1) continue;
    const std::uint32_t child = tree.parent[e.a] == e.b ? e.a : tree.parent[e.b] == e.a ? e.b : kNoLink;
    if (child == kNoLink || tree.low[child] < tree.discovered[child]) continue;
    const std::uint32_t total = tree.below[tree.root[child]], below = tree.below[child];
    const std::uint32_t cut = std::min(below, total - below);
    if (cut > 0) out.bridges.push_back({t.graph.link(e.link).component, cut});
  }
  Separation separation(t);
  for (const Kind kind : {Kind::power, Kind::rack}) {
    for (const ComponentId id : t.graph.of_kind(kind)) {
      const auto within = t.graph.implied(id);
      if (std::none_of(within.begin(), within.end(), [&](ComponentId c) { return is_switch(t.graph[c].kind); }))
        continue;
      if (const std::uint32_t cut = separation.cut_off({id}); cut > 0) out.enclosures.push_back({id, cut});
    }
  }
  std::sort(out.articulation_points.begin(), out.articulation_points.end(), by_component);
  std::sort(out.bridges.begin(), out.bridges.end(), by_component);
  std::sort(out.enclosures.begin(), out.enclosures.end(), by_component);
  out.xgmi_only_way = t.layout.mesh > 0 && (!t.spec.node.xgmi_transit || t.layout.gpus == 2);
  return out;
}

std::uint32_t gpus_cut_off_by(const Topology& topology, const std::vector<ComponentId>& lost) {
  return Separation(topology).cut_off(lost);
}

}  // namespace faultline::topology
