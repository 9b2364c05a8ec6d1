// AITER's tuned-kernel tables: one row is the fastest kernel the tuner found for a shape. Two header generations exist
// (with and without `gfx`), and our normalised copy of the same rows.
#include <fmt/format.h>

#include <cmath>

#include "core/base/math.h"
#include "core/calibration/delimited.h"
#include "core/calibration/importers.h"

namespace faultline::calibration {
namespace {

// gfx and CU count -> a hardware tag. 304 CUs of gfx942 are MI300X or MI325X; the file cannot say which.
std::string hardware_of(double cus) {
  if (cus == 304) return "gfx942-304";
  if (cus == 80) return "MI308X";
  if (cus == 256) return "MI355X";  // or MI350X: same dies, lower clock
  return fmt::format("{}-CU", cus);
}

std::string hardware_of_evidence(std::string_view evidence) {
  if (evidence.find("mixed") != std::string_view::npos) return "MI300X/MI325X";
  if (evidence.starts_with("MI300X")) return "MI300X";
  if (evidence.starts_with("MI325X")) return "MI325X";
  return "gfx942-304";
}

// The device a row names, as "gfx942/304"; empty where the table has no such columns.
std::string device_of(const Delimited& csv) {
  if (!csv.has("cu_num")) return {};
  const auto gfx = csv.text("gfx");
  return gfx.empty() ? fmt::format("cu {}", csv.text("cu_num")) : fmt::format("{}/{}", gfx, csv.text("cu_num"));
}

// Keeps one device of a file. Two devices without a choice are an error at the first row of the second.
class DeviceFilter {
 public:
  explicit DeviceFilter(const ImportOptions& options) : wanted_(options.device) {}
  bool keeps(Delimited& csv) {
    const std::string device = device_of(csv);
    if (device.empty()) return true;
    if (!wanted_.empty()) return device == wanted_ || csv.text("cu_num") == wanted_;
    if (first_.empty()) {
      first_ = device;
      first_line_ = csv.line();
    }
    if (device == first_) return true;
    if (!reported_) {
      csv.error("cu_num", fmt::format("mixed devices: '{}' here, '{}' in line {}", device, first_, first_line_),
                fmt::format("choose one with --device, for example --device {}", first_));
    }
    reported_ = true;
    return false;
  }

 private:
  std::string wanted_, first_;
  int first_line_ = 0;
  bool reported_ = false;
};

Origin origin_of(const Delimited& csv, const ImportOptions& options, const std::string& file) {
  Origin origin;
  origin.mark = {file, csv.line(), 1};
  origin.date = std::string(csv.text("first_date"));
  if (!options.hardware.empty()) origin.hardware = options.hardware;
  else if (csv.has("hw_evidence")) origin.hardware = hardware_of_evidence(csv.text("hw_evidence"));
  else if (csv.has("cu_num")) origin.hardware = hardware_of(parse_number(csv.text("cu_num")).value_or(0));
  else if (file.find("mi308x") != std::string::npos) origin.hardware = "MI308X";
  else if (file.find("mi35") != std::string::npos || file.find("mi355x") != std::string::npos)
    origin.hardware = "MI355X";
  else origin.hardware = "gfx942-304";
  return origin;
}

std::string precision_of_quant(std::string_view q_type, std::string_view weights) {
  if (q_type.find("No") != std::string_view::npos && weights.find("float4") == std::string_view::npos &&
      weights.find("int4") == std::string_view::npos)
    return "bf16";
  if (weights.find("float4") != std::string_view::npos) return "fp4";
  if (weights.find("int4") != std::string_view::npos) return "int4";
  if (weights.find("int8") != std::string_view::npos) return "int8";
  if (q_type.find("1x128") != std::string_view::npos || q_type.find("128x128") != std::string_view::npos)
    return "fp8_block";
  if (q_type.find("per_Token") != std::string_view::npos) return "fp8_row";
  if (q_type.find("per_Tensor") != std::string_view::npos) return "fp8_tensor";
  return "fp8_other";
}

// A time in other units is wrong by a factor of 1,000 (or 10^6); the tuner's own TFLOP/s gives it away and the file is
// refused. Any other contradiction spoils that row only. The tuner rounds to two decimals, and 0 means "not computed".
void check_units(Delimited& csv, double flop, double us, std::string_view time_column, Origin& origin) {
  const auto tflops = parse_number(csv.text("tflops"));
  if (!tflops || *tflops < 0.5) return;
  const double ratio = flop / us / 1e6 / *tflops;
  const double factor = ratio > 1 ? ratio : 1 / ratio;
  if ((factor > 700 && factor < 1500) || factor > 5e5) {
    csv.error(time_column,
              fmt::format("{} contradicts {} TFLOP/s of the same row by a factor of {:.3g}", csv.text(time_column),
                          csv.text("tflops"), factor),
              "times are in microseconds");
  } else if (factor > 3) {
    origin.unusable = "time and TFLOP/s of the row contradict each other";
  }
}

}  // namespace

void import_aiter_gemm(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"M", "N", "K", "us"})) return;
  DeviceFilter filter(options);
  while (csv.next()) {
    if (!filter.keeps(csv)) continue;
    const auto m = csv.number("M", 1, 1e8), n = csv.number("N", 1, 1e8), k = csv.number("K", 1, 1e8);
    const auto us = csv.number("us", 1e-3, 1e9);
    const auto batch = csv.number_or("B", 1, 1, 1e6);
    if (!m || !n || !k || !us || !batch) continue;
    GemmSample row{.m = *m,
                   .n = *n,
                   .k = *k,
                   .batch = *batch,
                   .precision = {},
                   .us = *us,
                   .origin = origin_of(csv, options, errors.file())};
    const auto dtype = csv.text("dtype");
    const auto precision = csv.text("precision");
    if (!precision.empty()) {
      row.precision = precision.starts_with("fp8_block")                    ? "fp8_block"
                      : precision == "bf16"                                 ? "bf16"
                      : precision.find("rowwise") != std::string_view::npos ? "fp8_row"
                                                                            : std::string(precision);
    } else if (dtype.find("bfloat16") != std::string_view::npos) {
      row.precision = "bf16";
    } else if (csv.text("q_dtype_w").find("int8") != std::string_view::npos) {
      row.precision = "int8";
    } else {
      row.precision = csv.text("kernelName").find("blockscale") != std::string_view::npos ? "fp8_block" : "fp8_row";
    }
    check_units(csv, 2 * *m * *n * *k * *batch, *us, "us", row.origin);
    data.gemm.push_back(std::move(row));
  }
}

