#include "core/model/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/model/step_plan.h"
#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

constexpr std::uint64_t kSeed = 7;

ParallelPlan plan(std::int64_t ep, std::int64_t redundant) {
  return {.dp = ep, .ep = ep, .redundant_experts = redundant};
}
std::vector<std::vector<double>> loads(const PopularitySpec& s, std::int64_t layers, std::int64_t drifts = 0) {
  std::vector<std::vector<double>> out;
  for (std::int64_t l = 0; l < layers; ++l) out.push_back(popularity(s, 256, l, drifts, kSeed));
  return out;
}
std::vector<bool> nobody(std::int64_t n) { return std::vector<bool>(static_cast<std::size_t>(n)); }
std::vector<bool> gone(std::int64_t n, std::initializer_list<std::size_t> who) {
  auto g = nobody(n);
  for (const std::size_t k : who) g[k] = true;
  return g;
}
struct World {
  ModelShape shape = shipped_model("deepseek-v3");
  DeviceSpec device = shipped_device("mi300x");
  ExpertPlacement place(std::int64_t ep, std::int64_t redundant, const PopularitySpec& s,
                        const BalanceSpec& b = {}) const {
    return place_experts(empty_placement(plan(ep, redundant), shape, device), loads(s, shape.moe_layers()), nobody(ep),
                         b);
  }
};

TEST(Experts, PopularityIsAShareOfTheLayersTokens) {
  for (const auto kind : {PopularityKind::uniform, PopularityKind::zipf}) {
    const auto p = popularity({.kind = kind, .exponent = 0.8}, 256, 3, 0, kSeed);
    EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1.0, 1e-12);  // rounding of 256 additions
  }
  const auto p = popularity({.kind = PopularityKind::zipf, .exponent = 1}, 256, 0, 0, kSeed);
  const auto [least, most] = std::minmax_element(p.begin(), p.end());
  EXPECT_NEAR(*most / *least, 256, 1e-9);
}

TEST(Experts, DriftExchangesRanksAndKeepsTheShape) {
  const PopularitySpec s{.kind = PopularityKind::zipf, .exponent = 1, .drift_period = Duration{1}, .drift_share = 0.2};
  auto before = popularity(s, 256, 0, 0, kSeed), after = popularity(s, 256, 0, 1, kSeed);
  EXPECT_NE(before, after);
  int moved = 0;
  for (std::size_t e = 0; e < before.size(); ++e) moved += before[e] != after[e];
  EXPECT_LE(moved, 0.2 * 256 + 1);
  std::sort(before.begin(), before.end());
  std::sort(after.begin(), after.end());
  EXPECT_EQ(before, after);
}

TEST(Experts, EveryExpertHasASlotAndNoGpuHoldsOneTwiceWhereItCanBeAvoided) {
  const World w;
  const auto p = w.place(32, 256, {.kind = PopularityKind::zipf, .exponent = 0.5});
  EXPECT_EQ(p.missing(), 0);
  EXPECT_EQ(p.slots, 16);
  for (std::int64_t l = 0; l < p.layers; ++l) {
    for (std::int64_t g = 0; g < p.gpus; ++g) {
      std::vector<std::uint16_t> held;
      for (std::int64_t s = 0; s < p.slots; ++s) held.push_back(p.at(l, g, s));
      std::sort(held.begin(), held.end());
      ASSERT_EQ(std::adjacent_find(held.begin(), held.end()), held.end()) << "layer " << l << " GPU " << g;
    }
  }
}

TEST(Experts, ReplicasEvenOutASkewedLoad) {
  const World w;
  const PopularitySpec zipf{.kind = PopularityKind::zipf, .exponent = 0.8};
  const auto load = loads(zipf, w.shape.moe_layers());
  const double none = imbalance_of(w.place(32, 0, zipf), load, nobody(32));
  EXPECT_GT(none, 1.1);
  for (const std::int64_t redundant : {32, 128, 256}) {
    const double now = imbalance_of(w.place(32, redundant, zipf), load, nobody(32));
    EXPECT_LT(now, none) << redundant;
    EXPECT_LT(now, 1.05) << redundant;
  }
  EXPECT_GT(imbalance_of(w.place(32, 32, zipf, {.balanced = false}), load, nobody(32)), 2);
  EXPECT_NEAR(imbalance_of(w.place(32, 32, {}), loads({}, w.shape.moe_layers()), nobody(32)), 1, 1e-9);
}

