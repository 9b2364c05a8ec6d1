#include "core/metrics/fleets.h"

namespace faultline::metrics {
namespace {

/// Fleet of a class: classes of a fleet are numbered on from its first.
std::size_t fleet_of_class(const record::RunRecord& run, std::uint8_t slo_class) {
  std::size_t k = 0;
  while (k + 1 < run.fleets.size() && run.fleets[k + 1].first_class <= slo_class) ++k;
  return k;
}

}  // namespace

std::vector<FleetFigures> fleet_figures(const record::RunRecord& run, const Options& options) {
  std::vector<FleetFigures> out;
  std::vector<record::RunRecord> parts(run.fleets.size());
  for (std::size_t k = 0; k < parts.size(); ++k) {
    const record::FleetPart& f = run.fleets[k];
    record::RunRecord& part = parts[k];
    part.experiment = run.experiment;
    part.seed = run.seed;
    part.begin = run.begin;
    part.end = run.end;
    part.gpus = f.gpus;
    part.spare_gpus = f.spare_gpus;
    part.instances = f.instances;
    part.prefill_nodes = f.prefill_nodes;
    part.decode_nodes = f.decode_nodes;
    const auto first = static_cast<std::size_t>(f.first_class);
    const std::size_t last = k + 1 < run.fleets.size() ? static_cast<std::size_t>(run.fleets[k + 1].first_class)
                                                       : run.slo_class_names.size();
    for (std::size_t c = first; c < last; ++c) {
      part.slo_class_names.push_back(run.slo_class_names[c]);
      part.slo_ttft.push_back(run.slo_ttft[c]);
      part.slo_tpot.push_back(run.slo_tpot[c]);
    }
  }
  for (const record::RequestRecord& r : run.requests) {
    if (parts.empty()) break;
    const std::size_t k = fleet_of_class(run, r.slo_class);
    record::RequestRecord& mine = parts[k].requests.emplace_back(r);
    mine.slo_class = static_cast<std::uint8_t>(r.slo_class - run.fleets[k].first_class);
  }
  for (std::size_t k = 0; k < parts.size(); ++k) {
    FleetFigures f;
    f.name = run.fleets[k].name;
    f.model = run.fleets[k].model;
    f.summary = summarise(parts[k], options);
    for (const record::SpareTaken& s : run.spares_taken) {
      if (run.fleet_of[s.instance.v] != k) continue;
      ++(s.node < 0 ? f.standbys_taken : f.spare_nodes_taken);
    }
    out.push_back(std::move(f));
  }
  return out;
}

std::vector<SpareUse> spare_uses(const record::RunRecord& run) {
  std::vector<SpareUse> out;
  if (run.fleets.empty()) return out;
  for (const record::SpareTaken& s : run.spares_taken)
    out.push_back({s.at, run.fleets[run.fleet_of[s.instance.v]].name, s.instance, s.node});
  return out;
}

}  // namespace faultline::metrics
