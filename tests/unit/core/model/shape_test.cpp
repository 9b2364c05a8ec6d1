#include "core/model/shape.h"

#include <gtest/gtest.h>

#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

struct Published {
  const char* file;
  double total, active;  // billions
  double tolerance;      // the publications round to two or three digits
};

TEST(ModelShape, DerivedParametersMatchThePublishedTotals) {
  for (const Published& p : {Published{"deepseek-v3", 671, 37, 0.015}, Published{"kimi-k2", 1040, 32.6, 0.015},
                             Published{"qwen3-235b-a22b", 235, 22, 0.015}, Published{"dense-7b", 7.24, 7.24, 0.002},
                             Published{"llama-3-70b", 70.6, 70.6, 0.002}}) {
    const ModelShape s = shipped_model(p.file);
    const double total = static_cast<double>(parameters(s).total()) / 1e9;
    const double active = static_cast<double>(active_parameters(s)) / 1e9;
    EXPECT_NEAR(total / p.total, 1, p.tolerance) << p.file << " total " << total;
    EXPECT_NEAR(active / p.active, 1, p.tolerance) << p.file << " active " << active;
  }
}

TEST(ModelShape, DeepSeekParametersByPartMatchACountByHand) {
  const ParameterCount p = parameters(shipped_model("deepseek-v3"));
  // q_a 7168*1536, kv_a 7168*576, q_b 1536*128*192, kv_b 512*128*256, o 128*128*7168, on 61 layers.
  EXPECT_EQ(p.attention, 61 * (11010048LL + 4128768 + 37748736 + 16777216 + 117440512));
  EXPECT_EQ(p.experts, 58LL * 256 * 3 * 7168 * 2048);
  EXPECT_EQ(p.shared, 58LL * 3 * 7168 * 2048);
  EXPECT_EQ(p.dense_mlp, 3LL * 3 * 7168 * 18432);
  EXPECT_EQ(p.router, 58LL * 256 * 7168);
  EXPECT_EQ(p.head, 129280LL * 7168);
}

TEST(ModelShape, KVBytesPerTokenAreThoseOfTheCacheLayout) {
  const ModelShape v3 = shipped_model("deepseek-v3");
  EXPECT_EQ(kv_bytes_per_token_layer(v3, Precision::fp8).v, 576);
  EXPECT_EQ(kv_bytes_per_token(v3, Precision::fp8).v, 35136);
  EXPECT_EQ(kv_bytes_per_token(v3, Precision::bf16).v, 70272);
  EXPECT_EQ(kv_bytes_per_token(shipped_model("qwen3-235b-a22b"), Precision::bf16).v, 94 * 2 * 4 * 128 * 2);
  EXPECT_EQ(kv_bytes_per_token(shipped_model("dense-7b"), Precision::bf16).v, 131072);
  EXPECT_EQ(kv_bytes_per_token(shipped_model("llama-3-70b"), Precision::bf16).v, 327680);
}

TEST(ModelShape, ResolvedTextReadsBackToTheSameShape) {
  for (const char* name : {"deepseek-v3", "kimi-k2", "qwen3-235b-a22b", "llama-3-70b"}) {
    ModelShape s = shipped_model(name);
    YAML::Emitter first;
    config::print(first, s);
    config::Diagnostics diagnostics;
    ModelShape again = read_model(first.c_str(), "resolved", diagnostics);
    EXPECT_TRUE(diagnostics.ok()) << diagnostics.text() << first.c_str();
    YAML::Emitter second;
    config::print(second, again);
    EXPECT_STREQ(first.c_str(), second.c_str());
  }
}

}  // namespace
}  // namespace faultline::model
