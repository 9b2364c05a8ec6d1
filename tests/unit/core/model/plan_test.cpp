// Plans that cannot run, and malformed model and device files, each with its exact message.
#include "core/model/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> problems(const char* model, const ParallelPlan& p) {
  return plan_problems(p, shipped_model(model), shipped_device("mi300x"));
}

TEST(ParallelPlan, UsualPlansHaveNoProblem) {
  for (const std::int64_t ep : {8, 16, 32, 64}) {
    EXPECT_THAT(problems("deepseek-v3", {.dp = ep, .ep = ep}), IsEmpty()) << ep;
    EXPECT_THAT(problems("kimi-k2", {.dp = ep, .ep = ep}), IsEmpty()) << ep;
    EXPECT_THAT(problems("qwen3-235b-a22b", {.dp = ep, .ep = ep}), IsEmpty()) << ep;
  }
  EXPECT_THAT(problems("deepseek-v3", {.tp = 8}), IsEmpty());
  EXPECT_THAT(problems("deepseek-v3", {.tp = 8, .ep = 8}), IsEmpty());
  EXPECT_THAT(problems("deepseek-v3", {.tp = 4, .dp = 4, .ep = 16}), IsEmpty());
  EXPECT_THAT(
      problems("deepseek-v3",
               {.dp = 32, .ep = 32, .dual_batch_overlap = true, .fused_shared_expert = true, .redundant_experts = 32}),
      IsEmpty());
  EXPECT_THAT(problems("dense-7b", {}), IsEmpty());
  EXPECT_THAT(problems("llama-3-70b", {.tp = 8}), IsEmpty());
}

TEST(ParallelPlan, PlansThatCannotRunSayWhy) {
  EXPECT_THAT(problems("llama-3-70b", {.tp = 16}),
              ElementsAre("tp=16 is wider than a node of 8 GPUs: tensor parallelism needs the links inside a node"));
  EXPECT_THAT(problems("llama-3-70b", {.tp = 3}),
              ElementsAre("tp=3 does not divide the 8 GPUs of a node: a rank would span two nodes",
                          "tp=3 does not divide the 64 attention heads of Llama-3-70B",
                          "tp=3 and the 8 key-value heads of Llama-3-70B do not divide one another"));
  EXPECT_THAT(problems("deepseek-v3", {.dp = 16, .ep = 8}),
              ElementsAre("ep=8 must equal the GPUs of its group, tp*dp = 1*16 = 16"));
  EXPECT_THAT(
      problems("deepseek-v3", {.dp = 24, .ep = 24}),
      ElementsAre("ep=24 does not divide the 256 experts and 0 replicas of DeepSeek-V3: redundant_experts=8 would"));
  EXPECT_THAT(problems("deepseek-v3", {.dp = 12, .ep = 12, .redundant_experts = 8}),
              ElementsAre("tp*dp = 12 GPUs do not fill whole nodes of 8"));
  EXPECT_THAT(
      problems("deepseek-v3", {.dp = 8}),
      ElementsAre("ep=1 with dp=8 would hold every expert 8 times: set ep to tp*dp = 8, or use dp=1 and 8 groups"));
  EXPECT_THAT(problems("deepseek-v3", {.tp = 8, .redundant_experts = 8}),
              ElementsAre("redundant_experts=8 need expert parallelism (ep > 1)"));
  EXPECT_THAT(problems("deepseek-v3", {.tp = 8, .dual_batch_overlap = true}),
              ElementsAre("dual_batch_overlap has nothing to hide: the plan has no dispatch and combine"));
  EXPECT_THAT(problems("qwen3-235b-a22b", {.dp = 8, .ep = 8, .fused_shared_expert = true}),
              ElementsAre("fused_shared_expert, but Qwen3-235B-A22B has no shared expert"));
  EXPECT_THAT(problems("dense-7b", {.dp = 4, .ep = 4, .redundant_experts = 1}),
              ElementsAre("ep=4, but Mistral-7B has no experts",
                          "dp=4, but the ranks of a dense model do not step together: use dp=1 and 4 groups",
                          "redundant_experts=1, but Mistral-7B has no experts"));
}

struct Malformed {
  const char* from;  // replaced once in the shipped file
  const char* to;
  const char* message;  // the whole diagnostic
};

std::string replaced(std::string text, const Malformed& m) {
  const auto at = text.find(m.from);
  EXPECT_NE(at, std::string::npos) << m.from;
  return text.replace(at, std::string_view(m.from).size(), m.to);
}

