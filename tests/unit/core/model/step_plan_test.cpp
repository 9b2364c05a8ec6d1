#include "core/model/step_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

const Op& find(const std::vector<Op>& ops, std::string_view name) {
  const auto it = std::find_if(ops.begin(), ops.end(), [&](const Op& op) { return op.name == name; });
  if (it == ops.end()) {
    ADD_FAILURE() << "no operation named " << name;
    static const Op none{};
    return none;
  }
  return *it;
}

struct Expected {
  const char* name;
  std::int64_t repeats, flops, bytes;
};

TEST(StepPlan, DecodeOperationsOfATinyModelMatchACountByHand) {
  const ParallelPlan p{.dp = 2, .ep = 2, .dispatch_precision = Precision::bf16};
  const auto ops = step_plan(tiny(), p, shipped_device("mi300x"), {.chunks = {}, .sequences = 3, .context_tokens = 30},
                             {.tokens = 6, .tokens_max = 3});
  const Expected expected[] = {
      {"attention_norm", 2, 0, 192},                    // 3 rows, 4 vectors of 8, 2 B
      {"qkv", 2, 2 * 3 * 16 * 8, 2 * (24 + 128) + 96},  // n = (2 + 2*1) heads of 4
      {"rope_cache", 2, 0, 192},
      {"gqa_decode", 2, 4 * 2 * 4 * 30, 2 * 4 * 2 * 30 + 4 * 3 * 2 * 4},
      {"attention_out", 2, 2 * 3 * 8 * 8, 2 * (24 + 64) + 48},
      {"mlp_norm", 2, 0, 192},
      {"mlp_up", 1, 2 * 3 * 32 * 8, 2 * (24 + 256) + 192},
      {"mlp_activation", 1, 0, 2 * 3 * 48},
      {"mlp_down", 1, 2 * 3 * 8 * 16, 2 * (48 + 128) + 48},
      {"router", 1, 2 * 3 * 4 * 8, 2 * (24 + 32) + 24},
      {"top_k", 1, 0, 2 * 3 * 16},
      {"dispatch", 1, 0, 168},  // (other GPUs 0.75 + 1) * 3 tokens * 32 B
      {"shared_up", 1, 2 * 3 * 8 * 8, 2 * (24 + 64) + 48},
      {"shared_activation", 1, 0, 2 * 3 * 12},
      {"shared_down", 1, 2 * 3 * 8 * 4, 2 * (12 + 32) + 48},
      // 6 tokens * 2 choices / 2 GPUs = 6 pairs; 2 * (1 - (1/2)^6) = 1.96875 experts touched
      {"experts_up", 1, 2 * 6 * 8 * 8, 252 + 6 * (16 + 16)},
      {"experts_activation", 1, 0, 2 * 6 * 12},
      {"experts_down", 1, 2 * 6 * 8 * 4, 126 + 6 * (8 + 16)},
      {"combine", 1, 0, 84},
      {"final_norm", 1, 0, 96},
      {"head", 1, 2 * 3 * 10 * 8, 2 * (24 + 80) + 60},
      {"sample", 1, 0, 120},
  };
  ASSERT_EQ(ops.size(), std::size(expected));
  for (std::size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(ops[i].name, expected[i].name) << "order of a forward pass, place " << i;
    EXPECT_EQ(ops[i].repeats, expected[i].repeats) << ops[i].name;
    EXPECT_EQ(ops[i].flops, expected[i].flops) << ops[i].name;
    EXPECT_EQ(ops[i].bytes.v, expected[i].bytes) << ops[i].name;
  }
  EXPECT_EQ(find(ops, "dispatch").xgmi.v, 72);  // 2 * (1 - 1/4) * 1/2 = 0.75 other GPUs
  EXPECT_EQ(find(ops, "dispatch").rdma.v, 0);
  EXPECT_EQ(find(ops, "combine").xgmi.v, 36);
}

TEST(StepPlan, PrefillAttentionCountsTheCausalPairs) {
  const Op op = prefill_attention_op(tiny(), {}, {.tokens = 3, .context_before = 5});
  // Tokens see 6, 7 and 8 positions: 21 pairs; 2 heads, score and value width 8.
  EXPECT_EQ(op.flops, 2 * 2 * 8 * 21);
  EXPECT_EQ(op.bytes.v, 2 * ((3 + 5) * 1 * 8 + 3 * 2 * 8));
  const Op whole = prefill_attention_op(tiny(), {}, {.tokens = 8, .context_before = 0});
  const Op first = prefill_attention_op(tiny(), {}, {.tokens = 5, .context_before = 0});
  EXPECT_EQ(whole.flops, first.flops + op.flops) << "splitting a prompt into chunks keeps the pairs";
}

