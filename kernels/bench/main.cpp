// `faultline bench kernels` for a host that builds the kernels alone (preset gpu): the same shapes, table and op log.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/bench/bench.h"
#include "kernels/bench/graph.h"

namespace {

namespace kernels = faultline::kernels;
namespace bench = faultline::kernels::bench;

int run(int argc, char** argv) {
  std::vector<std::string> shapes;
  std::string log, which = "auto";
  double seconds = 0.3;
  bool graph = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--graph") {
      graph = true;
    } else if (word == "--shapes" && has_value) {
      shapes.emplace_back(argv[++i]);
    } else if (word == "--log" && has_value) {
      log = argv[++i];
    } else if (word == "--device" && has_value) {
      which = argv[++i];
    } else if (word == "--seconds" && has_value) {
      seconds = std::strtod(argv[++i], nullptr);
    } else {
      std::fprintf(stderr,
                   "bench_kernels: unknown or incomplete option '%s'; known: --shapes LIST, --log FILE, --device NAME, "
                   "--seconds S, --graph\n",
                   word.c_str());
      return 2;
    }
  }
  const auto device = kernels::open_device(which);
  if (graph) {
    std::printf("%s", bench::graph_table(*device).c_str());
    return 0;
  }
  if (shapes.empty()) shapes = {"deepseek_v3/ep8/decode"};
  std::vector<bench::Case> cases;
  for (const auto& name : shapes) {
    const auto more = bench::list(name);
    cases.insert(cases.end(), more.begin(), more.end());
  }
  bench::Options options;
  options.seconds = seconds;
  options.limits = bench::measure_limits(*device);
  std::printf("device: %s\n%s\n", device->name().c_str(), bench::heading().c_str());
  std::ofstream out;
  if (!log.empty()) out.open(log);
  bench::run(*device, cases, options, [&](const bench::Result& r) {
    std::printf("%s\n", bench::line(r).c_str());
    std::fflush(stdout);
    if (out.is_open() && r.skipped.empty()) out << kernels::model::op_log_line(r.c.op, device->name()) << "\n";
  });
  if (out.is_open() && !out.flush()) {
    std::fprintf(stderr, "bench_kernels: cannot write %s\n", log.c_str());
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_kernels: %s\n", e.what());
    return 2;
  }
}
