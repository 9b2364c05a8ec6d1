// faultline faults: the kinds of fault, what they need, what systems see of them, and whether the simulator has them.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "cli/faults.h"
#include "core/fault/catalogue.h"
#include "sim/faults/support.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string kind, catalogue;
};

constexpr std::string_view parameters_text(fault::Parameters p) {
  switch (p) {
    case fault::Parameters::none: return "none";
    case fault::Parameters::slowdown: return "factor (above 1: times as slow)";
    case fault::Parameters::share: return "factor (0 to 1: share that remains)";
    case fault::Parameters::flap: return "down, up, cycles";
    case fault::Parameters::loss: return "loss (0 to 1: share of the packets)";
    case fault::Parameters::contained: return "contained (0 to 1: chance that only the process dies)";
    case fault::Parameters::cooling: return "factor (above 1), shutdown_after";
    case fault::Parameters::drain: return "drain (from the notice to the shutdown)";
  }
  return "";
}

void print(const fault::KindInfo& k, const fault::Catalogue* catalogue) {
  std::string targets;
  for (const auto target : k.targets) targets += (targets.empty() ? "" : ", ") + std::string(name_of(target));
  const std::string_view missing = sim::why_not_simulated(k.kind);
  fmt::print(
      "{}\n  targets     {}\n  parameters  {}{}\n  effect      {}\n  observed    {}\n  simulated   {}\n  live        "
      "class {}{}\n",
      name_of(k.kind), targets.empty() ? "anything or nothing" : targets, parameters_text(k.parameters),
      k.takes_duration ? "; duration or repair" : "", k.effect, k.observed,
      missing.empty() ? std::string("yes") : fmt::format("no: {}", missing),
      enum_names(static_cast<const fault::SafetyClass*>(nullptr))[static_cast<std::size_t>(k.safety)],
      k.process_only ? ", the hardware stays healthy" : "");
  if (catalogue) {
    for (const auto& entry : catalogue->kinds) {
      if (entry.kind == k.kind)
        fmt::print("              {}; undo: {}; proof: {}\n", entry.live.inject, entry.live.undo, entry.live.proof);
    }
  }
  fmt::print("\n");
}

int run(const Options& o) {
  fault::Catalogue catalogue;
  if (!o.catalogue.empty()) {
    config::Diagnostics diagnostics;
    const config::Document document(must_read_file(o.catalogue), o.catalogue, diagnostics);
    if (diagnostics.ok()) config::read(document, document.root(), "", catalogue, diagnostics);
    diagnostics.throw_if_any();
  }
  std::vector<std::string> names;
  bool found = false;
  for (const fault::KindInfo& k : fault::catalogue()) {
    names.emplace_back(name_of(k.kind));
    if (!o.kind.empty() && o.kind != name_of(k.kind)) continue;
    found = true;
    print(k, o.catalogue.empty() ? nullptr : &catalogue);
  }
  if (!found) {
    throw config::ConfigError(fmt::format("error: unknown fault kind '{}'\n  known kinds: {} {}\n", o.kind,
                                          config::name_list(names, names.size()), config::did_you_mean(o.kind, names)));
  }
  return 0;
}

const Registration kFaults{{.order = 55,
                            .name = "faults",
                            .help = "List the kinds of fault and what is known of them",
                            .setup = [](CLI::App& app) -> std::function<int()> {
                              auto o = std::make_shared<Options>();
                              app.add_option("kind", o->kind, "One kind, such as switch.down");
                              app.add_option("--catalogue", o->catalogue,
                                             "Add the live recipes of this file (faults/catalogue.yaml)");
                              auto* fit = app.add_subcommand("fit", "Make a rate profile from a failure log");
                              const auto run_fit = add_faults_fit(*fit);
                              return [o, fit, run_fit] { return fit->parsed() ? run_fit() : run(*o); };
                            }}};

}  // namespace
}  // namespace faultline::cli
