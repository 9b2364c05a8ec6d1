// Several fleets in one experiment: each has its own model, engine, plans and load; the topology, the routers, the
// fleet manager with its recovery policy, and the pool of spare nodes are common. A spare node holds no weights:
// whichever fleet takes it loads its own model onto it, by all phases of its engine's start. A spare instance belongs
// to the fleet whose model it holds.
//
// Numbers run over all fleets in their order: instances (inst-0 …, then the spare ones), and SLO classes, by which a
// router knows the model that a request is for.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "core/experiment/spec.h"
#include "core/workload/arrival.h"

namespace faultline::experiment {

inline std::size_t fleet_count(const ExperimentSpec& spec) { return 1 + spec.other_fleets.size(); }
/// Name of fleet `k`; "" for an experiment with one `fleet:`.
const std::string& fleet_name(const ExperimentSpec& spec, std::size_t k);
const model::ModelShape& model_of(const ExperimentSpec& spec, std::size_t k);
const FleetSpec& fleet_of(const ExperimentSpec& spec, std::size_t k);
const workload::WorkloadSpec& workload_of(const ExperimentSpec& spec, std::size_t k);

/// The experiment as if fleet `k` were its only one, the whole pool of spare nodes included.
ExperimentSpec one_fleet(const ExperimentSpec& spec, std::size_t k);

/// The end of the last load; none: some load has none but its number of requests or its trace.
std::optional<Duration> load_duration(const ExperimentSpec& spec);

/// The requests of all fleets. Loads are drawn apart from each other. Null with errors in `diagnostics`, as
/// workload::make_source.
std::unique_ptr<workload::ArrivalSource> make_arrivals(const ExperimentSpec& spec, const config::FileReader& reader,
                                                       config::Diagnostics& diagnostics);

/// Throws config::ConfigError where the experiment has several fleets: `what` (such as "fluid fidelity") knows one.
void needs_one_fleet(const ExperimentSpec& spec, std::string_view what);

}  // namespace faultline::experiment
