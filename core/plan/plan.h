// Planning a fleet: for a load, an SLO, an availability target, prices and a rate profile, the cheapest fleet that
// holds them, with its EP width, prefill:decode split, headroom and spares; what comes next, and why it lost.
//
//   name: plans/chat
//   experiment: ../smoke/gpu_failstop.yaml     # load, SLO, model, device, engine, policy, fabric; its fleet is not
//   used target: 0.999          # of the time with capacity for the load, and of the requests that failures leave in
//   the SLO within_slo: 0.99       # of the requests at the peak load with nothing failing profiles: [ibm-vela,
//   llama3-h100-all, rsc1-a100-small]   # faults/profiles/NAME.yaml, or files decode_widths: [8, 16, 32, 64] # GPUs of
//   a decode group (EP = DP) prefill_widths: [8] period: 365 d seeds: 4
//
// A task is the search over (instances, spares) of one layout under one profile; it depends on nothing else, so that
// tasks run anywhere, in any order, and are kept under a hash of what they depend on.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/spec.h"
#include "core/fault/rates.h"
#include "core/fluid/prices.h"
#include "core/fluid/simulate.h"

namespace faultline::plan {

struct PlanSpec {
  std::string name;
  std::string experiment;  // path, as the reader takes it
  double target = 0.999;
  std::vector<std::string> profiles{"ibm-vela", "llama3-h100-all", "rsc1-a100-small"};
  std::vector<std::int64_t> decode_widths{8, 16, 32, 64}, prefill_widths{8};
  Duration period{std::int64_t{365} * 86'400 * 1'000'000'000};
  std::int64_t seeds = 4;
  std::int64_t spares_max = 16;
  std::int64_t verify = 2;  // cheapest plans of a profile that step runs check
  /// Share of requests that are to be within the SLO limits at the peak load with nothing failing: a limit at the 99th
  /// percentile. `target` is what failures leave of that.
  double within_slo = 0.99;
};
void describe(config::Fields& f, PlanSpec& s);
/// A file that is itself an experiment is planned with the defaults. Throws config::ConfigError.
PlanSpec load_plan(const std::string& text, const std::string& file);

/// The shape of an instance: nodes by role and the width of their groups.
struct Shape {
  experiment::InstanceLayout layout;
  std::int64_t prefill_width = 8, decode_width = 8;  // `both` takes the decode width
  std::string text() const;                          // "2P2D, prefill EP8, decode EP16"
};
/// Shapes whose prefill and decode sides fit each other: for every width one or two decode groups, and the prefill
/// nodes that their rate needs, rounded down and up. In the order of widths. A shape that cannot run is there with its
/// reason.
struct ShapeChoice {
  Shape shape;
  double requests_per_s = 0;  // of one instance, within the SLO: the closed form's, times the factor
  double factor = 1;          // that step runs hold of it (core/plan/calibrate.h)
  std::string refusal;
};
std::vector<ShapeChoice> shapes_of(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                   const fluid::Load& load);

struct Fleet {
  Shape shape;
  std::int64_t instances = 1, spares = 0;  // spare nodes; spare instances where the policy is spare_instance
  std::int64_t needed = 1;                 // instances that carry the peak load when nothing fails
  std::int64_t nodes() const { return instances * (shape.layout.prefill + shape.layout.decode + shape.layout.mixed); }
};
/// The experiment of a fleet at fluid fidelity under a profile.
experiment::ExperimentSpec experiment_of(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                         const Fleet& fleet, const fault::RateProfile& profile);

/// What a change of one assumption does: multiplies the rates, the load, the restart and repair times, the limits.
struct Change {
  std::string name;  // "rates x 2"; empty: none
  double rates = 1, load = 1, restart = 1, repair = 1, tpot = 1;
  double target = 0;  // instead of the plan's; 0: the plan's
};
std::vector<Change> changes();
void apply(const Change& change, PlanSpec& plan, experiment::ExperimentSpec& base, fault::RateProfile& profile);

struct Evaluated {
  Fleet fleet;
  double availability = 0, attainment = 0;  // means over the seeds
  double failed_per_month = 0, hit_per_month = 0, lost_gpu_h_per_month = 0, late_per_month = 0;
  double per_hour = 0;                             // of the fleet, credits included
  double input_1m = 0, output_1m = 0;              // cost of a million tokens within the SLO, with failures …
  double input_1m_clean = 0, output_1m_clean = 0;  // … and of this fleet without them
  double held() const { return std::min(availability, attainment); }
};
nlohmann::ordered_json to_json(const Evaluated& e);
Evaluated evaluated_from(const nlohmann::json& json);

struct Search {
  std::optional<Evaluated> best;  // the cheapest that holds the target
  Evaluated nearest;              // where there is none: the one that came nearest
  std::int64_t evaluations = 0;
  std::string refusal;  // why there is none
};
/// The cheapest number of instances and spares of one shape. Fleets are tried in the order of their price; one that has
/// no more of anything than one that failed is not tried. `at_least`: instances more than the load needs (a step run
/// showed that fewer are too few).
Search search(const PlanSpec& plan, const experiment::ExperimentSpec& base, const ShapeChoice& shape,
              const fault::RateProfile& profile, const fluid::Prices& prices, const fluid::Load& load,
              std::int64_t at_least = 0);
nlohmann::ordered_json to_json(const Search& s);
Search search_from(const nlohmann::json& json);

/// Why `other` costs more than `best`, in words.
std::string why_it_lost(const Evaluated& best, const ShapeChoice& best_shape, const Evaluated& other,
                        const ShapeChoice& other_shape);

}  // namespace faultline::plan
