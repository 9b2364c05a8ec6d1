#include "core/model/memory.h"

#include <gtest/gtest.h>

#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

TEST(MemoryBudget, DeepSeekOnEightGPUsMatchesASumByHand) {
  const ModelShape s = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  const ParallelPlan p{.dp = 8, .ep = 8, .kv_precision = Precision::fp8};
  const MemoryBudget b = memory_budget(s, d, p, {});
  EXPECT_EQ(b.capacity.v, 206158430208);
  EXPECT_EQ(b.reserve.v, 20615843021);  // a tenth
  // 58 layers * 32 experts * 3 * 7168 * 2048 weights of one byte, and four bytes for each 128 x 128 block of them.
  EXPECT_EQ(b.experts.v, 81738596352 + 4 * 4988928LL);
  EXPECT_EQ(b.attention.v, 11413422080 + 4 * 696620LL);
  EXPECT_EQ(b.embeddings_head.v, 2LL * 2 * 129280 * 7168);
  EXPECT_EQ(b.kv_per_token.v, 35136);
  // Receive buffers: 8 GPUs * 8192 tokens * (7168 + 4*56 + 8*8 in, 14336 out).
  EXPECT_EQ(b.communication.v, 8LL * 8192 * (7456 + 14336));
  EXPECT_EQ(b.capacity, b.reserve + b.runtime + b.weights() + b.activations + b.communication + b.kv)
      << "the parts add up";
  EXPECT_EQ(b.blocks, b.kv.v / (64 * 35136));
  EXPECT_EQ(b.tokens.v, b.blocks * 64);
  EXPECT_EQ(memory_refusal(b, s, d, p, {}, {163840}), "");
}

TEST(MemoryBudget, WiderExpertParallelismLeavesMoreRoomForTheCache) {
  const ModelShape s = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  std::int64_t before = 0;
  for (const std::int64_t ep : {8, 16, 32, 64}) {
    const MemoryBudget b = memory_budget(s, d, {.dp = ep, .ep = ep}, {.tokens_max = {1024}});
    EXPECT_GT(b.tokens.v, before) << "ep " << ep;
    before = b.tokens.v;
  }
}

TEST(MemoryBudget, TensorParallelismSplitsGQAHeadsButRepeatsTheLatent) {
  const ModelShape llama = shipped_model("llama-3-70b");
  EXPECT_EQ(kv_bytes_per_token_gpu(llama, {.tp = 8}).v, 327680 / 8);
  EXPECT_EQ(kv_bytes_per_token_gpu(shipped_model("qwen3-235b-a22b"), {.tp = 8}).v, 94 * 2 * 128 * 2)
      << "four heads over eight GPUs";
  EXPECT_EQ(kv_bytes_per_token_gpu(shipped_model("deepseek-v3"), {.tp = 8}).v, 70272);
}

TEST(MemoryBudget, RefusesWeightsThatDoNotFitWithTheNumbers) {
  const ModelShape s = shipped_model("kimi-k2");
  const DeviceSpec d = shipped_device("h100");
  const ParallelPlan p{.dp = 8, .ep = 8};
  const MemoryBudget b = memory_budget(s, d, p, {});
  EXPECT_EQ(b.blocks, 0);
  EXPECT_GT(b.kv_missing.v, 0);
  EXPECT_EQ(memory_refusal(b, s, d, p, {}, {1000}),
            "Kimi-K2 with tp=1 dp=8 ep=8 on H100 does not fit: of 74.5 GiB a GPU, 7.5 GiB are reserved and 3.0 GiB "
            "taken by the "
            "runtime; weights need 131.4 GiB (experts 118.2, attention 5.7, other 7.5), activations 1.6 GiB, "
            "communication 1.3 GiB: "
            "70.3 GiB too much");
}

TEST(MemoryBudget, RefusesARequestLongerThanTheCacheWithTheNumbers) {
  const ModelShape s = shipped_model("deepseek-v3");
  const DeviceSpec d = shipped_device("mi300x");
  const ParallelPlan p{.dp = 8, .ep = 8, .kv_precision = Precision::fp8};
  const MemoryOptions o{.memory_fraction = 0.55};
  const MemoryBudget b = memory_budget(s, d, p, o);
  EXPECT_EQ(memory_refusal(b, s, d, p, o, {200000}),
            "DeepSeek-V3 with tp=1 dp=8 ep=8 on MI300X has room for 168384 tokens of KV cache a rank (5.5 GiB at 35136 "
            "B a token, "
            "blocks of 64), but one request may need 200000");
}

}  // namespace
}  // namespace faultline::model
