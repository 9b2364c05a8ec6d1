// The text and JSON of an analysis (analysis.h).
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/topology/analysis.h"

namespace faultline::topology {
namespace {

std::string rate(BytesPerSecond r) {
  const double v = static_cast<double>(r.v);
  if (v >= 1e12) return fmt::format("{:.4g} TB/s", v / 1e12);
  if (v >= 1e9) return fmt::format("{:.4g} GB/s", v / 1e9);
  return fmt::format("{:.4g} MB/s", v / 1e6);
}

std::string percent(double ratio) {
  if (ratio == 0) return "-";
  if (ratio < 0.001) return "< 0.1 %";
  return fmt::format("{:.3g} %", 100 * ratio);
}

std::string extent(DomainRow::Extent e) {
  if (e.max == 0) return "-";
  return e.min == e.max ? fmt::format("{}", e.max) : fmt::format("{} … {}", e.min, e.max);
}

/// Pads by characters, not bytes: '…' is three bytes.
std::string pad(const std::string& text, std::size_t width, bool right = true) {
  const auto shown =
      static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  const std::string fill(width > shown ? width - shown : 0, ' ');
  return right ? fill + text : text + fill;
}

std::string plural(std::size_t n, const std::string& word, const std::string& many = {}) {
  return fmt::format("{} {}", n, n == 1 ? word : many.empty() ? word + "s" : many);
}

std::string shape(const InstanceNodes& i) {
  if (i.mixed.empty()) return fmt::format("{}P{}D", i.prefill.size(), i.decode.size());
  if (i.prefill.empty() && i.decode.empty()) return fmt::format("{}PD", i.mixed.size());
  return fmt::format("{}P{}D+{}PD", i.prefill.size(), i.decode.size(), i.mixed.size());
}

/// At most `width` characters: the end of a long name says more than its beginning.
std::string clip(const std::string& text, std::size_t width) {
  return text.size() <= width ? text : "…" + text.substr(text.size() - width + 1);
}

std::string_view kind_label(Kind kind) {
  constexpr std::array<std::string_view, kKindCount> labels{
      "power feed", "rack", "host", "node", "gpu", "nic", "leaf", "spine", "core", "xgmi link", "cable", "fabric link"};
  return labels[static_cast<std::size_t>(kind)];
}

void summary(std::string& out, const Topology& t, const Placement& p) {
  const Layout& l = t.layout;
  const NodeSpec& n = t.spec.node;
  const FabricSpec& f = t.spec.fabric;
  out += fmt::format("{}\n", clip(t.spec.name, 80));
  out += fmt::format("  fleet    {} x {} = {}, {}\n", plural(l.nodes, "node"), plural(l.gpus, "GPU"),
                     plural(l.gpu_count(), "GPU"), plural(t.spec.hosts, "host"));
  out += fmt::format("  node     {}\n", clip(n.name, 69));
  out += fmt::format(
      "  links    {}, {} of {}{}\n",
      l.mesh > 0 ? fmt::format("xGMI full mesh of {} a direction", rate(n.gpu.xgmi_bandwidth)) : "no xGMI",
      plural(l.nics, "NIC"), rate(n.nic.bandwidth), l.ports > 1 ? fmt::format(" on {} ports", l.ports) : "");
  out += fmt::format("  fabric   {}: {}", enum_names(&f.kind)[static_cast<std::size_t>(f.kind)],
                     plural(l.leaves, "leaf", "leaves"));
  if (l.spines > 0) out += fmt::format(", {}", plural(l.spines, "spine"));
  if (l.cores > 0) out += fmt::format(", {}", plural(l.cores, "core"));
  if (l.planes > 1) out += fmt::format(" in {} planes", l.planes);
  out += fmt::format("\n  leaf     {} of {} down", plural(leaf_downlinks(t.spec), "port"),
                     rate(n.nic.bandwidth / l.ports));
  if (l.spines > 0) out += fmt::format(", {} of {} up", l.uplinks(), rate(f.link_bandwidth));
  out += "\n";
  out += fmt::format(
      "  routes   cross-rail {}, {}, {}\n",
      l.kind == FabricKind::rail_optimised && f.cross_rail == CrossRail::forward ? "over the receiver's xGMI"
                                                                                 : "over the fabric",
      n.nic_failover ? "NIC failover" : "no NIC failover", n.xgmi_transit ? "xGMI transit" : "no xGMI transit");
  out += fmt::format("  racks    {} on {}\n", plural(t.graph.of_kind(Kind::rack).size(), "rack"),
                     plural(t.graph.of_kind(Kind::power).size(), "power feed"));
  out += fmt::format("  placed   {} of {}", plural(p.instances.size(), "instance"), shape(p.instances.front()));
  if (!p.spare_instances.empty()) out += fmt::format(", {}", plural(p.spare_instances.size(), "spare instance"));
  if (!p.spare_nodes.empty()) out += fmt::format(", {}", plural(p.spare_nodes.size(), "spare node"));
  const auto unused =
      std::count_if(p.use.begin(), p.use.end(), [](const NodeUse& u) { return u.role == NodeRole::unused; });
  if (unused > 0) out += fmt::format(", {} unused", plural(static_cast<std::size_t>(unused), "node"));
  out += fmt::format(", {}\n", plural(p.routers.size(), "router"));
  out += fmt::format("  in all   {} components, {} links\n", t.graph.size(), t.graph.link_count());
}

void bisection_text(std::string& out, const Bisection& b) {
  if (b.nodes_a == 0) return;
  out += fmt::format(
      "\nBisection  (first half of the nodes against the second)\n  {} | {}: {}, {}, {} of what the NICs of a half "
      "send\n",
      b.nodes_a, plural(b.nodes_b, "node"), rate(b.cut.capacity), plural(b.cut.links, "link"), percent(b.ratio()));
}

void domains_text(std::string& out, const Analysis& a) {
  out += "\nFailure domains  (what goes down together with one component)\n";
  out += "  kind            count       nodes        GPUs    switches        links\n";
  for (const DomainRow& r : a.domains) {
    if (r.nodes.max + r.gpus.max + r.switches.max + r.links.max == 0) continue;
    out += fmt::format("  {}{}{}{}{}{}\n", pad(std::string(kind_label(r.kind)), 13, false),
                       pad(std::to_string(r.count), 8), pad(extent(r.nodes), 12), pad(extent(r.gpus), 12),
                       pad(extent(r.switches), 12), pad(extent(r.links), 13));
  }
}

void single_points_text(std::string& out, const Topology& t, const Analysis& a) {
  out += "\nSingle points of failure  (cut living GPUs off from the others)\n";
  struct Group {
    std::uint32_t count = 0, least = 0, most = 0;
    ComponentId example;
  };
  std::map<Kind, Group> groups;
  const SinglePoints& s = a.single_points;
  for (const auto* list : {&s.articulation_points, &s.bridges, &s.enclosures}) {
    for (const CutPoint& c : *list) {
      Group& g = groups[t.graph[c.component].kind];
      if (g.count++ == 0 || c.gpus_cut_off > g.most) g.example = c.component;
      g.least = g.count == 1 ? c.gpus_cut_off : std::min(g.least, c.gpus_cut_off);
      g.most = std::max(g.most, c.gpus_cut_off);
    }
  }
  if (groups.empty() && !s.xgmi_only_way) {
    out += "  none\n";
    return;
  }
  if (!groups.empty()) out += "  kind            points of all       GPUs cut off   worst\n";
  for (const auto& [kind, g] : groups) {
    out += fmt::format("  {}{} of {}{}   {}\n", pad(std::string(kind_label(kind)), 13, false),
                       pad(std::to_string(g.count), 9), pad(std::to_string(t.graph.of_kind(kind).size()), 6, false),
                       pad(extent({g.least, g.most}), 15), clip(t.graph.name(g.example), 28));
  }
  if (s.xgmi_only_way) {
    out += fmt::format("  {}{} of {}{}   the only way of its two GPUs\n", pad("xgmi link", 13, false),
                       pad(std::to_string(t.graph.of_kind(Kind::xgmi_link).size()), 9),
                       pad(std::to_string(t.graph.of_kind(Kind::xgmi_link).size()), 6, false), pad("a pair", 15));
  }
}

void cuts_text(std::string& out, const Analysis& a) {
  struct Row {
    std::uint32_t count = 0, first = 0;
    const Cut* cut = nullptr;
  };
  std::vector<Row> rows;
  for (std::uint32_t i = 0; i < a.instance_cuts.size(); ++i) {
    const Cut& c = a.instance_cuts[i];
    if (c.links == 0) continue;
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
      return r.cut->capacity == c.capacity && r.cut->links == c.links && r.cut->tier == c.tier;
    });
    if (same == rows.end()) rows.push_back({.count = 1, .first = i, .cut = &c});
    else ++same->count;
  }
  out += "\nMinimum cut between prefill and decode of an instance\n";
  if (rows.empty()) {
    out += "  no instance has a prefill and a decode side\n";
    return;
  }
  std::sort(rows.begin(), rows.end(), [](const Row& x, const Row& y) { return x.cut->capacity < y.cut->capacity; });
  out += "  instances     capacity     links   narrowest at       first such\n";
  constexpr std::size_t kMost = 8;
  for (std::size_t i = 0; i < rows.size() && i < kMost; ++i) {
    const Row& r = rows[i];
    out +=
        fmt::format("  {}{}{}   {} inst-{}\n", pad(std::to_string(r.count), 9), pad(rate(r.cut->capacity), 13),
                    pad(std::to_string(r.cut->links), 10), pad(std::string(name_of(r.cut->tier)), 18, false), r.first);
  }
  if (rows.size() > kMost) out += fmt::format("  … {} more kinds of cut (--json has all)\n", rows.size() - kMost);
}

