// An experiment: hardware, fleet, model, engine, load, faults and policies in one YAML file. Every default is visible
// with `faultline check FILE --resolved`, whose output reads back to the same experiment.
//
//   name: smoke/leaf_down
//   question: What does one rail leaf cost a fleet of 2P2D instances?
//   seed: 1
//   topology: ../../topologies/fleets/mi300x_16_nodes.yaml
//   model: ../../topologies/models/deepseek-v3.yaml
//   device: ../../topologies/devices/mi300x.yaml
//   fleet: {instances: 4, layout: 2P2D, prefill: {dp: 16, ep: 16}, decode: {dp: 16, ep: 16}, restart_unit: instance}
//   engine: ../../topologies/engines/sglang.yaml
//   workload: {arrivals: {kind: poisson, rate: 8}, lengths: {kind: azure_conversation}, duration: 300 s}
//   faults: [{kind: switch.down, target: leaf-0, at: 60 s, duration: 60 s}]
//   recovery: {policy: restart}
//
// Several models on the same hardware, with one pool of spare nodes (core/experiment/fleets.h), instead of model, fleet
// and workload:
//
//   pool: {spare_nodes: 2}
//   fleets:
//     - {name: chat, model: …, fleet: {…}, workload: {…}}
//     - {name: code, model: …, engine: …, fleet: {…}, workload: {…}}
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/calibration/calibration.h"
#include "core/control/node_agent.h"
#include "core/control/specs.h"
#include "core/experiment/candidates.h"
#include "core/fault/rare.h"
#include "core/fault/spec.h"
#include "core/model/device.h"
#include "core/model/experts.h"
#include "core/model/plan.h"
#include "core/model/shape.h"
#include "core/topology/placement_spec.h"
#include "core/topology/spec.h"
#include "core/workload/spec.h"

