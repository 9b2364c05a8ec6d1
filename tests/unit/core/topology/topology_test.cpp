// Generators: counts, capacities, names, what goes down with what.
#include "core/topology/topology.h"

#include <gmock/gmock.h>

#include "tests/unit/core/topology/fixture.h"

namespace faultline::topology {
namespace {

using ::testing::ElementsAre;
using testing::id;
using ::testing::UnorderedElementsAre;

struct Counts {
  std::size_t gpus, nics, leaves, spines, cores, xgmi, cables, fabric_links;
  friend bool operator==(const Counts&, const Counts&) = default;
  friend void PrintTo(const Counts& c, std::ostream* out) {
    *out << c.gpus << " gpus, " << c.nics << " nics, " << c.leaves << " leaves, " << c.spines << " spines, " << c.cores
         << " cores, " << c.xgmi << " xgmi, " << c.cables << " cables, " << c.fabric_links << " fabric links";
  }
};

Counts count(const Topology& t) {
  const auto n = [&](Kind k) { return t.graph.of_kind(k).size(); };
  return {n(Kind::gpu),  n(Kind::nic),       n(Kind::leaf),  n(Kind::spine),
          n(Kind::core), n(Kind::xgmi_link), n(Kind::cable), n(Kind::fabric_link)};
}

TEST(Topology, RailOptimisedHasOneLeafARailAndGroup) {
  // 128 nodes in four groups of 32: 4 x 8 leaves of 32 down and 32 up, one link to each of 32 spines.
  const Topology t = build(testing::spec_of("fleets/mi300x-128-rail.yaml"));
  EXPECT_EQ(count(t), (Counts{1024, 1024, 32, 32, 0, 128 * 28, 1024, 32 * 32}));
  EXPECT_EQ(t.graph.link(t.layout.cable({40}, 3, 0)).b, id(t, "leaf-11"));  // group 1, rail 3
}

TEST(Topology, RailPlanesConnectALeafOnlyToItsOwnRailsSpines) {
  const Topology t = build(testing::spec_of("fleets/mi300x-1250-rail.yaml"));
  EXPECT_EQ(count(t), (Counts{10000, 10000, 320, 256, 0, 35000, 10000, 320 * 32}));
  for (const std::uint32_t l : t.graph.links_at(id(t, "leaf-11"))) {  // rail 3: spines 96 to 127
    const Link& link = t.graph.link(l);
    if (t.graph[link.component].kind != Kind::fabric_link) continue;
    const auto spine = link.b.v - t.spine(0).v;
    EXPECT_TRUE(spine >= 96 && spine < 128) << t.graph.name(link.component);
  }
}

TEST(Topology, SingleTorPutsAllNicsOfARackOnOneLeafInThatRack) {
  const Topology t = build(testing::spec_of("fleets/mi300x-128-single-tor.yaml"));
  EXPECT_EQ(count(t), (Counts{1024, 1024, 32, 32, 0, 3584, 1024, 1024}));
  EXPECT_EQ(t.graph.enclosing(id(t, "leaf-7"), Kind::rack), id(t, "rack-7"));
  EXPECT_EQ(t.graph.link(t.layout.cable({31}, 0, 0)).b, id(t, "leaf-7"));
}

TEST(Topology, DualTorSplitsEveryNicOverTwoLeavesAtHalfItsRate) {
  const Topology t = build(testing::spec_of("fleets/mi300x-128-dual-tor.yaml"));
  EXPECT_EQ(count(t), (Counts{1024, 1024, 64, 16, 0, 3584, 2048, 64 * 16}));
  EXPECT_EQ(t.graph.link(t.layout.cable({5}, 2, 0)).b, id(t, "leaf-2"));
  EXPECT_EQ(t.graph.link(t.layout.cable({5}, 2, 1)).b, id(t, "leaf-3"));
  EXPECT_EQ(t.graph.link(t.layout.cable({5}, 2, 1)).capacity.v, 25'000'000'000);
  EXPECT_EQ(t.graph.name(t.graph.link(t.layout.cable({5}, 2, 1)).component), "node-5.nic-2.cable-1");
}

TEST(Topology, FatTreeOfSixteenPortSwitchesHasTheTextbookSizes) {
  // k = 16: k pods of k/2 edge and k/2 aggregation switches, (k/2)^2 cores, k^3/4 = 1024 hosts (here NICs).
  const Topology t = build(testing::spec_of("fleets/mi300x-128-fat-tree.yaml"));
  EXPECT_EQ(count(t), (Counts{1024, 1024, 128, 128, 64, 3584, 1024, 128 * 8 + 128 * 8}));
  for (const ComponentId core : t.graph.of_kind(Kind::core))
    EXPECT_EQ(t.graph.links_at(core).size(), 16U);  // one to each pod
  for (const ComponentId spine : t.graph.of_kind(Kind::spine)) EXPECT_EQ(t.graph.links_at(spine).size(), 16U);
}

TEST(Topology, OversubscriptionDividesTheUplinks) {
  for (const auto& [ratio, uplinks] :
       std::vector<std::pair<std::string, std::uint32_t>>{{"1", 32}, {"2", 16}, {"3", 11}, {"4", 8}}) {
    const Topology t =
        build(testing::spec_of("fleets/mi300x-128-rail.yaml",
                               {"fabric={from: ../fabrics/rail-optimised.yaml, oversubscription: " + ratio + "}"}));
    EXPECT_EQ(t.layout.uplinks(), uplinks) << ratio;
  }
}

TEST(Topology, FewerSpinesThanUplinksMakeParallelLinks) {
  const Topology t = build(
      testing::spec_of("fleets/mi300x-128-rail.yaml", {"fabric={from: ../fabrics/rail-optimised.yaml, spines: 8}"}));
  EXPECT_EQ(t.layout.parallel, 4U);
  EXPECT_TRUE(t.graph.find("leaf-3.spine-7.link-3"));
  EXPECT_FALSE(t.graph.find("leaf-3.spine-8.link-0"));
}

TEST(Topology, ASingleLeafNeedsNoSpine) {
  const Topology t = build(testing::spec_of("tiny/one-pod.yaml", {"fabric={kind: single_tor, nodes_per_leaf: 4}"}));
  EXPECT_EQ(count(t), (Counts{32, 32, 1, 0, 0, 112, 32, 0}));
}

TEST(Topology, CapacitiesAndLatenciesComeFromTheSpec) {
  const Topology t = build(testing::spec_of("tiny/two-pods.yaml"));
  EXPECT_EQ(t.graph.link(t.layout.xgmi({0}, 0, 1)).capacity.v, 64'000'000'000);
  EXPECT_EQ(t.graph.link(t.layout.cable({0}, 0, 0)).capacity.v, 50'000'000'000);
  EXPECT_EQ(t.graph.link(t.layout.cable({0}, 0, 0)).latency.v, 800 + 50 + 350);
  EXPECT_EQ(t.graph.link(t.layout.uplink(0, 0)).capacity.v, 50'000'000'000);
  EXPECT_EQ(t.graph.link(t.layout.uplink(0, 0)).latency.v, 50 + 700);
}

TEST(Topology, IndexArithmeticAgreesWithTheNames) {
  for (const char* file :
       {"fleets/mi300x-128-rail.yaml", "fleets/mi300x-128-dual-tor.yaml", "fleets/mi300x-128-fat-tree.yaml"}) {
    const Topology t = build(testing::spec_of(file));
    const Layout& l = t.layout;
    const auto name = [&](LinkIndex i) { return t.graph.link_name(i); };
    for (std::uint32_t a = 0; a < 8; ++a) {
      for (std::uint32_t b = a + 1; b < 8; ++b) {
        EXPECT_EQ(name(l.xgmi({77}, a, b)), "node-77.xgmi-" + std::to_string(a) + "-" + std::to_string(b));
        EXPECT_EQ(l.xgmi({77}, b, a), reverse(l.xgmi({77}, a, b)));
      }
      for (std::uint32_t p = 0; p < l.ports; ++p) {
        const Link& cable = t.graph.link(l.cable({77}, a, p));
        EXPECT_EQ(cable.a, t.nic({77}, a));
        EXPECT_EQ(cable.b, t.leaf(l.leaf_of({77}, a, p)));
      }
    }
    for (std::uint32_t leaf = 0; leaf < l.leaves; leaf += 7) {
      for (std::uint32_t s = 0; s < l.spines_per_plane; ++s) {
        const std::uint32_t spine = l.cores > 0 ? l.pod_of_leaf(leaf) * l.spines_per_plane + s : s;
        EXPECT_EQ(name(l.uplink(leaf, s)), "leaf-" + std::to_string(leaf) + ".spine-" + std::to_string(spine));
      }
    }
    if (l.cores > 0) {
      EXPECT_EQ(name(l.core_link(11, 5)), "spine-11.core-29");  // spine 3 of pod 1: cores 24 to 31
    }
    EXPECT_EQ(t.gpu_of(id(t, "node-77.gpu-5")), (NodeGpu{{77}, 5}));
    EXPECT_EQ(t.node_of(id(t, "node-77.nic-5")).v, 77U);
    EXPECT_FALSE(t.node_of(id(t, "leaf-0")).valid());
  }
}

TEST(Implied, AGpuTakesItsXgmiLinksButNotItsNic) {
  const Topology t = build(testing::small());
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "node-0.gpu-1"))),
              UnorderedElementsAre("node-0.gpu-1", "node-0.xgmi-0-1"));
}

TEST(Implied, ANodeTakesEverythingInItAndItsCables) {
  const Topology t = build(testing::small());
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "node-1"))),
              UnorderedElementsAre("node-1", "node-1.gpu-0", "node-1.gpu-1", "node-1.nic-0", "node-1.nic-1",
                                   "node-1.xgmi-0-1", "node-1.nic-0.cable", "node-1.nic-1.cable"));
}

