#include "core/topology/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/assert.h"

namespace faultline::topology {
namespace {

std::string count_of(std::uint64_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string shape_name(const PlacementSpec& s) {
  if (s.mixed_nodes == 0) return fmt::format("{}P{}D", s.prefill_nodes, s.decode_nodes);
  if (s.prefill_nodes + s.decode_nodes == 0) return fmt::format("{}PD", s.mixed_nodes);
  return fmt::format("{}P{}D+{}PD", s.prefill_nodes, s.decode_nodes, s.mixed_nodes);
}

/// Gives out nodes, a whole instance at a time.
class Taker {
 public:
  Taker(const Topology& topology, const PlacementSpec& spec)
      : per_rack_(topology.spec.racks.nodes_per_rack), rule_(spec.rule) {
    const std::uint32_t usable = topology.layout.nodes - spec.spare_nodes;
    if (rule_ == PlacementRule::spread) {
      for (std::uint32_t slot = 0; slot < per_rack_; ++slot) {
        for (std::uint32_t n = slot; n < usable; n += per_rack_) order_.push_back({n});
      }
    } else {
      for (std::uint32_t n = 0; n < usable; ++n) order_.push_back({n});
    }
  }

  bool take(std::uint32_t count, std::vector<NodeId>& out) {
    std::size_t at = next_;
    if (rule_ == PlacementRule::rack_aligned) {
      const std::size_t in_rack = at % per_rack_;
      if (in_rack != 0 && in_rack + count > per_rack_) at += per_rack_ - in_rack;
    }
    if (at + count > order_.size()) return false;
    out.assign(order_.begin() + static_cast<std::ptrdiff_t>(at),
               order_.begin() + static_cast<std::ptrdiff_t>(at + count));
    next_ = at + count;
    return true;
  }

 private:
  std::uint32_t per_rack_;
  PlacementRule rule_;
  std::vector<NodeId> order_;
  std::size_t next_ = 0;
};

InstanceNodes divide(const std::vector<NodeId>& nodes, const PlacementSpec& s) {
  const auto at = nodes.begin();
  InstanceNodes out;
  out.prefill.assign(at, at + s.prefill_nodes);
  out.decode.assign(at + s.prefill_nodes, at + s.prefill_nodes + s.decode_nodes);
  out.mixed.assign(at + s.prefill_nodes + s.decode_nodes, nodes.end());
  return out;
}

PlacementSpec shape_of(const FurtherInstances& f) {
  PlacementSpec shape;
  shape.prefill_nodes = f.prefill_nodes;
  shape.decode_nodes = f.decode_nodes;
  shape.mixed_nodes = f.mixed_nodes;
  return shape;
}

/// With further fleets: their instances, then the spare ones of all, the first's included.
bool place_further(Taker& taker, const PlacementSpec& spec, std::vector<InstanceNodes>& placed) {
  std::vector<NodeId> taken;
  const auto add = [&](std::uint32_t count, const PlacementSpec& shape) {
    for (std::uint32_t k = 0; k < count; ++k) {
      if (!taker.take(shape.nodes_per_instance(), taken)) return false;
      placed.push_back(divide(taken, shape));
    }
    return true;
  };
  for (const FurtherInstances& f : spec.further) {
    if (!add(f.instances, shape_of(f))) return false;
  }
  if (!add(spec.spare_instances, spec)) return false;
  return std::all_of(spec.further.begin(), spec.further.end(),
                     [&](const FurtherInstances& f) { return add(f.spare_instances, shape_of(f)); });
}

std::optional<std::uint32_t> number_after(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix) || text.size() == prefix.size()) return std::nullopt;
  const std::string_view digits = text.substr(prefix.size());
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;  // one name, one component
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

void describe(config::Fields& f, PlacementSpec& s) {
  f.field("instances", s.instances, {.min = 0, .max = 100'000});
  f.field("prefill_nodes", s.prefill_nodes, {.min = 0, .max = 10'000});
  f.field("decode_nodes", s.decode_nodes, {.min = 0, .max = 10'000});
  f.field("mixed_nodes", s.mixed_nodes, {.min = 0, .max = 10'000});
  f.field("spare_nodes", s.spare_nodes, {.min = 0, .max = 100'000});
  f.field("spare_instances", s.spare_instances, {.min = 0, .max = 100'000});
  f.field("routers", s.routers, {.min = 0, .max = 10'000});
  f.field("router_placement", s.router_placement);
  f.field("rule", s.rule);
  if (!f.reading()) return;
  if (s.nodes_per_instance() == 0) {
    f.error("", "an instance without nodes: prefill_nodes, decode_nodes and mixed_nodes are all 0");
  } else if (s.mixed_nodes == 0 && (s.prefill_nodes == 0 || s.decode_nodes == 0)) {
    f.error(s.prefill_nodes == 0 ? "prefill_nodes" : "decode_nodes",
            fmt::format("an instance of {} cannot serve: it has no {} node", shape_name(s),
                        s.prefill_nodes == 0 ? "prefill" : "decode"),
            "give it both, or 'mixed_nodes'");
  }
}

std::vector<NodeId> InstanceNodes::all() const {
  std::vector<NodeId> out = prefill;
  out.insert(out.end(), decode.begin(), decode.end());
  out.insert(out.end(), mixed.begin(), mixed.end());
  return out;
}

Placement place(const Topology& topology, const PlacementSpec& spec, const config::Mark& mark,
                config::Diagnostics& diagnostics) {
  Placement out;
  const std::uint32_t have = topology.layout.nodes, per = spec.nodes_per_instance();
  const std::uint32_t least = std::max(1U, spec.instances);
  std::uint64_t need = (std::uint64_t{least} + spec.spare_instances) * per + spec.spare_nodes;
  for (const FurtherInstances& f : spec.further) {
    FAULTLINE_ASSERT(spec.instances > 0 && f.instances > 0, "instances={} further={}", spec.instances, f.instances);
    need += (std::uint64_t{f.instances} + f.spare_instances) * shape_of(f).nodes_per_instance();
  }
  if (need > have) {
    std::string parts =
        fmt::format("{} of {} ({} each)", count_of(least, "instance"), shape_name(spec), count_of(per, "node"));
    for (const FurtherInstances& f : spec.further) {
      const PlacementSpec shape = shape_of(f);
      parts += fmt::format(", {} of {} ({} each)", count_of(f.instances + f.spare_instances, "instance"),
                           shape_name(shape), count_of(shape.nodes_per_instance(), "node"));
    }
    if (spec.spare_instances > 0) parts += ", " + count_of(spec.spare_instances, "spare instance");
    if (spec.spare_nodes > 0) parts += ", " + count_of(spec.spare_nodes, "spare node");
    diagnostics.error(mark, fmt::format("the placement needs {}, the topology has {}", count_of(need, "node"), have),
                      parts);
    return out;
  }
  if (spec.routers > 0 && spec.router_placement == RouterPlacement::hosts && topology.spec.hosts == 0) {
    diagnostics.error(mark,
                      fmt::format("{} to place on hosts, the topology has no host", count_of(spec.routers, "router")),
                      "add 'hosts: 1' to the topology, or write 'router_placement: nodes'");
    return out;
  }
  Taker taker(topology, spec);
  std::vector<NodeId> taken;
  // With an open number of instances the spare ones keep their room: they are placed last but counted first.
  const std::uint32_t most = spec.instances > 0 ? spec.instances : have;
  std::vector<InstanceNodes> placed;
  const std::uint32_t spare_now = spec.further.empty() ? spec.spare_instances : 0;
  while (placed.size() < std::size_t{most} + spare_now && taker.take(per, taken)) placed.push_back(divide(taken, spec));
  const std::size_t wanted = std::size_t{least} + spare_now;
  if (placed.size() < wanted) {
    diagnostics.error(
        mark,
        fmt::format("rule {}: only {} of {} instances fit on {} nodes",
                    enum_names(&spec.rule)[static_cast<std::size_t>(spec.rule)], placed.size(), wanted, have),
        fmt::format("an instance of {} begins a new rack of {} where the rest of one is too small: {} stay unused",
                    count_of(per, "node"), topology.spec.racks.nodes_per_rack,
                    count_of(have - spec.spare_nodes - placed.size() * per, "node")));
    return out;
  }
  if (!spec.further.empty() && !place_further(taker, spec, placed)) {
    diagnostics.error(mark,
                      fmt::format("rule {}: the instances of all fleets do not fit on {} nodes",
                                  enum_names(&spec.rule)[static_cast<std::size_t>(spec.rule)], have),
                      "an instance begins a new rack where the rest of one is too small");
    return out;
  }
  std::uint32_t spare_instances = spec.spare_instances;
  for (const FurtherInstances& f : spec.further) spare_instances += f.spare_instances;
  const auto split = placed.end() - spare_instances;
  out.instances.assign(placed.begin(), split);
  out.spare_instances.assign(split, placed.end());
  for (std::uint32_t i = 0; i < spec.spare_nodes; ++i) out.spare_nodes.push_back({have - spec.spare_nodes + i});

  out.use.resize(have);
  for (std::uint32_t i = 0; i < placed.size(); ++i) {
    const auto mark_use = [&](const std::vector<NodeId>& nodes, NodeRole role) {
      for (std::uint32_t k = 0; k < nodes.size(); ++k) out.use[nodes[k].v] = {.role = role, .instance = i, .index = k};
    };
    mark_use(placed[i].prefill, NodeRole::prefill);
    mark_use(placed[i].decode, NodeRole::decode);
    mark_use(placed[i].mixed, NodeRole::mixed);
  }
  for (std::uint32_t k = 0; k < out.spare_nodes.size(); ++k)
    out.use[out.spare_nodes[k].v] = {.role = NodeRole::spare, .index = k};
  for (std::uint32_t r = 0; r < spec.routers; ++r) {
    out.routers.push_back(spec.router_placement == RouterPlacement::hosts
                              ? topology.host(r % topology.spec.hosts)
                              : topology.node(out.instances[r % out.instances.size()].all().front()));
  }
  return out;
}

std::optional<ComponentId> Names::node_by_use(std::string_view head, std::string_view role) const {
  const InstanceNodes* instance = nullptr;
  if (const auto i = number_after(head, "inst-"); i && *i < placement_.instances.size())
    instance = &placement_.instances[*i];
  if (const auto i = number_after(head, "spare-inst-"); i && *i < placement_.spare_instances.size()) {
    instance = &placement_.spare_instances[*i];
  }
  if (!instance) return std::nullopt;
  const auto pick = [&](std::string_view prefix, const std::vector<NodeId>& nodes) -> std::optional<ComponentId> {
    const auto k = number_after(role, prefix);
    if (!k || *k >= nodes.size()) return std::nullopt;
    return topology_.node(nodes[*k]);
  };
  if (const auto id = pick("p-", instance->prefill)) return id;
  if (const auto id = pick("d-", instance->decode)) return id;
  return pick("m-", instance->mixed);
}

std::optional<ComponentId> Names::resolve(std::string_view name) const {
  if (const auto id = topology_.graph.find(name)) return id;
  const auto dot = name.find('.');
  const std::string_view head = name.substr(0, dot);
  if (const auto r = number_after(head, "router-"); r && dot == std::string_view::npos) {
    if (*r < placement_.routers.size()) return placement_.routers[*r];
    return std::nullopt;
  }
  std::optional<ComponentId> node;
  std::string_view rest = dot == std::string_view::npos ? std::string_view{} : name.substr(dot);
  if (const auto s = number_after(head, "spare-"); s && *s < placement_.spare_nodes.size()) {
    node = topology_.node(placement_.spare_nodes[*s]);
  } else if (!rest.empty()) {
    const auto second = rest.find('.', 1);
    node = node_by_use(head, rest.substr(1, second == std::string_view::npos ? second : second - 1));
    rest = second == std::string_view::npos ? std::string_view{} : rest.substr(second);
  }
  if (!node) return std::nullopt;
  return topology_.graph.find(topology_.graph.name(*node) + std::string(rest));
}

std::vector<ComponentId> Names::resolve_all(std::string_view name) const {
  if (const auto id = resolve(name)) return {*id};
  const InstanceNodes* instance = nullptr;
  if (const auto i = number_after(name, "inst-"); i && *i < placement_.instances.size())
    instance = &placement_.instances[*i];
  if (const auto i = number_after(name, "spare-inst-"); i && *i < placement_.spare_instances.size()) {
    instance = &placement_.spare_instances[*i];
  }
  std::vector<ComponentId> out;
  if (instance) {
    for (const NodeId n : instance->all()) out.push_back(topology_.node(n));
  }
  return out;
}

UnknownName Names::unknown(std::string_view name) const {
  UnknownName out{.message = fmt::format("unknown component '{}'", name), .note = {}};
  const auto dot = name.find('.');
  const std::string_view head = name.substr(0, dot);
  const bool spare = head.starts_with("spare-inst-");
  if (!spare && !head.starts_with("inst-")) {
    if (head.starts_with("router-")) {
      out.note = placement_.routers.empty() ? "no routers are placed"
                                            : fmt::format("there are {} routers: router-0 … router-{}",
                                                          placement_.routers.size(), placement_.routers.size() - 1);
      return out;
    }
    if (head.starts_with("spare-")) {
      out.note = placement_.spare_nodes.empty()
                     ? "no spare nodes are placed"
                     : fmt::format("there are {} spare nodes: spare-0 … spare-{}", placement_.spare_nodes.size(),
                                   placement_.spare_nodes.size() - 1);
      return out;
    }
    return topology_.graph.unknown(name);
  }
  const std::string prefix = spare ? "spare-inst-" : "inst-";
  const auto& list = spare ? placement_.spare_instances : placement_.instances;
  const auto i = number_after(head, prefix);
  if (!i || *i >= list.size()) {
    out.note = list.empty() ? fmt::format("no {}s are placed", spare ? "spare instance" : "instance")
                            : fmt::format("there are {} {}s: {}0 … {}{}", list.size(),
                                          spare ? "spare instance" : "instance", prefix, prefix, list.size() - 1);
    return out;
  }
  std::vector<std::string> nodes;
  const auto add = [&](char letter, std::size_t n) {
    for (std::size_t k = 0; k < n; ++k) nodes.push_back(fmt::format("{}.{}-{}", head, letter, k));
  };
  add('p', list[*i].prefill.size());
  add('d', list[*i].decode.size());
  add('m', list[*i].mixed.size());
  const auto second = dot == std::string_view::npos ? dot : name.find('.', dot + 1);
  const std::string_view node = name.substr(0, second);
  if (const auto id = resolve(node)) {
    // The node exists, so its part does not: say so in the words of the user.
    const UnknownName inner =
        topology_.graph.unknown(topology_.graph.name(*id) + std::string(name.substr(node.size())));
    out.note = fmt::format("{} is {}; {}", node, topology_.graph.name(*id), inner.note);
    return out;
  }
  const std::string nearest = config::did_you_mean(node, nodes);
  out.note =
      fmt::format("known nodes of {}: {}{}{}", head, config::name_list(nodes, 12), nearest.empty() ? "" : " ", nearest);
  return out;
}

std::string Names::node_name_by_use(NodeId node) const {
  const NodeUse& use = placement_.use[node.v];
  const auto placed = static_cast<std::uint32_t>(placement_.instances.size());
  const std::string instance = use.instance < placed ? fmt::format("inst-{}", use.instance)
                                                     : fmt::format("spare-inst-{}", use.instance - placed);
  switch (use.role) {
    case NodeRole::prefill: return fmt::format("{}.p-{}", instance, use.index);
    case NodeRole::decode: return fmt::format("{}.d-{}", instance, use.index);
    case NodeRole::mixed: return fmt::format("{}.m-{}", instance, use.index);
    case NodeRole::spare: return fmt::format("spare-{}", use.index);
    case NodeRole::unused: break;
  }
  return topology_.graph.name(topology_.node(node));
}

std::string Names::by_use(ComponentId id) const {
  const NodeId node = topology_.node_of(id);
  const std::string& name = topology_.graph.name(id);
  if (!node.valid()) return name;
  return node_name_by_use(node) + name.substr(topology_.graph.name(topology_.node(node)).size());
}

}  // namespace faultline::topology
