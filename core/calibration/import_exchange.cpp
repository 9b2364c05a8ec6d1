// Expert-parallel dispatch and combine: MoRI's tuning JSON (two key sets), its normalised table, the headline tables of
// its README, and DeepEP's tables. Bandwidths are algorithmic (DeepEP's convention): bytes to every distinct
// destination rank (or node, for RDMA) including the local one; times are derived from them where only they are given.
#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/calibration/delimited.h"
#include "core/calibration/importers.h"
#include "core/calibration/spread.h"

namespace faultline::calibration {
namespace {

constexpr double kDefaultTopk = 8;  // MoRI's tuner, where a rule has no topk

double bytes_of(std::string_view dtype) { return dtype == "bf16" ? 2 : 1; }  // fp4 rows give hidden_dim in bytes

std::string short_dtype(std::string_view dtype) {
  if (dtype.starts_with("fp8")) return "fp8";
  return std::string(dtype);
}

std::string upper_gpu(std::string_view gpu) {
  std::string tag(gpu);
  for (char& c : tag) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return tag;
}

// The bandwidth of a row and its time must describe the same number of bytes within a factor that covers every
// convention of counting them; a time in milliseconds does not.
bool plausible(const ExchangeSample& row, double bandwidth_gbps) {
  const double bytes = row.tokens * row.hidden * bytes_of(row.dtype) * distinct_destinations(row.ep, row.topk);
  const double ratio = bandwidth_gbps * 1e3 * row.us / bytes;
  return ratio > 0.02 && ratio < 50;
}

struct Place {  // of a JSON value, found by searching the text: nlohmann keeps no positions
  static int line_of(const std::string& text, std::size_t byte) {
    return 1 + static_cast<int>(std::count(
                   text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(byte, text.size())), '\n'));
  }
};

// The line on which the i-th rule of "rules" begins.
int line_of_rule(const std::string& text, std::size_t rule) {
  std::size_t at = text.find("\"rules\"");
  for (std::size_t i = 0; at != std::string::npos && i <= rule; ++i) at = text.find('{', at + 1);
  return at == std::string::npos ? 0 : Place::line_of(text, at);
}

}  // namespace

void import_mori_tuning(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    const std::size_t byte = e.byte;
    const std::size_t line_start = byte == 0 ? 0 : text.rfind('\n', byte - 1) + 1;
    errors.at(Place::line_of(text, byte), static_cast<int>(byte - std::min(byte, line_start)) + 1,
              byte >= text.size() ? "the JSON is cut off" : "not valid JSON", e.what());
    return;
  }
  if (!json.is_object() || !json.contains("rules") || !json["rules"].is_array()) {
    errors.whole_file("expected an object with 'rules'");
    return;
  }
  const auto text_of = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
  };
  const std::string kernel = text_of("kernel_type"), phase = text_of("phase"), gpu = text_of("gpu_model");
  const double ep = json.contains("ep_size") && json["ep_size"].is_number() ? json["ep_size"].get<double>() : 0;
  if (kernel.empty() || (phase != "dispatch" && phase != "combine") || ep < 2) {
    errors.whole_file("expected kernel_type, phase (dispatch or combine) and ep_size >= 2");
    return;
  }
  std::size_t index = 0;
  for (const auto& rule : json["rules"]) {
    const std::size_t i = index++;
    const auto fail = [&](const std::string& message) {
      errors.at(line_of_rule(text, i), 1, fmt::format("rules[{}]: {}", i, message));
    };
    if (!rule.is_object()) {
      fail("expected an object");
      continue;
    }
    const auto number = [&](const char* key, double otherwise) {
      return rule.contains(key) && rule[key].is_number() ? rule[key].get<double>() : otherwise;
    };
    ExchangeSample row;
    row.kernel = kernel;
    row.phase = phase;
    row.dtype =
        short_dtype(rule.contains("dtype") && rule["dtype"].is_string() ? rule["dtype"].get<std::string>() : "");
    row.quant =
        rule.contains("quant_type") && rule["quant_type"].is_string() ? rule["quant_type"].get<std::string>() : "none";
    row.ep = ep;
    row.tokens = number("num_tokens", 0);
    row.hidden = number("hidden_dim", 0);
    row.topk = number("topk", kDefaultTopk);
    row.us = number("latency_us", number("avg_latency_us", 0));
    row.series = kernel + " ep" + std::to_string(static_cast<int>(ep)) + " " + phase;
    row.origin.mark = {errors.file(), line_of_rule(text, i), 1};
    row.origin.hardware = options.hardware.empty() ? upper_gpu(gpu) : options.hardware;
    if (row.tokens < 1 || row.hidden < 1 || row.topk < 1 || row.dtype.empty())
      fail("needs dtype, num_tokens and hidden_dim");
    else if (!(row.us > 0)) fail("latency_us (or avg_latency_us) must be a positive number of microseconds");
    else if (const double bw = number("bandwidth_gbps", 0); kernel != "AsyncLL" && bw > 0.5 && !plausible(row, bw))
      fail(fmt::format("{} us contradicts {} GB/s of the same rule", row.us, bw));
    else data.exchange.push_back(std::move(row));
  }
}

