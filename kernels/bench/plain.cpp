// Compiled once for each CPU level; FAULTLINE_PLAIN names it.
#include "kernels/bench/plain.h"

#include <algorithm>
#include <cmath>

namespace faultline::kernels::bench::FAULTLINE_PLAIN {
namespace {

void mla_decode(const std::uint8_t* q, const std::uint8_t* cache, int tokens, int heads, float scale,
                const float* table, float* scores, float* out) {
  for (int h = 0; h < heads; ++h) {
    float largest = -3e38F;
    for (int t = 0; t < tokens; ++t) {
      float s = 0;
      for (int d = 0; d < 576; ++d) s += table[q[h * 576 + d]] * table[cache[t * 576 + d]];
      scores[t] = s * scale;
      largest = scores[t] > largest ? scores[t] : largest;
    }
    float sum = 0;
    for (int t = 0; t < tokens; ++t) sum += scores[t] = std::exp(scores[t] - largest);
    for (int d = 0; d < 512; ++d) out[h * 512 + d] = 0;
    for (int t = 0; t < tokens; ++t)
      for (int d = 0; d < 512; ++d) out[h * 512 + d] += scores[t] / sum * table[cache[t * 576 + d]];
  }
}

void route(const float* logits, const float* bias, int experts, int groups, int top_groups, int top_k,
           float route_scale, int* ids, float* weights, float* work) {
  float *score = work, *choice = work + experts, *group = work + 2 * experts;
  for (int e = 0; e < experts; ++e) {
    score[e] = 1.0F / (1.0F + std::exp(-logits[e]));
    choice[e] = score[e] + bias[e];
  }
  const int size = experts / groups;
  for (int g = 0; g < groups; ++g) {
    float first = -3e38F, second = -3e38F;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      if (choice[e] > first) {
        second = first;
        first = choice[e];
      } else if (choice[e] > second) {
        second = choice[e];
      }
    }
    group[g] = first + second;
  }
  bool open[64] = {};
  for (int n = 0; n < top_groups; ++n) {
    int best = 0;
    for (int g = 1; g < groups; ++g)
      if (group[g] > group[best]) best = g;
    open[best] = true;
    group[best] = -3e38F;
  }
  for (int e = 0; e < experts; ++e)
    if (!open[e / size]) choice[e] = -3e38F;
  float sum = 0;
  for (int k = 0; k < top_k; ++k) {
    int best = 0;
    for (int e = 1; e < experts; ++e)
      if (choice[e] > choice[best]) best = e;
    ids[k] = best;
    weights[k] = score[best];
    sum += score[best];
    choice[best] = -3e38F;
  }
  for (int k = 0; k < top_k; ++k) weights[k] *= route_scale / sum;
}

struct Candidate {
  float p;
  int index;
};

int sample(const float* logits, int vocabulary, float temperature, int top_k, float top_p, double uniform, void* work) {
  auto* candidates = static_cast<Candidate*>(work);
  float largest = logits[0];
  for (int i = 1; i < vocabulary; ++i) largest = logits[i] > largest ? logits[i] : largest;
  for (int i = 0; i < vocabulary; ++i) candidates[i] = {std::exp((logits[i] - largest) / temperature), i};
  int kept = vocabulary;
  auto larger = [](const Candidate& a, const Candidate& b) { return a.p > b.p; };
  if (top_k > 0 && top_k < vocabulary) {
    std::nth_element(candidates, candidates + top_k, candidates + vocabulary, larger);
    kept = top_k;
  }
  double total = 0;
  for (int i = 0; i < kept; ++i) total += static_cast<double>(candidates[i].p);
  if (top_p < 1) {
    std::sort(candidates, candidates + kept, larger);
    double sum = 0;
    int n = 0;
    while (n < kept && sum < static_cast<double>(top_p) * total) sum += static_cast<double>(candidates[n++].p);
    kept = n;
    total = sum;
  }
  double left = uniform * total;
  for (int i = 0; i < kept; ++i) {
    left -= static_cast<double>(candidates[i].p);
    if (left < 0) return candidates[i].index;
  }
  return candidates[kept - 1].index;
}

}  // namespace

PlainLoops loops() { return {mla_decode, route, sample}; }

}  // namespace faultline::kernels::bench::FAULTLINE_PLAIN
