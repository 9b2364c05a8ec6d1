#include "core/topology/placement.h"

#include <gmock/gmock.h>

#include "tests/unit/core/topology/fixture.h"

namespace faultline::topology {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::uint32_t> numbers(const std::vector<NodeId>& nodes) {
  std::vector<std::uint32_t> out;
  for (const NodeId n : nodes) out.push_back(n.v);
  return out;
}

Placement place_ok(const Topology& t, const PlacementSpec& spec) {
  config::Diagnostics d;
  Placement p = place(t, spec, {"fleet.yaml", 7, 3}, d);
  EXPECT_EQ(d.text(), "");
  return p;
}

/// `nodes` one-GPU nodes in racks of four.
Topology cluster(std::uint32_t nodes, std::uint32_t hosts = 2) {
  TopologySpec s;
  s.nodes = nodes;
  s.hosts = hosts;
  s.node.gpus = s.node.nics = 1;
  s.fabric.nodes_per_leaf = 4;
  return build(s);
}

TEST(Placement, PackFillsRackAfterRackInRoleOrder) {
  const Topology t = cluster(10);
  const Placement p = place_ok(t, {.instances = 3, .prefill_nodes = 1, .decode_nodes = 2});
  ASSERT_EQ(p.instances.size(), 3U);
  EXPECT_THAT(numbers(p.instances[0].prefill), ElementsAre(0));
  EXPECT_THAT(numbers(p.instances[1].all()), ElementsAre(3, 4, 5));
  EXPECT_THAT(numbers(p.instances[2].decode), ElementsAre(7, 8));
  EXPECT_EQ(p.use[9].role, NodeRole::unused);
}

TEST(Placement, FurtherFleetsFollowTheFirstAndAllSpareInstancesComeLast) {
  const Topology t = cluster(20);
  const Placement p = place_ok(t, {.instances = 2,
                                   .prefill_nodes = 1,
                                   .decode_nodes = 2,
                                   .spare_nodes = 2,
                                   .spare_instances = 1,
                                   .further = {{.instances = 3, .prefill_nodes = 1, .decode_nodes = 1}}});
  ASSERT_EQ(p.instances.size(), 5U);
  ASSERT_EQ(p.spare_instances.size(), 1U);
  EXPECT_THAT(numbers(p.instances[1].all()), ElementsAre(3, 4, 5));
  EXPECT_THAT(numbers(p.instances[2].all()), ElementsAre(6, 7));
  EXPECT_THAT(numbers(p.instances[4].all()), ElementsAre(10, 11));
  EXPECT_THAT(numbers(p.spare_instances[0].all()), ElementsAre(12, 13, 14));
  EXPECT_THAT(numbers(p.spare_nodes), ElementsAre(18, 19));
  EXPECT_EQ(p.use[11].instance, 4U);
  EXPECT_EQ(p.use[12].instance, 5U) << "spare instances count on after all instances";
  EXPECT_EQ(Names(t, p).by_use(t.node(NodeId{11})), "inst-4.d-0");
  EXPECT_EQ(Names(t, p).by_use(t.node(NodeId{13})), "spare-inst-0.d-0");
}

TEST(Placement, SpreadPutsTheNodesOfAnInstanceIntoDifferentRacks) {
  const Topology t = cluster(11);  // racks of 4, 4 and 3
  const Placement p =
      place_ok(t, {.instances = 3, .prefill_nodes = 1, .decode_nodes = 2, .rule = PlacementRule::spread});
  EXPECT_THAT(numbers(p.instances[0].all()), ElementsAre(0, 4, 8));
  EXPECT_THAT(numbers(p.instances[2].all()), ElementsAre(2, 6, 10));
}

TEST(Placement, RackAlignedSkipsTheRestOfARackThatIsTooSmall) {
  const Topology t = cluster(12);
  const Placement p =
      place_ok(t, {.instances = 3, .prefill_nodes = 1, .decode_nodes = 2, .rule = PlacementRule::rack_aligned});
  EXPECT_THAT(numbers(p.instances[1].all()), ElementsAre(4, 5, 6));
  EXPECT_THAT(numbers(p.instances[2].all()), ElementsAre(8, 9, 10));
  EXPECT_EQ(p.use[3].role, NodeRole::unused);
}

TEST(Placement, RackAlignedPacksSeveralSmallInstancesIntoOneRack) {
  const Topology t = cluster(8);
  const Placement p =
      place_ok(t, {.instances = 4, .prefill_nodes = 1, .decode_nodes = 1, .rule = PlacementRule::rack_aligned});
  EXPECT_THAT(numbers(p.instances[1].all()), ElementsAre(2, 3));
  EXPECT_THAT(numbers(p.instances[3].all()), ElementsAre(6, 7));
}

TEST(Placement, SparesComeFromTheEndAndSpareInstancesAfterTheInstances) {
  const Topology t = cluster(12);
  const Placement p =
      place_ok(t, {.instances = 2, .prefill_nodes = 1, .decode_nodes = 1, .spare_nodes = 2, .spare_instances = 1});
  EXPECT_THAT(numbers(p.spare_nodes), ElementsAre(10, 11));
  ASSERT_EQ(p.spare_instances.size(), 1U);
  EXPECT_THAT(numbers(p.spare_instances[0].all()), ElementsAre(4, 5));
}

TEST(Placement, ZeroInstancesMeansAsManyAsFitBesideTheSpares) {
  const Topology t = cluster(12);
  const Placement p =
      place_ok(t, {.instances = 0, .prefill_nodes = 1, .decode_nodes = 1, .spare_nodes = 1, .spare_instances = 2});
  EXPECT_EQ(p.instances.size(), 3U);  // five pairs in eleven nodes, two of them spare
  EXPECT_EQ(p.spare_instances.size(), 2U);
}

TEST(Placement, MixedNodesServeBothSides) {
  const Topology t = cluster(4);
  const Placement p = place_ok(t, {.instances = 2, .prefill_nodes = 0, .decode_nodes = 0, .mixed_nodes = 2});
  EXPECT_THAT(numbers(p.instances[1].mixed), ElementsAre(2, 3));
  EXPECT_THAT(p.instances[1].prefill, IsEmpty());
}

TEST(Placement, RoutersGoToHostsInTurnOrBesideTheWorkers) {
  const Topology t = cluster(8);
  const PlacementSpec spec{.instances = 2, .prefill_nodes = 2, .decode_nodes = 2, .routers = 3};
  EXPECT_THAT(testing::names_of(t, place_ok(t, spec).routers), ElementsAre("host-0", "host-1", "host-0"));
  PlacementSpec beside = spec;
  beside.router_placement = RouterPlacement::nodes;
  EXPECT_THAT(testing::names_of(t, place_ok(t, beside).routers), ElementsAre("node-0", "node-4", "node-0"));
}

TEST(Placement, NoNodeIsEverGivenTwice) {
  for (const PlacementRule rule : {PlacementRule::pack, PlacementRule::spread, PlacementRule::rack_aligned}) {
    for (std::uint32_t nodes = 5; nodes < 40; ++nodes) {
      const Topology t = cluster(nodes);
      const Placement p =
          place_ok(t, {.instances = 0, .prefill_nodes = 1, .decode_nodes = 2, .spare_nodes = 2, .rule = rule});
      std::vector<std::uint32_t> all = numbers(p.spare_nodes);
      for (const InstanceNodes& i : p.instances) {
        for (const NodeId n : i.all()) all.push_back(n.v);
      }
      std::sort(all.begin(), all.end());
      EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end()) << nodes;
      EXPECT_LT(all.back(), nodes);
    }
  }
}

