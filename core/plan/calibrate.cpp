#include "core/plan/calibrate.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::plan {

experiment::ExperimentSpec step_experiment(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                           const Fleet& fleet, std::int64_t instances, double requests_per_s,
                                           bool hit) {
  experiment::ExperimentSpec spec = experiment_of(plan, base, fleet, {});
  spec.fidelity = experiment::Fidelity::step;
  spec.fluid = {};
  spec.sampling = {};
  spec.fleet.instances = static_cast<std::uint32_t>(instances);
  spec.fleet.spare_nodes = std::min<std::uint32_t>(spec.fleet.spare_nodes, 1);
  spec.fleet.spare_instances = std::min<std::uint32_t>(spec.fleet.spare_instances, 1);
  const auto per_instance = static_cast<std::uint32_t>(fleet.nodes() / fleet.instances);
  spec.topology.nodes = per_instance * (spec.fleet.instances + spec.fleet.spare_instances) + spec.fleet.spare_nodes;
  spec.workload.trace.reset();
  spec.workload.arrivals = {};
  spec.workload.arrivals.rate = requests_per_s;
  spec.workload.rate_scale = 1;
  spec.workload.duration = Duration{240'000'000'000};
  spec.end = spec.workload.duration;
  spec.faults.clear();
  if (hit) {
    fault::FaultSpec f;
    f.id = "gpu";
    f.kind = fault::FaultKind::gpu_failstop;
    f.target = spec.fleet.layout.mixed > 0 ? "inst-0.m-0.gpu-0" : "inst-0.d-0.gpu-0";
    f.at = Instant{30'000'000'000};
    spec.faults = {f};
  }
  return spec;
}

std::int64_t step_instances(std::int64_t of_fleet) { return std::min<std::int64_t>(4, of_fleet); }

double within_slo(const nlohmann::json& summary) {
  double met = 0, ended = 0;
  for (const auto& c : summary.at("slo_classes")) {
    met += c.at("met").get<double>();
    ended += c.at("arrived").get<double>();
  }
  ended -= summary.at("requests").at("unfinished").get<double>();
  return ended > 0 ? std::min(1.0, met / ended) : 0;
}

Calibration calibrate(double wanted, const std::function<std::optional<double>(double factor)>& attainment_at) {
  constexpr double kStep = 1.2, kClose = 1.04, kLeast = 0.1, kMost = 2.5;
  Calibration c;
  double holds = 0, fails = 0, nearest = 0;  // 0: not known yet
  const auto probe = [&](double factor) {
    ++c.runs;
    const double share = attainment_at(factor).value_or(0);
    nearest = std::max(nearest, share);
    if (share >= wanted) {
      holds = factor;
      c.attainment = share;
    } else {
      fails = factor;
    }
  };
  probe(1);
  while (fails == 0 && holds * kStep <= kMost) probe(holds * kStep);
  // Two steps at a time at first: where 1 fails by far, so do its neighbours.
  while (holds == 0 && fails > kLeast) probe(std::max(kLeast, fails / (fails < 0.6 ? kStep * kStep : kStep)));
  if (holds == 0) {
    c.factor = 0;
    c.refusal = fmt::format(
        "with nothing failing, {:.2f} % of the requests are within the SLO even at a tenth of its capacity, {:.2f} % "
        "are "
        "wanted: the limits are too strict for this shape, or the prompts too long",
        100 * nearest, 100 * wanted);
    return c;
  }
  while (fails > 0 && fails / holds > kClose) probe((holds + fails) / 2);
  c.factor = holds;
  return c;
}

nlohmann::ordered_json to_json(const Calibration& c) {
  return {{"factor", c.factor}, {"attainment", c.attainment}, {"runs", c.runs}, {"refusal", c.refusal}};
}

Calibration calibration_from(const nlohmann::json& j) {
  return {j.at("factor"), j.at("attainment"), j.at("runs"), j.at("refusal")};
}

}  // namespace faultline::plan