void blast_text(std::string& out, const Topology& t, const Analysis& a) {
  out += "\nWhat one failure can hurt  (worst of its kind)\n";
  out += "                         GPUs    instances   share of    worst\n";
  out += "  kind        count   lost cut off   max  mean   GPUs  network  such\n";
  for (const BlastRow& r : a.blast.rows()) {
    if (r.kind == Kind::host) continue;  // routers are not instances
    out += fmt::format("  {}{}{}{}{}{}{}{}  {}\n", pad(std::string(kind_label(r.kind)), 11, false),
                       pad(std::to_string(r.count), 6), pad(r.gpus_lost_max ? std::to_string(r.gpus_lost_max) : "-", 7),
                       pad(r.gpus_cut_off_max ? std::to_string(r.gpus_cut_off_max) : "-", 8),
                       pad(r.instances_max ? std::to_string(r.instances_max) : "-", 6),
                       pad(r.instances_mean > 0 ? fmt::format("{:.3g}", r.instances_mean) : "-", 6),
                       pad(percent(r.gpu_share_max), 9), pad(percent(r.network_share_max), 8),
                       r.instances_max ? clip(t.graph.name(r.worst), 15) : "-");
  }
  out += "  GPUs: of all placed ones. network: of the worst hit instance's own ways.\n";
}

