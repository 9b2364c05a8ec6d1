// What an expert-parallel group does to its experts when ranks leave or come back, or when their popularity drifts:
// the new placement, the bytes that it moves from where, and the time that this takes. Pure functions of the placement,
// the settings and the rates of links and disks; the same in simulation and live. Equations: docs/recovery.md
// section 2.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/quantity.h"
#include "core/control/specs.h"
#include "core/model/experts.h"

namespace faultline::control {

/// Rates of the hardware for one GPU, one direction.
struct RepairRates {
  BytesPerSecond xgmi, nic;
};

struct RepairTime {
  Duration peer, host, disk;  // one after the other: copies between GPUs, hosts' copies, disk
  Duration total() const { return peer + host + disk; }
};
/// The slowest GPU or node decides each part.
RepairTime repair_time(const model::RepairCount& count, const ElasticSpec& spec, const RepairRates& rates);

/// The experts of one role's groups.
class ExpertPlanner {
 public:
  /// Preconditions: plan.exchanges(), plan_problems() is empty.
  ExpertPlanner(model::ModelShape shape, model::DeviceSpec device, model::ParallelPlan plan,
                model::PopularitySpec popularity, model::BalanceSpec balance, ElasticSpec elastic, RepairRates rates,
                std::uint64_t seed);

  struct Change {
    model::ExpertPlacement placement;
    model::RepairCount count;
    RepairTime time;
    double imbalance = 1;
    std::int64_t missing = 0;  // (layer, expert) pairs without a copy
  };
  /// The placement at the start.
  const Change& initial() const { return initial_; }
  /// Ranks' GPUs that are gone (`gone`, by GPU of the group) leave, or such as were gone come back. repair: all slots
  /// of the survivors are placed anew and every expert is brought back; else the slots stay as they are and experts
  /// without a copy are missing. Precondition of repair (asserted): can_repair(gone).
  Change reform(const model::ExpertPlacement& before, const std::vector<bool>& gone, Instant now, bool repair) const;
  bool can_repair(const std::vector<bool>& gone) const;
  /// The placement as it is, at the popularity of `now`.
  double imbalance(const model::ExpertPlacement& placement, const std::vector<bool>& gone, Instant now) const;
  /// Fewest GPUs whose slots hold every expert.
  std::int64_t gpus_min() const;
  const model::PopularitySpec& popularity_spec() const { return popularity_; }
  const model::BalanceSpec& balance() const { return balance_; }
  /// The plan of a group without these GPUs, at this imbalance: what its steps are priced with.
  model::ParallelPlan plan_of(const std::vector<bool>& gone, double imbalance) const;

 private:
  std::vector<std::vector<double>> loads(Instant now) const;

  model::ModelShape shape_;
  model::DeviceSpec device_;
  model::ParallelPlan plan_;
  model::PopularitySpec popularity_;
  model::BalanceSpec balance_;
  ElasticSpec elastic_;
  RepairRates rates_;
  std::uint64_t seed_;
  Change initial_;
};

}  // namespace faultline::control