void import_mori_table(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"gpu_model", "kernel_type", "ep_size", "phase", "dtype", "num_tokens", "hidden_dim", "latency_us"}))
    return;
  while (csv.next()) {
    const std::string_view time = csv.text("latency_us").empty() ? "avg_latency_us" : "latency_us";
    const auto ep = csv.number("ep_size", 2, 1e5), tokens = csv.number("num_tokens", 1, 1e8);
    const auto hidden = csv.number("hidden_dim", 1, 1e6), us = csv.number(time, 1e-3, 1e9);
    const auto topk = csv.number_or("topk", kDefaultTopk, 1, 1e4);
    const auto bandwidth = csv.number_or("bandwidth_gbps", 0, 0, 1e6);
    if (!ep || !tokens || !hidden || !us || !topk || !bandwidth) continue;
    ExchangeSample row{.kernel = std::string(csv.text("kernel_type")),
                       .phase = std::string(csv.text("phase")),
                       .dtype = short_dtype(csv.text("dtype")),
                       .quant = std::string(csv.text("quant_type")),
                       .ep = *ep,
                       .tokens = *tokens,
                       .hidden = *hidden,
                       .topk = *topk,
                       .us = *us,
                       .stale = false,
                       .series = std::string(csv.text("source_file")),
                       .origin = {}};
    if (row.quant.empty()) row.quant = "none";
    row.origin.mark = {errors.file(), csv.line(), 1};
    row.origin.hardware = options.hardware.empty() ? upper_gpu(csv.text("gpu_model")) : options.hardware;
    if (row.kernel != "AsyncLL" && *bandwidth > 0.5 && !plausible(row, *bandwidth))
      csv.error(time, fmt::format("{} us contradicts {} GB/s of the same row", *us, *bandwidth));
    data.exchange.push_back(std::move(row));
  }
}

