// What a shape of an instance really serves within the SLO: the closed forms of core/fluid/capacity.h, put right by
// step runs. They leave out the tail of the prompts' lengths, unequal queues of instances and hand-offs, so near
// saturation they promise too much; by how much depends on the shape.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/plan/plan.h"

namespace faultline::plan {

/// A step run of a few instances of a shape under a plan's load: four minutes of Poisson arrivals, nothing failing;
/// with `hit`, one decode GPU dies after 30 s.
experiment::ExperimentSpec step_experiment(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                           const Fleet& fleet, std::int64_t instances, double requests_per_s, bool hit);
/// Instances of such a run: enough to share load, few enough to be quick.
std::int64_t step_instances(std::int64_t of_fleet);

/// Share of the requests within the SLO, of those that ended, from a summary.
double within_slo(const nlohmann::json& summary);

struct Calibration {
  double factor = 1;      // of the closed form's capacity: the largest at which a step run holds the SLO
  double attainment = 0;  // there
  std::int64_t runs = 0;
  std::string refusal;  // why there is none
};

/// The largest factor at which `attainment_at` is at least `wanted`, within 4 %: outwards from 1, then by bisection. A
/// tenth of the closed form's capacity that still fails is a refusal: then it is not the load that misses the SLO. The
/// probe says nothing (nullopt) where a run failed; that counts as not held.
Calibration calibrate(double wanted, const std::function<std::optional<double>(double factor)>& attainment_at);

nlohmann::ordered_json to_json(const Calibration& c);
Calibration calibration_from(const nlohmann::json& json);

}  // namespace faultline::plan