TEST(Implied, ASwitchTakesItsLinksAndNothingElse) {
  const Topology t = build(testing::small());
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "leaf-2"))),
              UnorderedElementsAre("leaf-2", "node-1.nic-0.cable", "leaf-2.spine-0"));
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "spine-0"))),
              UnorderedElementsAre("spine-0", "leaf-0.spine-0", "leaf-1.spine-0", "leaf-2.spine-0", "leaf-3.spine-0"));
}

TEST(Implied, AFeedTakesItsRacksAndALinkOnlyItself) {
  const Topology t =
      build(testing::small());  // a feed a rack: racks 0 and 1 of nodes, 2 and 3 of leaves, 4 of the spine
  const auto feed = t.graph.implied(id(t, "power-0"));
  for (const char* name : {"rack-0", "node-0", "node-0.gpu-1", "node-0.nic-0.cable", "host-0"}) {
    EXPECT_TRUE(std::binary_search(feed.begin(), feed.end(), id(t, name))) << name;
  }
  EXPECT_FALSE(std::binary_search(feed.begin(), feed.end(), id(t, "leaf-0")));
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "rack-2"))),
              UnorderedElementsAre("rack-2", "leaf-0", "leaf-1", "node-0.nic-0.cable", "node-0.nic-1.cable",
                                   "leaf-0.spine-0", "leaf-1.spine-0"));
  EXPECT_THAT(testing::names_of(t, t.graph.implied(id(t, "leaf-0.spine-0"))), ElementsAre("leaf-0.spine-0"));
}