nlohmann::ordered_json cut_points_json(const Topology& t, const std::vector<CutPoint>& points) {
  auto out = nlohmann::ordered_json::array();
  for (const CutPoint& c : points) {
    out.push_back({{"component", t.graph.name(c.component)},
                   {"kind", std::string(name_of(t.graph[c.component].kind))},
                   {"gpus_cut_off", c.gpus_cut_off}});
  }
  return out;
}

nlohmann::ordered_json cut_json(const Cut& c) {
  return {{"bytes_per_s", c.capacity.v}, {"links", c.links}, {"narrowest_at", std::string(name_of(c.tier))}};
}

nlohmann::ordered_json nodes_json(const Topology& t, const std::vector<NodeId>& nodes) {
  auto out = nlohmann::ordered_json::array();
  for (const NodeId n : nodes) out.push_back(t.graph.name(t.node(n)));
  return out;
}

}  // namespace

std::string to_text(const Topology& t, const Placement& p, const Analysis& a) {
  std::string out;
  summary(out, t, p);
  bisection_text(out, a.bisection);
  cuts_text(out, a);
  domains_text(out, a);
  single_points_text(out, t, a);
  blast_text(out, t, a);
  return out;
}

std::string component_text(const Topology& t, const Placement& p, const Analysis& a, ComponentId id) {
  const Names names(t, p);
  const std::string use = names.by_use(id), &name = t.graph.name(id);
  std::string out = fmt::format("{}  ({}{})\n", name, kind_label(t.graph[id].kind), use == name ? "" : ", " + use);
  for (ComponentId up = t.graph[id].parent; up.valid(); up = t.graph[up].parent) {
    out += fmt::format("  in         {} {}\n", kind_label(t.graph[up].kind), t.graph.name(up));
  }
  if (const std::uint32_t l = t.graph[id].link; l != LinkIndex::kInvalid) {
    const Link& link = t.graph.link(l);
    out += fmt::format("  joins      {} and {}, {} a direction, {}\n", t.graph.name(link.a), t.graph.name(link.b),
                       rate(link.capacity), config::print_scalar(link.latency));
  }
  std::map<Kind, std::vector<ComponentId>> taken;
  for (const ComponentId c : t.graph.implied(id)) {
    if (c != id) taken[t.graph[c].kind].push_back(c);
  }
  for (const auto& [kind, list] : taken) {
    out += fmt::format("  takes      {} of kind {}: {}{}\n", list.size(), kind_label(kind), t.graph.name(list.front()),
                       list.size() > 1 ? " … " + t.graph.name(list.back()) : "");
  }
  out += fmt::format("  cuts off   {}\n", plural(gpus_cut_off_by(t, {id}), "living GPU"));
  const auto hits = a.blast.hits(id);
  out += fmt::format("  hurts      {}\n", plural(hits.size(), "instance"));
  for (const Hit& h : hits) {
    const bool spare = h.instance >= p.instances.size();
    out += fmt::format(
        "    {:<14} {} lost, {} cut off, {} of its network\n",
        fmt::format("{}{}", spare ? "spare-inst-" : "inst-", spare ? h.instance - p.instances.size() : h.instance),
        plural(h.gpus_lost, "GPU"), h.gpus_cut_off, h.network_share == 0 ? "nothing" : percent(h.network_share));
  }
  return out;
}

