// Single points of failure, cuts and blast on clusters small enough to work out by hand.
#include "core/topology/analysis.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/topology/picture.h"
#include "tests/unit/core/topology/fixture.h"

namespace faultline::topology {
namespace {

using testing::id;

Placement placed(const Topology& t) {
  config::Diagnostics d;
  Placement p = place(t, t.spec.placement, {"test", 0, 0}, d);
  d.throw_if_any();
  return p;
}

std::map<std::string, std::uint32_t> as_map(const Topology& t, const std::vector<CutPoint>& points) {
  std::map<std::string, std::uint32_t> out;
  for (const CutPoint& p : points) out[t.graph.name(p.component)] = p.gpus_cut_off;
  return out;
}

using Map = std::map<std::string, std::uint32_t>;

TEST(SinglePoints, OneSpineBetweenFourLeavesCutsEverythingApart) {
  // gpu - nic - leaf - spine-0, four times: a star. The spine leaves four single GPUs, of which one counts as the rest.
  const Topology t = build(testing::small());
  const SinglePoints s = single_points(t);
  EXPECT_EQ(as_map(t, s.articulation_points), (Map{{"node-0.nic-0", 1},
                                                   {"node-0.nic-1", 1},
                                                   {"node-1.nic-0", 1},
                                                   {"node-1.nic-1", 1},
                                                   {"leaf-0", 1},
                                                   {"leaf-1", 1},
                                                   {"leaf-2", 1},
                                                   {"leaf-3", 1},
                                                   {"spine-0", 3}}));
  EXPECT_EQ(as_map(t, s.bridges), (Map{{"node-0.nic-0.cable", 1},
                                       {"node-0.nic-1.cable", 1},
                                       {"node-1.nic-0.cable", 1},
                                       {"node-1.nic-1.cable", 1},
                                       {"leaf-0.spine-0", 1},
                                       {"leaf-1.spine-0", 1},
                                       {"leaf-2.spine-0", 1},
                                       {"leaf-3.spine-0", 1}}));
  // rack-2 holds leaves 0 and 1, rack-3 leaves 2 and 3: two single GPUs fall off; rack-4 holds the spine. One rack a
  // feed.
  EXPECT_EQ(as_map(t, s.enclosures),
            (Map{{"rack-2", 2}, {"rack-3", 2}, {"rack-4", 3}, {"power-2", 2}, {"power-3", 2}, {"power-4", 3}}));
  EXPECT_TRUE(s.xgmi_only_way);
}

TEST(SinglePoints, AParallelUplinkIsNoBridge) {
  TopologySpec spec = testing::small();
  spec.fabric.oversubscription = 0.5;
  spec.fabric.spines = 1;
  const Topology t = build(spec);
  for (const CutPoint& p : single_points(t).bridges)
    EXPECT_EQ(t.graph[p.component].kind, Kind::cable) << t.graph.name(p.component);
}

TEST(SinglePoints, TwoSpinesAreRedundant) {
  TopologySpec spec = testing::small();
  spec.fabric.oversubscription = 0.5;  // two uplinks, to a spine each
  const Topology t = build(spec);
  const auto points = as_map(t, single_points(t).articulation_points);
  EXPECT_EQ(points.count("spine-0") + points.count("spine-1"), 0U);
  EXPECT_EQ(points.at("leaf-0"), 1U);
}

TEST(SinglePoints, DualTorLeavesNoSwitchOrCableAsAPoint) {
  const Topology t = build(testing::spec_of("fleets/mi300x-128-dual-tor.yaml", {"nodes=16", "placement.instances=1"}));
  const SinglePoints s = single_points(t);
  EXPECT_TRUE(s.bridges.empty());
  EXPECT_EQ(s.articulation_points.size(), 128U);
  for (const CutPoint& p : s.articulation_points) EXPECT_EQ(t.graph[p.component].kind, Kind::nic);
}

TEST(SinglePoints, NicFailoverRemovesNicsAndRailLeaves) {
  TopologySpec spec = testing::spec_of("tiny/one-pod.yaml");
  spec.node.nic_failover = true;
  const SinglePoints s = single_points(build(spec));
  EXPECT_TRUE(s.articulation_points.empty());
  EXPECT_TRUE(s.bridges.empty());
}

TEST(SinglePoints, RailsThatNeverMeetAreExaminedOneByOne) {
  TopologySpec spec = testing::small();
  spec.nodes = 3;
  spec.fabric.nodes_per_leaf = 3;
  spec.fabric.spine_planes = SpinePlanes::per_rail;  // one group: no spines at all, two separate stars of three GPUs
  const Topology t = build(spec);
  EXPECT_EQ(t.layout.spines, 0U);
  const auto points = as_map(t, single_points(t).articulation_points);
  EXPECT_EQ(points.at("leaf-0"), 2U);
  EXPECT_EQ(points.at("leaf-1"), 2U);
}

TEST(SinglePoints, AgreeWithRemovingEveryComponentInTurn) {
  // Articulation points and bridges by Boost's depth-first search against disjoint sets after a removal, for all
  // fabrics.
  for (const char* file : {"fleets/mi300x-128-rail.yaml", "fleets/mi300x-128-dual-tor.yaml",
                           "fleets/mi300x-128-single-tor.yaml", "fleets/mi300x-128-fat-tree.yaml"}) {
    for (const bool failover : {false, true}) {
      TopologySpec spec = testing::spec_of(file, {"nodes=9", "placement.instances=1"});
      spec.node.nic_failover = failover;
      if (spec.fabric.kind == FabricKind::rail_optimised) spec.fabric.nodes_per_leaf = 4;
      const Topology t = build(spec);
      const SinglePoints s = single_points(t);
      Map found = as_map(t, s.articulation_points);
      found.merge(as_map(t, s.bridges));
      Map expected;
      for (const Kind kind : {Kind::nic, Kind::leaf, Kind::spine, Kind::core, Kind::cable, Kind::fabric_link}) {
        for (const ComponentId c : t.graph.of_kind(kind)) {
          if (const std::uint32_t cut = gpus_cut_off_by(t, {c}); cut > 0) expected[t.graph.name(c)] = cut;
        }
      }
      EXPECT_EQ(found, expected) << file << (failover ? " with failover" : "");
    }
  }
}

TEST(MinCut, SameLeafIsLimitedByTheCablesOfTheSmallerSide) {
  const Topology t = build(testing::spec_of("tiny/one-pod.yaml"));
  const Cut even = min_cut(t, {{0}, {1}}, {{2}, {3}});
  EXPECT_EQ(even.capacity.v, 16 * 50'000'000'000);
  EXPECT_EQ(even.links, 16U);
  EXPECT_EQ(even.tier, CutTier::source_cables);
  const Cut narrow = min_cut(t, {{0}, {1}}, {{2}});
  EXPECT_EQ(narrow.links, 8U);
  EXPECT_EQ(narrow.tier, CutTier::target_cables);
}

TEST(MinCut, OversubscribedUplinksAreTheNarrowestPlace) {
  // Groups of 4 nodes, oversubscription 2: each of 8 leaves has 2 uplinks; between the groups 16 links of 50 GB/s.
  TopologySpec spec = testing::spec_of("tiny/two-pods.yaml");
  spec.fabric.oversubscription = 2;
  const Topology t = build(spec);
  const Cut cut = min_cut(t, {{0}, {1}, {2}, {3}}, {{4}, {5}, {6}, {7}});
  EXPECT_EQ(cut.capacity.v, 16 * 50'000'000'000);
  EXPECT_EQ(cut.links, 16U);
  EXPECT_EQ(cut.tier, CutTier::leaf_uplinks);
  // One node against one: 8 cables, and 16 uplinks do not bind.
  EXPECT_EQ(min_cut(t, {{0}}, {{4}}).links, 8U);
}

TEST(MinCut, AMixOfLocalAndRemoteNodesAddsBothWays) {
  // Prefill on node 0 (group 0); decode on node 1 (group 0) and node 4 (group 1). Oversubscription 4: one uplink a
  // leaf. Fewest links from node 0: its 8 cables. From nodes 0 to 2: to node 3 by its 8 cables, to node 4 by 8 uplinks.
  TopologySpec spec = testing::spec_of("tiny/two-pods.yaml");
  spec.fabric.oversubscription = 4;
  const Topology t = build(spec);
  EXPECT_EQ(min_cut(t, {{0}}, {{1}, {4}}).links, 8U);
  EXPECT_EQ(min_cut(t, {{0}, {1}, {2}}, {{3}, {4}}).links, 16U);
}

TEST(MinCut, DualPortsDoubleTheLinksAtTheSameCapacity) {
  const Topology t = build(testing::spec_of("fleets/mi300x-128-dual-tor.yaml"));
  const Cut cut = min_cut(t, {{0}, {1}}, {{2}, {3}});
  EXPECT_EQ(cut.capacity.v, 16 * 50'000'000'000);
  EXPECT_EQ(cut.links, 32U);
}

TEST(Bisection, IsFullForAFatTreeAndHalfAtOversubscriptionTwo) {
  const Bisection full = bisection(build(testing::spec_of("fleets/mi300x-128-fat-tree.yaml")));
  EXPECT_EQ(full.cut.links, 512U);  // k^3/8 of k = 16
  EXPECT_DOUBLE_EQ(full.ratio(), 1.0);
  const Bisection half = bisection(build(testing::spec_of(
      "fleets/mi300x-128-rail.yaml", {"fabric={from: ../fabrics/rail-optimised.yaml, oversubscription: 2}"})));
  EXPECT_EQ(half.cut.links, 256U);
  EXPECT_DOUBLE_EQ(half.ratio(), 0.5);
}

Hit hit_of(const Blast& b, const Topology& t, const std::string& name, std::uint32_t instance) {
  for (const Hit& h : b.hits(id(t, name))) {
    if (h.instance == instance) return h;
  }
  return {.instance = 999};
}

TEST(Blast, ALeafCutsOffItsRailOfEveryInstanceOnItsGroup) {
  const Topology t = build(testing::spec_of("tiny/two-pods.yaml"));
  const Blast b(t, placed(t));
  ASSERT_EQ(b.hits(id(t, "leaf-3")).size(), 1U);
  const Hit h = hit_of(b, t, "leaf-3", 0);
  EXPECT_EQ(h.gpus_lost, 0U);
  EXPECT_EQ(h.gpus_cut_off, 4U);
  EXPECT_DOUBLE_EQ(h.network_share, 4.0 / 32);
  EXPECT_TRUE(b.hits(id(t, "spine-0")).empty());           // both instances stay inside their groups
  EXPECT_EQ(hit_of(b, t, "rack-2", 0).gpus_cut_off, 32U);  // the rack of leaves 0 to 7
}

TEST(Blast, ASpineTakesItsShareOfAnInstanceThatCrossesIt) {
  const Topology t = build(testing::spec_of("tiny/two-pods.yaml", {"placement.rule=spread"}));
  const Blast b(t, placed(t));  // node n of each instance alternates between the racks, which are the groups
  ASSERT_EQ(b.hits(id(t, "spine-1")).size(), 2U);
  EXPECT_DOUBLE_EQ(hit_of(b, t, "spine-1", 0).network_share, 0.25);
  EXPECT_DOUBLE_EQ(hit_of(b, t, "leaf-0.spine-1", 1).network_share,
                   2.0 / 32 / 4);  // two of its 32 cables end on leaf-0
}

TEST(Blast, ANodeLosesItsGpusAndFailoverKeepsGpusFromBeingCutOff) {
  TopologySpec spec = testing::spec_of("tiny/one-pod.yaml");
  const Topology t = build(spec);
  const Blast b(t, placed(t));
  EXPECT_EQ(hit_of(b, t, "node-2", 0).gpus_lost, 8U);
  EXPECT_EQ(hit_of(b, t, "node-2", 0).gpus_cut_off, 0U);
  EXPECT_EQ(hit_of(b, t, "node-2.nic-1", 0).gpus_cut_off, 1U);
  EXPECT_EQ(hit_of(b, t, "node-2.xgmi-0-1", 0).network_share, 0.0);
  spec.node.nic_failover = true;
  const Topology safe = build(spec);
  const Hit h = hit_of(Blast(safe, placed(safe)), safe, "node-2.nic-1", 0);
  EXPECT_EQ(h.gpus_cut_off, 0U);
  EXPECT_DOUBLE_EQ(h.network_share, 1.0 / 32);
}

TEST(Blast, SparesHurtNoInstance) {
  const Topology t = build(testing::spec_of("fleets/mi300x-32-rail.yaml"));
  const Blast b(t, placed(t));
  EXPECT_TRUE(b.hits(id(t, "node-31")).empty());
  EXPECT_EQ(b.hits(id(t, "leaf-0")).size(), 7U);
  const auto nodes =
      std::find_if(b.rows().begin(), b.rows().end(), [](const BlastRow& r) { return r.kind == Kind::node; });
  EXPECT_EQ(nodes->harmless, 4U);
}

TEST(Report, TextStaysWithinEightyColumns) {
  for (const char* file : {"fleets/mi300x-1250-rail.yaml", "fleets/mi300x-128-dual-tor.yaml",
                           "fleets/mi300x-128-fat-tree.yaml", "tiny/two-gpus.yaml", "tiny/two-pods.yaml"}) {
    const Topology t = build(testing::spec_of(file));
    const Placement p = placed(t);
    std::istringstream text(to_text(t, p, analyse(t, p)));
    for (std::string line; std::getline(text, line);) {
      const auto shown = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
      EXPECT_LE(shown, 80) << line;
    }
  }
}

TEST(Report, OneComponentSaysWhatItTakesAndWhomItHurts) {
  const Topology t = build(testing::spec_of("tiny/two-pods.yaml"));
  const Placement p = placed(t);
  EXPECT_EQ(component_text(t, p, analyse(t, p), id(t, "leaf-11")),
            "leaf-11  (leaf)\n"
            "  in         rack rack-3\n"
            "  in         power feed power-1\n"
            "  takes      4 of kind cable: node-4.nic-3.cable … node-7.nic-3.cable\n"
            "  takes      4 of kind fabric link: leaf-11.spine-0 … leaf-11.spine-3\n"
            "  cuts off   4 living GPUs\n"
            "  hurts      1 instance\n"
            "    inst-1         0 GPUs lost, 4 cut off, 12.5 % of its network\n");
  EXPECT_EQ(component_text(t, p, analyse(t, p), id(t, "node-4.nic-0.cable")),
            "node-4.nic-0.cable  (cable, inst-1.p-0.nic-0.cable)\n"
            "  in         nic node-4.nic-0\n"
            "  in         node node-4\n"
            "  in         rack rack-1\n"
            "  in         power feed power-0\n"
            "  joins      node-4.nic-0 and leaf-8, 50 GB/s a direction, 1200 ns\n"
            "  cuts off   1 living GPU\n"
            "  hurts      1 instance\n"
            "    inst-1         0 GPUs lost, 1 cut off, 3.12 % of its network\n");
}

TEST(Report, JsonCarriesTheCutsAndTheHitsOfEveryComponent) {
  const Topology t = build(testing::spec_of("tiny/two-pods.yaml"));
  const Placement p = placed(t);
  const auto json = to_json(t, p, analyse(t, p));
  EXPECT_EQ(json["topology"]["gpus"], 64);
  EXPECT_EQ(json["instances"][1]["min_cut"]["links"], 16);
  EXPECT_EQ(json["instances"][1]["prefill"][0], "node-4");
  EXPECT_EQ(json["blast_by_component"]["node-4.nic-2"][0]["gpus_cut_off"], 1);
  EXPECT_FALSE(json["blast_by_component"].contains("spine-0"));
}

TEST(Picture, SvgShowsSmallFabricsWholeAndCountsWhatItLeavesOut) {
  const Topology small = build(testing::spec_of("tiny/two-pods.yaml"));
  const std::string svg = to_svg(small, placed(small));
  for (const char* name : {"leaf-15", "spine-3", "node-7", "inst-1.d-1", "rack-1", "power-0"}) {
    EXPECT_NE(svg.find(std::string(">") + name + "<"), std::string::npos) << name;
  }
  const Topology big = build(testing::spec_of("fleets/mi300x-1250-rail.yaml"));
  const std::string cut = to_svg(big, placed(big));
  EXPECT_NE(cut.find("+ 38 groups"), std::string::npos);
  EXPECT_NE(cut.find("1186 nodes"), std::string::npos);
  EXPECT_LT(cut.size(), 400'000U);
}

TEST(Picture, ATopologyNameCannotBreakTheMarkup) {
  TopologySpec spec = testing::small();
  spec.name = "a <b> & \"c\" \\";
  const Topology t = build(spec);
  EXPECT_NE(to_svg(t, placed(t)).find("a &lt;b&gt; &amp; &quot;c&quot; \\"), std::string::npos);
  EXPECT_NE(to_dot(t, placed(t)).find("graph \"a <b> & \\\"c\\\" \\\\\""), std::string::npos);
}

TEST(Picture, DotBundlesCablesANodeAndLeaf) {
  const Topology t = build(testing::spec_of("tiny/one-pod.yaml", {"fabric={kind: single_tor, nodes_per_leaf: 4}"}));
  EXPECT_NE(to_dot(t, placed(t)).find("\"node-0\" -- \"leaf-0\" [label=\"8 x 50 GB/s\"];"), std::string::npos);
}

}  // namespace
}  // namespace faultline::topology