TEST(Implied, LinksOfAComponentAreBothDirectionsOfEachOfItsLinks) {
  const Topology t = build(testing::small());
  EXPECT_THAT(testing::names_of(t, t.graph.links_of(id(t, "leaf-2"))),
              UnorderedElementsAre("node-1.nic-0.cable", "node-1.nic-0.cable~", "leaf-2.spine-0", "leaf-2.spine-0~"));
  EXPECT_TRUE(t.graph.links_of(id(t, "host-0")).empty());
}

TEST(LinkState, OverlappingFaultsAreCounted) {
  const Topology t = build(testing::small());
  LinkState state(t.graph.directed_link_count());
  const LinkIndex cable = t.layout.cable({0}, 0, 0);
  const auto node = t.graph.links_of(id(t, "node-0")), leaf = t.graph.links_of(id(t, "leaf-0"));
  state.disable(node);
  state.disable(leaf);
  state.enable(node);
  EXPECT_FALSE(state.up(cable));
  EXPECT_TRUE(state.up(t.layout.xgmi({0}, 0, 1)));
  state.enable(leaf);
  EXPECT_TRUE(state.up(cable));
}

TEST(Names, AnUnknownComponentIsAnsweredWithWhatThereIs) {
  const Topology t = build(testing::spec_of("tiny/one-pod.yaml"));
  const auto note = [&](const char* name) { return t.graph.unknown(name).note; };
  EXPECT_EQ(t.graph.unknown("leaf-9").message, "unknown component 'leaf-9'");
  EXPECT_EQ(note("leaf-9"), "there are 8 of kind leaf: leaf-0 … leaf-7");
  EXPECT_EQ(
      note("node-2.gpu-8"),
      "known parts of node-2: node-2.gpu-0, node-2.gpu-1, node-2.gpu-2, node-2.gpu-3, node-2.gpu-4, node-2.gpu-5, "
      "node-2.gpu-6, node-2.gpu-7, node-2.nic-0, node-2.nic-1, node-2.nic-2, node-2.nic-3 … (32 more) (did you mean "
      "'node-2.gpu-0'?)");
  EXPECT_EQ(note("node-2.nic-1.port"),
            "known parts of node-2.nic-1: node-2.nic-1.cable (did you mean 'node-2.nic-1.cable'?)");
  EXPECT_EQ(note("node-2.gpu-1.hbm"), "'node-2.gpu-1' has no parts");
  EXPECT_EQ(note("host-3"), "the only host is host-0");
  EXPECT_EQ(note("laef-1"),
            "names begin with one of: node-0, leaf-0, spine-0, rack-0, power-0, host-0 (did you mean 'leaf-1'?)");
  EXPECT_EQ(note(""), "names begin with one of: node-0, leaf-0, spine-0, rack-0, power-0, host-0");
}

TEST(Topology, ASpecPrintsBackToItself) {
  for (const char* file : {"fleets/mi300x-128-rail.yaml", "fleets/mi300x-128-dual-tor.yaml",
                           "fleets/mi300x-128-fat-tree.yaml", "tiny/two-gpus.yaml"}) {
    TopologySpec spec = testing::spec_of(file);
    YAML::Emitter first;
    config::print(first, spec);
    TopologySpec again = load_topology(first.c_str(), "printed.yaml", {});
    YAML::Emitter second;
    config::print(second, again);
    EXPECT_STREQ(first.c_str(), second.c_str()) << file;
  }
}

}  // namespace
}  // namespace faultline::topology
