#include "kernels/ops/launch.h"

#include <algorithm>

namespace faultline::kernels {
namespace {

// Blocks that fill a device: the compute units of MI300X (data sheet) or of the GPU at hand; a CPU and the emulator do
// as MI300X does.
constexpr int kFillBlocks = 304;
int fill_blocks(const Device& device) {
  const int units = device.limits().compute_units;
  return units > 1 ? units : kFillBlocks;
}

int tiles(int n, int size) { return (n + size - 1) / size; }

Outcome<> bad(const char* kernel, const std::string& why) { return Failure{kernel, 0, why}; }
std::string number(const char* field, long value) { return std::string(field) + " = " + std::to_string(value); }

Outcome<> check(const char* kernel, const GemmArgs& a) {
  if (a.m < 0) return bad(kernel, number("m", a.m) + " is negative");
  if (a.n < 1) return bad(kernel, number("n", a.n) + " must be positive");
  if (a.k_bytes < kStepBytes || a.k_bytes % kStepBytes != 0) {
    return bad(kernel, number("k_bytes", a.k_bytes) + " must be a positive multiple of 128");
  }
  if (a.lda < a.k_bytes || a.lda % 16 != 0)
    return bad(kernel, number("lda", a.lda) + " must be a multiple of 16, not below k_bytes");
  if (a.ldo < a.n) return bad(kernel, number("ldo", a.ldo) + " is below n");
  return Done{};
}

struct GemmKernels {
  Kernel tall, middle, low;  // 128, 64 and 32 rows
  Kernel reduce;
  int scales_of_a_tile;  // weight scales of 128 columns; -1: one for every 128 bytes of K
};

Outcome<> launch_gemm(Device& device, GemmArgs a, int batches, const GemmKernels& kernels);

// The columns that would be a nearly empty last wave of tall tiles run cut into their parts instead, after the rest.
Outcome<> run_gemm(Device& device, GemmArgs a, int batches, const GemmKernels& kernels) {
  if (a.m == 0 || batches == 0) return Done{};
  const int fill = fill_blocks(device);
  a.splits = gemm_splits(a.n, a.k_bytes, fill);
  const int columns = tiles(a.n, kTileColumns), rows = tiles(a.m, 128), waves = columns * rows / fill;
  const int rest = columns * rows - waves * fill, last = tiles(rest, rows);
  if (batches != 1 || a.splits < 3 || a.partial == nullptr || fill == 1 || a.m <= 512 || waves < 1 || rest == 0 ||
      4 * rest > fill || last * rows >= fill)
    return launch_gemm(device, a, batches, kernels);
  GemmArgs tail = a;
  a.n = (columns - last) * kTileColumns;
  tail.n -= a.n;
  tail.w += static_cast<std::size_t>(a.n) * static_cast<std::size_t>(a.k_bytes);
  if (kernels.scales_of_a_tile != 0)
    tail.w_scale +=
        static_cast<std::size_t>(columns - last) *
        static_cast<std::size_t>(kernels.scales_of_a_tile > 0 ? kernels.scales_of_a_tile : a.k_bytes / kStepBytes);
  tail.out = static_cast<std::uint8_t*>(a.out) + static_cast<std::size_t>(a.n) * (a.out_is_float != 0 ? 4 : 2);
  if (auto done = launch_gemm(device, a, 1, kernels); !done) return done;
  return launch_gemm(device, tail, 1, kernels);
}

Outcome<> launch_gemm(Device& device, GemmArgs a, int batches, const GemmKernels& kernels) {
  const int fill = fill_blocks(device);
  const int columns = tiles(a.n, kTileColumns);
  // A CPU core unpacks the weights once for each tile of rows, so tall tiles pay early there; a GPU first needs enough
  // blocks. The bits of a row are the same with all of them.
  const int tall_from = device.limits().compute_units > 1 ? 512 : 64;
  int rows = a.m > tall_from ? 128 : a.m > 32 ? 64 : 32;
  // Where even lower tiles leave room for more (two blocks a unit), they finish sooner.
  const int parts = batches == 1 && a.partial != nullptr ? a.splits : batches;
  while (device.limits().compute_units > 1 && rows > 32 && columns * tiles(a.m, rows / 2) * parts <= 2 * fill)
    rows /= 2;
  const Kernel kernel = rows == 128 ? kernels.tall : rows == 64 ? kernels.middle : kernels.low;
  const int blocks = columns * tiles(a.m, rows) * batches;
  // Parts in blocks of their own cost a pass over all sums: with tall tiles, where that is most, only if whole tiles
  // would leave a quarter of the units idle.
  const bool few = rows == 128 ? 4 * blocks <= 3 * fill : blocks < fill;
  a.parallel = a.splits > 1 && batches == 1 && a.partial != nullptr && few ? 1 : 0;
  // Tiles of the same weights run side by side, so that they read them from cache.
  const Grid grid{tiles(a.m, rows), columns, a.parallel != 0 ? a.splits : batches};
  if (auto done = device.launch(kernel, grid, a); !done || a.parallel == 0) return done;
  return device.launch(kernels.reduce, {tiles(a.m, gemm_reduce_rows(a.n)), tiles(a.n, 1024), 1}, a);
}

}  // namespace

int gemm_splits(int n, int k_bytes, int fill_blocks) {
  const int fill = fill_blocks / tiles(n, kTileColumns);
  const int steps = k_bytes / kStepBytes, deep = steps < 32 ? 1 : steps / 4;
  return std::clamp(std::min(fill, deep), 1, kGemmParts);
}

std::size_t gemm_partial_floats(int m, int n, int k_bytes) {
  return static_cast<std::size_t>(gemm_splits(n, k_bytes, kFillBlocks)) * static_cast<std::size_t>(m) *
         static_cast<std::size_t>(n);
}

Outcome<> gemm_fp8(Device& device, GemmArgs a) {
  if (auto fits = check("gemm_fp8", a); !fits) return fits;
  return run_gemm(
      device, a, 1,
      {Kernel::gemm_fp8_m128, Kernel::gemm_fp8_m64, Kernel::gemm_fp8_m32, Kernel::gemm_fp8_reduce, kTileColumns});
}

Outcome<> gemm_fp8_blocks(Device& device, GemmArgs a) {
  if (auto fits = check("gemm_fp8_blocks", a); !fits) return fits;
  return run_gemm(device, a, 1,
                  {Kernel::gemm_fp8_blocks_m128, Kernel::gemm_fp8_blocks_m64, Kernel::gemm_fp8_blocks_m32,
                   Kernel::gemm_plain_reduce, -1});
}

Outcome<> gemm_bf16(Device& device, GemmArgs a, int batches) {
  if (auto fits = check("gemm_bf16", a); !fits) return fits;
  if (batches < 0) return bad("gemm_bf16", number("batches", batches) + " is negative");
  return run_gemm(device, a, batches,
                  {Kernel::gemm_bf16_m128, Kernel::gemm_bf16_m64, Kernel::gemm_bf16_m32, Kernel::gemm_plain_reduce, 0});
}

Outcome<> quantize(Device& device, const QuantizeArgs& a) {
  if (a.m < 0 || a.k < 1) return bad("quantize", number("m", a.m) + ", " + number("k", a.k));
  if (a.group != 0 && a.k % kScaleGroup != 0) return bad("quantize", number("k", a.k) + " is not a multiple of 128");
  if (a.ldx < a.k || a.ldo < a.k) return bad("quantize", "a row stride is below k");
  if (a.m == 0) return Done{};
  return device.launch(Kernel::quantize_rows, {tiles(a.m, 4), 1, 1}, a);
}

Outcome<> rms_norm(Device& device, const NormArgs& a) {
  if (a.m < 0 || a.h < 1) return bad("rms_norm", number("m", a.m) + ", " + number("h", a.h));
  if (a.out_fp8 != nullptr && a.group != 0 && a.h % kScaleGroup != 0)
    return bad("rms_norm", number("h", a.h) + " is not a multiple of 128");
  if (a.out_fp8 != nullptr && a.scale == nullptr) return bad("rms_norm", "FP8 output without scales");
  if (a.residual != nullptr && a.residual_out == nullptr)
    return bad("rms_norm", "a residual without a place for the sum");
  if (a.m == 0) return Done{};
  return device.launch(Kernel::rms_norm_rows, {tiles(a.m, 4), 1, 1}, a);
}

Outcome<> mla_cache(Device& device, const MlaCacheArgs& a, bool fp8) {
  if (a.m < 0 || a.heads < 0) return bad("mla_cache", number("m", a.m) + ", " + number("heads", a.heads));
  if (a.m == 0) return Done{};
  return device.launch(fp8 ? Kernel::mla_cache_fp8 : Kernel::mla_cache_bf16, {a.heads + 1, a.m, 1}, a);
}

Outcome<> mla_concat(Device& device, const MlaConcatArgs& a) {
  if (a.m < 0 || a.heads < 0) return bad("mla_concat", number("m", a.m) + ", " + number("heads", a.heads));
  if (a.m == 0) return Done{};
  return device.launch(Kernel::mla_concat_heads, {a.heads, a.m, 1}, a);
}

Outcome<> gqa_cache(Device& device, const GqaCacheArgs& a) {
  if (a.m < 0 || a.heads < 0 || a.kv_heads < 0) return bad("gqa_cache", "negative shapes");
  if (a.m == 0) return Done{};
  return device.launch(Kernel::gqa_cache_bf16, {a.heads + a.kv_heads, a.m, 1}, a);
}

Outcome<> embed(Device& device, const EmbedArgs& a) {
  if (a.m < 0 || a.h < 1) return bad("embed", number("m", a.m) + ", " + number("h", a.h));
  return device.launch(Kernel::embed_tokens, {a.m, 1, 1}, a);
}

Outcome<> attention(Device& device, AttentionKind kind, const AttentionArgs& a, int q_len_max) {
  if (a.sequences < 0 || a.tokens < 0 || q_len_max < 0) return bad("attention", "negative shapes");
  if (a.kv_heads < 1 || a.heads < 1 || a.heads % a.kv_heads != 0) {
    return bad("attention", number("heads", a.heads) + " is not a multiple of " + number("kv_heads", a.kv_heads));
  }
  if (a.splits < 1 || (a.splits > 1 && (a.split_tokens < kPageTokens || a.split_tokens % kPageTokens != 0))) {
    return bad("attention", number("split_tokens", a.split_tokens) + " must be a positive multiple of 64");
  }
  if (a.splits > 1 && (a.partial == nullptr || a.peaks == nullptr))
    return bad("attention", "splits without partial and peaks");
  if (a.pages == nullptr && a.kv_start == nullptr) return bad("attention", "neither pages nor kv_start");
  if (a.pages != nullptr && a.page_count < 1) return bad("attention", number("page_count", a.page_count));
  const bool latent = kind == AttentionKind::mla_decode_fp8 || kind == AttentionKind::mla_decode_bf16;
  if (latent && (a.v != a.k || a.v_token != a.k_token || a.v_page != a.k_page || a.v_head != a.k_head)) {
    return bad("attention", "V of latent attention is the first part of K: the same address and strides");
  }
  if (a.sequences == 0 || q_len_max == 0) return Done{};
  struct Row {
    Kernel kernel, merge;
    int rows;
  };
  const Row row = [&]() -> Row {
    switch (kind) {
      case AttentionKind::mla_decode_fp8: return {Kernel::mla_decode_fp8, Kernel::mla_merge, 16};
      case AttentionKind::mla_decode_bf16: return {Kernel::mla_decode_bf16, Kernel::mla_merge, 16};
      case AttentionKind::mla_prefill_bf16: return {Kernel::mla_prefill_bf16, Kernel::gqa_merge, 64};
      case AttentionKind::gqa_decode_bf16: return {Kernel::gqa_decode_bf16, Kernel::gqa_merge, 16};
      case AttentionKind::gqa_prefill_bf16: break;
    }
    return {Kernel::gqa_prefill_bf16, Kernel::gqa_merge, 64};
  }();
  const int rows = q_len_max * (a.heads / a.kv_heads);
  if (auto done = device.launch(row.kernel, {tiles(rows, row.rows), a.kv_heads, a.sequences * a.splits}, a);
      !done || a.splits == 1) {
    return done;
  }
  const int joined = latent ? kMergeRows<512> : kMergeRows<128>;
  return device.launch(row.merge, {tiles(q_len_max * a.heads, joined), a.sequences, 1}, a);
}

Outcome<> router(Device& device, const RouterArgs& a) {
  if (a.m < 0) return bad("router", number("m", a.m) + " is negative");
  if (a.experts < 1 || a.experts > kMaxExperts)
    return bad("router", number("experts", a.experts) + " is outside 1 … 1024");
  if (a.groups < 1 || a.groups > 64 || a.experts % a.groups != 0)
    return bad("router", number("groups", a.groups) + " does not divide the experts");
  if (a.groups > 1 && (a.experts / a.groups < 2 || a.top_groups < 1 || a.top_groups > a.groups)) {
    return bad("router", number("top_groups", a.top_groups) + " of " + number("groups", a.groups));
  }
  const int reachable = a.groups > 1 ? a.experts / a.groups * a.top_groups : a.experts;
  if (a.top_k < 1 || a.top_k > 32 || a.top_k > reachable)
    return bad("router", number("top_k", a.top_k) + " of " + std::to_string(reachable));
  if (a.m == 0) return Done{};
  return device.launch(Kernel::router_top_k, {tiles(a.m, 4), 1, 1}, a);
}

int moe_tile_rows(int pairs, int experts) { return pairs >= 32 * experts ? 64 : 32; }

std::size_t moe_order_ints(int pairs, int experts) {
  const int rows = moe_tile_rows(pairs, experts);
  return static_cast<std::size_t>(moe_max_tiles(pairs, experts, rows)) * static_cast<std::size_t>(rows);
}

Outcome<> fused_moe(Device& device, MoeArgs a) {
  if (a.m < 0) return bad("fused_moe", number("m", a.m) + " is negative");
  if (a.hidden < 128 || a.hidden % 128 != 0)
    return bad("fused_moe", number("hidden", a.hidden) + " must be a multiple of 128");
  if (a.inter < 128 || a.inter % 128 != 0)
    return bad("fused_moe", number("inter", a.inter) + " must be a multiple of 128");
  if (a.experts < 0 || a.shared < 0 || a.experts + a.shared < 1 || a.experts + a.shared > kMaxExperts) {
    return bad("fused_moe", number("experts", a.experts) + ", " + number("shared", a.shared));
  }
  if (a.top_k < 0 || a.top_k + a.shared < 1) return bad("fused_moe", number("top_k", a.top_k));
  if (a.m == 0) return Done{};
  const int pairs = a.m * (a.top_k + a.shared), experts = a.experts + a.shared;
  a.tile_rows = moe_tile_rows(pairs, experts);
  a.max_tiles = moe_max_tiles(pairs, experts, a.tile_rows);
  const bool high = a.tile_rows == 64;
  if (auto done = device.launch(Kernel::moe_sort_pairs, {1, 1, 1}, a); !done) return done;
  if (auto done =
          device.launch(high ? Kernel::moe_gate_up_m64 : Kernel::moe_gate_up_m32, {a.inter / 128, a.max_tiles, 1}, a);
      !done)
    return done;
  if (auto done =
          device.launch(high ? Kernel::moe_down_m64 : Kernel::moe_down_m32, {a.hidden / 128, a.max_tiles, 1}, a);
      !done)
    return done;
  return device.launch(Kernel::moe_combine_pairs, {tiles(a.hidden, 1024), a.m, 1}, a);
}

Outcome<> ep_dispatch(Device& device, const ExchangeArgs& a) {
  if (a.m < 0 || a.top_k < 1 || a.experts_per_rank < 1) return bad("ep_dispatch", "bad shapes");
  if (a.ranks < 1 || a.ranks > 64) return bad("ep_dispatch", number("ranks", a.ranks) + " is outside 1 … 64");
  if (a.row_bytes % 16 != 0) return bad("ep_dispatch", number("row_bytes", a.row_bytes) + " is not a multiple of 16");
  if (a.capacity < a.m) return bad("ep_dispatch", number("capacity", a.capacity) + " is below " + number("m", a.m));
  if (auto done = device.launch(Kernel::ep_reset_counts, {1, 1, 1}, a); !done) return done;
  return device.launch(Kernel::ep_dispatch_tokens, {tiles(a.m, 4), 1, 1}, a);
}

Outcome<> ep_combine(Device& device, const ExchangeArgs& a) {
  if (a.m < 0 || a.hidden < 1) return bad("ep_combine", "bad shapes");
  return device.launch(Kernel::ep_combine_tokens, {tiles(a.hidden, 1024), a.m, 1}, a);
}

Outcome<> sample(Device& device, const SampleArgs& a) {
  if (a.m < 0) return bad("sample", number("m", a.m) + " is negative");
  if (a.vocabulary < 1 || a.vocabulary > 1 << 20)
    return bad("sample", number("vocabulary", a.vocabulary) + " is outside 1 … 2^20");
  if (auto done = device.launch(Kernel::sample_peaks, {kSampleParts, a.m, 1}, a); !done) return done;
  if (auto done = device.launch(Kernel::sample_weights, {kSampleParts, a.m, 1}, a); !done) return done;
  if (auto done = device.launch(Kernel::sample_candidates, {kSampleParts, a.m, 1}, a); !done) return done;
  return device.launch(Kernel::sample_tokens, {a.m, 1, 1}, a);
}

}  // namespace faultline::kernels
