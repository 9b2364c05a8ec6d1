// Measures kernels on a device, by shapes named as in the simulator's step plan; writes the op log that calibration
// imports.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/model/model.h"
#include "kernels/runtime/device.h"

namespace faultline::kernels::bench {

struct Case {
  model::OpRecord op;           // name, kind, precision and shape; see model::OpRecord
  double flops = 0, bytes = 0;  // of one run: multiply-adds count 2; bytes are weights, activations and cache once
};

/// Lists: "deepseek_v3/{ep8,ep16,tp8}/{decode,prefill}", "sweep" (sizes to calibrate with), "compare" (the shapes of
/// the CPU comparison), "tiny" (seconds on any CPU).
std::vector<std::string> list_names();
std::vector<Case> list(const std::string& name);  // throws std::invalid_argument and names the lists

struct Result {
  Case c;
  double nanoseconds = 0;  // least of the runs; a GPU's cache is overwritten before each
  int runs = 0;
  double roofline =
      0;  // share of max(flops / peak, bytes / bandwidth) in the time; 0 when the device's limits are unknown
  double other_nanoseconds = 0;  // of `other` on the same shape, measured in turns with ours; 0: not compared
  std::string other;             // "OpenBLAS sgemm", "plain loop"
  std::string skipped;           // why it was not run
};

struct Options {
  double seconds = 0.3;          // at least, per case and contestant
  std::size_t memory_limit = 0;  // bytes a case may allocate; 0: no limit
  bool compare = false;          // with OpenBLAS (found at run time) and plain loops, one thread each; CPU devices only
  DeviceLimits limits;           // of the device; zeros: measured (host) or the device's own
};

/// Peak by a large sgemm-like product of our own, bandwidth by copy_memory: for devices that do not know their limits.
DeviceLimits measure_limits(Device& device);

std::vector<Result> run(Device& device, const std::vector<Case>& cases, const Options& options,
                        const std::function<void(const Result&)>& progress);

/// Fixed-width table line and its heading.
std::string heading();
std::string line(const Result& result);

}  // namespace faultline::kernels::bench
