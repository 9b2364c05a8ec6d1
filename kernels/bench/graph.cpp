#include "kernels/bench/graph.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/model/model.h"

namespace faultline::kernels::bench {
namespace {

double now_ns() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

struct Times {
  std::vector<double> whole, host, device;
};

template <class F>
void measure(Device& device, Times& times, F launch) {
  require(device.synchronize());
  require(device.mark(0));
  const double begin = now_ns();
  launch();
  const double launched = now_ns();
  require(device.mark(1));
  require(device.synchronize());
  times.whole.push_back(now_ns() - begin);
  times.host.push_back(launched - begin);
  auto between = device.nanoseconds_between_marks();
  if (!between) require(between.failure());
  times.device.push_back(between.value());
}

}  // namespace

GraphFigures graph_figures(Device& device, int sequences, int context, int repeats) {
  const model::Config config;  // 4 layers, 16 experts, hidden 256
  const int pages_each = (context + 1 + 63) / 64;
  model::Limits limits;
  limits.tokens = std::max(sequences, context), limits.sequences = sequences, limits.positions = context + 1,
  limits.pages = pages_each * sequences;
  limits.cache = model::CacheFormat::fp8;
  const auto weights = model::seeded_weights(7);
  model::Model m(device, config, *weights, limits);
  std::vector<model::SequenceInput> step;
  for (int s = 0; s < sequences; ++s) {
    model::SequenceInput prompt;
    for (int t = 0; t < context; ++t) prompt.tokens.push_back((s * 31 + t * 7) % config.vocabulary);
    for (int q = 0; q < pages_each; ++q) prompt.pages.push_back(s * pages_each + q);
    m.step({prompt});
    step.push_back({{s % config.vocabulary}, context, prompt.pages});
  }
  m.prepare(step);
  require(m.launch());
  const std::vector<float> expected = m.logits();
  require(device.begin_capture());
  require(m.launch());
  auto graph = device.end_capture();
  if (!graph) require(graph.failure());
  require(device.run(*graph.value()));
  const std::vector<float> got = m.logits();
  if (got.size() != expected.size() || std::memcmp(got.data(), expected.data(), got.size() * 4) != 0)
    throw std::runtime_error("the captured step gives other logits than the launched one");
  Times eager, captured;
  for (int i = 0; i < repeats; ++i) {
    measure(device, eager, [&] { require(m.launch()); });
    measure(device, captured, [&] { require(device.run(*graph.value())); });
  }
  return {graph.value()->node_count(), median(eager.whole),  median(captured.whole), median(eager.host),
          median(captured.host),       median(eager.device), median(captured.device)};
}

std::string graph_table(Device& device) {
  std::string out =
      "one decode step of the tiny model (4 layers, 16 experts, hidden 256), context 128, microseconds, medians\n"
      "sequences  kernels   eager: host  device  whole   graph: host  device  whole\n";
  for (const int sequences : {1, 8, 32}) {
    const GraphFigures f = graph_figures(device, sequences, 128, device.limits().compute_units > 1 ? 200 : 5);
    char line[160];
    std::snprintf(line, sizeof line, "%9d  %7zu  %11.1f %8.1f %6.1f  %11.1f %8.1f %6.1f\n", sequences, f.nodes,
                  f.eager_host_ns / 1e3, f.eager_device_ns / 1e3, f.eager_ns / 1e3, f.graph_host_ns / 1e3,
                  f.graph_device_ns / 1e3, f.graph_ns / 1e3);
    out += line;
  }
  return out;
}

}  // namespace faultline::kernels::bench
