// Wrong topologies and placements, each with the whole message a user gets.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::topology {
namespace {

struct Case {
  const char* name;
  const char* text;     // of topology.yaml
  const char* message;  // all of it
};

std::optional<std::string> read(const std::string& path) {
  static const std::map<std::string, std::string> files{
      {"nodes/bad.yaml", "name: bad\ngpus: 8\nnics: eight\ncolour: red\n"},
      {"list.yaml", "- kind: single_tor\n"},
      {"circle.yaml", "from: circle.yaml\n"},
  };
  const auto found = files.find(path);
  return found == files.end() ? std::nullopt : std::optional(found->second);
}

/// As `faultline topology` does it: read, build, place. The message, or "accepted".
std::string message_of(const std::string& text) {
  try {
    const TopologySpec spec = load_topology(text, "topology.yaml", read);
    const Topology topology = build(spec);
    config::Diagnostics diagnostics;
    place(topology, spec.placement, {"topology.yaml", 1, 1}, diagnostics);
    diagnostics.throw_if_any();
    return "accepted";
  } catch (const config::ConfigError& e) {
    return e.what();
  }
}

const Case kCases[] = {
    {"missing nodes", "name: x\n", "topology.yaml:1:1: error: missing key 'nodes'\n"},
    {"empty file", "# nothing\n", "topology.yaml: error: the file is empty\n"},
    {"a list instead of a mapping", "- nodes: 4\n",
     "topology.yaml:1:1: error: the file: expected a mapping of keys to values\n"},
    {"syntax error", "nodes: [4\n", "topology.yaml:2:1: error: not valid YAML: end of sequence flow not found\n"},
    {"unknown key with suggestion",
     "nodes: 4\n"
     "fabrik: {}\n",
     "topology.yaml:2:1: error: unknown key 'fabrik'\n"
     "  known keys: from, name, nodes, hosts, node, fabric, racks, placement (did you mean 'fabric'?)\n"},
    {"key twice",
     "nodes: 4\n"
     "nodes: 5\n",
     "topology.yaml:2:1: error: key 'nodes' appears twice\n"
     "  first at topology.yaml:1:1\n"},
    {"nodes as text", "nodes: many\n", "topology.yaml:1:8: error: nodes: expected a whole number, got 'many'\n"},
    {"zero nodes", "nodes: 0\n", "topology.yaml:1:8: error: nodes: must be at least 1, got '0'\n"},
    {"negative nodes", "nodes: -4\n", "topology.yaml:1:8: error: nodes: must be at least 1, got '-4'\n"},
    {"fraction of a node", "nodes: 4.5\n", "topology.yaml:1:8: error: nodes: expected a whole number, got '4.5'\n"},
    {"too many nodes", "nodes: 200000\n", "topology.yaml:1:8: error: nodes: must be at most 100000, got '200000'\n"},
    {"too many components",
     "nodes: 100000\n"
     "node: {gpus: 64, nics: 64}\n",
     "topology.yaml:1:8: error: 100000 nodes make more than 20000000 components\n"},
    {"bandwidth without unit",
     "nodes: 4\n"
     "node:\n"
     "  nic: {bandwidth: 400}\n",
     "topology.yaml:3:20: error: bandwidth: expected a bandwidth with its unit, such as '400 Gb/s' (bits) or '50 GB/s' "
     "(bytes), got '400'\n"},
    {"bandwidth with a wrong unit",
     "nodes: 4\n"
     "node:\n"
     "  nic:\n"
     "    bandwidth: 400 Gbit\n",
     "topology.yaml:4:16: error: bandwidth: expected a bandwidth with its unit, such as '400 Gb/s' (bits) or '50 GB/s' "
     "(bytes), got '400 Gbit'\n"},
    {"zero bandwidth",
     "nodes: 4\n"
     "fabric:\n"
     "  link_bandwidth: 0 Gb/s\n",
     "topology.yaml:3:19: error: link_bandwidth: must be at least 1 MB/s, got '0 Gb/s'\n"},
    {"latency without unit",
     "nodes: 4\n"
     "fabric: {switch_latency: 700}\n",
     "topology.yaml:2:26: error: switch_latency: expected a duration with its unit, such as '50 ms' (ns, us, ms, s, "
     "min, h, d), got '700'\n"},
    {"negative latency",
     "nodes: 4\n"
     "node: {gpu: {xgmi_latency: -1 us}}\n",
     "topology.yaml:2:28: error: xgmi_latency: must be at least 0 s, got '-1 us'\n"},
    {"nics do not divide gpus",
     "nodes: 4\n"
     "node:\n"
     "  gpus: 8\n"
     "  nics: 3\n",
     "topology.yaml:4:9: error: 3 NICs do not divide 8 GPUs equally\n"
     "  every NIC serves the same number of GPUs: 'nics' must divide 'gpus'\n"},
    {"more nics than gpus",
     "nodes: 4\n"
     "node: {gpus: 4, nics: 8}\n",
     "topology.yaml:2:23: error: 8 NICs do not divide 4 GPUs equally\n"
     "  every NIC serves the same number of GPUs: 'nics' must divide 'gpus'\n"},
    {"three ports",
     "nodes: 4\n"
     "node: {nic: {ports: 3}}\n",
     "topology.yaml:2:21: error: ports: must be at most 2, got '3'\n"},
    {"unknown fabric kind",
     "nodes: 4\n"
     "fabric: {kind: rail_optimized}\n",
     "topology.yaml:2:16: error: kind: expected one of rail_optimised, single_tor, dual_tor, fat_tree, got "
     "'rail_optimized'\n"
     "  (did you mean 'rail_optimised'?)\n"},
    {"dual ToR with single-port NICs",
     "nodes: 4\n"
     "fabric: {kind: dual_tor}\n",
     "topology.yaml:1:1: error: a dual_tor fabric needs NICs with 2 ports, 'RoCE NIC 400G' has 1\n"
     "  write 'nic: {ports: 2}' in the node\n"},
    {"fat tree with dual-port NICs",
     "nodes: 4\n"
     "node: {nic: {ports: 2}}\n"
     "fabric: {kind: fat_tree}\n",
     "topology.yaml:2:21: error: a fat_tree fabric needs NICs with 1 port, 'RoCE NIC 400G' has 2\n"},
    {"fat tree too small",
     "nodes: 200\n"
     "fabric:\n"
     "  kind: fat_tree\n"
     "  k: 8\n",
     "topology.yaml:1:8: error: 200 nodes with 8 NICs need 1600 ports, a fat tree of k = 8 has 128\n"
     "  the smallest k that fits is 20\n"},
    {"fat tree of odd switches",
     "nodes: 4\n"
     "fabric: {kind: fat_tree, k: 7}\n",
     "topology.yaml:2:29: error: a fat tree needs an even number of switch ports, k is 7\n"},
    {"k without fat tree",
     "nodes: 4\n"
     "fabric: {kind: single_tor, k: 8}\n",
     "topology.yaml:2:31: error: 'k' belongs to kind fat_tree only\n"},
    {"oversubscription in a fat tree",
     "nodes: 4\n"
     "fabric: {kind: fat_tree, oversubscription: 2}\n",
     "topology.yaml:2:44: error: 'oversubscription' does not apply to kind fat_tree\n"
     "  its size follows from 'k'\n"},
    {"more spines than uplinks",
     "nodes: 64\n"
     "fabric: {nodes_per_leaf: 32, spines: 64}\n",
     "topology.yaml:2:38: error: 64 spines, but a leaf has only 32 uplinks\n"
     "  32 ports of 50 GB/s down at oversubscription 1 make 32 uplinks of 50 GB/s\n"},
    {"uplinks do not divide over spines",
     "nodes: 64\n"
     "fabric: {spines: 5}\n",
     "topology.yaml:2:18: error: 32 uplinks of a leaf do not divide equally over 5 spines\n"},
    {"negative oversubscription",
     "nodes: 4\n"
     "fabric: {oversubscription: -1}\n",
     "topology.yaml:2:28: error: oversubscription: must be at least 0.1, got '-1'\n"},
    {"rail planes without rails",
     "nodes: 4\n"
     "fabric: {kind: single_tor, spine_planes: per_rail}\n",
     "topology.yaml:2:42: error: 'spine_planes: per_rail' needs a rail_optimised fabric\n"},
    {"fabric routes across separate planes",
     "nodes: 4\n"
     "fabric: {spine_planes: per_rail, cross_rail: fabric}\n",
     "topology.yaml:2:46: error: 'cross_rail: fabric' cannot cross spine planes of separate rails\n"
     "  write 'cross_rail: forward' or 'spine_planes: shared'\n"},
    {"forwarding without xGMI",
     "nodes: 4\n"
     "node: {xgmi: none}\n",
     "topology.yaml:1:1: error: 'cross_rail: forward' needs xGMI links inside the node\n"
     "  write 'cross_rail: fabric', or give the node 'xgmi: full_mesh'\n"},
    {"transit without xGMI",
     "nodes: 4\n"
     "node: {xgmi: none, xgmi_transit: true}\n"
     "fabric: {cross_rail: fabric}\n",
     "topology.yaml:2:34: error: 'xgmi_transit: true' needs xGMI links\n"
     "  'xgmi' is 'none' in this node\n"},
    {"transit neither true nor false",
     "nodes: 4\n"
     "node: {xgmi_transit: maybe}\n",
     "topology.yaml:2:22: error: xgmi_transit: expected true or false, got 'maybe'\n"},
    {"a file that does not exist",
     "nodes: 4\n"
     "node: nodes/mi300y.yaml\n",
     "topology.yaml:2:7: error: node: cannot read the file 'nodes/mi300y.yaml'\n"
     "  file names are relative to the file that names them\n"},
    {"a base file that does not exist",
     "nodes: 4\n"
     "node: {from: nodes/mi300y.yaml, gpus: 4}\n",
     "topology.yaml:2:14: error: node: cannot read the file 'nodes/mi300y.yaml'\n"
     "  file names are relative to the file that names them\n"},
    {"an error inside a referenced file",
     "nodes: 4\n"
     "node: nodes/bad.yaml\n",
     "nodes/bad.yaml:3:7: error: nics: expected a whole number, got 'eight'\n"
     "nodes/bad.yaml:4:1: error: unknown key 'colour'\n"
     "  known keys: from, name, gpus, nics, gpu, nic, xgmi, xgmi_transit, nic_failover\n"},
    {"a file that is not a mapping",
     "nodes: 4\n"
     "fabric: list.yaml\n",
     "list.yaml:1:1: error: the file: expected a mapping of keys to values\n"},
    {"files in a circle",
     "nodes: 4\n"
     "node: {from: circle.yaml}\n",
     "circle.yaml:1:7: error: 'circle.yaml' refers back to itself\n"},
    {"from is a list",
     "nodes: 4\n"
     "fabric: {from: [a, b]}\n",
     "topology.yaml:2:16: error: from: expected a file name\n"},
    {"a mapping where a list is",
     "nodes: 4\n"
     "fabric: [rail_optimised]\n",
     "topology.yaml:2:9: error: 'fabric': expected a mapping of keys to values\n"},
    {"misspelled key in a nested part",
     "nodes: 4\n"
     "node:\n"
     "  nic:\n"
     "    bandwith: 400 Gb/s\n",
     "topology.yaml:4:5: error: unknown key 'bandwith' in 'node.nic'\n"
     "  known keys: from, name, bandwidth, ports, latency (did you mean 'bandwidth'?)\n"},
    {"rack size zero",
     "nodes: 4\n"
     "racks: {nodes_per_rack: 0}\n",
     "topology.yaml:2:25: error: nodes_per_rack: must be at least 1, got '0'\n"},
    {"instance without decode nodes",
     "nodes: 4\n"
     "placement: {decode_nodes: 0}\n",
     "topology.yaml:2:27: error: an instance of 2P0D cannot serve: it has no decode node\n"
     "  give it both, or 'mixed_nodes'\n"},
    {"instance without nodes",
     "nodes: 4\n"
     "placement: {prefill_nodes: 0, decode_nodes: 0}\n",
     "topology.yaml:2:12: error: an instance without nodes: prefill_nodes, decode_nodes and mixed_nodes are all 0\n"},
    {"unknown rule",
     "nodes: 4\n"
     "placement: {rule: packed}\n",
     "topology.yaml:2:19: error: rule: expected one of pack, spread, rack_aligned, got 'packed'\n"
     "  (did you mean 'pack'?)\n"},
    {"too few nodes for the instances",
     "nodes: 30\n"
     "placement:\n"
     "  instances: 8\n"
     "  spare_nodes: 2\n",
     "topology.yaml:1:1: error: the placement needs 34 nodes, the topology has 30\n"
     "  8 instances of 2P2D (4 nodes each), 2 spare nodes\n"},
    {"too few nodes for one instance", "nodes: 3\n",
     "topology.yaml:1:1: error: the placement needs 4 nodes, the topology has 3\n"
     "  1 instance of 2P2D (4 nodes each)\n"},
    {"spare instances count too",
     "nodes: 12\n"
     "placement: {instances: 2, spare_instances: 2}\n",
     "topology.yaml:1:1: error: the placement needs 16 nodes, the topology has 12\n"
     "  2 instances of 2P2D (4 nodes each), 2 spare instances\n"},
    {"rack-aligned leaves holes",
     "nodes: 8\n"
     "racks: {nodes_per_rack: 5}\n"
     "placement: {instances: 2, rule: rack_aligned}\n",
     "topology.yaml:1:1: error: rule rack_aligned: only 1 of 2 instances fit on 8 nodes\n"
     "  an instance of 4 nodes begins a new rack of 5 where the rest of one is too small: 4 nodes stay unused\n"},
    {"router without a host",
     "nodes: 4\n"
     "hosts: 0\n"
     "placement: {instances: 1, routers: 2}\n",
     "topology.yaml:1:1: error: 2 routers to place on hosts, the topology has no host\n"
     "  add 'hosts: 1' to the topology, or write 'router_placement: nodes'\n"},
    {"several errors at once",
     "nodes: four\n"
     "fabric: {kind: torus}\n"
     "racks: {racks_per_feed: 0}\n",
     "topology.yaml:1:8: error: nodes: expected a whole number, got 'four'\n"
     "topology.yaml:2:16: error: kind: expected one of rail_optimised, single_tor, dual_tor, fat_tree, got 'torus'\n"
     "topology.yaml:3:25: error: racks_per_feed: must be at least 1, got '0'\n"},
};

TEST(MalformedTopology, EveryCaseIsRefusedWithItsExactMessage) {
  for (const Case& c : kCases) EXPECT_EQ(message_of(c.text), c.message) << "in case: " << c.name;
}

TEST(MalformedTopology, NoPrefixOfAGoodFileCrashes) {
  const std::string good =
      "name: t\nnodes: 8\nnode: {gpus: 8, nics: 8, nic: {bandwidth: 400 Gb/s, ports: 2}}\nfabric: {kind: dual_tor, "
      "nodes_per_leaf: 4}\n"
      "racks: {nodes_per_rack: 4}\nplacement: {instances: 2, rule: spread}\n";
  ASSERT_EQ(message_of(good), "accepted");
  for (std::size_t n = 0; n < good.size(); ++n) {
    const std::string message = message_of(good.substr(0, n));
    EXPECT_TRUE(message == "accepted" || message.find("error: ") != std::string::npos) << n << ": " << message;
  }
}

}  // namespace
}  // namespace faultline::topology
