// What launching costs: one decode step of the tiny model, launched operation by operation and as one captured graph.
#pragma once

#include <string>

#include "kernels/runtime/device.h"

namespace faultline::kernels::bench {

struct GraphFigures {
  std::size_t nodes = 0;     // of the captured step
  double eager_ns = 0;       // host time from the first launch to the end of the step's work, median
  double graph_ns = 0;       // the same for one launch of the graph
  double eager_host_ns = 0;  // host time until the last launch returned, median
  double graph_host_ns = 0;
  double eager_device_ns = 0;  // between events around the step, median: gaps between kernels included
  double graph_device_ns = 0;
};

/// Decode of `sequences` sequences, each with `context` cached tokens. The graph's logits are compared with the eager
/// ones bit for bit; throws std::runtime_error when they differ.
GraphFigures graph_figures(Device& device, int sequences, int context, int repeats);

/// A table for 1, 8 and 32 sequences.
std::string graph_table(Device& device);

}  // namespace faultline::kernels::bench
