#include "core/calibration/importers.h"

#include <array>

#include "core/calibration/delimited.h"

namespace faultline::calibration {

std::string_view name_of(Format format) {
  static constexpr std::array<std::string_view, 19> kNames{"unknown",
                                                           "AITER tuned GEMM",
                                                           "AITER tuned fused MoE",
                                                           "MoRI EP tuning JSON",
                                                           "MoRI EP tuning table",
                                                           "MoRI README table",
                                                           "MORI-IO benchmark",
                                                           "MORI-IO table",
                                                           "DeepEP table",
                                                           "MLA decode points",
                                                           "perftest",
                                                           "rccl-tests",
                                                           "vllm bench serve",
                                                           "op log",
                                                           "Kineto trace",
                                                           "rocprofv3 CSV",
                                                           "rocprofv3 JSON",
                                                           "kernel classes",
                                                           "kernel benchmark"};
  return kNames[static_cast<std::size_t>(format)];
}

Format detect_format(std::string_view head) {
  const auto has = [&](std::string_view text) { return head.find(text) != std::string_view::npos; };
  std::string_view body = head;
  if (body.starts_with("\xef\xbb\xbf")) body.remove_prefix(3);
  while (!body.empty() && (body.front() == ' ' || body.front() == '\n' || body.front() == '\r' || body.front() == '\t'))
    body.remove_prefix(1);
  if (body.starts_with("{") || body.starts_with("[")) {
    const std::string_view first_line = body.substr(0, body.find('\n'));
    if (first_line.find("\"op\"") != std::string_view::npos &&
        first_line.find("\"duration_ns\"") != std::string_view::npos)
      return Format::op_log;
    if (first_line.find("\"op\"") != std::string_view::npos && first_line.find("\"kind\"") != std::string_view::npos &&
        first_line.find("\"ns\"") != std::string_view::npos)
      return Format::kernel_bench;
    if (has("\"rocprofiler-sdk-tool\"")) return Format::rocprofv3_json;
    if (has("\"kernel_type\"") && has("\"phase\"")) return Format::mori_tuning;
    if (has("\"traceEvents\"") || has("\"deviceProperties\"") || has("\"schemaVersion\"") || has("\"ph\"") ||
        has("\"metadata\""))
      return Format::kineto;
    if (has("\"total_input_tokens\"") || has("_ttft_ms\"")) return Format::vllm_bench;
    return Format::unknown;
  }
  const std::string_view header = body.substr(0, body.find('\n'));
  const auto column = [&](std::string_view name) { return header.find(name) != std::string_view::npos; };
  if (column("Kernel_Name") && column("Start_Timestamp")) return Format::rocprofv3_csv;
  if (column("model_dim") && column("inter_dim")) return Format::aiter_moe;
  if (column("kernel_class") && column("total_us")) return Format::h800_classes;
  if (column("kernel_type") && column("ep_size")) return Format::mori_table;
  if (column("tokens_per_rank") && column("dispatch_xgmi_gbps")) return Format::mori_readme;
  if (column("msg_bytes") && column("avg_lat_us")) return Format::mori_io_table;
  if (column("dispatch_us") && column("mode")) return Format::deepep_table;
  if (column("hk_us")) return Format::mla_points;
  if (column("M,N,K") && column("us")) return Format::aiter_gemm;
  if (has("MsgSize (B)")) return Format::mori_io;
  if (has("#bytes")) return Format::perftest;
  if (has("algbw") && has("busbw")) return Format::rccl_tests;
  return Format::unknown;
}

bool import_measurements(Format format, std::istream& in, const std::string& file, const ImportOptions& options,
                         Dataset& data, config::Diagnostics& diagnostics) {
  workload::RowErrors errors(file, diagnostics);
  switch (format) {
    case Format::aiter_gemm: import_aiter_gemm(in, options, data, errors); return true;
    case Format::aiter_moe: import_aiter_moe(in, options, data, errors); return true;
    case Format::mori_tuning: import_mori_tuning(in, options, data, errors); return true;
    case Format::mori_table: import_mori_table(in, options, data, errors); return true;
    case Format::mori_readme: import_mori_readme(in, options, data, errors); return true;
    case Format::mori_io: import_mori_io(in, options, data, errors); return true;
    case Format::mori_io_table: import_mori_io_table(in, options, data, errors); return true;
    case Format::deepep_table: import_deepep_table(in, options, data, errors); return true;
    case Format::mla_points: import_mla_points(in, options, data, errors); return true;
    case Format::perftest: import_perftest(in, options, data, errors); return true;
    case Format::rccl_tests: import_rccl_tests(in, options, data, errors); return true;
    case Format::kernel_bench: import_kernel_bench(in, options, data, errors); return true;
    case Format::vllm_bench: import_vllm_bench(in, options, data, errors); return true;
    default: return false;
  }
}

}  // namespace faultline::calibration
