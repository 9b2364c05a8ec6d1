// Norms, rotary positions with cache writes, embedding. All memory-bound: one pass over the row from memory, the later
// ones from cache.
#pragma once

#include "kernels/ops/rows_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

/// Four rows a block, a wave each.
FAULTLINE_DEV void rms_norm(const Block& b, const NormArgs& p) {
  const int row0 = b.x() * 4;
  b.rows(p.m - row0 < 4 ? p.m - row0 : 4, [&](int i, Wave w) {
    const std::size_t r = row0 + i;
    const std::uint16_t* x = p.x + r * p.ldx;
    if (p.residual != nullptr) {
      const std::uint16_t* add = p.residual + r * p.h;
      std::uint16_t* sum = p.residual_out + r * p.h;
      w.each(p.h, [&](int c) { sum[c] = to_bf16(from_bf16(x[c]) + from_bf16(add[c])); });
      w.sync();
      x = sum;
    }
    const float squares = w.sum_of(p.h, [&](int c) {
      const float v = from_bf16(x[c]);
      return v * v;
    });
    const float inverse = rsqrt(squares / static_cast<float>(p.h) + p.eps);
    auto y = [&](int c) { return from_bf16(x[c]) * inverse * p.weight[c]; };
    if (p.out != nullptr) w.each(p.h, [&](int c) { p.out[r * p.h + c] = to_bf16(y(c)); });
    if (p.out_fp8 == nullptr) return;
    const int span = p.group ? kScaleGroup : p.h;
    for (int g = 0; g < p.h / span; ++g) {
      const int c0 = g * span;
      const float largest = w.max_of(span, [&](int c) { return __builtin_fabsf(y(c0 + c)); });
      const float poison = w.sum_of(span, [&](int c) { return y(c0 + c) * 0.0F; });
      const float up = largest > 0 ? kFp8Target / largest : 0.0F;
      w.each(span, [&](int c) { p.out_fp8[r * p.h + c0 + c] = to_fp8(y(c0 + c) * up); });
      w.once([&] { p.scale[p.group ? static_cast<std::size_t>(g) * p.m + r : r] = largest / kFp8Target + poison; });
    }
  });
}

template <class T>
FAULTLINE_DEV void store_cached(void* to, std::size_t at, float v, float inverse, std::uint32_t* status) {
  if constexpr (T::kBytes == 1) {
    const bool bad = !(__builtin_fabsf(v) <= 3.3e38F);
    if (bad) atomic_or_global(status, static_cast<std::uint32_t>(kStatusNotANumber));
    static_cast<std::uint8_t*>(to)[at] = to_fp8(bad ? 0.0F : v * inverse);
  } else {
    static_cast<std::uint16_t*>(to)[at] = to_bf16(v);
  }
}

/// Grid: (heads + 1) x m: block (h, t) does query head h of token t, the last one the token's cache line.
template <class T>
FAULTLINE_DEV void mla_cache(const Block& b, const MlaCacheArgs& p) {
  constexpr int kLatent = 512, kRope = 64, kAll = kLatent + kRope;
  const int h = b.x(), position = p.position[b.y()];
  const std::size_t t = b.y();
  const bool query = h < p.heads;
  const int slot = query ? 0 : p.slot[t];
  if (!query && slot < 0) return;
  if (position < 0 || position >= p.positions || slot >= p.slots) {
    b.once([&] { atomic_or_global(p.status, static_cast<std::uint32_t>(kStatusPageOutOfRange)); });
    return;
  }
  const std::uint16_t* plain =
      query ? p.q_nope + t * p.q_nope_row + static_cast<std::size_t>(h) * kLatent : p.latent + t * p.latent_row;
  const std::uint16_t* turn =
      query ? p.q_rope + t * p.q_rope_row + static_cast<std::size_t>(h) * p.q_rope_head : p.k_rope + t * p.k_rope_row;
  void* out = query ? p.q_out : p.cache;
  const std::size_t first = (query ? t * p.heads + h : static_cast<std::size_t>(slot)) * kAll;
  const float inverse = query ? p.q_inverse : p.cache_inverse;
  b.each(kLatent, [&](int d) { store_cached<T>(out, first + d, from_bf16(plain[d]), inverse, p.status); });
  b.each(kRope / 2, [&](int d) {
    const float c = p.angles[(static_cast<std::size_t>(position) * (kRope / 2) + d) * 2];
    const float s = p.angles[(static_cast<std::size_t>(position) * (kRope / 2) + d) * 2 + 1];
    const float x = from_bf16(turn[2 * d]), y = from_bf16(turn[2 * d + 1]);
    store_cached<T>(out, first + kLatent + 2 * d, fused(x, c, -(y * s)), inverse, p.status);
    store_cached<T>(out, first + kLatent + 2 * d + 1, fused(x, s, y * c), inverse, p.status);
  });
}

