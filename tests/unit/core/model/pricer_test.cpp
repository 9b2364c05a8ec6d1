#include "core/model/pricer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/random.h"
#include "core/model/roofline.h"
#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

StepPricer pricer(const char* model, const ParallelPlan& p, const char* device = "mi300x") {
  const DeviceSpec d = shipped_device(device);
  return {shipped_model(model), d, p, std::make_shared<RooflineCost>(d)};
}

/// Every price is a round number, so that a step can be added up by hand.
class RoundCost final : public CostModel {
 public:
  static constexpr FixedTime us(std::int64_t n) { return {n * 1000 * 65536}; }
  Price price(const Op& op) const override {
    return {op.kind == OpKind::kv_push ? FixedTime{} : us(1), false, "round"};
  }
  ContextPrice context_price(const ModelShape&, const ParallelPlan&, std::int64_t) const override {
    return {{{us(2), {3}}, {us(1), {50}}}, false, "round"};
  }
  ExchangePrice exchange_price(const Op&) const override { return {us(5), us(1), us(7), false, "round"}; }
  FixedTime host_step(Launch) const override { return us(10); }
  FixedTime host_launch(Launch launch, std::int64_t layers) const override {
    return launch == Launch::eager ? us(100) * layers : FixedTime{};
  }
};

TEST(StepPricer, ADecodeStepOfATinyModelMatchesASumByHand) {
  const StepPricer p(tiny(), shipped_device("mi300x"), {.dp = 2, .ep = 2}, std::make_shared<RoundCost>());
  const RankLoad loads[] = {{3, 30}, {1, 5}};
  // Own: 5 operations on 2 layers, 3 dense, 5 on the MoE layer, 3 of the head: 21 us. Attention: 2 layers * (2 us + 30
  // * 3 units). Experts 3 us. Dispatch and combine (5 + 7) us each. Host 10 us.
  EXPECT_EQ(p.step({}, loads, {}), RoundCost::us(21 + 4 + 3 + 24 + 10) + FixedTime{2 * 30 * 3});
  // Half of the NIC: 7 us become 14; an eighth of xGMI: 1 us becomes 8, which then decides.
  EXPECT_EQ(p.step({}, loads, {.rdma_capacity_factor = 0.5}), RoundCost::us(62 + 14) + FixedTime{180});
  EXPECT_EQ(p.step({}, loads, {.xgmi_capacity_factor = 0.125}), RoundCost::us(62 + 2) + FixedTime{180});
  // Rank 0 at half speed: own operations, attention, and the experts that lie on it.
  const double slow[] = {2.0, 1.0};
  EXPECT_EQ(p.step({}, loads, {.rank_slowdown = slow}), RoundCost::us(42 + 8 + 6 + 24 + 10) + FixedTime{360});
  // Far into the run the second line, with 50 units a token, is above the first: 2 * (50 - 3) * context > 2 us.
  std::vector<DecodeSegment> run;
  p.decode_run(loads, {}, 1'000'000, run);
  ASSERT_EQ(run.size(), 2u);
  EXPECT_EQ(run[0].slope.v, 2 * 3 * 3);
  EXPECT_EQ(run[1].slope.v, 2 * 50 * 3);
  // First j with 2 us + 2 * 50 * (30 + 3 j) > 4 us + 2 * 3 * (30 + 3 j): 94 * (30 + 3 j) > 131072000.
  EXPECT_EQ(run[1].first_step, (131072000 / 94 - 30) / 3 + 1);
}

