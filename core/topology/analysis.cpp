#include "core/topology/analysis.h"

#include <algorithm>

namespace faultline::topology {
namespace {

std::vector<DomainRow> domains_of(const Topology& t) {
  std::vector<DomainRow> out;
  for (std::size_t k = 0; k < kKindCount; ++k) {
    const auto ids = t.graph.of_kind(static_cast<Kind>(k));
    if (ids.empty()) continue;
    DomainRow row{.kind = static_cast<Kind>(k),
                  .count = static_cast<std::uint32_t>(ids.size()),
                  .nodes = {},
                  .gpus = {},
                  .switches = {},
                  .links = {}};
    bool first = true;
    for (const ComponentId id : ids) {
      std::uint32_t nodes = 0, gpus = 0, switches = 0, links = 0;
      for (const ComponentId c : t.graph.implied(id)) {
        if (c == id) continue;
        const Kind kind = t.graph[c].kind;
        nodes += kind == Kind::node ? 1 : 0;
        gpus += kind == Kind::gpu ? 1 : 0;
        switches += is_switch(kind) ? 1 : 0;
        links += is_link(kind) ? 1 : 0;
      }
      const auto widen = [&](DomainRow::Extent& e, std::uint32_t v) {
        e.min = first ? v : std::min(e.min, v);
        e.max = first ? v : std::max(e.max, v);
      };
      widen(row.nodes, nodes);
      widen(row.gpus, gpus);
      widen(row.switches, switches);
      widen(row.links, links);
      first = false;
    }
    out.push_back(row);
  }
  return out;
}

}  // namespace

Analysis analyse(const Topology& topology, const Placement& placement) {
  std::vector<Cut> cuts;
  for (const InstanceNodes& i : placement.instances) {
    const bool two_sides = !i.prefill.empty() && !i.decode.empty();
    cuts.push_back(two_sides ? min_cut(topology, i.prefill, i.decode) : Cut{});
  }
  return {.domains = domains_of(topology),
          .single_points = single_points(topology),
          .instance_cuts = std::move(cuts),
          .bisection = bisection(topology),
          .blast = Blast(topology, placement)};
}

}  // namespace faultline::topology
