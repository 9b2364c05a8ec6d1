// The op log of `faultline bench kernels`: one measured kernel shape a line, {"op", "kind", "precision", shape…, "ns",
// "device"}.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/calibration/delimited.h"
#include "core/calibration/importers.h"

namespace faultline::calibration {
namespace {

// "sm_90 NVIDIA H100 80GB HBM3" -> H100; what has no tag keeps its name.
std::string hardware_of(const std::string& device) {
  for (const char* tag : {"MI300X", "MI325X", "MI308X", "MI355X", "H100", "H200", "H800"})
    if (device.find(tag) != std::string::npos) return tag;
  return device;
}

}  // namespace

void import_kernel_bench(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  std::string line;
  int number = 0;
  while (std::getline(in, line)) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object()) {
      errors.at(number, 1, "expected one JSON object a line", in.eof() ? "the file may be cut off" : "");
      continue;
    }
    const auto text = [&](const char* key) {
      return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
    };
    const auto value = [&](const char* key, double absent) {
      return json.contains(key) && json[key].is_number() ? json[key].get<double>() : absent;
    };
    const std::string kind = text("kind"), precision = text("precision"), op = text("op");
    const double us = value("ns", 0) / 1e3;
    if (kind.empty() || us <= 0) {
      errors.at(number, 1, "needs kind and a time ns above 0");
      continue;
    }
    Origin origin;
    origin.mark = {errors.file(), number, 1};
    origin.hardware = options.hardware.empty() ? hardware_of(text("device")) : options.hardware;
    const std::string format = precision == "fp8" ? "fp8_block" : precision == "fp8_rows" ? "fp8_row" : precision;
    if (kind == "gemm") {
      const GemmSample s{value("m", 0), value("n", 0), value("k", 0), value("batch", 1), format, us, origin};
      if (s.m < 1 || s.n < 1 || s.k < 1) errors.at(number, 1, "a gemm needs m, n and k");
      else data.gemm.push_back(s);
    } else if (kind == "grouped_gemm" && op == "experts") {
      MoeSample s;
      s.tokens = value("tokens", 0), s.hidden = value("k", 0), s.inter = value("n", 0) / 2,
      s.experts = value("groups", 0);
      s.topk = s.tokens > 0 ? value("m", 0) / s.tokens : 0;
      s.precision = format, s.us = us, s.origin = origin;
      if (s.tokens < 1 || s.hidden < 1 || s.inter < 1 || s.experts < 1 || s.topk <= 0)
        errors.at(number, 1, "experts need tokens, m, n, k and groups");
      else data.moe.push_back(s);
    } else if (kind == "decode_attention") {
      AttentionSample s;
      s.batch = value("sequences", 0), s.heads = value("heads", 0), s.us = us, s.origin = origin;
      s.context = s.batch > 0 ? value("context", 0) / s.batch : 0;
      s.kernel = fmt::format("mla_decode_{}_{}_heads", precision,
                             s.heads);  // heads set the arithmetic of a cached token: a family each
      if (s.batch < 1 || s.context <= 0 || s.heads < 1)
        errors.at(number, 1, "decode attention needs sequences, context and heads");
      else data.attention.push_back(s);
    }
  }
}

}  // namespace faultline::calibration
