// The loops one would write without thinking about tiles: what the CPU path is compared with. Compiled at the same
// level and with the same optimisation as the kernels.
#pragma once

#include <cstdint>

namespace faultline::kernels::bench {

struct PlainLoops {
  /// FP8 MLA decode of one sequence: q[heads][576], cache[tokens][576] contiguous; out[heads][512] float.
  void (*mla_decode)(const std::uint8_t* q, const std::uint8_t* cache, int tokens, int heads, float scale,
                     const float* table, float* scores, float* out);
  /// DeepSeek-V3's router for one token, with the obvious loops.
  void (*route)(const float* logits, const float* bias, int experts, int groups, int top_groups, int top_k,
                float route_scale, int* ids, float* weights, float* work);
  /// Softmax sampling with temperature, top-k by nth_element, top-p by sorting what is left.
  int (*sample)(const float* logits, int vocabulary, float temperature, int top_k, float top_p, double uniform,
                void* work);
};

/// The best level of this machine.
PlainLoops plain_loops();

}  // namespace faultline::kernels::bench
