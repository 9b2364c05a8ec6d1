// faultline bench kernels: times the kernels on this machine's best device and writes the op log that calibration
// imports.
#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "core/config/diagnostics.h"
#include "kernels/bench/bench.h"
#include "kernels/bench/graph.h"
#include "kernels/runtime/code_objects.h"

namespace faultline::cli {
namespace {

namespace bench = kernels::bench;

struct Options {
  std::string device = "auto";
  std::vector<std::string> shapes{"deepseek_v3/ep8/decode"};
  std::string log;
  double seconds = 0.3;
  double memory_gib = 0;
  bool compare = false, resources = false, graph = false;
};

int print_resources() {
  fmt::print("{:<22} {:>6} {:>6} {:>6} {:>10} {:>7} {:>11}\n", "kernel (gfx942)", "VGPRs", "AGPRs", "SGPRs",
             "LDS bytes", "spills", "waves/SIMD");
  for (const auto& object : kernels::gfx942_code())
    for (const auto& k : kernels::read_resources(object.bytes))
      fmt::print("{:<22} {:>6} {:>6} {:>6} {:>10} {:>7} {:>11}\n", k.name, k.vgprs, k.agprs, k.sgprs, k.lds_bytes,
                 k.vgpr_spills + k.sgpr_spills, k.waves_per_simd());
  return 0;
}

int run(const Options& options) {
  if (options.resources) return print_resources();
  std::unique_ptr<kernels::Device> device;
  std::vector<bench::Case> cases;
  try {
    device = kernels::open_device(options.device);
    for (const auto& name : options.shapes) {
      const auto more = bench::list(name);
      cases.insert(cases.end(), more.begin(), more.end());
    }
  } catch (const std::invalid_argument& e) {
    throw config::ConfigError(fmt::format("bench kernels: error: {}\n", e.what()));
  }
  if (options.graph) {
    fmt::print("device: {}\n{}", device->name(), bench::graph_table(*device));
    return 0;
  }
  const bool host = device->limits().memory_bytes == 0;
  bench::Options settings;
  settings.seconds = options.seconds;
  settings.compare = options.compare && host;
  settings.limits = bench::measure_limits(*device);
  const double gib = options.memory_gib > 0 ? options.memory_gib
                     : host                 ? 2
                                            : 0;  // a GPU fails by itself when a case does not fit
  settings.memory_limit = static_cast<std::size_t>(gib * 1073741824.0);
  fmt::print("device: {}; limits: {:.2f} TFLOP/s FP8, {:.2f} BF16, {:.1f} GB/s ({})\n", device->name(),
             settings.limits.fp8_flops / 1e12, settings.limits.bf16_flops / 1e12, settings.limits.memory_bytes / 1e9,
             host ? "one core: OpenBLAS sgemm and copy, measured" : "data sheet");
  fmt::print("{}\n", bench::heading());
  std::string log;
  bench::run(*device, cases, settings, [&](const bench::Result& r) {
    fmt::print("{}\n", bench::line(r));
    std::fflush(stdout);
    if (r.skipped.empty()) log += kernels::model::op_log_line(r.c.op, device->name()) + "\n";
  });
  if (!options.log.empty()) write_file(options.log, log);
  return 0;
}

const Registration kKernels{
    {.order = 81,
     .name = "bench kernels",
     .help = "Time the kernels; write the op log that calibration imports",
     .setup = [](CLI::App& app) {
       auto options = std::make_shared<Options>();
       app.add_option("--device", options->device, "auto, gpu, cpu, cpu:v2, cpu:v3, cpu:v4")->capture_default_str();
       app.add_option("--shapes", options->shapes,
                      "Shape lists: " + fmt::format("{}", fmt::join(bench::list_names(), ", ")))
           ->capture_default_str();
       app.add_option("--log", options->log, "Write the op log (JSON lines) here");
       app.add_option("--seconds", options->seconds, "Least time for each case")
           ->capture_default_str()
           ->check(CLI::Range(0.0, 3600.0));
       app.add_option("--memory", options->memory_gib,
                      "GiB a case may take; larger ones are skipped (default: 2 on a CPU)");
       app.add_flag("--compare", options->compare,
                    "On a CPU: against OpenBLAS sgemm and plain loops, one thread, in the same run");
       app.add_flag("--graph", options->graph,
                    "Launch overhead instead: a decode step of the tiny model, eager against captured graph");
       app.add_flag("--resources", options->resources, "Print registers, LDS and occupancy of the gfx942 code instead");
       return [options] { return run(*options); };
     }}};

}  // namespace
}  // namespace faultline::cli