class Aliases : public ::testing::Test {
 protected:
  Topology t = build(testing::spec_of("fleets/mi300x-32-rail.yaml",
                                      {"placement={instances: 6, spare_nodes: 2, spare_instances: 1, routers: 2}"}));
  Placement p = place_ok(t, t.spec.placement);
  Names names{t, p};
  std::string resolved(std::string_view name) const {
    const auto id = names.resolve(name);
    return id ? t.graph.name(*id) : "none";
  }
};

TEST_F(Aliases, NameNodesByUse) {
  EXPECT_EQ(resolved("inst-0.p-0"), "node-0");
  EXPECT_EQ(resolved("inst-0.d-1"), "node-3");
  EXPECT_EQ(resolved("inst-5.d-0"), "node-22");
  EXPECT_EQ(resolved("spare-inst-0.p-1"), "node-25");
  EXPECT_EQ(resolved("spare-1"), "node-31");
  EXPECT_EQ(resolved("router-1"), "host-1");
}

TEST_F(Aliases, NamePartsOfNodes) {
  EXPECT_EQ(resolved("inst-0.d-1.gpu-3"), "node-3.gpu-3");
  EXPECT_EQ(resolved("inst-1.p-0.nic-2.cable"), "node-4.nic-2.cable");
  EXPECT_EQ(resolved("inst-1.p-0.xgmi-2-5"), "node-4.xgmi-2-5");
  EXPECT_EQ(resolved("spare-0.gpu-7"), "node-30.gpu-7");
}

