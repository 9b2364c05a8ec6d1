// How many distinct places a token's experts touch under uniform random routing: what de-duplication and the experts
// touched depend on. Sources: docs/calibration.md, section "Exchange" and "Fused MoE".
#pragma once

#include "core/base/math.h"

namespace faultline::calibration {

/// Expected number of distinct destinations (ranks or nodes) among `places` of `draws` independent uniform choices.
/// Range: places >= 1, draws >= 0. (Choice without replacement over many experts a place is within 2% of it.)
inline double distinct_destinations(double places, double draws) {
  if (places <= 1) return draws > 0 ? 1 : 0;
  return places * (1 - stable::pow(1 - 1 / places, draws));
}

/// Expected experts touched of `experts` when `tokens` choose `topk` distinct ones each, uniformly.
inline double experts_touched(double experts, double topk, double tokens) {
  if (experts <= 0 || topk <= 0) return 0;
  if (topk >= experts) return tokens > 0 ? experts : 0;
  return experts * (1 - stable::pow(1 - topk / experts, tokens));
}

}  // namespace faultline::calibration
