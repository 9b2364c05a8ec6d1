// Router, fused MoE and the device part of the EP exchange. Shapes and sources in moe_args.h.
#pragma once

#include "kernels/ops/moe_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

FAULTLINE_DEV float sigmoid(float x) { return 1.0F / (1.0F + exact_exp2(x * -1.44269504F)); }

/// Four tokens a block, a wave each.
FAULTLINE_DEV void router(const Block& b, const RouterArgs& p) {
  Lds<float> all_scores = Block::shared<float, 4 * kMaxExperts, 0>();
  Lds<float> all_groups = Block::shared<float, 4 * 64, 1>();
  Lds<float> all_chosen = Block::shared<float, 4 * 32, 2>();
  const int row0 = b.x() * 4, per_group = p.experts / p.groups;
  b.rows(p.m - row0 < 4 ? p.m - row0 : 4, [&](int i, Wave w) {
    const float* logits = p.logits + static_cast<std::size_t>(row0 + i) * p.experts;
    int* ids = p.ids + static_cast<std::size_t>(row0 + i) * p.top_k;
    float* weights = p.weights + static_cast<std::size_t>(row0 + i) * p.top_k;
    Lds<float> choice = all_scores + i * kMaxExperts, group = all_groups + i * 64, chosen = all_chosen + i * 32;
    auto score = [&](int e) {
      const float s = sigmoid(logits[e]);
      return s == s ? s : 0.0F;
    };
    w.each(p.experts, [&](int e) { choice[e] = score(e) + (p.bias != nullptr ? p.bias[e] : 0.0F); });
    w.sync();
    if (p.groups > 1) {
      w.each(p.groups, [&](int g) {
        float first = -3e38F, second = -3e38F;
        for (int e = 0; e < per_group; ++e) {
          const float v = choice[g * per_group + e];
          second = v > first ? first : v > second ? v : second;
          first = v > first ? v : first;
        }
        group[g] = first + second;
      });
      w.sync();
      for (int n = 0; n < p.top_groups; ++n) {
        const Best best = w.best_of(p.groups, [&](int g) { return group[g]; });
        w.sync();
        w.once([&] { group[best.index < p.groups ? best.index : 0] = -3.3e38F; });  // chosen
        w.sync();
      }
      w.each(p.experts, [&](int e) {
        if (group[e / per_group] > -3.2e38F) choice[e] = -3.2e38F;
      });
      w.sync();
    }
    for (int k = 0; k < p.top_k; ++k) {
      const Best best = w.best_of(p.experts, [&](int e) { return choice[e]; });
      const int e = best.index < p.experts ? best.index : 0;
      w.sync();
      w.once([&] {
        ids[k] = e;
        chosen[k] = score(e);
        choice[e] = -3.3e38F;
      });
      w.sync();
    }
    float sum = 0;
    for (int k = 0; k < p.top_k; ++k) sum += chosen[k];
    const float scale = sum > 0 ? p.route_scale / sum : 0.0F;
    w.each(p.top_k, [&](int k) { weights[k] = chosen[k] * scale; });
  });
}

/// The expert of pair j of a token; negative: dropped.
FAULTLINE_DEV int pair_expert(const MoeArgs& p, int pair) {
  const int slots = p.top_k + p.shared, j = pair % slots;
  if (j >= p.top_k) return p.experts + j - p.top_k;
  const int e = p.ids[static_cast<std::size_t>(pair / slots) * p.top_k + j];
  return e >= p.experts ? -2 : e;
}

/// One block. The order of pairs within an expert is free: no result depends on it.
FAULTLINE_DEV void moe_sort(const Block& b, const MoeArgs& p) {
  Lds<int> count = Block::shared<int, kMaxExperts, 0>(), first = Block::shared<int, kMaxExperts, 1>();
  Lds<int> cursor = Block::shared<int, kMaxExperts, 2>();
  const int pairs = p.m * (p.top_k + p.shared), all = p.experts + p.shared;
  b.each(all, [&](int e) {
    count[e] = 0;
    cursor[e] = 0;
  });
  b.barrier();
  b.each(pairs, [&](int i) {
    const int e = pair_expert(p, i);
    if (e >= 0) atomic_add_shared(&count[e], 1);
    if (e == -2) atomic_or_global(p.status, static_cast<std::uint32_t>(kStatusExpertOutOfRange));
  });
  b.barrier();
  b.each(all, [&](int e) {
    int tiles = 0;
    for (int o = 0; o < e; ++o) tiles += (count[o] + p.tile_rows - 1) / p.tile_rows;
    first[e] = tiles;
    const int mine = (count[e] + p.tile_rows - 1) / p.tile_rows;
    for (int t = 0; t < mine; ++t) p.tile_expert[tiles + t] = e;
    for (int r = count[e]; r < mine * p.tile_rows; ++r) p.order[tiles * p.tile_rows + r] = -1;
    if (e == all - 1) *p.tile_count = tiles + mine;
  });
  b.barrier();
  b.each(pairs, [&](int i) {
    const int e = pair_expert(p, i);
    if (e >= 0) p.order[first[e] * p.tile_rows + atomic_add_shared(&cursor[e], 1)] = i;
  });
}

