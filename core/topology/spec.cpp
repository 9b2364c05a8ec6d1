#include "core/topology/spec.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>

namespace faultline::topology {
namespace {

constexpr config::Range kBandwidth{.min = 1e6, .max = 1e14};
constexpr config::Range kLatency{.min = 0, .max = 1e9};

/// The folder part of a file's name joined with a relative name; pure text, no disk.
std::string beside(const std::string& file, const std::string& relative) {
  return (std::filesystem::path(file).parent_path() / relative).lexically_normal().string();
}

/// Reads files inside files; `chain` is the list of files being read, against circles.
class Reader {
 public:
  Reader(const config::FileReader& reader, config::Diagnostics& diagnostics)
      : reader_(reader), diagnostics_(diagnostics) {}

  /// A scalar names a file; a mapping may have `from: file`, whose content its own keys then override.
  template <class T>
  void read(const config::Document& document, const YAML::Node& node, const std::string& what, T& out) {
    if (!node.IsDefined()) return;
    if (node.IsScalar()) {
      read_file(document, node, what, out);
      return;
    }
    if (node.IsMap()) {
      const YAML::Node from = node["from"];
      if (from.IsDefined()) {
        if (from.IsScalar()) read_file(document, from, what, out);
        else diagnostics_.error(document.mark(from), "from: expected a file name");
      }
    }
    config::read(document, node, what, out, diagnostics_);
    if (node.IsMap()) read_parts(document, node, what, out);
  }

 private:
  template <class T>
  void read_file(const config::Document& document, const YAML::Node& name, const std::string& what, T& out) {
    // A name that --set gives may also be relative to where the user is.
    const bool typed = document.mark(name).file.starts_with("--set ") && reader_ && reader_(name.Scalar());
    const std::string path = typed ? name.Scalar() : beside(document.file(), name.Scalar());
    if (std::find(chain_.begin(), chain_.end(), path) != chain_.end() || path == document.file()) {
      diagnostics_.error(document.mark(name), fmt::format("'{}' refers back to itself", path));
      return;
    }
    const auto text = reader_ ? reader_(path) : std::nullopt;
    if (!text) {
      diagnostics_.error(document.mark(name), fmt::format("{}: cannot read the file '{}'", what, path),
                         "file names are relative to the file that names them");
      return;
    }
    chain_.push_back(path);
    const config::Document inner(*text, path, diagnostics_);
    if (inner.root() && !inner.root().IsNull()) {
      if (inner.root().IsMap()) read(inner, inner.root(), "", out);
      else diagnostics_.error(inner.mark(inner.root()), "the file: expected a mapping of keys to values");
    }
    chain_.pop_back();
  }

  template <class T>
  void read_parts(const config::Document&, const YAML::Node&, const std::string&, T&) {}
  void read_parts(const config::Document& document, const YAML::Node& node, const std::string& what, NodeSpec& out) {
    read(document, node["gpu"], join(what, "gpu"), out.gpu);
    read(document, node["nic"], join(what, "nic"), out.nic);
  }
  void read_parts(const config::Document& document, const YAML::Node& node, const std::string& what,
                  TopologySpec& out) {
    read(document, node["node"], join(what, "node"), out.node);
    read(document, node["fabric"], join(what, "fabric"), out.fabric);
  }
  static std::string join(const std::string& what, const char* key) { return what.empty() ? key : what + "." + key; }

  const config::FileReader& reader_;
  config::Diagnostics& diagnostics_;
  std::vector<std::string> chain_;
};

/// Checks of one part against another; each points at the key to change, or at the topology where that is in a file.
class Checker {
 public:
  Checker(const TopologySpec& s, const config::Document& document, const YAML::Node& node,
          config::Diagnostics& diagnostics)
      : s_(s), document_(document), node_(node), diagnostics_(diagnostics) {}

  void check() {
    check_node();
    switch (s_.fabric.kind) {
      case FabricKind::dual_tor:
        if (s_.node.nic.ports != 2) {
          error({"node", "nic", "ports"},
                fmt::format("a dual_tor fabric needs NICs with 2 ports, '{}' has {}", s_.node.nic.name,
                            s_.node.nic.ports),
                "write 'nic: {ports: 2}' in the node");
        }
        break;
      case FabricKind::fat_tree: check_fat_tree(); break;
      case FabricKind::rail_optimised:
      case FabricKind::single_tor: break;
    }
    if (s_.fabric.kind != FabricKind::fat_tree) check_leaf_spine();
    check_size();
  }

 private:
  void check_node() {
    const NodeSpec& n = s_.node;
    if (n.nics > n.gpus || n.gpus % n.nics != 0) {
      error({"node", "nics"}, fmt::format("{} NICs do not divide {} GPUs equally", n.nics, n.gpus),
            "every NIC serves the same number of GPUs: 'nics' must divide 'gpus'");
    }
    if (n.xgmi_transit && n.xgmi == XgmiShape::none) {
      error({"node", "xgmi_transit"}, "'xgmi_transit: true' needs xGMI links", "'xgmi' is 'none' in this node");
    }
    if (s_.fabric.cross_rail == CrossRail::forward && n.xgmi == XgmiShape::none && n.nics > 1 &&
        s_.fabric.kind == FabricKind::rail_optimised) {
      error({"fabric", "cross_rail"}, "'cross_rail: forward' needs xGMI links inside the node",
            "write 'cross_rail: fabric', or give the node 'xgmi: full_mesh'");
    }
  }

