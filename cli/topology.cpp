// faultline topology FILE: failure domains, single points of failure, cuts, what each component can hurt, pictures.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "core/topology/analysis.h"
#include "core/topology/picture.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string file;
  bool json = false;
  bool resolved = false;
  std::string dot, svg, component;
  std::optional<std::uint32_t> instances, prefill_nodes, decode_nodes, mixed_nodes, spare_nodes;
  std::optional<std::string> rule;
  std::vector<std::string> set;
};

int run(const Options& o) {
  config::Diagnostics diagnostics;
  config::Document document(must_read_file(o.file), o.file, diagnostics);
  diagnostics.throw_if_any();
  for (const std::string& assignment : o.set) document.set(assignment, diagnostics);
  const auto set = [&](const char* key, const auto& value) {
    if (value) document.set(fmt::format("placement.{}={}", key, *value), diagnostics);
  };
  set("instances", o.instances);
  set("prefill_nodes", o.prefill_nodes);
  set("decode_nodes", o.decode_nodes);
  set("mixed_nodes", o.mixed_nodes);
  set("spare_nodes", o.spare_nodes);
  set("rule", o.rule);
  diagnostics.throw_if_any();
  topology::TopologySpec spec = topology::read_topology(document, document.root(), "", read_file, diagnostics);
  diagnostics.throw_if_any();
  if (o.resolved) {
    YAML::Emitter emitter;
    config::print(emitter, spec);
    fmt::print("{}\n", emitter.c_str());
    return 0;
  }
  const topology::Topology built = topology::build(spec);
  const YAML::Node at = static_cast<const YAML::Node&>(document.root())["placement"];
  const config::Mark mark = at.IsDefined() ? document.mark(at) : config::Mark{o.file, 0, 0};
  const topology::Placement placement = topology::place(built, spec.placement, mark, diagnostics);
  diagnostics.throw_if_any();
  if (!o.dot.empty()) write_file(o.dot, topology::to_dot(built, placement));
  if (!o.svg.empty()) write_file(o.svg, topology::to_svg(built, placement));
  const topology::Analysis analysis = topology::analyse(built, placement);
  if (!o.component.empty()) {
    const topology::Names names(built, placement);
    const auto id = names.resolve(o.component);
    if (!id) {
      auto [message, note] = names.unknown(o.component);
      diagnostics.error({"--component", 0, 0}, std::move(message), std::move(note));
      diagnostics.throw_if_any();
    }
    fmt::print("{}", topology::component_text(built, placement, analysis, *id));
    return 0;
  }
  if (o.json) fmt::print("{}\n", topology::to_json(built, placement, analysis).dump(1));
  else fmt::print("{}", topology::to_text(built, placement, analysis));
  return 0;
}

const Registration kTopology{
    {.order = 40,
     .name = "topology",
     .help = "Analyse a cluster: failure domains, cuts, what can hurt what",
     .setup = [](CLI::App& app) -> std::function<int()> {
       auto o = std::make_shared<Options>();
       app.add_option("file", o->file, "topology YAML (topologies/README.md)")->required();
       app.add_flag("--json", o->json, "everything as JSON instead of text");
       app.add_flag("--resolved", o->resolved, "print the topology with every default and stop");
       app.add_option("--component", o->component, "one component instead: leaf-0, inst-0.d-1.gpu-3, …");
       app.add_option("--dot", o->dot, "write a Graphviz picture to this file");
       app.add_option("--svg", o->svg, "write an SVG picture to this file");
       app.add_option("--instances", o->instances, "instances to place; 0: as many as fit");
       app.add_option("--prefill-nodes", o->prefill_nodes, "prefill nodes of an instance");
       app.add_option("--decode-nodes", o->decode_nodes, "decode nodes of an instance");
       app.add_option("--mixed-nodes", o->mixed_nodes, "nodes of an instance that prefill and decode");
       app.add_option("--spare-nodes", o->spare_nodes, "nodes kept free");
       app.add_option("--rule", o->rule, "pack, spread or rack_aligned");
       app.add_option("--set", o->set, "set any field, such as fabric.oversubscription=2 (repeatable)")
           ->allow_extra_args(false);
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