/// Rows of a tile that have a pair; they come first.
FAULTLINE_DEV int tile_valid(const int* order, int rows) {
  int valid = 0;
  for (int i = 0; i < rows; ++i) valid += order[i] >= 0 ? 1 : 0;
  return valid;
}

template <int kM>
FAULTLINE_DEV void moe_gate_up(const Block& b, const MoeArgs& p) {
  if (b.y() >= *p.tile_count) return;
  constexpr int kN = kTileColumns;
  const int* order = p.order + b.y() * kM;
  const int expert = p.tile_expert[b.y()], valid = tile_valid(order, kM), slots = p.top_k + p.shared;
  const int steps = p.hidden / kScaleGroup, column0 = b.x() * kN, pairs = p.m * slots;
  const std::uint8_t* w = p.w13 + static_cast<std::size_t>(expert) * 2 * p.inter * p.hidden;
  const float* ws = p.w13_scale + static_cast<std::size_t>(expert) * (2 * p.inter / kScaleGroup) * steps;
  Lds<int> token = Block::shared<int, kM, 1>();
  b.each(kM, [&](int i) { token[i] = order[i < valid ? i : valid - 1] / slots; });
  b.barrier();
  auto row = [&](int i) { return p.x + static_cast<std::size_t>(token[i]) * p.hidden; };
  Lds<float> value = lds_as<float>(Block::scratch<kM*(kN + 1) * 4, kStreamBytes<kM>>());
  auto product = [&](StreamAcc<kM, kN>& total, int column) {
    b.zero(total);
    b.template mma_stream_scaled<Fp8, kM, kN, 0>(
        total, row, valid, w, p.hidden / 64, column, 0, p.hidden / 64,
        [&](int step) { return ws + column / kScaleGroup * steps + step; },
        [&](int step, int i) { return p.x_scale + static_cast<std::size_t>(step) * p.m + token[i]; });
  };
  StreamAcc<kM, kN> total;
  product(total, column0);
  b.map(total, [&](int i, int j, float& v) { value[i * (kN + 1) + j] = v * sigmoid(v); });
  product(total, p.inter + column0);
  // Each thread multiplies the gate values that it wrote itself.
  b.map(total, [&](int i, int j, float& v) { value[i * (kN + 1) + j] *= v; });
  b.barrier();
  b.rows(valid, [&](int i, Wave wave) {
    const int pair = order[i];
    Lds<float> v = value + i * (kN + 1);
    const float largest = wave.max_of(kN, [&](int j) { return __builtin_fabsf(v[j]); });
    const float poison = wave.sum_of(kN, [&](int j) { return v[j] * 0.0F; });
    const float inverse = largest > 0 ? kFp8Target / largest : 0.0F;
    std::uint8_t* out = p.mid + static_cast<std::size_t>(pair) * p.inter + column0;
    wave.each(kN, [&](int j) { out[j] = to_fp8(v[j] * inverse); });
    wave.once([&] { p.mid_scale[static_cast<std::size_t>(b.x()) * pairs + pair] = largest / kFp8Target + poison; });
  });
}

