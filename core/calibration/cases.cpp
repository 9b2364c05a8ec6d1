#include "core/calibration/cases.h"

#include <fmt/format.h>

#include <map>

#include "core/base/math.h"
#include "core/calibration/spread.h"

namespace faultline::calibration {
namespace {

bool precision_of(const std::string& name, Precision& out) {
  if (name == "fp8_block") out = Precision::fp8_block;
  else if (name == "fp8_row") out = Precision::fp8_row;
  else if (name == "bf16") out = Precision::bf16;
  else return false;
  return true;
}

// Since when AITER's tuner offers kernels that split K for block-scale GEMM: the first rows that use them are of July
// 2026.
constexpr std::string_view kSplitSince = "2026-06-01";

int variant_of(const std::string& hardware) {
  if (hardware == "MI325X") return 1;
  return hardware == "MI300X/MI325X" ? 2 : 0;
}

}  // namespace

bool same_part(std::string_view row, std::string_view tag) {
  if (row.empty() || row == tag) return true;
  const bool both = tag == "MI300X" || tag == "MI325X";
  return both && (row == "gfx942-304" || row == "MI300X" || row == "MI325X" || row == "MI300X/MI325X");
}

std::string size_bucket(double size) {
  double low = 1, high = 16;
  while (size > high) {
    low = high + 1;
    high *= 4;
  }
  return fmt::format("{:.0f}-{:.0f}", low, high);
}

Coordinates transfer_at(double bytes, double batch) { return {log2(bytes), 2 * log2(batch), 0}; }

Case gemm_case(const GemmSample& s) {
  Case c;
  GemmShape shape{.m = s.m, .n = s.n, .k = s.k, .batch = s.batch, .gpu = gpu_of(s.origin.hardware)};
  precision_of(s.precision, shape.precision);
  shape.split_k = s.origin.date >= kSplitSince || (s.origin.date.empty() && s.origin.hardware == "MI355X");
  shape.variant = variant_of(s.origin.hardware);
  if (shape.variant != 0) shape.gpu = gpu_of("MI300X");  // the fitted ratio holds the whole difference
  c.model = "gemm";
  c.group = fmt::format("{} {}", s.precision, shape.variant == 1 ? "MI325X" : shape.variant == 2 ? "mixed" : "base");
  c.family = s.batch > 1 ? fmt::format("{}x {}x{} {}", s.batch, s.n, s.k, s.precision)
                         : fmt::format("{}x{} {}", s.n, s.k, s.precision);
  c.bucket = size_bucket(s.m);
  c.at = {log2(s.m), log2(s.n * s.batch), log2(s.k)};
  c.shape = shape;
  c.us = s.us;
  c.origin = s.origin;
  return c;
}

Case moe_case(const MoeSample& s) {
  Case c;
  // AITER's tables do not say which experts are shared. An odd number of experts is a power of two of routed ones plus
  // one fused shared expert that every token visits (33 = 32 + 1, 257 = 256 + 1).
  const double shared = s.experts > 2 && static_cast<std::int64_t>(s.experts) % 2 == 1 ? 1 : 0;
  MoeShape shape{.pairs = s.tokens * s.topk,
                 .touched = experts_touched(s.experts - shared, s.topk - shared, s.tokens) + shared,
                 .hidden = s.hidden,
                 .inter = s.inter,
                 .one_stage = s.one_stage,
                 .gpu = gpu_of(s.origin.hardware)};
  precision_of(s.precision, shape.precision);
  c.model = "moe";
  c.group = s.precision + (s.one_stage ? " one stage" : " two stages");
  c.family = fmt::format("{}x{} E{} top{} {}", s.hidden, s.inter, s.experts, s.topk, s.precision);
  c.bucket = size_bucket(s.tokens);
  // Families lie apart by what each expert costs and by how many there are.
  c.at = {log2(s.tokens), log2(s.hidden * s.inter), log2(s.experts)};
  c.shape = shape;
  c.us = s.us;
  c.origin = s.origin;
  return c;
}

Case exchange_case(const ExchangeSample& s) {
  Case c;
  constexpr double kNode = 8;
  const bool low_latency = s.kernel.ends_with("LL");
  const double value_bytes = s.dtype == "bf16" ? (s.quant == "fp8_direct_cast" && s.ep > kNode ? 1 : 2) : 1;
  c.shape = ExchangeShape{.combine = s.phase == "combine",
                          .low_latency = low_latency,
                          .ranks = s.ep,
                          .ranks_per_node = kNode,
                          .tokens = s.tokens,
                          .topk = s.topk,
                          .token_bytes = s.hidden * value_bytes};
  c.model = s.ep > kNode ? "exchange_inter" : "exchange_intra";
  c.group = fmt::format("{} {}", s.phase, s.kernel);
  c.family = fmt::format("{} ep{} {} {} top{}", s.kernel, s.ep, s.phase, s.dtype, s.topk);
  c.bucket = size_bucket(s.tokens);
  c.at = {log2(s.tokens), log2(s.ep), log2(s.hidden * value_bytes * s.topk)};
  c.us = s.us;
  c.origin = s.origin;
  return c;
}

CaseList cases_of(const Dataset& data) {
  CaseList list;
  std::map<std::string, std::int64_t> skipped;
  const auto keep = [&](Case c) {
    if (!c.origin.unusable.empty()) {
      ++skipped[c.origin.unusable];
      return;
    }
    list.cases.push_back(std::move(c));
  };
  for (const GemmSample& s : data.gemm) {
    Precision precision{};
    if (precision_of(s.precision, precision)) keep(gemm_case(s));
    else ++skipped["gemm in " + s.precision + ": no model"];
  }
  for (const MoeSample& s : data.moe) {
    Precision precision{};
    if (precision_of(s.precision, precision)) keep(moe_case(s));
    else ++skipped["fused MoE in " + s.precision + ": no model"];
  }
  for (const ExchangeSample& s : data.exchange) {
    // Older and stale tables describe older software; they steady the shape of the inter-node curve at a low weight.
    if (!s.origin.unusable.empty() && s.ep > 8 && !s.kernel.ends_with("V0")) {
      Case c = exchange_case(s);
      c.weight = 0.2;
      c.origin.unusable.clear();
      c.group += " (older or stale)";
      list.cases.push_back(std::move(c));
    } else if (s.kernel == "AsyncLL") {
      ++skipped["AsyncLL exchange: no model"];
    } else {
      keep(exchange_case(s));
    }
  }
  for (const TransferSample& s : data.transfer) {
    Case c;
    c.model = fmt::format("transfer_{}_{}", s.nic, s.operation);
    if (find_model(c.model) == nullptr) {
      ++skipped["transfer over " + s.nic + " " + s.operation + ": no model"];
      continue;
    }
    c.group = fmt::format("{} {}", s.nic, s.operation);
    c.family = c.group + (s.batch > 1 ? " batched" : " single");
    c.bucket = size_bucket(s.bytes * s.batch / 1024);
    c.at = transfer_at(s.bytes, s.batch);
    c.shape = TransferShape{s.bytes, s.batch};
    c.us = s.us;
    c.origin = s.origin;
    keep(std::move(c));
  }
  for (const AttentionSample& s : data.attention) {
    Case c;
    c.model = "mla_decode";
    c.group = s.kernel;
    c.family = s.kernel;
    c.bucket = size_bucket(s.batch);
    c.at = {log2(s.batch), log2(s.context), 0};
    c.shape = MlaDecodeShape{s.batch, s.context, s.heads, s.kernel == "mla_decode_hk", gpu_of(s.origin.hardware)};
    c.us = s.us;
    c.origin = s.origin;
    keep(std::move(c));
  }
  for (const CollectiveSample& s : data.collective) {
    if (s.operation != "all_reduce") {
      ++skipped["collective " + s.operation + ": no model"];
      continue;
    }
    Case c;
    c.model = "collective";
    c.group = s.operation;
    c.family = fmt::format("{} of {}", s.operation, s.ranks);
    c.bucket = size_bucket(s.bytes / 1024);
    c.at = {log2(s.bytes), log2(s.ranks), 0};
    c.shape = CollectiveShape{s.ranks, s.bytes};
    c.us = s.us;
    c.origin = s.origin;
    keep(std::move(c));
  }
  for (const auto& [reason, count] : skipped) list.skipped.emplace_back(reason, count);
  return list;
}

}  // namespace faultline::calibration