TEST(Experts, HierarchicalPlacementKeepsGroupsOfExpertsInTheirNode) {
  const World w;
  const auto p = w.place(32, 32, {.kind = PopularityKind::zipf, .exponent = 0.5}, {.hierarchical = true});
  EXPECT_EQ(p.missing(), 0);
  for (std::int64_t g = 0; g < 32; ++g) {
    for (std::int64_t s = 0; s < p.slots; ++s) EXPECT_EQ(p.at(5, g, s) / 64, g / 8);
  }
}

TEST(Experts, ALostGpuTakesOnlyTheExpertsWithoutAnotherCopy) {
  const World w;
  // 256 replicas in order: every expert has exactly two copies, 16 GPUs apart.
  const auto p = w.place(32, 256, {}, {.balanced = false});
  EXPECT_EQ(p.without(gone(32, {3})).missing(), 0);
  EXPECT_EQ(p.without(gone(32, {3, 4})).missing(), 0);
  EXPECT_EQ(p.without(gone(32, {3, 19})).missing(), 16 * w.shape.moe_layers());
  // One copy of each: all that the GPU had.
  EXPECT_EQ(w.place(32, 0, {}).without(gone(32, {3})).missing(), 8 * w.shape.moe_layers());
}

TEST(Experts, RepairFillsEverySlotFromOneSource) {
  const World w;
  const PopularitySpec zipf{.kind = PopularityKind::zipf, .exponent = 0.5};
  const auto load = loads(zipf, w.shape.moe_layers());
  const auto before = w.place(32, 256, zipf);
  for (const auto& who : {gone(32, {3}), gone(32, {0, 1, 2, 3, 4, 5, 6, 7}), gone(32, {1, 9, 17, 25})}) {
    const auto live = std::count(who.begin(), who.end(), false);
    const auto after = place_experts(before, load, who, {});
    EXPECT_EQ(after.missing(), 0);
    const RepairCount r = count_repair(before.without(who), after, w.shape, true);
    EXPECT_EQ(r.slots, live * 16 * w.shape.moe_layers());
    EXPECT_EQ(std::accumulate(r.by_source.begin(), r.by_source.end(), std::int64_t{0}), r.slots);
    EXPECT_EQ(r.by_source[3], 0);  // the hosts have everything
    EXPECT_LE(r.gpu_bytes_max, 16 * w.shape.moe_layers() * r.expert_bytes);
    EXPECT_EQ(count_repair(before.without(who), after, w.shape, false).by_source[3], r.by_source[2]);
  }
  // Nothing to do for a placement that stays.
  EXPECT_EQ(count_repair(before, before, w.shape, true).moved_bytes(), 0);
}

TEST(Experts, AnExpertOfDeepSeekV3Weighs44MegabytesInAllItsMatrices) {
  // 3 * 7168 * 2048 weights of one byte and a 4-byte scale for each block of 128 x 128.
  EXPECT_EQ(expert_bytes(shipped_model("deepseek-v3")).v, 44'040'192 + 4 * 2688);
}

TEST(Experts, ASmallerGroupPaysForMoreTokensOfEachGpu) {
  const World w;
  ParallelPlan whole = plan(32, 256), less = whole;
  less.absent_gpus = 16;
  less.absent_nodes = 2;
  std::vector<Op> a, b;
  append_expert_ops(w.shape, whole, 1024, a);
  append_expert_ops(w.shape, less, 1024, b);
  EXPECT_EQ(b[0].m, 2 * a[0].m);  // the same tokens over half of the GPUs
  EXPECT_GE(b[0].bytes.v, a[0].bytes.v);
  a.clear(), b.clear();
  append_exchange_ops(w.shape, whole, w.device, 32, a);
  append_exchange_ops(w.shape, less, w.device, 32, b);
  EXPECT_LT(b[0].rdma.v, a[0].rdma.v);  // fewer nodes to send to
}

}  // namespace
}  // namespace faultline::model
