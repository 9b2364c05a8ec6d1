// The shape lists of the benchmark.
#include <algorithm>
#include <stdexcept>

#include "kernels/bench/bench.h"

namespace faultline::kernels::bench {
namespace {

using model::OpRecord;

Case gemm(const char* name, const char* precision, std::int64_t m, std::int64_t n, std::int64_t k,
          std::int64_t batch = 1) {
  Case c;
  c.op.name = name, c.op.kind = "gemm", c.op.precision = precision, c.op.m = m, c.op.n = n, c.op.k = k,
  c.op.batch = batch;
  const double width = c.op.precision == "fp8" ? 1 : 2, dm = static_cast<double>(m), dn = static_cast<double>(n),
               dk = static_cast<double>(k), db = static_cast<double>(batch);
  c.flops = 2 * dm * dn * dk * db;
  c.bytes = db * (width * (dm * dk + dn * dk) + 2 * dm * dn);
  return c;
}
Case mla_decode(std::int64_t sequences, std::int64_t context, std::int64_t heads) {
  Case c;
  c.op.name = "mla_decode", c.op.kind = "decode_attention", c.op.precision = "fp8", c.op.sequences = sequences,
  c.op.tokens = sequences, c.op.context = sequences * context, c.op.heads = heads;
  const double all = static_cast<double>(c.op.context);
  c.flops = 2.0 * all * static_cast<double>(heads) * (576 + 512);
  c.bytes = all * 576 + static_cast<double>(sequences * heads) * (576 + 1024);
  return c;
}
Case mla_prefill(std::int64_t tokens, std::int64_t heads) {
  Case c;
  c.op.name = "mla_prefill", c.op.kind = "prefill_attention", c.op.precision = "bf16", c.op.sequences = 1,
  c.op.tokens = tokens, c.op.context = tokens, c.op.heads = heads;
  const double t = static_cast<double>(tokens), h = static_cast<double>(heads);
  c.flops = t * t * h * (192 + 128);  // half of 2 t t: causal
  c.bytes = t * h * 2 * (192 + 192 + 128 + 128);
  return c;
}
Case experts(const char* name, std::int64_t tokens, std::int64_t routed_pairs, std::int64_t routed, std::int64_t shared,
             std::int64_t hidden, std::int64_t inter) {
  Case c;
  c.op.name = name, c.op.kind = "grouped_gemm", c.op.precision = "fp8", c.op.tokens = tokens,
  c.op.m = routed_pairs + shared * tokens, c.op.groups = routed + shared, c.op.n = 2 * inter, c.op.k = hidden;
  const double pairs = static_cast<double>(c.op.m), h = static_cast<double>(hidden), i = static_cast<double>(inter);
  const double touched = static_cast<double>(std::min(routed, routed_pairs) + shared);
  c.flops = 6 * pairs * h * i;
  c.bytes = touched * 3 * h * i + pairs * (h + 2 * i + 8 * h) + static_cast<double>(tokens) * 2 * h;
  return c;
}
Case top_k(std::int64_t tokens, std::int64_t count) {
  Case c;
  c.op.name = "top_k", c.op.kind = "elementwise", c.op.precision = "fp32", c.op.tokens = tokens, c.op.n = count;
  c.bytes = static_cast<double>(tokens) * static_cast<double>(count) * 4;
  return c;
}
Case sample(std::int64_t rows, std::int64_t vocabulary) {
  Case c;
  c.op.name = "sample", c.op.kind = "elementwise", c.op.precision = "fp32", c.op.tokens = rows, c.op.n = vocabulary;
  c.bytes = static_cast<double>(rows) * static_cast<double>(vocabulary) * 4;
  return c;
}

std::vector<Case> deepseek_v3(bool prefill, int ep, int tp) {
  const auto v3 = model::deepseek_v3();
  const std::int64_t heads = v3.heads / tp, tokens = prefill ? 4096 : 128, context = 4096, h = v3.hidden;
  std::vector<Case> out;
  for (const std::int64_t t :
       prefill ? std::vector<std::int64_t>{1024, tokens} : std::vector<std::int64_t>{16, 64, tokens}) {
    out.push_back(gemm("qkv_down", "fp8", t, v3.q_lora + model::kCached, h));
    out.push_back(gemm("q_up", "fp8", t, heads * 192, v3.q_lora));
    if (prefill) {
      out.push_back(gemm("kv_up", "fp8", t, heads * 256, model::kLatent));
      out.push_back(mla_prefill(t, heads));
    } else {
      out.push_back(gemm("q_absorb", "bf16", t, model::kLatent, model::kNope, heads));
      out.push_back(mla_decode(t, context, heads));
      out.push_back(gemm("v_up", "bf16", t, model::kValue, model::kLatent, heads));
    }
    out.push_back(gemm("attention_out", "fp8", t, h, heads * model::kValue));
    out.push_back(experts("mlp", t, 0, 0, 1, h, v3.dense_inter / tp));
    out.push_back(gemm("router", "bf16", t, v3.experts, h));
    out.push_back(top_k(t, v3.experts));
    // EP: every rank of the group sends t tokens, the experts of one GPU receive t * top_k pairs on average. TP: each
    // GPU holds a slice of every expert.
    out.push_back(ep > 1 ? experts("experts", t, t * v3.top_k, v3.experts / ep, v3.shared_experts, h, v3.expert_inter)
                         : experts("experts", t, t * v3.top_k, v3.experts, v3.shared_experts, h, v3.expert_inter / tp));
    if (!prefill) {
      out.push_back(gemm("head", "bf16", t, v3.vocabulary / tp, h));
      out.push_back(sample(t, v3.vocabulary));
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> list_names() {
  return {"deepseek_v3/ep8/decode",
          "deepseek_v3/ep8/prefill",
          "deepseek_v3/ep16/decode",
          "deepseek_v3/ep16/prefill",
          "deepseek_v3/tp8/decode",
          "deepseek_v3/tp8/prefill",
          "sweep",
          "compare",
          "tiny"};
}

std::vector<Case> list(const std::string& name) {
  for (const auto& [width, ep, tp] : {std::tuple{"ep8", 8, 1}, {"ep16", 16, 1}, {"tp8", 1, 8}})
    for (const bool prefill : {false, true})
      if (name == std::string("deepseek_v3/") + width + (prefill ? "/prefill" : "/decode"))
        return deepseek_v3(prefill, ep, tp);
  if (name == "compare") {
    return {gemm("gemm", "fp8_rows", 64, 1024, 2048),
            gemm("gemm", "fp8_rows", 256, 2048, 2048),
            gemm("gemm", "fp8_rows", 512, 1536, 7168),
            gemm("gemm", "fp8", 64, 1024, 2048),
            gemm("gemm", "fp8", 256, 2048, 2048),
            mla_decode(2, 1000, 32),
            mla_decode(4, 2048, 128),
            experts("experts", 64, 256, 16, 1, 1024, 512),
            experts("experts", 256, 1024, 16, 1, 2048, 1024),
            top_k(2048, 256),
            sample(16, 129280)};
  }
  if (name == "sweep") {  // many sizes of DeepSeek-V3's operations: what a calibration is fitted on
    std::vector<Case> out;
    for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{2112, 7168},
                               {24576, 1536},
                               {7168, 16384},
                               {3072, 1536},
                               {7168, 2048},
                               {4096, 7168}})
      for (const std::int64_t m : {16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096})
        out.push_back(gemm("gemm", "fp8", m, n, k));
    for (const std::int64_t routed : {32, 16})
      for (const std::int64_t t : {8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024})
        out.push_back(experts("experts", t, t * 8, routed, 1, 7168, 2048));
    for (const std::int64_t heads : {16, 128})
      for (const std::int64_t context : {1024, 2048, 4096, 8192})
        for (const std::int64_t s : {8, 16, 32, 64, 96, 128}) out.push_back(mla_decode(s, context, heads));
    return out;
  }
  if (name == "tiny") {
    return {gemm("gemm", "fp8_rows", 5, 160, 256),
            gemm("gemm", "fp8", 33, 200, 384),
            gemm("gemm", "bf16", 7, 40, 128),
            mla_decode(2, 70, 16),
            mla_prefill(40, 2),
            experts("experts", 6, 12, 4, 1, 256, 128),
            top_k(9, 64),
            sample(2, 1000)};
  }
  std::string known;
  for (const auto& n : list_names()) known += (known.empty() ? "" : ", ") + n;
  throw std::invalid_argument("unknown shape list '" + name + "'; known: " + known);
}

}  // namespace faultline::kernels::bench