TEST(ModelFile, EachMistakeHasItsMessageAndPlace) {
  const std::string text = text_of("topologies/models/deepseek-v3.yaml");
  for (const Malformed& m : {
           Malformed{"hidden: 7168", "hiden: 7168",
                     "m.yaml:2:1: error: 'model': missing key 'hidden'\nm.yaml:4:1: error: unknown key 'hiden' in "
                     "'model'\n  known keys: name, source, hidden, layers, vocab, context_max, attention, experts, "
                     "dense_layers, experts_per_token, expert_groups, groups_per_token, shared_experts, expert_inter, "
                     "dense_inter, tied_embeddings, weight_precision (did you mean 'hidden'?)\n"},
           Malformed{"layers: 61", "layers: -1", "m.yaml:5:9: error: layers: must be at least 1, got '-1'\n"},
           Malformed{"layers: 61", "layers: many", "m.yaml:5:9: error: layers: expected a whole number, got 'many'\n"},
           Malformed{"kind: mla", "kind: mha",
                     "m.yaml:8:19: error: kind: expected one of mla, gqa, got 'mha'\n  (did you mean 'mla'?)\n"},
           Malformed{"q_lora: 1536, ", "", "m.yaml:8:12: error: 'model.attention': missing key 'q_lora'\n"},
           Malformed{"dense_layers: 3", "dense_layers: 62",
                     "m.yaml:9:15: error: 62 dense layers, but the model has 61 layers\n"},
           Malformed{"dense_inter: 18432\n", "",
                     "m.yaml:2:1: error: the 3 dense layers need 'dense_inter', the width of their MLP\n"},
           Malformed{"experts_per_token: 8", "experts_per_token: 300",
                     "m.yaml:12:20: error: a token goes to 300 experts, it must be between 1 and the 256 there are\n"},
           Malformed{"expert_groups: 8", "expert_groups: 7",
                     "m.yaml:13:16: error: 256 experts cannot be split into 7 equal groups\n"},
           Malformed{"groups_per_token: 4", "groups_per_token: 9",
                     "m.yaml:14:19: error: a token may use 9 groups, but there are 8\n"},
           Malformed{"expert_inter: 2048\n", "",
                     "m.yaml:2:1: error: a model with experts needs 'expert_inter', the width of one expert\n"},
           Malformed{"weight_precision: fp8", "weight_precision: fp6",
                     "m.yaml:17:19: error: weight_precision: expected one of bf16, fp8, got 'fp6'\n  (did you mean "
                     "'fp8'?)\n"},
           Malformed{"context_max: 163840 tokens", "context_max: 163840 KiB",
                     "m.yaml:7:14: error: context_max: expected a number of tokens, such as '2048' or '128 Ki', got "
                     "'163840 KiB'\n"},
       }) {
    config::Diagnostics diagnostics;
    read_model(replaced(text, m), "m.yaml", diagnostics);
    EXPECT_EQ(diagnostics.text(), m.message);
  }
}

TEST(ModelFile, KeyValueHeadsMustDivideTheQueryHeads) {
  config::Diagnostics diagnostics;
  read_model(replaced(text_of("topologies/models/llama-3-70b.yaml"), {"kv_heads: 8", "kv_heads: 7", ""}), "m.yaml",
             diagnostics);
  EXPECT_EQ(diagnostics.text(), "m.yaml:8:45: error: 64 query heads cannot share 7 key-value heads equally\n");
}

TEST(DeviceFile, EachMistakeHasItsMessageAndPlace) {
  const std::string text = text_of("topologies/devices/mi300x.yaml");
  for (const Malformed& m : {
           Malformed{"fp8_peak: 2614.9 TFLOP/s", "fp8_peak: 2614.9",
                     "d.yaml:6:11: error: fp8_peak: expected a compute rate with its unit, such as '1307 TFLOP/s', got "
                     "'2614.9'\n"},
           Malformed{"memory: 192 GiB", "memory: 192 GB/s",
                     "d.yaml:9:9: error: memory: expected a size with its unit, such as '192 GiB' (B, kB, MB, GB, TB, "
                     "KiB, MiB, GiB, TiB), got '192 GB/s'\n"},
           Malformed{"compute: 0.36", "compute: 1.2", "d.yaml:13:21: error: compute: must be at most 1, got '1.2'\n"},
           Malformed{"floor: 12.4 us", "floor: -1 us",
                     "d.yaml:18:49: error: floor: must be at least 0 s, got '-1 us'\n"},
           Malformed{"latency_network: 42 us, ", "",
                     "d.yaml:21:11: error: 'device.dispatch': missing key 'latency_network'\n"},
           Malformed{"all_reduce: {latency: 15 us, xgmi: 0.7}\n", "",
                     "d.yaml:3:1: error: 'device': missing key 'all_reduce'\n"},
           Malformed{"name: MI300X\n", "", "d.yaml:3:1: error: 'device': missing key 'name'\n"},
       }) {
    config::Diagnostics diagnostics;
    read_device(replaced(text, m), "d.yaml", diagnostics);
    EXPECT_EQ(diagnostics.text(), m.message);
  }
}

TEST(ModelFile, AnEmptyFileIsAnErrorAndNoCrash) {
  config::Diagnostics diagnostics;
  read_model("", "m.yaml", diagnostics);
  EXPECT_EQ(diagnostics.text(), "m.yaml: error: the file is empty\n");
}

}  // namespace
}  // namespace faultline::model
