#include "core/topology/paths.h"

#include <gmock/gmock.h>

#include <map>

#include "core/base/random.h"
#include "tests/unit/core/topology/fixture.h"

namespace faultline::topology {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A topology with everything up, and the path between two GPUs by link names; "none" where there is none.
struct World {
  explicit World(const TopologySpec& spec) : t(build(spec)), table(t), up(t.graph.directed_link_count()) {}
  std::vector<std::string> path(NodeGpu src, NodeGpu dst, std::uint64_t key = 1) {
    if (!table.choose(src, dst, key, up, links)) return {"none"};
    return testing::names_of(t, links);
  }
  void fail(const std::string& name) { up.disable(t.graph.links_of(testing::id(t, name))); }
  void repair(const std::string& name) { up.enable(t.graph.links_of(testing::id(t, name))); }

  Topology t;
  PathTable table;
  LinkState up;
  std::vector<LinkIndex> links;
};

NodeGpu at(std::uint32_t node, std::uint32_t gpu) { return {.node = {node}, .gpu = gpu}; }

TEST(Paths, SameGpuHasTheEmptyPath) {
  World w(testing::small());
  EXPECT_THAT(w.path(at(0, 1), at(0, 1)), IsEmpty());
}

TEST(Paths, SameNodeUsesTheDirectXgmiLinkInTheRightDirection) {
  World w(testing::small());
  EXPECT_THAT(w.path(at(0, 0), at(0, 1)), ElementsAre("node-0.xgmi-0-1"));
  EXPECT_THAT(w.path(at(1, 1), at(1, 0)), ElementsAre("node-1.xgmi-0-1~"));
}

TEST(Paths, XgmiDoesNotPassThroughAThirdGpuUnlessConfigured) {
  World w(testing::spec_of("tiny/one-pod.yaml"));
  w.fail("node-0.xgmi-2-5");
  EXPECT_THAT(w.path(at(0, 2), at(0, 5)), ElementsAre("none"));
  EXPECT_THAT(w.path(at(0, 5), at(0, 2)), ElementsAre("none"));
  TopologySpec spec = testing::spec_of("tiny/one-pod.yaml");
  spec.node.xgmi_transit = true;
  World transit(spec);
  transit.fail("node-0.xgmi-2-5");
  ASSERT_TRUE(transit.table.choose(at(0, 2), at(0, 5), 7, transit.up, transit.links));
  ASSERT_EQ(transit.links.size(), 2U);
  const auto ends = [&](LinkIndex l) {
    const Link& link = transit.t.graph.link(l);
    return l.v % 2 == 0 ? std::pair(link.a, link.b) : std::pair(link.b, link.a);
  };
  EXPECT_EQ(ends(transit.links[0]).first, transit.t.gpu(at(0, 2)));
  EXPECT_EQ(ends(transit.links[0]).second, ends(transit.links[1]).first);
  EXPECT_EQ(ends(transit.links[1]).second, transit.t.gpu(at(0, 5)));
}

TEST(Paths, SameLeafPathIsTwoCables) {
  World w(testing::spec_of("tiny/one-pod.yaml"));
  EXPECT_THAT(w.path(at(0, 3), at(2, 3)), ElementsAre("node-0.nic-3.cable", "node-2.nic-3.cable~"));
}

TEST(Paths, CrossRailForwardEndsWithXgmiFromTheRailsGpu) {
  World w(testing::spec_of("tiny/one-pod.yaml"));
  EXPECT_THAT(w.path(at(0, 3), at(2, 6)), ElementsAre("node-0.nic-3.cable", "node-2.nic-3.cable~", "node-2.xgmi-3-6"));
  EXPECT_THAT(w.path(at(0, 6), at(2, 3)), ElementsAre("node-0.nic-6.cable", "node-2.nic-6.cable~", "node-2.xgmi-3-6~"));
}

TEST(Paths, CrossRailFabricGoesThroughASpineToTheReceiversOwnNic) {
  TopologySpec spec = testing::small();
  spec.fabric.cross_rail = CrossRail::fabric;
  spec.fabric.nodes_per_leaf = 2;
  spec.fabric.spines = 1;
  World w(spec);  // one group: leaf-0 is rail 0, leaf-1 rail 1; two parallel uplinks to the one spine
  const auto path = w.path(at(0, 0), at(1, 1));
  ASSERT_EQ(path.size(), 4U);
  EXPECT_EQ(path[0], "node-0.nic-0.cable");
  EXPECT_TRUE(path[1].starts_with("leaf-0.spine-0.link-")) << path[1];
  EXPECT_TRUE(path[2].starts_with("leaf-1.spine-0.link-") && path[2].ends_with("~")) << path[2];
  EXPECT_EQ(path[3], "node-1.nic-1.cable~");
}

TEST(Paths, OtherGroupCrossesOneSpineAndTheLatencyIsTheSumOfItsParts) {
  World w(testing::small());  // leaf per node and rail, one uplink each, one spine
  EXPECT_THAT(w.path(at(0, 1), at(1, 1)),
              ElementsAre("node-0.nic-1.cable", "leaf-1.spine-0", "leaf-3.spine-0~", "node-1.nic-1.cable~"));
  // Two NICs, four wires, three switches.
  EXPECT_EQ(w.table.latency_of(w.links).v, 2 * 800 + 4 * 50 + 3 * 700);
  EXPECT_EQ(w.table.bottleneck_of(w.links, w.up).v, 50'000'000'000);
  w.up.set_factor(w.links[2], 0.25);
  EXPECT_EQ(w.table.bottleneck_of(w.links, w.up).v, 12'500'000'000);
}

TEST(Paths, ADeadOwnNicCutsOffItsGpuWithoutFailover) {
  World w(testing::spec_of("tiny/one-pod.yaml"));
  w.fail("node-0.nic-3");
  EXPECT_THAT(w.path(at(0, 3), at(2, 3)), ElementsAre("none"));
  EXPECT_THAT(w.path(at(2, 3), at(0, 3)), ElementsAre("none"));
  EXPECT_THAT(w.path(at(0, 2), at(2, 2)), ElementsAre("node-0.nic-2.cable", "node-2.nic-2.cable~"));
  w.repair("node-0.nic-3");
  EXPECT_THAT(w.path(at(0, 3), at(2, 3)), ElementsAre("node-0.nic-3.cable", "node-2.nic-3.cable~"));
}

TEST(Paths, FailoverUsesOneOtherRailAtBothEndsAndSpreadsFlowsOverAllOfThem) {
  TopologySpec spec = testing::spec_of("tiny/one-pod.yaml");
  spec.node.nic_failover = true;
  World w(spec);
  w.fail("leaf-3");
  std::map<std::string, int> first;
  for (std::uint64_t key = 0; key < 700; ++key) {
    const auto path = w.path(at(0, 3), at(2, 3), key);
    ASSERT_EQ(path.size(), 2U);
    const std::string nic = path[0].substr(7, 5);
    EXPECT_EQ(path[0], "node-0." + nic + ".cable");
    EXPECT_EQ(path[1], "node-2." + nic + ".cable~");
    ++first[nic];
  }
  EXPECT_EQ(first.size(), 7U);
  EXPECT_EQ(first.count("nic-3"), 0U);
  for (const auto& [nic, count] : first) EXPECT_NEAR(count, 100, 4 * 9.3) << nic;  // 4 sigma of a binomial(700, 1/7)
}

TEST(Paths, EcmpSpreadsFlowsEvenlyOverTheSpines) {
  World w(testing::spec_of("tiny/two-pods.yaml"));  // four spines
  ASSERT_EQ(w.t.layout.spines_per_plane, 4U);
  std::map<std::string, int> count;
  constexpr int kFlows = 4000;
  for (std::uint64_t key = 0; key < kFlows; ++key) ++count[w.path(at(0, 0), at(4, 0), key).at(1)];
  ASSERT_EQ(count.size(), 4U);
  for (const auto& [link, n] : count) EXPECT_NEAR(n, kFlows / 4, 4 * 28) << link;  // 4 sigma of a binomial(4000, 1/4)
}

TEST(Paths, ASpineFailureMovesOnlyItsOwnFlowsAndTheyReturn) {
  World w(testing::spec_of("tiny/two-pods.yaml"));
  std::vector<std::vector<std::string>> before;
  for (std::uint64_t key = 0; key < 1000; ++key) before.push_back(w.path(at(0, 0), at(4, 0), key));
  w.fail("spine-2");
  std::map<std::string, int> moved;
  for (std::uint64_t key = 0; key < 1000; ++key) {
    const auto now = w.path(at(0, 0), at(4, 0), key);
    if (before[key][1] == "leaf-0.spine-2") ++moved[now.at(1)];
    else EXPECT_EQ(now, before[key]);
  }
  EXPECT_EQ(moved.size(), 3U);  // spread over all the others, not pushed onto one
  EXPECT_EQ(moved.count("leaf-0.spine-2"), 0U);
  w.repair("spine-2");
  for (std::uint64_t key = 0; key < 1000; ++key) EXPECT_EQ(w.path(at(0, 0), at(4, 0), key), before[key]);
}

TEST(Paths, EcmpLooksAtTheFarSideOfTheSpineToo) {
  World w(testing::spec_of("tiny/two-pods.yaml"));
  for (const char* link : {"leaf-8.spine-0", "leaf-8.spine-1", "leaf-0.spine-3"}) w.fail(link);
  for (std::uint64_t key = 0; key < 50; ++key) EXPECT_EQ(w.path(at(0, 0), at(4, 0), key).at(1), "leaf-0.spine-2");
  w.fail("leaf-0.spine-2");
  EXPECT_THAT(w.path(at(0, 0), at(4, 0)), ElementsAre("none"));
}

TEST(Paths, ParallelLinksOfDifferentNumbersStillMakeAPath) {
  TopologySpec spec = testing::small();
  spec.fabric.oversubscription = 0.5;  // two uplinks
  spec.fabric.spines = 1;              // to one spine
  World w(spec);
  w.fail("leaf-0.spine-0.link-0");
  w.fail("leaf-2.spine-0.link-1");
  EXPECT_THAT(w.path(at(0, 0), at(1, 0)), ElementsAre("node-0.nic-0.cable", "leaf-0.spine-0.link-1",
                                                      "leaf-2.spine-0.link-0~", "node-1.nic-0.cable~"));
}

TEST(Paths, DualTorSurvivesTheLossOfOneLeaf) {
  World w(testing::spec_of("fleets/mi300x-128-dual-tor.yaml", {"nodes=8", "placement.instances=1"}));
  w.fail("leaf-0");
  for (std::uint64_t key = 0; key < 20; ++key) {
    EXPECT_THAT(w.path(at(0, 3), at(1, 3), key), ElementsAre("node-0.nic-3.cable-1", "node-1.nic-3.cable-1~"));
  }
}

TEST(Paths, FatTreeClimbsOnlyAsHighAsItMust) {
  TopologySpec spec = testing::small();
  spec.fabric.kind = FabricKind::fat_tree;
  spec.fabric.k = 4;  // pods of two leaves with two NICs each: node n is leaf n, pod n/2
  spec.nodes = 4;
  World w(spec);
  EXPECT_THAT(w.path(at(0, 0), at(0, 1)), ElementsAre("node-0.xgmi-0-1"));
  const auto pod = w.path(at(0, 0), at(1, 1));
  ASSERT_EQ(pod.size(), 4U);
  EXPECT_TRUE(pod[1] == "leaf-0.spine-0" || pod[1] == "leaf-0.spine-1");
  const auto far = w.path(at(0, 0), at(2, 0));
  ASSERT_EQ(far.size(), 6U);
  EXPECT_EQ(far[0], "node-0.nic-0.cable");
  EXPECT_TRUE(far[2].starts_with(far[1].substr(7) + ".core-")) << far[1] << " " << far[2];
  EXPECT_EQ(far[3].substr(far[3].find("core")), far[2].substr(far[2].find("core")) + "~");
  EXPECT_TRUE(far[4].starts_with("leaf-2.spine-"));
  EXPECT_EQ(far[5], "node-2.nic-0.cable~");
}

TEST(Paths, EveryChosenPathIsConnectedAndUpWhateverFails) {
  for (const char* file : {"fleets/mi300x-128-rail.yaml", "fleets/mi300x-128-dual-tor.yaml",
                           "fleets/mi300x-128-single-tor.yaml", "fleets/mi300x-128-fat-tree.yaml"}) {
    for (const bool failover : {false, true}) {
      TopologySpec spec = testing::spec_of(file, {"nodes=40", "placement.instances=1"});
      spec.node.nic_failover = spec.node.xgmi_transit = failover;
      World w(spec);
      const std::uint64_t seed = 20240611;
      Random r(seed, "paths test");
      SCOPED_TRACE(std::string(file) + " seed " + std::to_string(seed));
      for (int i = 0; i < 60; ++i) {
        const auto link = static_cast<std::uint32_t>(r.below(w.t.graph.link_count()));
        w.up.disable(w.t.graph.links_of(w.t.graph.link(link).component));
      }
      for (int i = 0; i < 2000; ++i) {
        const NodeGpu src = at(static_cast<std::uint32_t>(r.below(40)), static_cast<std::uint32_t>(r.below(8)));
        const NodeGpu dst = at(static_cast<std::uint32_t>(r.below(40)), static_cast<std::uint32_t>(r.below(8)));
        if (!w.table.choose(src, dst, r.bits(), w.up, w.links) || src == dst) continue;
        // Walk: the end of one link is the start of the next, except that a NIC and the GPUs of its node are one place.
        const auto place = [&](ComponentId c) { return is_switch(w.t.graph[c].kind) ? c : w.t.node(w.t.node_of(c)); };
        ComponentId here = w.t.node(src.node);
        for (const LinkIndex l : w.links) {
          EXPECT_TRUE(w.up.up(l));
          const Link& link = w.t.graph.link(l);
          EXPECT_EQ(place(l.v % 2 == 0 ? link.a : link.b), here);
          here = place(l.v % 2 == 0 ? link.b : link.a);
        }
        EXPECT_EQ(here, w.t.node(dst.node));
      }
    }
  }
}

}  // namespace
}  // namespace faultline::topology