  void check_fat_tree() {
    const FabricSpec& f = s_.fabric;
    if (f.k % 2 != 0) {
      error({"fabric", "k"}, fmt::format("a fat tree needs an even number of switch ports, k is {}", f.k));
      return;
    }
    if (s_.node.nic.ports != 1) {
      error({"node", "nic", "ports"},
            fmt::format("a fat_tree fabric needs NICs with 1 port, '{}' has {}", s_.node.nic.name, s_.node.nic.ports));
    }
    const std::uint64_t room = std::uint64_t{f.k} * f.k * f.k / 4;
    const std::uint64_t need = std::uint64_t{s_.nodes} * s_.node.nics;
    if (need > room) {
      error({"nodes"},
            fmt::format("{} nodes with {} NICs need {} ports, a fat tree of k = {} has {}", s_.nodes, s_.node.nics,
                        need, f.k, room),
            fmt::format("the smallest k that fits is {}", smallest_k(need)));
    }
  }
  static std::uint32_t smallest_k(std::uint64_t ports) {
    std::uint32_t k = 2;
    while (std::uint64_t{k} * k * k / 4 < ports) k += 2;
    return k;
  }

  void check_leaf_spine() {
    const FabricSpec& f = s_.fabric;
    if (f.spine_planes == SpinePlanes::per_rail) {
      if (f.kind != FabricKind::rail_optimised) {
        error({"fabric", "spine_planes"}, "'spine_planes: per_rail' needs a rail_optimised fabric");
      } else if (f.cross_rail == CrossRail::fabric) {
        error({"fabric", "cross_rail"}, "'cross_rail: fabric' cannot cross spine planes of separate rails",
              "write 'cross_rail: forward' or 'spine_planes: shared'");
      }
    }
    const std::uint32_t up = leaf_uplinks(s_);
    if (f.spines > up) {
      error({"fabric", "spines"}, fmt::format("{} spines, but a leaf has only {} uplinks", f.spines, up),
            fmt::format("{} ports of {} down at oversubscription {} make {} uplinks of {}", leaf_downlinks(s_),
                        config::print_scalar(s_.node.nic.bandwidth / s_.node.nic.ports), f.oversubscription, up,
                        config::print_scalar(f.link_bandwidth)));
    } else if (f.spines > 0 && up % f.spines != 0) {
      error({"fabric", "spines"},
            fmt::format("{} uplinks of a leaf do not divide equally over {} spines", up, f.spines));
    }
  }

  void check_size() {
    const std::uint64_t mesh =
        s_.node.xgmi == XgmiShape::none ? 0 : std::uint64_t{s_.node.gpus} * (s_.node.gpus - 1) / 2;
    const std::uint64_t per_node = 1 + s_.node.gpus + mesh + std::uint64_t{s_.node.nics} * (1 + 2 * s_.node.nic.ports);
    constexpr std::uint64_t kMost = 20'000'000;
    if (per_node * s_.nodes > kMost) {
      error({"nodes"}, fmt::format("{} nodes make more than {} components", s_.nodes, kMost));
    }
  }

  /// At the deepest key of the path that stands in this document.
  void error(std::initializer_list<const char*> path, std::string message, std::string note = {}) {
    YAML::Node at = node_;
    config::Mark mark = document_.mark(at);
    for (const char* key : path) {
      if (!at.IsMap()) break;
      const YAML::Node next = static_cast<const YAML::Node&>(at)[key];
      if (!next.IsDefined()) break;
      mark = document_.mark(next);
      at.reset(next);
    }
    diagnostics_.error(mark, std::move(message), std::move(note));
  }

