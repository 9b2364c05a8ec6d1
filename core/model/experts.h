// Where the routed experts of an expert-parallel group lie, how evenly their tokens spread, and what it takes to bring
// experts to other GPUs. Pure functions of their arguments; docs/recovery.md section 2 states the equations.
//
// A GPU has the same number of slots in every MoE layer: (experts + redundant_experts) / ep. Replicas of an expert
// share its tokens equally.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/fields.h"
#include "core/model/device.h"
#include "core/model/plan.h"
#include "core/model/shape.h"

namespace faultline::model {

enum class PopularityKind : std::uint8_t { uniform, zipf, given };
constexpr std::array<std::string_view, 3> enum_names(const PopularityKind*) { return {"uniform", "zipf", "given"}; }

/// How often each routed expert is chosen. Every layer has its own order of experts (zipf) or its own row (given).
struct PopularitySpec {
  PopularityKind kind = PopularityKind::uniform;
  double exponent = 0.5;        // zipf: the k-th most popular expert has weight k^-exponent
  std::vector<double> weights;  // given: one for each expert, the same order in all layers, rotated by layer
  /// Drift: after each period this share of the experts of a layer exchange their ranks. 0 s: none.
  Duration drift_period{0};
  double drift_share = 0.1;
};
void describe(config::Fields& f, PopularitySpec& s);

/// EPLB: when and how experts are placed anew.
struct BalanceSpec {
  /// true: replicas go to the most loaded experts and are packed greedily (DeepSeek's published load balancer); false:
  /// experts lie in order, replicas repeat from the first (what survivors place anew is always packed by load).
  bool balanced = true;
  /// Replicas are chosen and packed node by node, expert groups staying within a node where the counts divide.
  bool hierarchical = false;
  /// The placement follows the drifted popularity this often; 0 s: never after the start.
  Duration rebalance_period{0};
};
void describe(config::Fields& f, BalanceSpec& s);

/// Share of a layer's expert-token pairs that goes to each expert; sums to 1. `drifts`: periods passed.
std::vector<double> popularity(const PopularitySpec& s, std::int64_t experts, std::int64_t layer, std::int64_t drifts,
                               std::uint64_t seed);

/// Experts of every slot of every layer. A GPU that is gone has empty slots.
struct ExpertPlacement {
  static constexpr std::uint16_t kEmpty = 0xffff;
  std::int64_t layers = 0, gpus = 0, slots = 0;
  std::int64_t gpus_per_node = 8;
  std::int64_t experts = 0;
  std::vector<std::uint16_t> expert;  // [layer][gpu][slot]
  std::uint16_t at(std::int64_t layer, std::int64_t gpu, std::int64_t slot) const {
    return expert[static_cast<std::size_t>((layer * gpus + gpu) * slots + slot)];
  }
  std::uint16_t& at(std::int64_t layer, std::int64_t gpu, std::int64_t slot) {
    return expert[static_cast<std::size_t>((layer * gpus + gpu) * slots + slot)];
  }
  /// (layer, expert) pairs without any copy.
  std::int64_t missing() const;
  /// The same placement without the slots of these GPUs.
  ExpertPlacement without(const std::vector<bool>& gone) const;
};

/// An empty placement of the plan's shape. Preconditions: plan.exchanges(), plan_problems() is empty.
ExpertPlacement empty_placement(const ParallelPlan& p, const ModelShape& s, const DeviceSpec& d);
/// Places all layers on the GPUs that are not gone. Precondition (asserted): live GPUs * slots >= experts.
/// loads: [layers][experts].
ExpertPlacement place_experts(ExpertPlacement shape, const std::vector<std::vector<double>>& loads,
                              const std::vector<bool>& gone, const BalanceSpec& balance);

/// Expert-token pairs of the busiest live GPU over the mean of the live ones, averaged over the layers (each layer ends
/// with a barrier, so a step pays every layer's own maximum). Tokens of an expert without a copy go to the others in
/// proportion. >= 1.
double imbalance_of(const ExpertPlacement& p, const std::vector<std::vector<double>>& loads,
                    const std::vector<bool>& gone);

/// Where the slots that change get their expert from.
enum class RepairSource : std::uint8_t { local, peer, host, disk };
struct RepairCount {
  std::int64_t slots = 0;                   // filled slots of the new placement, all layers
  std::array<std::int64_t, 4> by_source{};  // RepairSource; sums to slots
  std::int64_t expert_bytes = 0;            // of one expert in one layer
  std::int64_t gpu_bytes_max = 0;           // most bytes that one GPU receives from peers
  std::int64_t xgmi_bytes_max = 0;          // of those, over the node's own links: most that one GPU receives …
  std::int64_t rdma_bytes_max = 0;          // … and over its NIC, or sends over it if that is more
  std::int64_t host_bytes_max = 0;          // most bytes that one node reads from the hosts' copies
  std::int64_t disk_bytes_max = 0;          // … and from its disks
  std::int64_t moved_bytes() const { return (slots - by_source[0]) * expert_bytes; }
};
/// What brings `before` (with the slots of lost GPUs empty) to `after`. A slot is filled from the same GPU where that
/// holds the expert, else from a GPU of the same node, else from another node (holders in turn), else from the hosts'
/// copies (`host_copies`: expert e of a layer is kept by node e * nodes / experts), else from disk.
RepairCount count_repair(const ExpertPlacement& before, const ExpertPlacement& after, const ModelShape& s,
                         bool host_copies);

/// Bytes of one routed expert of one layer, with its block scales.
Bytes expert_bytes(const ModelShape& s);

}  // namespace faultline::model
