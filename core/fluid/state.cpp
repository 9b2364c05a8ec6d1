#include "core/fluid/state.h"

#include <fmt/format.h>

namespace faultline::fluid {

void describe(config::Fields& f, InstanceDown& s) {
  f.required("instance", s.instance, config::kNotNegative);
  f.field("back_in", s.back_in, config::kNotNegative);
}

void describe(config::Fields& f, Cordoned& s) {
  f.required("node", s.node);
  f.field("back_in", s.back_in, config::kNotNegative);
  if (f.reading()) s.mark = f.mark("node");
}

void describe(config::Fields& f, StartState& s) {
  f.field("load", s.load, config::kPositive);
  f.list("instances_down", s.instances_down);
  f.list("cordoned", s.cordoned);
  f.field("spares_used", s.spares_used, config::kNotNegative);
  f.field("spares_back_in", s.spares_back_in, config::kNotNegative);
}

StartState load_state(const std::string& text, const std::string& file, const experiment::Deployment& d) {
  config::Diagnostics diagnostics;
  const config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  StartState state;
  config::read(document, document.root(), "", state, diagnostics);
  const topology::Names names(d.topology, d.placement);
  for (Cordoned& c : state.cordoned) {
    const auto component = names.resolve(c.node);
    if (component && d.topology.graph[*component].kind == topology::Kind::node) {
      c.id = d.topology.node_of(*component);
      continue;
    }
    const auto unknown = names.unknown(c.node);
    if (component) diagnostics.error(c.mark, fmt::format("'{}' is not a node", c.node));
    else diagnostics.error(c.mark, unknown.message, unknown.note);
  }
  for (const InstanceDown& i : state.instances_down) {
    if (i.instance >= d.placement.instances.size()) {
      diagnostics.error({file, 0, 0},
                        fmt::format("instances_down: there is no instance {}, the fleet has {}", i.instance,
                                    d.placement.instances.size()),
                        "instances count from 0");
    }
  }
  if (state.spares_used > d.fleet.spare_nodes.size()) {
    diagnostics.error({file, 0, 0}, fmt::format("spares_used is {}, but the fleet has {} spare nodes",
                                                state.spares_used, d.fleet.spare_nodes.size()));
  }
  diagnostics.throw_if_any();
  return state;
}

}  // namespace faultline::fluid