/// Grid: heads x m. Queries and keys of non-absorbed MLA, 192 wide.
FAULTLINE_DEV void mla_concat(const Block& b, const MlaConcatArgs& p) {
  constexpr int kNope = 128, kRope = 64, kAll = kNope + kRope;
  const std::size_t t = b.y(), at = (t * p.heads + b.x()) * kAll;
  const int position = p.position[t];
  if (position < 0 || position >= p.positions) {
    b.once([&] { atomic_or_global(p.status, static_cast<std::uint32_t>(kStatusPageOutOfRange)); });
    return;
  }
  const std::uint16_t* k = p.kv + (t * p.heads + b.x()) * (2 * kNope);
  b.each(kNope, [&](int d) {
    p.q_out[at + d] = p.q[at + d];
    p.k_out[at + d] = k[d];
  });
  b.each(kRope / 2, [&](int d) {
    const float c = p.angles[(static_cast<std::size_t>(position) * (kRope / 2) + d) * 2];
    const float s = p.angles[(static_cast<std::size_t>(position) * (kRope / 2) + d) * 2 + 1];
    auto turn = [&](const std::uint16_t* from, std::uint16_t* to) {
      const float x = from_bf16(from[2 * d]), y = from_bf16(from[2 * d + 1]);
      to[2 * d] = to_bf16(fused(x, c, -(y * s)));
      to[2 * d + 1] = to_bf16(fused(x, s, y * c));
    };
    turn(p.q + at + kNope, p.q_out + at + kNope);
    turn(p.k_rope + t * p.k_rope_row, p.k_out + at + kNope);
  });
}

/// Grid: (heads + kv_heads) x m.
FAULTLINE_DEV void gqa_cache(const Block& b, const GqaCacheArgs& p) {
  constexpr int kDim = 128, kHalf = 64;
  const std::size_t t = b.y();
  const int position = p.position[t], slot = p.slot[t], h = b.x() - p.heads;
  if (h >= 0 && slot < 0) return;
  if (position < 0 || position >= p.positions || (h >= 0 && slot >= p.slots)) {
    b.once([&] { atomic_or_global(p.status, static_cast<std::uint32_t>(kStatusPageOutOfRange)); });
    return;
  }
  std::uint16_t* q = p.q + (t * p.heads + b.x()) * kDim;
  const std::size_t from_k = (t * p.kv_heads + h) * kDim,
                    to_k = (static_cast<std::size_t>(slot) * p.kv_heads + h) * kDim;
  const std::uint16_t* from = h < 0 ? q : p.k + from_k;
  std::uint16_t* to = h < 0 ? q : p.k_cache + to_k;
  b.each(kHalf, [&](int d) {
    const float c = p.angles[(static_cast<std::size_t>(position) * kHalf + d) * 2];
    const float s = p.angles[(static_cast<std::size_t>(position) * kHalf + d) * 2 + 1];
    const float x = from_bf16(from[d]), y = from_bf16(from[d + kHalf]);
    to[d] = to_bf16(fused(x, c, -(y * s)));
    to[d + kHalf] = to_bf16(fused(x, s, y * c));
  });
  if (h >= 0) b.each(kDim, [&](int d) { p.v_cache[to_k + d] = p.v[from_k + d]; });
}

/// Grid: m.
FAULTLINE_DEV void embed(const Block& b, const EmbedArgs& p) {
  const int id = p.ids[b.x()];
  const bool known = id >= 0 && id < p.vocabulary;
  b.each(p.h, [&](int c) {
    p.out[static_cast<std::size_t>(b.x()) * p.h + c] =
        known ? p.table[static_cast<std::size_t>(id) * p.h + c] : std::uint16_t{0};
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
