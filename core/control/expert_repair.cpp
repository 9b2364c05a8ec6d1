#include "core/control/expert_repair.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::control {
namespace {

Duration time_of(std::int64_t bytes, BytesPerSecond rate) {
  return Duration{static_cast<std::int64_t>(
      static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<std::int64_t>(1, rate.v)) + 0.5)};
}

}  // namespace

RepairTime repair_time(const model::RepairCount& c, const ElasticSpec& spec, const RepairRates& rates) {
  RepairTime t;
  t.peer = std::max({time_of(c.gpu_bytes_max, spec.peer_copy_rate), time_of(c.xgmi_bytes_max, rates.xgmi),
                     time_of(c.rdma_bytes_max, rates.nic)});
  t.host = time_of(c.host_bytes_max, spec.host_load_rate);
  t.disk = time_of(c.disk_bytes_max, spec.disk_load_rate);
  return t;
}

ExpertPlanner::ExpertPlanner(model::ModelShape shape, model::DeviceSpec device, model::ParallelPlan plan,
                             model::PopularitySpec popularity, model::BalanceSpec balance, ElasticSpec elastic,
                             RepairRates rates, std::uint64_t seed)
    : shape_(std::move(shape)),
      device_(std::move(device)),
      plan_(plan),
      popularity_(std::move(popularity)),
      balance_(balance),
      elastic_(elastic),
      rates_(rates),
      seed_(seed) {
  const std::vector<bool> nobody(static_cast<std::size_t>(plan_.ep));
  const auto load = loads(Instant{0});
  initial_.placement = model::place_experts(model::empty_placement(plan_, shape_, device_), load, nobody, balance_);
  initial_.imbalance = model::imbalance_of(initial_.placement, load, nobody);
}

std::vector<std::vector<double>> ExpertPlanner::loads(Instant now) const {
  const std::int64_t drifts = popularity_.drift_period.v > 0 ? now.ns / popularity_.drift_period.v : 0;
  std::vector<std::vector<double>> out;
  for (std::int64_t l = 0; l < shape_.moe_layers(); ++l)
    out.push_back(model::popularity(popularity_, shape_.experts, l, drifts, seed_));
  return out;
}

std::int64_t ExpertPlanner::gpus_min() const {
  const std::int64_t slots = initial_.placement.slots;
  return (shape_.experts + slots - 1) / slots;
}

bool ExpertPlanner::can_repair(const std::vector<bool>& gone) const {
  return std::count(gone.begin(), gone.end(), false) >= gpus_min();
}

ExpertPlanner::Change ExpertPlanner::reform(const model::ExpertPlacement& before, const std::vector<bool>& gone,
                                            Instant now, bool repair) const {
  const auto load = loads(now);
  Change c;
  const model::ExpertPlacement left = before.without(gone);
  if (repair) {
    model::BalanceSpec balance = balance_;
    balance.balanced |= std::count(gone.begin(), gone.end(), true) > 0;  // survivors are always packed by load
    c.placement = model::place_experts(before, load, gone, balance);
    c.count = model::count_repair(left, c.placement, shape_, elastic_.host_copies);
    c.time = repair_time(c.count, elastic_, rates_);
  } else {
    c.placement = left;
  }
  c.missing = c.placement.missing();
  c.imbalance = model::imbalance_of(c.placement, load, gone);
  return c;
}

double ExpertPlanner::imbalance(const model::ExpertPlacement& placement, const std::vector<bool>& gone,
                                Instant now) const {
  return model::imbalance_of(placement, loads(now), gone);
}

model::ParallelPlan ExpertPlanner::plan_of(const std::vector<bool>& gone, double imbalance) const {
  model::ParallelPlan p = plan_;
  p.absent_gpus = std::count(gone.begin(), gone.end(), true);
  const auto per_node = static_cast<std::size_t>(device_.gpus_per_node);
  for (std::size_t first = 0; first < gone.size(); first += per_node) {
    const auto last = std::min(gone.size(), first + per_node);
    p.absent_nodes += std::all_of(gone.begin() + static_cast<std::ptrdiff_t>(first),
                                  gone.begin() + static_cast<std::ptrdiff_t>(last), [](bool g) { return g; });
  }
  // Uniform popularity keeps the imbalance that the experiment states for the plan.
  if (popularity_.kind != model::PopularityKind::uniform || p.absent_gpus > 0) {
    p.expert_imbalance =
        std::max(imbalance, popularity_.kind == model::PopularityKind::uniform ? plan_.expert_imbalance : 1.0);
  }
  return p;
}

}  // namespace faultline::control
