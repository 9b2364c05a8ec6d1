#include "core/experiment/fleets.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/hash.h"
#include "core/workload/merged.h"

namespace faultline::experiment {

const std::string& fleet_name(const ExperimentSpec& spec, std::size_t k) {
  return k == 0 ? spec.fleet_name : spec.other_fleets[k - 1].name;
}
const model::ModelShape& model_of(const ExperimentSpec& spec, std::size_t k) {
  return k == 0 ? spec.model : spec.other_fleets[k - 1].model;
}
const FleetSpec& fleet_of(const ExperimentSpec& spec, std::size_t k) {
  return k == 0 ? spec.fleet : spec.other_fleets[k - 1].fleet;
}
const workload::WorkloadSpec& workload_of(const ExperimentSpec& spec, std::size_t k) {
  return k == 0 ? spec.workload : spec.other_fleets[k - 1].workload;
}

ExperimentSpec one_fleet(const ExperimentSpec& spec, std::size_t k) {
  ExperimentSpec one = spec;
  one.other_fleets.clear();
  if (k == 0) return one;
  const FleetMember& m = spec.other_fleets[k - 1];
  one.fleet_name = m.name;
  one.model = m.model;
  one.engine = m.engine;
  one.workload = m.workload;
  one.fleet = m.fleet;
  one.fleet.spare_nodes = spec.fleet.spare_nodes;
  one.fleet.placement = spec.fleet.placement;
  one.fleet.router_placement = spec.fleet.router_placement;
  one.fleet_mark = m.mark;
  return one;
}

std::optional<Duration> load_duration(const ExperimentSpec& spec) {
  std::optional<Duration> last = spec.workload.duration;
  for (const FleetMember& m : spec.other_fleets) {
    if (!last || !m.workload.duration) return std::nullopt;
    last = std::max(*last, *m.workload.duration);
  }
  return last;
}

std::unique_ptr<workload::ArrivalSource> make_arrivals(const ExperimentSpec& spec, const config::FileReader& reader,
                                                       config::Diagnostics& diagnostics) {
  auto first = workload::make_source(spec.workload, spec.seed, reader, diagnostics);
  if (spec.other_fleets.empty()) return first;
  std::vector<workload::MergedPart> parts;
  bool whole = first != nullptr;
  std::size_t classes = spec.workload.slo.size();
  parts.push_back({std::move(first), 0});
  for (const FleetMember& m : spec.other_fleets) {
    // By name: what one fleet is asked does not depend on which others there are.
    auto source = workload::make_source(m.workload, hash_combine(spec.seed, hash_text(m.name)), reader, diagnostics);
    whole &= source != nullptr;
    parts.push_back({std::move(source), static_cast<std::uint8_t>(classes)});
    classes += m.workload.slo.size();
  }
  return whole ? workload::merge(std::move(parts)) : nullptr;
}

void needs_one_fleet(const ExperimentSpec& spec, std::string_view what) {
  if (spec.other_fleets.empty()) return;
  config::Diagnostics diagnostics;
  diagnostics.error(spec.other_fleets.front().mark,
                    fmt::format("{} has one fleet, this experiment has {}", what, fleet_count(spec)),
                    "give each fleet a file of its own with 'model', 'fleet' and 'workload'");
  diagnostics.throw_if_any();
}

}  // namespace faultline::experiment