nlohmann::ordered_json to_json(const Topology& t, const Placement& p, const Analysis& a) {
  using Json = nlohmann::ordered_json;
  Json out;
  const Layout& l = t.layout;
  out["topology"] = {{"name", t.spec.name},
                     {"nodes", l.nodes},
                     {"gpus", l.gpu_count()},
                     {"gpus_per_node", l.gpus},
                     {"nics_per_node", l.nics},
                     {"hosts", t.spec.hosts},
                     {"leaves", l.leaves},
                     {"spines", l.spines},
                     {"cores", l.cores},
                     {"components", t.graph.size()},
                     {"links", t.graph.link_count()}};
  Json instances = Json::array();
  for (std::size_t i = 0; i < p.instances.size(); ++i) {
    Json one = {{"name", fmt::format("inst-{}", i)},
                {"prefill", nodes_json(t, p.instances[i].prefill)},
                {"decode", nodes_json(t, p.instances[i].decode)},
                {"mixed", nodes_json(t, p.instances[i].mixed)}};
    one["min_cut"] = a.instance_cuts[i].links > 0 ? cut_json(a.instance_cuts[i]) : Json(nullptr);
    instances.push_back(std::move(one));
  }
  out["instances"] = std::move(instances);
  out["spare_nodes"] = nodes_json(t, p.spare_nodes);
  out["bisection"] = cut_json(a.bisection.cut);
  out["bisection"]["ratio_to_injection"] = a.bisection.ratio();
  Json domains = Json::array();
  const auto range = [](DomainRow::Extent e) { return Json::array({e.min, e.max}); };
  for (const DomainRow& r : a.domains) {
    domains.push_back({{"kind", std::string(name_of(r.kind))},
                       {"count", r.count},
                       {"nodes", range(r.nodes)},
                       {"gpus", range(r.gpus)},
                       {"switches", range(r.switches)},
                       {"links", range(r.links)}});
  }
  out["failure_domains"] = std::move(domains);
  out["single_points_of_failure"] = {{"articulation_points", cut_points_json(t, a.single_points.articulation_points)},
                                     {"bridges", cut_points_json(t, a.single_points.bridges)},
                                     {"enclosures", cut_points_json(t, a.single_points.enclosures)},
                                     {"xgmi_links_are_the_only_way_of_their_pair", a.single_points.xgmi_only_way}};
  Json blast = Json::array();
  for (const BlastRow& r : a.blast.rows()) {
    blast.push_back({{"kind", std::string(name_of(r.kind))},
                     {"count", r.count},
                     {"harmless", r.harmless},
                     {"gpus_lost_max", r.gpus_lost_max},
                     {"gpus_cut_off_max", r.gpus_cut_off_max},
                     {"instances_max", r.instances_max},
                     {"instances_mean", r.instances_mean},
                     {"gpu_share_max", r.gpu_share_max},
                     {"network_share_max", r.network_share_max},
                     {"worst", t.graph.name(r.worst)}});
  }
  out["blast_by_kind"] = std::move(blast);
  Json components = Json::object();
  for (std::uint32_t c = 0; c < t.graph.size(); ++c) {
    Json hits = Json::array();
    for (const Hit& h : a.blast.hits({c})) {
      hits.push_back({{"instance", h.instance},
                      {"gpus_lost", h.gpus_lost},
                      {"gpus_cut_off", h.gpus_cut_off},
                      {"network_share", h.network_share}});
    }
    if (!hits.empty()) components[t.graph.name({c})] = std::move(hits);
  }
  out["blast_by_component"] = std::move(components);
  return out;
}

}  // namespace faultline::topology