  const TopologySpec& s_;
  const config::Document& document_;
  YAML::Node node_;
  config::Diagnostics& diagnostics_;
};

}  // namespace

void describe(config::Fields& f, GpuSpec& s) {
  f.raw("from");
  f.field("name", s.name);
  f.field("xgmi_bandwidth", s.xgmi_bandwidth, kBandwidth);
  f.field("xgmi_latency", s.xgmi_latency, kLatency);
}

void describe(config::Fields& f, NicSpec& s) {
  f.raw("from");
  f.field("name", s.name);
  f.field("bandwidth", s.bandwidth, kBandwidth);
  f.field("ports", s.ports, {.min = 1, .max = 2});
  f.field("latency", s.latency, kLatency);
}

void describe(config::Fields& f, NodeSpec& s) {
  f.raw("from");
  f.field("name", s.name);
  f.field("gpus", s.gpus, {.min = 1, .max = 64});
  f.field("nics", s.nics, {.min = 1, .max = 64});
  f.raw("gpu");
  f.raw("nic");
  if (!f.reading()) {
    f.write_object("gpu", s.gpu);
    f.write_object("nic", s.nic);
  }
  f.field("xgmi", s.xgmi);
  f.field("xgmi_transit", s.xgmi_transit);
  f.field("nic_failover", s.nic_failover);
}

void describe(config::Fields& f, FabricSpec& s) {
  f.raw("from");
  f.field("name", s.name);
  f.field("kind", s.kind);
  // All keys are known while reading, so that a wrong one gets its own message below; printed are those that apply.
  const bool tree = s.kind == FabricKind::fat_tree;
  if (f.reading() || !tree) {
    f.field("nodes_per_leaf", s.nodes_per_leaf, {.min = 1, .max = 4096});
    f.field("oversubscription", s.oversubscription, {.min = 0.1, .max = 64});
    f.field("spines", s.spines, {.min = 0, .max = 4096});
    f.field("spine_planes", s.spine_planes);
    f.field("cross_rail", s.cross_rail);
  }
  if (f.reading() || tree) f.field("k", s.k, {.min = 2, .max = 128});
  f.field("link_bandwidth", s.link_bandwidth, kBandwidth);
  f.field("switch_latency", s.switch_latency, kLatency);
  f.field("wire_latency", s.wire_latency, kLatency);
  if (!f.reading()) return;
  if (s.kind != FabricKind::fat_tree && f.has("k")) f.error("k", "'k' belongs to kind fat_tree only");
  if (s.kind == FabricKind::fat_tree) {
    for (const char* key : {"nodes_per_leaf", "oversubscription", "spines", "spine_planes", "cross_rail"}) {
      if (f.has(key))
        f.error(key, fmt::format("'{}' does not apply to kind fat_tree", key), "its size follows from 'k'");
    }
  }
}

void describe(config::Fields& f, RackSpec& s) {
  f.field("nodes_per_rack", s.nodes_per_rack, {.min = 1, .max = 1024});
  f.field("racks_per_feed", s.racks_per_feed, {.min = 1, .max = 1024});
  f.field("switches_per_rack", s.switches_per_rack, {.min = 1, .max = 1024});
}

void describe(config::Fields& f, TopologySpec& s) {
  f.raw("from");
  f.field("name", s.name);
  f.field("nodes", s.nodes, {.min = 1, .max = 100'000});
  f.field("hosts", s.hosts, {.min = 0, .max = 100'000});
  f.raw("node");
  f.raw("fabric");
  if (!f.reading()) {
    f.write_object("node", s.node);
    f.write_object("fabric", s.fabric);
  }
  f.object("racks", s.racks);
  f.object("placement", s.placement);
  if (f.reading() && s.nodes == 0 && !f.has("nodes")) {
    f.error("", fmt::format("{}missing key 'nodes'", f.what().empty() ? "" : fmt::format("'{}': ", f.what())));
  }
}

std::uint32_t leaf_downlinks(const TopologySpec& s) {
  switch (s.fabric.kind) {
    case FabricKind::rail_optimised: return s.fabric.nodes_per_leaf;
    case FabricKind::single_tor: return s.fabric.nodes_per_leaf * s.node.nics * s.node.nic.ports;
    case FabricKind::dual_tor: return s.fabric.nodes_per_leaf * s.node.nics;
    case FabricKind::fat_tree: return s.fabric.k / 2;
  }
  return 0;
}

std::uint32_t leaf_uplinks(const TopologySpec& s) {
  if (s.fabric.kind == FabricKind::fat_tree) return s.fabric.k / 2;
  const double port = static_cast<double>(s.node.nic.bandwidth.v) / s.node.nic.ports;
  const double down = port * leaf_downlinks(s);
  // A leaf serves as many nodes as there are, so that a small fabric does not get uplinks for nodes it never has.
  const double share = std::min(1.0, static_cast<double>(s.nodes) / s.fabric.nodes_per_leaf);
  const double up = down * share / (s.fabric.oversubscription * static_cast<double>(s.fabric.link_bandwidth.v));
  return std::max(1U, static_cast<std::uint32_t>(std::ceil(up - 1e-9)));
}

TopologySpec read_topology(const config::Document& document, const YAML::Node& node, const std::string& what,
                           const config::FileReader& reader, config::Diagnostics& diagnostics) {
  TopologySpec spec;
  const std::size_t before = diagnostics.list().size();
  Reader(reader, diagnostics).read(document, node, what, spec);
  if (diagnostics.list().size() == before) Checker(spec, document, node, diagnostics).check();
  return spec;
}

TopologySpec load_topology(const std::string& text, const std::string& file, const config::FileReader& reader) {
  config::Diagnostics diagnostics;
  const config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  TopologySpec spec = read_topology(document, document.root(), "", reader, diagnostics);
  diagnostics.throw_if_any();
  return spec;
}

}  // namespace faultline::topology
