// The whole model in double precision, written from the published description and independent of the kernels: no
// absorbed projections, no cache, no tiles, activations never rounded; every token attends to all before it. Weights
// are exactly those stored.
#pragma once

#include "kernels/model/weights.h"
#include "kernels/reference/reference.h"

namespace faultline::kernels::reference {

/// Logits of every position: tokens x vocabulary.
Matrix forward(const model::Config& config, const model::WeightSource& weights, const std::vector<int>& tokens);

}  // namespace faultline::kernels::reference
