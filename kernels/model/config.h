// The shape of a DeepSeek-V3-like model as the kernels take it. Published names in weights.h.
#pragma once

#include <string>
#include <string_view>

namespace faultline::kernels::model {

/// MLA's inner widths are fixed by the kernels: kv_lora 512, rope 64, nope 128, v 128 (those of DeepSeek-V2, V3, R1,
/// Kimi K2).
inline constexpr int kLatent = 512, kRope = 64, kNope = 128, kValue = 128, kCached = kLatent + kRope;

struct Config {
  int hidden = 256;  // multiple of 128
  int layers = 4;
  int dense_layers = 1;  // the first ones have a dense MLP
  int vocabulary = 512;
  int heads = 4;
  int q_lora = 256;        // multiple of 128
  int dense_inter = 256;   // multiple of 128
  int expert_inter = 128;  // multiple of 128
  int experts = 16;
  int top_k = 4;
  int groups = 4, top_groups = 2;
  int shared_experts = 1;
  float route_scale = 2.5F;
  float norm_epsilon = 1e-6F;
  double rope_base = 10000.0;
};

/// Empty when the kernels can run the shape; else the first thing that does not fit.
std::string problem(const Config& config);

/// From the text of a published config.json. Throws std::runtime_error with what is missing or not supported.
Config read_config(std::string_view json);

/// DeepSeek-V3 671B as published (config.json of deepseek-ai/DeepSeek-V3).
Config deepseek_v3();

}  // namespace faultline::kernels::model
