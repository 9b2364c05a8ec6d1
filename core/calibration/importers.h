// Readers of the files that GPU tuners, benchmarks and profilers write. Each takes a stream, reports what is wrong with
// file:line:column (or file and byte where a format has no lines) and returns what could be read.
//
// The format is recognised by content, never by name, so a renamed file still imports.
#pragma once

#include <istream>
#include <string>
#include <string_view>

#include "core/calibration/measurements.h"
#include "core/calibration/profile.h"
#include "core/workload/table.h"

namespace faultline::calibration {

enum class Format {
  unknown,
  aiter_gemm,     // tuned GEMM, CSV: cu_num (with or without gfx), M, N, K, us; or our normalised columns
  aiter_moe,      // tuned fused MoE, CSV, both header generations
  mori_tuning,    // EP dispatch and combine, JSON with both key sets
  mori_table,     // the same, normalised to CSV
  mori_readme,    // headline EP tables, CSV
  mori_io,        // RDMA benchmark: printed table
  mori_io_table,  // the same, normalised to CSV
  deepep_table,   // DeepEP legacy tables, CSV
  mla_points,     // MLA decode kernel times, CSV
  perftest,       // ib_write_bw, ib_read_lat, … output; its MB is 2^20 bytes
  rccl_tests,     // all_reduce_perf, … output
  vllm_bench,     // vllm bench serve JSON
  op_log,         // our own backend: one JSON object a line
  kineto,         // PyTorch profiler / Chrome trace JSON
  rocprofv3_csv,  // kernel_trace.csv
  rocprofv3_json,
  h800_classes,  // kernel times per class, CSV
  kernel_bench,  // the op log of `faultline bench kernels`: one measured shape a line
};
std::string_view name_of(Format format);

/// Recognises a format from the first bytes of a file (at least 4 KiB where it has as many).
Format detect_format(std::string_view head);

struct ImportOptions {
  std::string hardware;  // overrides what the file says
  /// Only rows of this device: "gfx942/304" in tables that hold several, a device number or agent in a trace. Empty:
  /// the file must hold one device only; a second one is an error with its place.
  std::string device;
};

/// Reads a table of measurements into `data`. Returns false where the format holds none (a profile) or is unknown.
bool import_measurements(Format format, std::istream& in, const std::string& file, const ImportOptions& options,
                         Dataset& data, config::Diagnostics& diagnostics);

/// Reads a profile, passing each GPU event to `sink` in file order. Memory does not grow with the file.
bool import_profile(Format format, std::istream& in, const std::string& file, const ImportOptions& options,
                    GpuEventSink& sink, config::Diagnostics& diagnostics);

/// Our backend's op log, one operation a line: {"op": "gemm", "rank": 0, "start_ns": 12, "duration_ns": 34}.
void import_op_log(std::istream&, const ImportOptions&, GpuEventSink&, workload::RowErrors&);

// The parts of import_measurements, one per tool.
void import_aiter_gemm(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_aiter_moe(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mori_tuning(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mori_table(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mori_readme(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mori_io(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mori_io_table(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_deepep_table(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_mla_points(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_perftest(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_rccl_tests(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_kernel_bench(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);
void import_vllm_bench(std::istream&, const ImportOptions&, Dataset&, workload::RowErrors&);

}  // namespace faultline::calibration
