// Graphviz output (picture.h).
#include <fmt/format.h>

#include <map>

#include "core/topology/picture.h"

namespace faultline::topology {
namespace {

std::string quoted(const std::string& name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

void add_rack(std::string& out, const Topology& t, const Names& names, ComponentId rack) {
  out += fmt::format("  subgraph {} {{\n    label={};\n", quoted("cluster_" + t.graph.name(rack)),
                     quoted(t.graph.name(rack)));
  for (const ComponentId id : t.graph.children(rack)) {
    const Kind kind = t.graph[id].kind;
    if (kind == Kind::node) {
      const std::string use = names.by_use(id), name = t.graph.name(id);
      out += fmt::format("    {} [label=\"{}{}\\n{} GPUs\"];\n", quoted(name), name, use == name ? "" : "\\n" + use,
                         t.layout.gpus);
    } else {
      out += fmt::format("    {} [shape={}];\n", quoted(t.graph.name(id)), is_switch(kind) ? "hexagon" : "ellipse");
    }
  }
  out += "  }\n";
}

}  // namespace

std::string to_dot(const Topology& t, const Placement& placement) {
  const Names names(t, placement);
  std::string out =
      fmt::format("graph {} {{\n  layout=dot; rankdir=BT; node [shape=box, fontsize=10]; edge [fontsize=8];\n",
                  quoted(t.spec.name));
  for (const ComponentId rack : t.graph.of_kind(Kind::rack)) add_rack(out, t, names, rack);
  // Cables are bundled by node, parallel fabric links by switch pair: the label says how many and how fast together.
  struct Bundle {
    std::uint32_t links = 0;
    std::int64_t bytes = 0;
  };
  std::map<std::pair<ComponentId, ComponentId>, Bundle> bundles;
  for (std::uint32_t i = 0; i < t.graph.link_count(); ++i) {
    const Link& link = t.graph.link(i);
    if (t.graph[link.component].kind == Kind::xgmi_link) continue;
    const ComponentId a = t.graph[link.a].kind == Kind::nic ? t.graph[link.a].parent : link.a;
    Bundle& b = bundles[{a, link.b}];
    ++b.links;
    b.bytes += link.capacity.v;
  }
  for (const auto& [ends, b] : bundles) {
    out += fmt::format("  {} -- {} [label=\"{}{:.4g} GB/s\"];\n", quoted(t.graph.name(ends.first)),
                       quoted(t.graph.name(ends.second)), b.links > 1 ? fmt::format("{} x ", b.links) : "",
                       static_cast<double>(b.bytes / b.links) / 1e9);
  }
  out += "}\n";
  return out;
}

}  // namespace faultline::topology