TEST_F(Aliases, LeaveComponentNamesAlone) {
  EXPECT_EQ(resolved("leaf-3"), "leaf-3");
  EXPECT_EQ(resolved("node-9.gpu-1"), "node-9.gpu-1");
}

TEST_F(Aliases, RefuseWhatDoesNotExist) {
  for (const char* name :
       {"inst-6.p-0", "inst-0.p-2", "inst-0.x-0", "inst-0", "inst-0.p-0.gpu-8", "inst-00.p-0", "spare-2", "router-2",
        "inst-.p-0", "inst-0.", "", ".", "inst-0.p-0.", "inst-99999999999.p-0"}) {
    EXPECT_EQ(resolved(name), "none") << name;
  }
}

TEST_F(Aliases, AWholeInstanceIsItsNodes) {
  EXPECT_THAT(testing::names_of(t, names.resolve_all("inst-1")), ElementsAre("node-4", "node-5", "node-6", "node-7"));
  EXPECT_THAT(testing::names_of(t, names.resolve_all("inst-1.p-1")), ElementsAre("node-5"));
  EXPECT_THAT(names.resolve_all("inst-6"), IsEmpty());
}

TEST_F(Aliases, ReadBackTheNameByUse) {
  EXPECT_EQ(names.by_use(testing::id(t, "node-3.gpu-3")), "inst-0.d-1.gpu-3");
  EXPECT_EQ(names.by_use(testing::id(t, "node-25")), "spare-inst-0.p-1");
  EXPECT_EQ(names.by_use(testing::id(t, "node-31.nic-0.cable")), "spare-1.nic-0.cable");
  EXPECT_EQ(names.by_use(testing::id(t, "node-29")), "node-29");
  EXPECT_EQ(names.by_use(testing::id(t, "leaf-3")), "leaf-3");
}

TEST_F(Aliases, ExplainWhatIsKnown) {
  EXPECT_EQ(names.unknown("inst-9.p-0").note, "there are 6 instances: inst-0 … inst-5");
  EXPECT_EQ(names.unknown("inst-0.p-7").note,
            "known nodes of inst-0: inst-0.p-0, inst-0.p-1, inst-0.d-0, inst-0.d-1 (did you mean 'inst-0.p-0'?)");
  EXPECT_EQ(names.unknown("router-5").note, "there are 2 routers: router-0 … router-1");
  EXPECT_EQ(names.unknown("spare-5").note, "there are 2 spare nodes: spare-0 … spare-1");
  EXPECT_EQ(names.unknown("leaf-8").note, "there are 8 of kind leaf: leaf-0 … leaf-7");
  EXPECT_EQ(
      names.unknown("inst-0.d-1.nic-2.port").note,
      "inst-0.d-1 is node-3; known parts of node-3.nic-2: node-3.nic-2.cable (did you mean 'node-3.nic-2.cable'?)");
}

}  // namespace
}  // namespace faultline::topology