TEST(StepPlan, MLADecodeReadsOneLatentForAllHeads) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  const ParallelPlan p{.dp = 8, .ep = 8, .kv_precision = Precision::fp8};
  const Op one = decode_attention_op(v3, p, 1, 1000);
  const Op two = decode_attention_op(v3, p, 1, 2000);
  EXPECT_EQ(two.bytes.v - one.bytes.v, 1000 * 576);
  EXPECT_EQ(two.flops - one.flops, 1000LL * 2 * 128 * (576 + 512));
  const Op split = decode_attention_op(v3, {.tp = 8, .kv_precision = Precision::fp8}, 1, 1000);
  EXPECT_EQ(split.flops * 8, one.flops);
  EXPECT_EQ(split.bytes.v - decode_attention_op(v3, {.tp = 8, .kv_precision = Precision::fp8}, 1, 0).bytes.v, 576000)
      << "the latent is not split";
}

TEST(StepPlan, ATokenCrossesToAnotherNodeOnceHoweverManyExpertsItHasThere) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  std::vector<Op> ops;
  append_exchange_ops(v3, {.dp = 16, .ep = 16}, d, 128, ops);
  // Two nodes: 2 * (1 - 2^-8) hit, half of them remote: 0.99609375; a token is 7168 + 4 * 56 + 8 * 8 = 7456 B in FP8.
  EXPECT_EQ(find(ops, "dispatch").rdma.v, 950640);
  EXPECT_EQ(find(ops, "combine").rdma.v, 1827840);  // 128 * 14336 * 0.99609375
  EXPECT_EQ(find(ops, "dispatch").nodes, 2);
  ops.clear();
  append_exchange_ops(v3, {.dp = 64, .ep = 64}, d, 128, ops);
  // Eight nodes, eight groups, a token within four of them: 4 * 7/8 remote nodes.
  EXPECT_EQ(find(ops, "dispatch").rdma.v, 128 * 7456 * 7 / 2);
}

TEST(StepPlan, ExpertPairsOfTheGroupAreConserved) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  for (const std::int64_t ep : {8, 16, 32, 64}) {
    std::vector<Op> ops;
    append_expert_ops(v3, {.dp = ep, .ep = ep}, 4096, ops);
    EXPECT_EQ(find(ops, "experts_up").m * ep, 4096 * 8) << "ep " << ep;
    EXPECT_EQ(find(ops, "experts_up").groups * ep, 256);
  }
}

TEST(StepPlan, ExpertsTouchedGoesFromOneTokensChoicesToAll) {
  EXPECT_DOUBLE_EQ(experts_touched(32, 256, 8, 0), 0);
  EXPECT_NEAR(experts_touched(256, 256, 8, 1), 8, 1e-9);
  EXPECT_NEAR(experts_touched(32, 256, 8, 1), 1, 1e-9);
  EXPECT_NEAR(experts_touched(32, 256, 8, 10000), 32, 1e-9);
  EXPECT_NEAR(experts_touched(4, 4, 4, 1), 4, 1e-9) << "every expert chosen by every token";
}

TEST(StepPlan, TensorParallelPlanReducesInsteadOfExchanging) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  const auto ops = step_plan(v3, {.tp = 8}, d, {.chunks = {}, .sequences = 32, .context_tokens = 32000},
                             {.tokens = 32, .tokens_max = 32});
  const auto has = [&](std::string_view name) {
    return std::any_of(ops.begin(), ops.end(), [&](const Op& op) { return op.name == name; });
  };
  EXPECT_FALSE(has("dispatch"));
  EXPECT_TRUE(has("moe_all_reduce"));
  EXPECT_EQ(find(ops, "attention_all_reduce").xgmi.v, 2 * 7 * 2 * 32 * 7168 / 8);
  EXPECT_EQ(find(ops, "experts_up").n, 2 * 2048 / 8);
  EXPECT_EQ(find(ops, "experts_up").m, 32 * 8);
}

TEST(StepPlan, FusedSharedExpertMovesItsWorkIntoTheGroupedGemm) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  const RankBatch rank{.chunks = {}, .sequences = 64, .context_tokens = 0};
  const auto apart = step_plan(v3, {.dp = 8, .ep = 8}, d, rank, {.tokens = 512, .tokens_max = 64});
  const auto fused =
      step_plan(v3, {.dp = 8, .ep = 8, .fused_shared_expert = true}, d, rank, {.tokens = 512, .tokens_max = 64});
  const auto flops = [](const std::vector<Op>& ops) {
    std::int64_t sum = 0;
    for (const Op& op : ops) sum += op.flops * op.repeats;
    return sum;
  };
  EXPECT_EQ(flops(apart), flops(fused));
  EXPECT_EQ(fused.size() + 3, apart.size());
  EXPECT_EQ(find(fused, "experts_up").m, 512 + 64);
}

TEST(StepPlan, AnEmptyRankOnlyTakesPartInTheGroupsWork) {
  const auto ops = step_plan(tiny(), {.dp = 2, .ep = 2}, shipped_device("mi300x"), {}, {.tokens = 4, .tokens_max = 4});
  for (const Op& op : ops) {
    EXPECT_TRUE(op.kind == OpKind::dispatch || op.kind == OpKind::combine || op.name.starts_with("experts")) << op.name;
  }
  EXPECT_EQ(ops.size(), 5u);
}

}  // namespace
}  // namespace faultline::model