template <int kM>
FAULTLINE_DEV void moe_down(const Block& b, const MoeArgs& p) {
  if (b.y() >= *p.tile_count) return;
  constexpr int kN = kTileColumns;
  const int* order = p.order + b.y() * kM;
  const int expert = p.tile_expert[b.y()], valid = tile_valid(order, kM);
  const int steps = p.inter / kScaleGroup, column0 = b.x() * kN, pairs = p.m * (p.top_k + p.shared);
  const std::uint8_t* w = p.w2 + static_cast<std::size_t>(expert) * p.hidden * p.inter;
  const float* ws = p.w2_scale + (static_cast<std::size_t>(expert) * (p.hidden / kScaleGroup) + b.x()) * steps;
  Lds<int> pair = Block::shared<int, kM, 1>();
  b.each(kM, [&](int i) { pair[i] = order[i < valid ? i : valid - 1]; });
  b.barrier();
  StreamAcc<kM, kN> total;
  b.zero(total);
  auto row = [&](int i) { return p.mid + static_cast<std::size_t>(pair[i]) * p.inter; };
  b.template mma_stream_scaled<Fp8, kM, kN, 0>(
      total, row, valid, w, p.inter / 64, column0, 0, p.inter / 64, [&](int step) { return ws + step; },
      [&](int step, int i) { return p.mid_scale + static_cast<std::size_t>(step) * pairs + pair[i]; });
  b.map(total, [&](int i, int j, float& v) {
    if (i < valid) p.y[static_cast<std::size_t>(pair[i]) * p.hidden + column0 + j] = v;
  });
}

/// A block takes 1024 columns of one token: grid ceil(hidden / 1024) x m.
FAULTLINE_DEV void moe_combine(const Block& b, const MoeArgs& p) {
  const int slots = p.top_k + p.shared, t = b.y(), first = b.x() * 1024;
  const int here = p.hidden - first < 1024 ? p.hidden - first : 1024;
  b.each(here, [&](int c) {
    float v = 0;
    for (int j = 0; j < slots; ++j) {
      if (pair_expert(p, t * slots + j) < 0) continue;
      const float weight = j < p.top_k ? p.weights[static_cast<std::size_t>(t) * p.top_k + j] : 1.0F;
      v = fused(weight, p.y[(static_cast<std::size_t>(t) * slots + j) * p.hidden + first + c], v);
    }
    p.out[static_cast<std::size_t>(t) * p.hidden + first + c] = to_bf16(v);
  });
}

FAULTLINE_DEV void ep_reset(const Block& b, const ExchangeArgs& p) {
  b.each(p.ranks, [&](int r) { p.sent[r] = 0; });
}

/// Four tokens a block, a wave each.
FAULTLINE_DEV void ep_dispatch(const Block& b, const ExchangeArgs& p) {
  Lds<int> place = Block::shared<int, 4, 0>();
  const int row0 = b.x() * 4;
  b.rows(p.m - row0 < 4 ? p.m - row0 : 4, [&](int i, Wave w) {
    const int t = row0 + i;
    const int* ids = p.ids + static_cast<std::size_t>(t) * p.top_k;
    for (int rank = 0; rank < p.ranks; ++rank) {
      bool wanted = false;
      for (int k = 0; k < p.top_k; ++k) wanted = wanted || (ids[k] >= 0 && ids[k] / p.experts_per_rank == rank);
      wanted = wanted && load_system(p.alive + rank) != 0;
      w.once([&] {
        const int s = wanted ? atomic_add_global(p.sent + rank, 1) : -1;
        place[i] = s < p.capacity ? s : -1;
        p.slot[static_cast<std::size_t>(t) * p.ranks + rank] = place[i];
      });
      w.sync();
      const int s = place[i];
      w.sync();
      if (s < 0) continue;
      const std::size_t at = static_cast<std::size_t>(rank) * p.capacity + s;
      w.each(p.row_bytes / 16, [&](int c) {
        copy16(p.send + at * p.row_bytes + c * 16, p.x + static_cast<std::size_t>(t) * p.row_bytes + c * 16);
      });
      w.each(p.top_k, [&](int k) {
        const bool here = ids[k] >= 0 && ids[k] / p.experts_per_rank == rank;
        p.send_ids[at * p.top_k + k] = here ? ids[k] % p.experts_per_rank : -1;
        p.send_weights[at * p.top_k + k] = here ? p.weights[static_cast<std::size_t>(t) * p.top_k + k] : 0.0F;
      });
    }
  });
}

/// Grid ceil(hidden / 1024) x m.
FAULTLINE_DEV void ep_combine(const Block& b, const ExchangeArgs& p) {
  const int t = b.y(), first = b.x() * 1024, here = p.hidden - first < 1024 ? p.hidden - first : 1024;
  b.each(here, [&](int c) {
    float v = 0;
    for (int rank = 0; rank < p.ranks; ++rank) {
      const int s = p.slot[static_cast<std::size_t>(t) * p.ranks + rank];
      if (s < 0 || load_system(p.alive + rank) == 0) continue;
      v += from_bf16(p.returned[(static_cast<std::size_t>(rank) * p.capacity + s) * p.hidden + first + c]);
    }
    p.out[static_cast<std::size_t>(t) * p.hidden + first + c] = to_bf16(v);
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