void import_aiter_moe(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"token", "model_dim", "inter_dim", "expert", "topk", "q_type", "us"})) return;
  DeviceFilter filter(options);
  const std::size_t first = data.moe.size();
  while (csv.next()) {
    if (!filter.keeps(csv)) continue;
    const auto tokens = csv.number("token", 1, 1e8), hidden = csv.number("model_dim", 1, 1e6);
    const auto inter = csv.number("inter_dim", 1, 1e6), experts = csv.number("expert", 1, 1e5);
    const auto topk = csv.number("topk", 1, 1e4), us = csv.number("us", 1e-3, 1e9);
    if (!tokens || !hidden || !inter || !experts || !topk || !us) continue;
    if (*topk > *experts) csv.error("topk", fmt::format("{} experts a token of {} experts", *topk, *experts));
    MoeSample row{.tokens = *tokens,
                  .hidden = *hidden,
                  .inter = *inter,
                  .experts = *experts,
                  .topk = *topk,
                  .precision = precision_of_quant(csv.text("q_type"), csv.text("q_dtype_w")),
                  .one_stage = csv.text("run_1stage") == "1",
                  .us = *us,
                  .origin = origin_of(csv, options, errors.file())};
    check_units(csv, 6 * *tokens * *topk * *hidden * *inter, *us, "us", row.origin);
    // A tuner copies its nearest result into sizes it did not run: equal times with growing tokens are no measurement.
    if (data.moe.size() > first) {
      const MoeSample& last = data.moe.back();
      if (last.us == row.us && last.tokens < row.tokens && last.hidden == row.hidden && last.inter == row.inter &&
          last.experts == row.experts)
        row.origin.unusable = "the same time as the row before: copied by the tuner";
    }
    data.moe.push_back(std::move(row));
  }
}

void import_mla_points(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"gpu", "batch", "ctx", "asm_us", "hk_us", "tflops"})) return;
  constexpr double kHeads = 128;  // of every row: "nhead=128" and "QH64 persistent" at two heads a lane
  while (csv.next()) {
    const auto batch = csv.number("batch", 1, 1e6), context = csv.number("ctx", 1, 1e8);
    if (!batch || !context) continue;
    AttentionSample row{.kernel = {}, .batch = *batch, .context = *context, .heads = kHeads, .us = 0, .origin = {}};
    row.origin.mark = {errors.file(), csv.line(), 1};
    row.origin.hardware = options.hardware.empty() ? std::string(csv.text("gpu")) : options.hardware;
    const bool persistent = csv.text("kernel").find("QH64") != std::string_view::npos;
    for (const auto& [column, kernel] : {std::pair{"asm_us", "mla_decode_asm"}, std::pair{"hk_us", "mla_decode_hk"}}) {
      if (csv.text(column).empty()) continue;
      const auto us = csv.number(column, 1e-3, 1e9);
      if (!us) continue;
      row.kernel = kernel;
      row.us = *us;
      data.attention.push_back(row);
    }
    if (csv.text("tflops").empty()) continue;
    const auto tflops = csv.number("tflops", 1e-3, 1e5);
    if (!tflops) continue;
    // Score and value products: 2 * heads * (576 + 512) FLOP a cached token.
    row.heads = persistent ? 64 : kHeads;
    row.us = 2 * row.heads * (576 + 512) * *batch * *context / (*tflops * 1e6);
    row.kernel = "mla_decode_persistent";
    data.attention.push_back(row);
  }
}

}  // namespace faultline::calibration