namespace faultline::experiment {

/// Nodes of one instance by role, written xPyD; a node that does both roles is PD: 2P2D, 25P25D, 1PD, 4PD.
struct InstanceLayout {
  std::uint32_t prefill = 2, decode = 2, mixed = 0;
  std::string text() const;
  static std::optional<InstanceLayout> parse(const std::string& text);
};

struct FleetSpec {
  std::uint32_t instances = 1;
  InstanceLayout layout;
  /// Of one group; a role runs as many groups as its nodes hold. `both` is used by PD nodes.
  model::ParallelPlan prefill, decode, both;
  control::RestartUnit restart_unit = control::RestartUnit::instance;
  std::uint32_t spare_nodes = 0;
  std::uint32_t spare_instances = 0;
  topology::PlacementRule placement = topology::PlacementRule::pack;
  topology::RouterPlacement router_placement = topology::RouterPlacement::hosts;
};

/// One of several fleets that share hardware and spare nodes: what it serves, with what, for whom.
struct FleetMember {
  std::string name;
  model::ModelShape model;
  control::EngineSpec engine;
  FleetSpec fleet;  // without spare nodes: these are the pool's
  workload::WorkloadSpec workload;
  config::Mark mark;
};

/// Traffic of others on links of the fabric: what it takes, KV transfers and expert exchange do not have.
///   background: [{target: "leaf-0", share: 0.25}, {target: "node-*.nic-*", rate: 100 Gb/s}]
struct BackgroundTraffic {
  std::string target;           // a link, a NIC (its cables), a switch (all its links), a node; * is any text
  std::optional<double> share;  // of each such link's capacity, per direction, in (0, 0.95]; or
  std::optional<BytesPerSecond> rate;
  config::Mark mark;
};

/// Faults of the control plane's and the network's timing that belong to no single component.
struct NetworkSpec {
  /// RC retransmission: a broken path is reported after (retry + 1) * 4.096 us * 2^timeout (InfiniBand specification,
  /// vol. 1, 9.7.6.1.3). Defaults 14 and 7 are what MoRI and Mooncake set.
  std::int32_t rdma_timeout = 14;
  std::int32_t rdma_retry = 7;
  std::vector<BackgroundTraffic> background;
  Duration retransmission_budget() const {
    return Duration{(std::int64_t{rdma_retry} + 1) * 4096 * (std::int64_t{1} << rdma_timeout)};
  }
};

struct CostSpec {
  double gpu_hour = 2.0;  // price of one GPU-hour, in any currency; assumed, set your own
};

/// How finely a run looks: `step` simulates requests and steps, `fluid` the states of instances over months.
enum class Fidelity : std::uint8_t { step, fluid };
constexpr std::array<std::string_view, 2> enum_names(const Fidelity*) { return {"step", "fluid"}; }

/// Where a fluid run takes detection and recovery times from: closed forms of the same settings, or step runs around
/// one fault of each kind, measured once and kept.
enum class FluidEffects : std::uint8_t { formula, step };
constexpr std::array<std::string_view, 2> enum_names(const FluidEffects*) { return {"formula", "step"}; }

struct FluidSpec {
  FluidEffects effects = FluidEffects::formula;
  std::int64_t repair_crews = 0;  // hardware repairs at a time; 0: no limit
  /// Of the capacity that the closed forms give: what step runs hold of it (`faultline plan` measures it).
  double capacity_factor = 1;
};

/// Which experts tokens choose, and where the engine puts them (EPLB).
struct ExpertsSpec {
  model::PopularitySpec popularity;
  model::BalanceSpec balance;
};

struct ExperimentSpec {
  std::string name;
  std::string question;
  std::string answer;  // what the run is expected to show
  std::uint64_t seed = 1;
  Fidelity fidelity = Fidelity::step;
  FluidSpec fluid;
  std::optional<Duration> end;  // the run stops here whatever is left; none: when all requests have ended
  topology::TopologySpec topology;
  model::ModelShape model;
  model::DeviceSpec device;
  /// Prices of operations fitted to measurements (`calibration: FILE`); without it the device's roofline prices them.
  std::optional<calibration::Calibration> calibration;
  control::EngineSpec engine;
  FleetSpec fleet;
  ExpertsSpec experts;
  control::RouterSpec router;
  control::TimingSpec timing;
  control::TransferSpec transfer;
  NetworkSpec network;
  control::DetectorSpec detector;
  control::RecoverySpec recovery;
  Duration router_restart{5'000'000'000};
  control::AutoscalerSpec autoscaler;
  workload::WorkloadSpec workload;
  /// `faults: [ … ]` with the windows of `maintenance:` (core/experiment/calendar.h), or `faults: {campaign: FILE}` for
  /// a campaign that makes one list (core/fault/campaign.h).
  std::vector<fault::FaultSpec> faults;
  fault::SamplingSpec sampling;  // how random faults are drawn
  RiskGroups risk;               // shared-risk groups that the topology does not state
  CostSpec cost;
  /// Of `fleets:`, the first is this spec's own model, engine, fleet and workload (its fleet holds the pool, too), and
  /// the others follow here. Empty name and list: the file has one `fleet:`.
  std::string fleet_name;
  std::vector<FleetMember> other_fleets;
  // Where the parts came from, for reports and errors.
  std::string folder;  // of the experiment file, "" for none; relative paths start there
  config::Mark fleet_mark;
};

void describe(config::Fields& f, FleetSpec& s);
void describe(config::Fields& f, BackgroundTraffic& s);
void describe(config::Fields& f, NetworkSpec& s);
void describe(config::Fields& f, ExpertsSpec& s);
void describe(config::Fields& f, CostSpec& s);
void describe(config::Fields& f, FluidSpec& s);

/// What the command line changes.
struct Overrides {
  std::vector<std::string> set;      // "fleet.instances=8"
  std::optional<std::string> trace;  // --trace FILE
  std::optional<std::uint64_t> seed;
};

/// Reads an experiment. Files it names are read through `reader`, relative to the experiment's folder. Throws
/// config::ConfigError with every error found.
ExperimentSpec load(const std::string& text, const std::string& file, const Overrides& overrides,
                    const config::FileReader& reader);

/// The complete experiment as YAML, everything inline, no file named but traces.
std::string resolved(const ExperimentSpec& spec);

}  // namespace faultline::experiment