void import_mori_readme(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"commit", "date", "hardware", "kernel", "tokens_per_rank", "hidden", "topk", "dispatch_dtype",
                    "combine_dtype", "dispatch_xgmi_gbps", "dispatch_rdma_gbps", "combine_xgmi_gbps",
                    "combine_rdma_gbps", "dispatch_latency_us", "combine_latency_us"}))
    return;
  constexpr double kNode = 8;  // GPUs of a server in these tables
  const std::size_t first = data.exchange.size();
  std::string newest;
  while (csv.next()) {
    const std::string_view name = csv.text("kernel");
    const auto dash = name.find('-');
    const auto ep = name.starts_with("EP")
                        ? parse_number(name.substr(2, dash == std::string_view::npos ? dash : dash - 2))
                        : std::nullopt;
    const auto tokens = csv.number("tokens_per_rank", 1, 1e8), hidden = csv.number("hidden", 1, 1e6);
    const auto topk = csv.number("topk", 1, 1e4);
    if (!ep) csv.error("kernel", "expected EP<width>[-variant], got " + workload::shown(name));
    if (!ep || !tokens || !hidden || !topk) continue;
    newest = std::max(newest, std::string(csv.text("date")));
    const std::string variant = dash == std::string_view::npos ? "" : std::string(name.substr(dash + 1));
    for (const std::string phase : {"dispatch", "combine"}) {
      ExchangeSample row;
      row.phase = phase;
      row.kernel = variant.empty() ? "IntraNode" : variant == "V1-LL" ? "InterNodeV1LL" : "InterNode" + variant;
      row.dtype = short_dtype(csv.text(phase + "_dtype"));
      row.quant = "none";
      row.ep = *ep;
      row.tokens = *tokens;
      row.hidden = *hidden;
      row.topk = *topk;
      row.stale = csv.text("note").find("stale") != std::string_view::npos;
      row.series = "README " + std::string(csv.text("commit"));
      row.origin.mark = {errors.file(), csv.line(), 1};
      row.origin.date = std::string(csv.text("date"));
      row.origin.hardware = !options.hardware.empty()
                                ? options.hardware
                                : std::string(csv.text("hardware").substr(0, csv.text("hardware").find(' ')));
      const double token_bytes = *hidden * bytes_of(row.dtype);
      if (!csv.text(phase + "_latency_us").empty()) {
        const auto us = csv.number(phase + "_latency_us", 1e-3, 1e9);
        if (!us) continue;
        row.us = *us;
      } else {  // only a bandwidth: RDMA bytes go once to each destination node, xGMI bytes once to each rank
        const bool inter = *ep > kNode;
        const auto gbps = csv.number(phase + (inter ? "_rdma_gbps" : "_xgmi_gbps"), 1e-3, 1e6);
        if (!gbps) continue;
        row.us = *tokens * token_bytes * distinct_destinations(inter ? *ep / kNode : *ep, *topk) / (*gbps * 1e3);
      }
      data.exchange.push_back(std::move(row));
    }
  }
  for (std::size_t i = first; i < data.exchange.size(); ++i) {
    ExchangeSample& row = data.exchange[i];
    if (row.stale) row.origin.unusable = "the source marks it as stale";
    else if (row.origin.date != newest) row.origin.unusable = "an older commit of the same table";
  }
}

void import_deepep_table(std::istream& in, const ImportOptions& options, Dataset& data, workload::RowErrors& errors) {
  Delimited csv(in, errors);
  if (!csv.require({"mode", "tokens", "ep", "dispatch_gbps", "dispatch_us", "combine_gbps", "combine_us"})) return;
  constexpr double kHidden = 7168, kTopk = 8, kNode = 8,
                   kTopkGroups = 4;  // DeepEP docs/legacy.md, DeepSeek-V3 settings
  while (csv.next()) {
    const auto tokens = csv.number("tokens", 1, 1e8), ep = csv.number("ep", 2, 1e5);
    if (!tokens || !ep) continue;
    for (const std::string phase : {"dispatch", "combine"}) {
      ExchangeSample row;
      row.kernel = csv.text("mode") == "low_latency" ? "DeepEP-LL" : "DeepEP";
      row.phase = phase;
      row.dtype = phase == "dispatch" ? "fp8" : "bf16";
      row.quant = "none";
      row.ep = *ep;
      row.tokens = *tokens;
      row.hidden = kHidden;
      row.topk = kTopk;
      row.series = "DeepEP V1";
      row.origin.mark = {errors.file(), csv.line(), 1};
      row.origin.hardware = options.hardware.empty() ? "H800" : options.hardware;
      if (!csv.text(phase + "_us").empty()) {
        const auto us = csv.number(phase + "_us", 1e-3, 1e9);
        if (!us) continue;
        row.us = *us;
      } else {
        const auto gbps = csv.number(phase + "_gbps", 1e-3, 1e6);
        if (!gbps) continue;
        const double nodes = *ep / kNode;
        const double copies = nodes <= 1 ? distinct_destinations(*ep, kTopk)
                                         : distinct_destinations(nodes, std::min(kTopkGroups, nodes) * 2);
        row.us = *tokens * kHidden * bytes_of(row.dtype) * copies / (*gbps * 1e3);
      }
      data.exchange.push_back(std::move(row));
    }
  }
}

}  // namespace faultline::calibration
