// The merged flow graphs of cuts.h against maximum flow on every single link, by another algorithm.
#include "core/topology/cuts.h"

#include <gtest/gtest.h>

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/edmonds_karp_max_flow.hpp>

#include "core/base/random.h"
#include "tests/unit/core/topology/fixture.h"

namespace faultline::topology {
namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using FlowGraph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<boost::edge_capacity_t, std::int64_t,
                    boost::property<boost::edge_residual_capacity_t, std::int64_t,
                                    boost::property<boost::edge_reverse_t, Traits::edge_descriptor>>>>;

/// Every cable and fabric link is an edge of the capacity that `measure` says; no symmetry is used.
template <class Measure>
std::int64_t flow_over_every_link(const Topology& t, const std::vector<NodeId>& source,
                                  const std::vector<NodeId>& target, const Measure& measure) {
  FlowGraph g(t.graph.size() + 2);
  const std::size_t s = t.graph.size(), d = s + 1;
  const auto add = [&](std::size_t a, std::size_t b, std::int64_t there_capacity, std::int64_t back_capacity) {
    const auto there = boost::add_edge(a, b, g).first, back = boost::add_edge(b, a, g).first;
    boost::put(boost::edge_capacity, g, there, there_capacity);
    boost::put(boost::edge_capacity, g, back, back_capacity);
    boost::put(boost::edge_reverse, g, there, back);
    boost::put(boost::edge_reverse, g, back, there);
  };
  constexpr std::int64_t kUnlimited = std::int64_t{1} << 50;
  const auto attach = [&](const std::vector<NodeId>& nodes, bool out) {
    for (const NodeId n : nodes) {
      for (std::uint32_t i = 0; i < t.layout.nics; ++i) {
        out ? add(s, t.nic(n, i).v, kUnlimited, 0) : add(t.nic(n, i).v, d, kUnlimited, 0);
      }
    }
  };
  attach(source, true);
  attach(target, false);
  for (std::uint32_t i = 0; i < t.graph.link_count(); ++i) {
    const Link& link = t.graph.link(i);
    if (t.graph[link.component].kind != Kind::xgmi_link) add(link.a.v, link.b.v, measure(link), measure(link));
  }
  return boost::edmonds_karp_max_flow(g, s, d);
}

TEST(MinCut, MergedSpinesGiveTheSameFlowAsEveryLinkByItself) {
  const std::uint64_t seed = 7321;
  Random r(seed, "cuts test");
  SCOPED_TRACE("seed " + std::to_string(seed));
  for (int trial = 0; trial < 60; ++trial) {
    TopologySpec spec = testing::small();
    constexpr std::array<FabricKind, 4> kinds{FabricKind::rail_optimised, FabricKind::single_tor, FabricKind::dual_tor,
                                              FabricKind::fat_tree};
    spec.fabric.kind = kinds[r.below(kinds.size())];
    spec.node.nic.ports = spec.fabric.kind == FabricKind::dual_tor ? 2 : 1;
    spec.fabric.cross_rail = CrossRail::fabric;  // rails may mix, as they do on bare links
    spec.fabric.k = 6;
    spec.fabric.nodes_per_leaf = 1 + static_cast<std::uint32_t>(r.below(4));
    spec.fabric.oversubscription = std::array{0.5, 1.0, 2.0, 3.0}[r.below(4)];
    spec.fabric.link_bandwidth = BytesPerSecond{static_cast<std::int64_t>(20 + r.below(60)) * 1'000'000'000};
    spec.nodes = 6 + static_cast<std::uint32_t>(r.below(8));
    const Topology t = build(spec);
    std::vector<NodeId> a, b;
    for (std::uint32_t n = 0; n < spec.nodes; ++n) {
      const std::uint64_t side = r.below(3);
      if (side < 2) (side == 0 ? a : b).push_back({n});
    }
    if (a.empty() || b.empty()) continue;
    const Cut cut = min_cut(t, a, b);
    EXPECT_EQ(cut.capacity.v, flow_over_every_link(t, a, b, [](const Link& l) { return l.capacity.v; }))
        << "trial " << trial;
    EXPECT_EQ(static_cast<std::int64_t>(cut.links),
              flow_over_every_link(t, a, b, [](const Link&) { return std::int64_t{1}; }))
        << "trial " << trial;
  }
}

}  // namespace
}  // namespace faultline::topology