TEST(StepPricer, EagerLaunchIsHiddenUnlessTheHostIsSlower) {
  const StepPricer graph(tiny(), shipped_device("mi300x"), {.dp = 2, .ep = 2}, std::make_shared<RoundCost>());
  const StepPricer eager(tiny(), shipped_device("mi300x"), {.dp = 2, .ep = 2, .decode_launch = Launch::eager},
                         std::make_shared<RoundCost>());
  const RankLoad loads[] = {{1, 0}, {1, 0}};
  EXPECT_EQ(graph.step({}, loads, {}), RoundCost::us(62));
  EXPECT_EQ(eager.step({}, loads, {}), RoundCost::us(10 + 200));
  const RankLoad longer[] = {{1, 1'000'000'000}, {1, 0}};
  EXPECT_EQ(eager.step({}, longer, {}), graph.step({}, longer, {}));
}

TEST(StepPricer, ADecodeBatchComputesTheRowsOfTheNextCapturedGraph) {
  const DeviceSpec d = shipped_device("mi300x");
  const auto cost = std::make_shared<RooflineCost>(d);
  const ParallelPlan plan{.dp = 16, .ep = 16, .kv_precision = Precision::fp8};
  const std::int64_t sizes[] = {1, 2, 4, 8, 16, 24};
  const StepPricer exact(shipped_model("deepseek-v3"), d, plan, cost);
  const StepPricer padded(shipped_model("deepseek-v3"), d, plan, cost, sizes);
  const auto loads = [](std::int32_t sequences) {
    return std::vector<RankLoad>(16, {sequences, std::int64_t{sequences} * 1000});
  };
  for (const std::int32_t captured : {1, 2, 4, 8, 16, 24}) {
    EXPECT_EQ(padded.step({}, loads(captured), {}), exact.step({}, loads(captured), {})) << captured;
  }
  for (const std::int32_t n : {3, 5, 9, 13, 17, 23}) {
    const std::int64_t rows = *std::lower_bound(std::begin(sizes), std::end(sizes), n);
    const FixedTime step = padded.step({}, loads(n), {});
    EXPECT_GT(step, exact.step({}, loads(n), {})) << n;
    EXPECT_LT(step, exact.step({}, loads(static_cast<std::int32_t>(rows)), {})) << n << ": no context, no experts";
    const Breakdown b = padded.breakdown({}, loads(n), {});
    EXPECT_EQ(b.total, step);
    for (const OpTime& t : b.ops) {
      if (t.op.name == "q_up" || t.op.name == "head") {
        EXPECT_EQ(t.op.m, rows) << t.op.name;
      }
      if (t.op.name == "experts_up") {
        EXPECT_EQ(t.op.m, n * 8) << "pairs of real tokens: 16 n tokens, 8 experts each, on 16 GPUs";
      }
      if (t.op.name == "dispatch") {
        EXPECT_EQ(t.op.tokens, n);
      }
    }
    // A step with prefill is not a graph: nothing is padded.
    const PrefillItem item[] = {{3, 512, 0}};
    EXPECT_EQ(padded.step(item, loads(n), {}), exact.step(item, loads(n), {}));
    std::vector<DecodeSegment> run;
    padded.decode_run(loads(n), {}, 100, run);
    EXPECT_EQ(run.front().first, step);
  }
}

TEST(StepPricer, ABatchBeyondTheLastCapturedGraphIsLaunchedOperationByOperation) {
  const std::int64_t sizes[] = {1, 2};
  const StepPricer p(tiny(), shipped_device("mi300x"), {.dp = 2, .ep = 2}, std::make_shared<RoundCost>(), sizes);
  const RankLoad within[] = {{2, 0}, {1, 0}}, beyond[] = {{3, 0}, {1, 0}};
  EXPECT_EQ(p.step({}, within, {}), RoundCost::us(62));
  EXPECT_EQ(p.step({}, beyond, {}), RoundCost::us(10 + 200));
  std::vector<DecodeSegment> run;
  p.decode_run(beyond, {}, 10, run);
  EXPECT_EQ(run.front().first, RoundCost::us(10 + 200));
}

struct Case {
  const char* model;
  ParallelPlan plan;
};
std::vector<Case> cases() {
  return {{"deepseek-v3", {.dp = 8, .ep = 8, .kv_precision = Precision::fp8}},
          {"deepseek-v3", {.dp = 32, .ep = 32, .kv_precision = Precision::fp8, .redundant_experts = 32}},
          {"deepseek-v3", {.dp = 16, .ep = 16, .dual_batch_overlap = true}},
          {"deepseek-v3", {.tp = 4, .dp = 4, .ep = 16, .fused_shared_expert = true}},
          {"deepseek-v3", {.tp = 8}},
          {"kimi-k2", {.dp = 16, .ep = 16, .decode_launch = Launch::eager}},
          {"qwen3-235b-a22b", {.dp = 8, .ep = 8}},
          {"llama-3-70b", {.tp = 8}},
          {"dense-7b", {}}};
}

struct Draw {
  std::vector<RankLoad> loads;
  std::vector<double> slowdown;
  StepEnvironment environment;
};
Draw draw(Random& r, std::int64_t ranks) {
  Draw d;
  for (std::int64_t i = 0; i < ranks; ++i) {
    const auto sequences = static_cast<std::int32_t>(r.chance(0.2) ? 0 : 1 + r.below(200));
    d.loads.push_back(
        {sequences,
         sequences == 0 ? 0 : static_cast<std::int64_t>(r.below(static_cast<std::uint64_t>(sequences) * 4000))});
    d.slowdown.push_back(r.chance(0.8) ? 1.0 : 1.0 + 3 * r.uniform());
  }
  if (r.chance(0.5)) d.environment.rdma_capacity_factor = 0.1 + 0.9 * r.uniform();
  if (r.chance(0.5)) d.environment.xgmi_capacity_factor = 0.1 + 0.9 * r.uniform();
  return d;
}

TEST(StepPricer, AJumpOverManyStepsEqualsItsSingleStepsExactly) {
  constexpr std::uint64_t kSeed = 20251;
  SCOPED_TRACE("seed=20251");
  int several_segments = 0;
  for (const Case& c : cases()) {
    const StepPricer p = pricer(c.model, c.plan);
    Random r(kSeed, c.model, static_cast<std::uint64_t>(c.plan.gpu_count()));
    for (int round = 0; round < 30; ++round) {
      Draw d = draw(r, p.ranks());
      if (round % 2 == 0) d.environment.rank_slowdown = d.slowdown;
      const auto steps = static_cast<std::int64_t>(1 + r.below(round < 25 ? 300 : 20000));
      std::vector<DecodeSegment> run;
      p.decode_run(d.loads, d.environment, steps, run);
      ASSERT_FALSE(run.empty());
      several_segments += run.size() > 1;
      FixedTime jumped{}, walked{};
      for (std::size_t i = 0; i < run.size(); ++i) {
        const std::int64_t end = i + 1 < run.size() ? run[i + 1].first_step : steps;
        ASSERT_LT(run[i].first_step, end);
        if (i > 0) {
          EXPECT_GT(run[i].slope, run[i - 1].slope) << "the envelope is convex";
        }
        jumped += series_sum(run[i].first, run[i].slope, end - run[i].first_step);
      }
      std::vector<RankLoad> loads = d.loads;
      const std::int64_t stride = steps > 300 ? 0 : 1;
      std::size_t segment = 0;
      for (std::int64_t j = 0; j < steps; ++j) {
        if (segment + 1 < run.size() && run[segment + 1].first_step == j) ++segment;
        const FixedTime said = run[segment].first + run[segment].slope * (j - run[segment].first_step);
        if (stride == 1 || j % 97 == 0 || j == run[segment].first_step || j + 1 == steps) {
          const FixedTime single = p.step({}, loads, d.environment);
          ASSERT_EQ(single.v, said.v) << c.model << " round " << round << " step " << j;
        }
        walked += said;
        for (RankLoad& load : loads) load.context_tokens += load.sequences;
      }
      EXPECT_EQ(jumped.v, walked.v);
    }
  }
  EXPECT_GT(several_segments, 5) << "the draws must reach breakpoints, or this test shows little";
}

TEST(StepPricer, MoreWorkOrLessCapacityNeverMakesAStepShorter) {
  SCOPED_TRACE("seed=7");
  for (const Case& c : cases()) {
    const StepPricer p = pricer(c.model, c.plan);
    Random r(7, c.model, static_cast<std::uint64_t>(c.plan.gpu_count()));
    for (int round = 0; round < 40; ++round) {
      Draw d = draw(r, p.ranks());
      d.environment.rank_slowdown = d.slowdown;
      std::vector<PrefillItem> items;
      for (std::uint64_t i = r.below(4); i > 0; --i) {
        items.push_back({static_cast<std::int32_t>(r.below(static_cast<std::uint64_t>(p.ranks()))),
                         static_cast<std::int64_t>(1 + r.below(4000)), static_cast<std::int64_t>(r.below(8000))});
      }
      const auto rank = static_cast<std::size_t>(r.below(static_cast<std::uint64_t>(p.ranks())));
      const FixedTime before = p.step(items, d.loads, d.environment);

      auto loads = d.loads;
      loads[rank].context_tokens += loads[rank].sequences > 0 ? 100 : 0;
      EXPECT_GE(p.step(items, loads, d.environment), before) << c.model << ": context";
      loads[rank].sequences += 1;
      EXPECT_GE(p.step(items, loads, d.environment), before) << c.model << ": a sequence";
      auto more = items;
      more.push_back({static_cast<std::int32_t>(rank), 1, 0});
      EXPECT_GE(p.step(more, d.loads, d.environment), before) << c.model << ": a chunk";
      if (!items.empty()) {
        more = items;
        more[0].chunk_tokens += 1;
        EXPECT_GE(p.step(more, d.loads, d.environment), before) << c.model << ": a longer chunk";
        more = items;
        more[0].context_before += 1;
        EXPECT_GE(p.step(more, d.loads, d.environment), before) << c.model << ": a longer prefix";
      }
      StepEnvironment worse = d.environment;
      worse.rdma_capacity_factor *= 0.9;
      worse.xgmi_capacity_factor *= 0.9;
      EXPECT_GE(p.step(items, d.loads, worse), before) << c.model << ": capacity";
      auto slower = d.slowdown;
      slower[rank] *= 1.1;
      worse = d.environment;
      worse.rank_slowdown = slower;
      EXPECT_GE(p.step(items, d.loads, worse), before) << c.model << ": slowdown";
    }
  }
}

TEST(StepPricer, ABreakdownAddsUpToTheStep) {
  for (const Case& c : cases()) {
    const StepPricer p = pricer(c.model, c.plan);
    std::vector<RankLoad> loads(static_cast<std::size_t>(p.ranks()), RankLoad{64, 64 * 1500});
    loads.back().context_tokens *= 2;
    const PrefillItem items[] = {{0, 1000, 500}, {0, 300, 0}};
    for (const bool mixed : {false, true}) {
      const std::span<const PrefillItem> prefill =
          mixed ? std::span<const PrefillItem>(items) : std::span<const PrefillItem>();
      const Breakdown b = p.breakdown(prefill, loads, {});
      EXPECT_EQ(b.total, p.step(prefill, loads, {})) << c.model;
      EXPECT_EQ(b.rank, mixed ? 0 : p.ranks() - 1) << "the rank with the most work";
      FixedTime sum = b.host;
      for (const OpTime& op : b.ops) sum += op.time;
      EXPECT_EQ(sum - b.total, b.overlap);
      if (c.plan.dual_batch_overlap) {
        EXPECT_GT(b.overlap.v, 0);
      } else if (c.plan.decode_launch == Launch::graph && !mixed) {
        EXPECT_EQ(b.overlap.v, 0) << c.model;
      }
    }
  }
}

TEST(StepPricer, AStepWithoutTokensTakesNoTime) {
  const StepPricer p = pricer("deepseek-v3", {.dp = 8, .ep = 8});
  const std::vector<RankLoad> idle(8);
  EXPECT_EQ(p.step({}, idle, {}).v, 0);
  EXPECT_EQ(p.step({}, {}, {}).v, 0);
  std::vector<DecodeSegment> run;
  p.decode_run(idle, {}, 10, run);
  ASSERT_EQ(run.size(), 1u);
  EXPECT_EQ(run[0].first.v, 0);
}

TEST(StepPricer, TheSlowestRankHoldsTheWholeGroup) {
  const StepPricer p = pricer("deepseek-v3", {.dp = 8, .ep = 8});
  const std::vector<RankLoad> even(8, RankLoad{64, 64 * 2000});
  std::vector<double> slow(8, 1.0);
  slow[5] = 2;
  const FixedTime healthy = p.step({}, even, {});
  const FixedTime dragged = p.step({}, even, {.rank_slowdown = slow});
  EXPECT_GT(nanoseconds(dragged), 1.5 * nanoseconds(healthy));
  // A slow GPU without sequences of its own still computes its experts for everybody.
  std::vector<RankLoad> without = even;
  without[5] = {};
  EXPECT_GT(p.step({}, without, {.rank_slowdown = slow}), p.step({}, without, {}));
}

TEST(StepPricer, OnlyGroupsOverSeveralNodesFeelTheNetwork) {
  const std::vector<RankLoad> eight(8, RankLoad{128, 128 * 2000}), sixteen(16, RankLoad{128, 128 * 2000});
  const StepPricer node = pricer("deepseek-v3", {.dp = 8, .ep = 8}), wide = pricer("deepseek-v3", {.dp = 16, .ep = 16});
  const StepEnvironment half{.rank_slowdown = {}, .rdma_capacity_factor = 0.5};
  EXPECT_EQ(node.step({}, eight, half), node.step({}, eight, {}));
  EXPECT_GT(wide.step({}, sixteen, half), wide.step({}, sixteen, {}));
  EXPECT_EQ(node.ep_rdma_bytes_per_step(eight).v, 0);
  EXPECT_EQ(node.ep_rdma_time_share({}, eight, {}), 0);
  // 58 layers * (950,640 + 1,827,840) B: the dispatch and combine of 128 tokens, computed in step_plan_test.
  EXPECT_EQ(wide.ep_rdma_bytes_per_step(sixteen).v, 58 * (950640 + 1827840));
  const double share = wide.ep_rdma_time_share({}, sixteen, {});
  EXPECT_GT(share, 0.05);
  EXPECT_LT(share, 0.6);
}

TEST(StepPricer, KVBytesOfAHandOffAreThoseOfTheCache) {
  EXPECT_EQ(pricer("deepseek-v3", {.dp = 8, .ep = 8, .kv_precision = Precision::fp8}).kv_bytes({1000}).v, 35136000);
  EXPECT_EQ(pricer("llama-3-70b", {.tp = 8}).kv_bytes({1}).v, 327680);
}

TEST(StepPricer, TensorParallelismWinsForOneSequenceAndExpertParallelismForMany) {
  const StepPricer tp = pricer("deepseek-v3", {.tp = 8, .kv_precision = Precision::fp8});
  const StepPricer ep = pricer("deepseek-v3", {.dp = 8, .ep = 8, .kv_precision = Precision::fp8});
  std::vector<RankLoad> one(8);
  one[0] = {1, 2000};
  const RankLoad one_tp[] = {{1, 2000}};
  EXPECT_LT(tp.step({}, one_tp, {}), ep.step({}, one, {}));
  const std::vector<RankLoad> many(8, RankLoad{128, 128 * 2000});
  const RankLoad many_tp[] = {{1024, 1024 * 2000}};
  EXPECT_LT(ep.step({}, many, {}), tp.step({}, many_tp, {}));
}

TEST(StepPricer, NeitherEP8NorEP16IsFasterAtEveryBatchSize) {
  const StepPricer ep8 = pricer("deepseek-v3", {.dp = 8, .ep = 8, .kv_precision = Precision::fp8});
  const StepPricer ep16 = pricer("deepseek-v3", {.dp = 16, .ep = 16, .kv_precision = Precision::fp8});
  bool faster = false, slower = false;
  for (const std::int32_t n : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512}) {
    const std::vector<RankLoad> a(8, RankLoad{n, n * 2000}), b(16, RankLoad{n, n * 2000});
    (ep16.step({}, b, {}) < ep8.step({}, a, {}) ? faster : slower) = true;
  }
  EXPECT_TRUE(faster && slower);
}

TEST(StepPricer, OverlapOfTwoHalfBatchesPaysForLargeStepsOnly) {
  const ParallelPlan plain{.dp = 16, .ep = 16}, overlapped{.dp = 16, .ep = 16, .dual_batch_overlap = true};
  const StepPricer a = pricer("deepseek-v3", plain), b = pricer("deepseek-v3", overlapped);
  std::vector<PrefillItem> large;
  for (std::int32_t r = 0; r < 16; ++r) large.push_back({r, 8192, 0});
  EXPECT_LT(b.step(large, {}, {}), a.step(large, {}, {}));
  const std::vector<RankLoad> small(16, RankLoad{2, 4000});
  EXPECT_GT(b.step({}, small, {}), a.step({}, small, {})) << "each half reads all weights again";
}

}  // namespace
}  // namespace faultline::model
