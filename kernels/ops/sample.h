// Sampling with counter-based random numbers and integer weights; rules in rows_args.h, SampleArgs. Four kernels: the
// largest logit of each part of a row; the weights' sums and a histogram of them; the tokens that can be kept, when
// they are few; then one block a row keeps and draws. Few tokens are ranked in LDS; otherwise the row's weights are
// written down and passed over several times.
#pragma once

#include "kernels/ops/rows_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

/// floor(2^30 * 2^x), x <= 0: fused multiply-adds only, so every device gets the same integer. 0 for NaN and below -30.
FAULTLINE_DEV std::uint32_t integer_exp2(float x) {
  if (!(x > -31.0F)) return 0;
  const float shifted = x + 12582912.0F;  // 1.5 * 2^23: rounds to the nearest integer
  const float whole = shifted - 12582912.0F;
  const float f = x - whole;
  float p = 1.535336188319500e-4F;
  p = fused(p, f, 1.339887440266574e-3F);
  p = fused(p, f, 9.618437357674640e-3F);
  p = fused(p, f, 5.550332471162809e-2F);
  p = fused(p, f, 2.402264791363012e-1F);
  p = fused(p, f, 6.931472028550421e-1F);
  p = fused(p, f, 1.0F);
  const int down = static_cast<int>(-whole);
  const std::uint32_t v = static_cast<std::uint32_t>(p * 1073741824.0F);
  return down > 31 ? 0U : v >> down;
}

FAULTLINE_DEV std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}
/// Uniform 64 bits of (seed, position).
FAULTLINE_DEV std::uint64_t counter_random(std::uint64_t seed, std::uint64_t position) {
  return mixed(mixed(seed + 0x9e3779b97f4a7c15ULL) + 0x9e3779b97f4a7c15ULL * (position + 1));
}
/// floor(a * b / 2^64).
FAULTLINE_DEV std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t a0 = a & 0xffffffffULL, a1 = a >> 32, b0 = b & 0xffffffffULL, b1 = b >> 32;
  const std::uint64_t m = (a0 * b0 >> 32) + (a1 * b0 & 0xffffffffULL) + a0 * b1;
  return a1 * b1 + (a1 * b0 >> 32) + (m >> 32);
}

/// What is kept: every weight above `weight`, and the first `ties` of those equal to it. total: their sum.
struct Kept {
  std::uint32_t weight;
  std::uint32_t ties;
  std::uint64_t total;
};

inline constexpr int kPieces = 64;       // a row is cut into this many pieces for counting
inline constexpr int kBins = 2048;       // 11 bits of the 31-bit weight, then 10, then 10
inline constexpr int kCandidates = 512;  // tokens that are ranked in LDS: each is compared with all others

/// What the kernels pass on about a row: the best logit and the mass of each piece, the histogram of the weights' upper
/// bits.
struct SampleRow {
  std::uint64_t bin_mass[kBins];
  std::uint64_t piece_sum[kPieces];
  std::uint32_t bin_count[kBins];
  std::uint64_t group_mass[kPieces];  // of kBins / kPieces bins each
  std::uint32_t few_weight[kCandidates];
  int few_index[kCandidates];
  std::uint32_t few, gathered;  // candidates found; whether they were looked for
  std::uint32_t group_count[kPieces];
  float piece_value[kPieces];
  int piece_index[kPieces];
};
static_assert(sizeof(SampleRow) == kSampleRowBytes);
FAULTLINE_DEV SampleRow* sample_row(const SampleArgs& p, int r) {
  const std::size_t weights = (static_cast<std::size_t>(p.m) * p.vocabulary * 4 + 7) / 8 * 8;
  return reinterpret_cast<SampleRow*>(reinterpret_cast<std::uint8_t*>(p.scratch) + weights) + r;
}
FAULTLINE_DEV int piece_size(const SampleArgs& p, int q) {
  const int piece = (p.vocabulary + kPieces - 1) / kPieces, left = p.vocabulary - q * piece;
  return left < 0 ? 0 : left < piece ? left : piece;
}
FAULTLINE_DEV bool keeps_part(const SampleArgs& p, int r) {
  return (p.top_k[r] > 0 && p.top_k[r] < p.vocabulary) || p.top_p[r] < 1.0F;
}
/// With top_k up to the number of pieces the k-th largest of the pieces' best logits bounds what can be kept: no
/// histogram is needed.
FAULTLINE_DEV bool bounded_by_pieces(const SampleArgs& p, int r) {
  return p.top_k[r] > 0 && p.top_k[r] <= kPieces && p.top_k[r] < p.vocabulary;
}
FAULTLINE_DEV float bounded(float logit) {
  return logit > 3e38F ? 3e38F : logit;
}  // infinity wins, and stays subtractable

/// The largest logit of a row, lower indices first; index -1: the row holds nothing but NaN and minus infinity.
FAULTLINE_DEV Best largest_of(const Block& b, const SampleRow& row) {
  Lds<float> value = Block::shared<float, 4, 50>();
  Lds<int> index = Block::shared<int, 4, 51>();
  b.rows(1, [&](int, Wave w) {
    const Best best = w.best_of(kPieces, [&](int q) { return row.piece_value[q]; });
    w.once([&] {
      value[0] = best.value;
      index[0] = best.index < kPieces ? row.piece_index[best.index] : -1;
    });
  });
  b.barrier();
  return {value[0], index[0]};
}

/// Grid: kSampleParts x m. Also clears the row's histogram.
FAULTLINE_DEV void sample_peak(const Block& b, const SampleArgs& p) {
  const int r = b.y(), piece = (p.vocabulary + kPieces - 1) / kPieces;
  const float* logits = p.logits + static_cast<std::size_t>(r) * p.vocabulary;
  SampleRow* row = sample_row(p, r);
  constexpr int kEach = kPieces / kSampleParts, kClear = kBins / kSampleParts;
  b.each(kEach, [&](int i) {
    row->group_count[b.x() * kEach + i] = 0;
    row->group_mass[b.x() * kEach + i] = 0;
  });
  if (b.x() == 0) b.once([&] { row->few = 0; });
  b.each(kClear, [&](int i) {
    row->bin_count[b.x() * kClear + i] = 0;
    row->bin_mass[b.x() * kClear + i] = 0;
  });
  b.rows(kEach, [&](int i, Wave w) {
    const int q = b.x() * kEach + i, first = q * piece;
    const Best best = w.best_of(piece_size(p, q), [&](int e) { return bounded(logits[first + e]); });
    w.once([&] {
      row->piece_value[q] = best.value;
      row->piece_index[q] = best.index < p.vocabulary ? first + best.index : -1;
    });
  });
}

/// Grid: kSampleParts x m.
FAULTLINE_DEV void sample_weigh(const Block& b, const SampleArgs& p) {
  Lds<std::uint32_t> bin_count = Block::shared<std::uint32_t, kBins, 0>();
  Lds<std::uint64_t> bin_mass = Block::shared<std::uint64_t, kBins, 1>();
  const int r = b.y(), piece = (p.vocabulary + kPieces - 1) / kPieces;
  constexpr int kEach = kPieces / kSampleParts;
  SampleRow* row = sample_row(p, r);
  if (bounded_by_pieces(p, r)) return;  // needs no histogram
  const Best largest = largest_of(b, *row);
  const float temperature = p.temperature[r];
  if (largest.index < 0 || !(temperature > 0)) return;
  const bool count = keeps_part(p, r);
  if (count) {
    b.each(kBins, [&](int i) {
      bin_count[i] = 0;
      bin_mass[i] = 0;
    });
    b.barrier();
  }
  const float* logits = p.logits + static_cast<std::size_t>(r) * p.vocabulary;
  const float sharp = 1.44269504F / temperature;
  b.rows(kEach, [&](int i, Wave w) {
    const int q = b.x() * kEach + i, first = q * piece;
    const std::uint64_t sum = w.total_of(piece_size(p, q), [&](int e) -> std::uint64_t {
      const std::uint32_t v = integer_exp2((bounded(logits[first + e]) - largest.value) * sharp);
      const std::uint32_t bin = v >> 20;
      if (count && bin > 0) {  // most tokens fall in bin 0, which nobody asks for
        atomic_add_shared(&bin_count[bin], 1U);
        atomic_add_shared(&bin_mass[bin], static_cast<std::uint64_t>(v));
      }
      return v;
    });
    w.once([&] { row->piece_sum[q] = sum; });
  });
  if (!count) return;
  b.barrier();
  b.each(kBins, [&](int i) {
    if (bin_count[i] == 0) return;
    atomic_add_global(&row->bin_count[i], bin_count[i]);
    atomic_add_global(&row->bin_mass[i], bin_mass[i]);
    atomic_add_global(&row->group_count[i / (kBins / kPieces)], bin_count[i]);
    atomic_add_global(&row->group_mass[i / (kBins / kPieces)], bin_mass[i]);
  });
}

/// How many of the `equal` tokens of a threshold weight are needed: enough for the count, or for the mass; never more
/// than there are.
FAULTLINE_DEV std::uint32_t ties_kept(std::uint32_t weight, std::uint64_t above, std::uint64_t above_mass,
                                      std::uint64_t equal, const Kept& limit, std::uint64_t count, std::uint64_t mass) {
  const std::uint64_t there = weight == limit.weight && limit.ties < equal ? limit.ties : equal;
  const std::uint64_t by_count = count - above, lacking = mass > above_mass ? mass - above_mass : 0;
  const std::uint64_t by_mass = weight > 0 ? (lacking + weight - 1) / weight : there;
  const std::uint64_t ties = by_count < by_mass ? by_count : by_mass;
  return static_cast<std::uint32_t>(ties < there ? ties : there);
}
/// ceil(top_p * total), at least 1; top_p as a 24-bit fraction so that the product is exact.
FAULTLINE_DEV std::uint64_t wanted_mass(float top_p, std::uint64_t total) {
  const std::uint64_t part = top_p > 0 ? static_cast<std::uint64_t>(top_p * 16777216.0F) : 0;
  const std::uint64_t mass = total / 16777216ULL * part + (total % 16777216ULL * part + 16777215ULL) / 16777216ULL;
  return mass > 0 ? mass : 1;
}

/// Finds the threshold: the largest weight such that the weights not below it number `count` or sum up to `mass`.
/// Goes down the bits of the weight in three rounds of counting. `limit` restricts to what an earlier call kept.
FAULTLINE_DEV Kept threshold(const Block& b, const std::uint32_t* weights, int n, const Kept& limit,
                             std::uint64_t count, std::uint64_t mass) {
  Lds<std::uint32_t> bin_count = Block::shared<std::uint32_t, kBins, 10>();
  Lds<std::uint64_t> bin_mass = Block::shared<std::uint64_t, kBins, 11>();
  Lds<std::uint64_t> found = Block::shared<std::uint64_t, 4, 12>();  // prefix, count above, mass above
  Lds<std::uint64_t> group_count = Block::shared<std::uint64_t, kPieces, 13>(),
                     group_mass = Block::shared<std::uint64_t, kPieces, 14>();
  constexpr int kShift[3] = {20, 10, 0}, kWidth[3] = {11, 10, 10};
  const int piece = (n + kPieces - 1) / kPieces;
  b.barrier();
  b.once([&] {
    found[0] = 0;
    found[1] = 0;
    found[2] = 0;
  });
  for (int round = 0; round < 3; ++round) {
    const int shift = kShift[round], bins = 1 << kWidth[round];
    b.each(bins, [&](int i) {
      bin_count[i] = 0;
      bin_mass[i] = 0;
    });
    b.barrier();
    const std::uint32_t prefix = static_cast<std::uint32_t>(found[0]);
    b.rows(kPieces, [&](int q, Wave w) {
      const int first = q * piece, size = n - first < piece ? n - first : piece;
      // Most tokens fall in bin 0: they are summed in registers, not by thousands of additions to one address.
      const std::uint64_t low = w.total_of(size > 0 ? size : 0, [&](int i) -> std::uint64_t {
        const std::uint32_t v = weights[first + i];
        if (v == 0 || v < limit.weight || (round > 0 && (v >> (shift + kWidth[round])) != prefix)) return 0;
        const std::uint32_t bin = v >> shift & static_cast<std::uint32_t>(bins - 1);
        if (bin == 0) return (std::uint64_t{1} << 44) + v;
        atomic_add_shared(&bin_count[bin], 1U);
        atomic_add_shared(&bin_mass[bin], static_cast<std::uint64_t>(v));
        return 0;
      });
      w.once([&] {
        if (low != 0) {
          atomic_add_shared(&bin_count[0], static_cast<std::uint32_t>(low >> 44));
          atomic_add_shared(&bin_mass[0], low & ((std::uint64_t{1} << 44) - 1));
        }
      });
    });
    b.barrier();
    const int group = bins / kPieces;
    b.rows(kPieces, [&](int g, Wave w) {
      const std::uint64_t c = w.total_of(group, [&](int i) -> std::uint64_t { return bin_count[g * group + i]; });
      const std::uint64_t s = w.total_of(group, [&](int i) -> std::uint64_t { return bin_mass[g * group + i]; });
      w.once([&] {
        group_count[g] = c;
        group_mass[g] = s;
      });
    });
    b.barrier();
    b.once([&] {
      std::uint64_t c = found[1], s = found[2];
      // Weights equal to an earlier threshold count in full here, though kept in part: they are the lowest, so the
      // search ends in their bin either way.
      int g = kPieces - 1;
      for (; g > 0 && c + group_count[g] < count && s + group_mass[g] < mass; --g) {
        c += group_count[g];
        s += group_mass[g];
      }
      int bin = g * group + group - 1;
      for (; bin > g * group; --bin) {
        if (c + bin_count[bin] >= count || s + bin_mass[bin] >= mass) break;
        c += bin_count[bin];
        s += bin_mass[bin];
      }
      found[0] = found[0] << kWidth[round] | static_cast<std::uint64_t>(bin);
      found[1] = c;
      found[2] = s;
      found[3] = bin_count[bin];
    });
    b.barrier();
  }
  Kept kept{static_cast<std::uint32_t>(found[0]), 0, found[2]};
  kept.ties = ties_kept(kept.weight, found[1], found[2], found[3], limit, count, mass);
  kept.total += static_cast<std::uint64_t>(kept.ties) * kept.weight;
  return kept;
}

/// The smallest weight of the histogram's lowest bin that may hold kept tokens; `there`: how many tokens are not below
/// it. 0: not known from the histogram, which knows nothing of bin 0.
struct Low {
  std::uint32_t weight, there;
};
FAULTLINE_DEV Low lowest_bin(const Block& b, const SampleRow& row, std::uint64_t count, std::uint64_t mass) {
  Lds<std::uint64_t> group_count = Block::shared<std::uint64_t, kPieces, 20>(),
                     group_mass = Block::shared<std::uint64_t, kPieces, 21>();
  Lds<std::uint32_t> low = Block::shared<std::uint32_t, 4, 22>();
  Lds<std::uint64_t> bin_mass = Block::shared<std::uint64_t, kBins / kPieces, 23>();
  Lds<std::uint32_t> bin_count = Block::shared<std::uint32_t, kBins / kPieces, 24>();
  constexpr int kGroup = kBins / kPieces;
  b.each(kPieces, [&](int g) {
    group_count[g] = row.group_count[g];
    group_mass[g] = row.group_mass[g];
  });
  b.barrier();
  b.once([&] {
    std::uint64_t c = 0, s = 0;
    int g = kPieces - 1;
    for (; g > 0 && c + group_count[g] < count && s + group_mass[g] < mass; --g) {
      c += group_count[g];
      s += group_mass[g];
    }
    low[0] = static_cast<std::uint32_t>(g);
    group_count[kPieces - 1] = c;  // done with: the sums above group g
    group_mass[kPieces - 1] = s;
  });
  b.barrier();
  const int first = static_cast<int>(low[0]) * kGroup;
  b.each(kGroup, [&](int i) {
    bin_count[i] = row.bin_count[first + i];
    bin_mass[i] = row.bin_mass[first + i];
  });
  b.barrier();
  b.once([&] {
    std::uint64_t c = group_count[kPieces - 1], s = group_mass[kPieces - 1];
    int bin = kGroup - 1;
    for (; bin > 0; --bin) {
      c += bin_count[bin];
      s += bin_mass[bin];
      if (c >= count || s >= mass) break;
    }
    if (bin == 0) c += bin_count[0];
    low[0] = static_cast<std::uint32_t>(first + bin) << 20;
    low[1] = static_cast<std::uint32_t>(c);
  });
  b.barrier();
  return {low[0], low[1]};
}

FAULTLINE_DEV std::uint64_t mass_of_row(const Block& b, const SampleRow& row) {
  Lds<std::uint64_t> total = Block::shared<std::uint64_t, 2, 52>();
  b.rows(1, [&](int, Wave w) {
    const std::uint64_t sum = w.total_of(kPieces, [&](int q) -> std::uint64_t { return row.piece_sum[q]; });
    w.once([&] { total[0] = sum; });
  });
  b.barrier();
  return total[0];
}

/// Grid: kSampleParts x m. Gathers what may be kept, if that is at most kCandidates tokens.
FAULTLINE_DEV void sample_gather(const Block& b, const SampleArgs& p) {
  const int r = b.y(), n = p.vocabulary, k = p.top_k[r];
  SampleRow* row = sample_row(p, r);
  const Best largest = largest_of(b, *row);
  if (largest.index < 0 || !(p.temperature[r] > 0) || !keeps_part(p, r)) return;
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  const bool some = k > 0 && k < n;
  const float sharp = 1.44269504F / p.temperature[r];
  Low low{1, 0};
  float near = 0;  // what lies below is passed over by its logit alone
  if (bounded_by_pieces(p, r)) {
    Lds<float> value = Block::shared<float, kPieces, 60>(), bound = Block::shared<float, 4, 61>();
    b.each(kPieces, [&](int q) { value[q] = row->piece_value[q]; });
    b.barrier();
    b.each(kPieces, [&](int q) {
      int rank = 0;
      for (int o = 0; o < kPieces; ++o) rank += value[o] > value[q] || (value[o] == value[q] && o < q) ? 1 : 0;
      if (rank == k - 1) bound[0] = value[q];
    });
    b.barrier();
    near = (bound[0] - largest.value) * sharp - 0.01F;  // equal weights may come from logits a rounding apart
  } else {
    const std::uint64_t total = mass_of_row(b, *row);
    low =
        lowest_bin(b, *row, some ? static_cast<std::uint64_t>(k) : kAll, some ? kAll : wanted_mass(p.top_p[r], total));
    int power = -11;
    for (std::uint32_t bin = low.weight >> 20; bin != 0; bin >>= 1) ++power;
    near = static_cast<float>(power) - 0.01F;
  }
  const bool few = low.weight > 0 && low.there <= kCandidates;
  if (b.x() == 0) b.once([&] { row->gathered = few ? 1U : 0U; });
  if (!few) return;
  const int span = (n + kPieces - 1) / kPieces * (kPieces / kSampleParts), first = b.x() * span, left = n - first;
  b.sweep(p.logits + static_cast<std::size_t>(r) * n + first, left < span ? left : span, [&](int i, float logit) {
    const float x = (bounded(logit) - largest.value) * sharp;
    if (!(x >= near)) return;
    const std::uint32_t v = integer_exp2(x);
    if (v < low.weight) return;
    const std::uint32_t place = atomic_add_global(&row->few, 1U);
    if (place >= kCandidates) return;  // too many after all
    row->few_weight[place] = v;
    row->few_index[place] = first + i;
  });
}

/// The rest of the work for a row whose candidates were gathered.
FAULTLINE_DEV void draw_of_few(const Block& b, const SampleArgs& p, int r, const SampleRow& row, int fallback) {
  Lds<std::uint32_t> weight = Block::shared<std::uint32_t, kCandidates, 30>();
  Lds<int> index = Block::shared<int, kCandidates, 31>();
  Lds<std::uint32_t> kept_weight = Block::shared<std::uint32_t, kCandidates, 32>();
  Lds<std::uint64_t> found = Block::shared<std::uint64_t, 4, 34>();
  const int n = p.vocabulary, here = static_cast<int>(row.few);
  b.each(here, [&](int i) {
    weight[i] = row.few_weight[i];
    index[i] = row.few_index[i];
  });
  b.barrier();
  // All candidates are kept where fewer than k have a weight; top_p counts from the mass of the whole row unless top_k
  // cut it.
  std::uint64_t all_mass = 0;
  if (bounded_by_pieces(p, r)) {
    for (int i = 0; i < here; ++i) all_mass += weight[i];
  } else {
    all_mass = mass_of_row(b, row);
  }
  // As threshold(), over the candidates: those of the wanted weight all find the same and write it.
  auto cut = [&](const Kept& limit, std::uint64_t count, std::uint64_t mass, std::uint64_t everything) {
    b.once([&] {
      found[0] = 0;
      found[1] = 0;
      found[2] = everything;
      found[3] = 0;
    });
    b.barrier();
    b.each(here, [&](int i) {
      const std::uint32_t v = weight[i];
      if (v < limit.weight) return;
      std::uint64_t above = 0, above_mass = 0, equal = 0;
      for (int j = 0; j < here; ++j) {
        const std::uint32_t o = weight[j];
        above += o > v ? 1 : 0;
        above_mass += o > v ? o : 0;
        equal += o == v ? 1 : 0;
      }
      if (above >= count || above_mass >= mass) return;
      if (above + equal < count && above_mass + equal * v < mass) return;
      found[0] = v;
      found[1] = above;
      found[2] = above_mass;
      found[3] = equal;
    });
    b.barrier();
    Kept kept{static_cast<std::uint32_t>(found[0]), 0, found[2]};
    kept.ties = ties_kept(kept.weight, found[1], found[2], found[3], limit, count, mass);
    kept.total += static_cast<std::uint64_t>(kept.ties) * kept.weight;
    b.barrier();
    return kept;
  };
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  Kept kept{0, 0xffffffffU, all_mass};
  const int k = p.top_k[r];
  if (k > 0 && k < n) kept = cut(kept, static_cast<std::uint64_t>(k), kAll, all_mass);
  if (p.top_p[r] < 1.0F) kept = cut(kept, kAll, wanted_mass(p.top_p[r], kept.total), kept.total);
  const std::uint64_t target = multiply_high(counter_random(p.seed[r], p.position[r]), kept.total);
  b.each(here, [&](int i) {
    const std::uint32_t v = weight[i];
    std::uint32_t before = 0;  // equal ones of lower index
    if (v == kept.weight)
      for (int j = 0; j < here; ++j) before += weight[j] == v && index[j] < index[i] ? 1U : 0U;
    kept_weight[i] = v > kept.weight || (v == kept.weight && before < kept.ties) ? v : 0U;
  });
  b.once([&] { p.token[r] = fallback; });
  b.barrier();
  b.each(here, [&](int i) {
    if (kept_weight[i] == 0) return;
    std::uint64_t before = 0;
    for (int j = 0; j < here; ++j) before += index[j] < index[i] ? kept_weight[j] : 0U;
    if (before <= target && target - before < kept_weight[i]) p.token[r] = index[i];
  });
}

/// Keeps and draws: one block a row.
FAULTLINE_DEV void sample(const Block& b, const SampleArgs& p) {
  // Of the row's pieces, then of the parts of one piece: together with the rest less than half of gfx942's LDS.
  Lds<std::uint64_t> sums = Block::shared<std::uint64_t, kPieces, 2>();
  Lds<std::uint32_t> ties_of = Block::shared<std::uint32_t, kPieces, 4>();
  Lds<std::uint64_t> aim = Block::shared<std::uint64_t, 4, 6>();  // piece, what is left of the target, ties before it
  const int n = p.vocabulary, piece = (n + kPieces - 1) / kPieces, r = b.x();
  std::uint32_t* weights = p.scratch + static_cast<std::size_t>(r) * n;
  const SampleRow& row = *sample_row(p, r);
  auto size_of = [&](int q) { return piece_size(p, q); };
  const Best best = largest_of(b, row);
  const int at = best.index;
  if (at < 0 || !(p.temperature[r] > 0)) {
    b.once([&] { p.token[r] = at; });
    return;
  }
  if (keeps_part(p, r) && row.gathered != 0 && row.few <= kCandidates) {
    draw_of_few(b, p, r, row, at);
    return;
  }
  const std::uint64_t total = bounded_by_pieces(p, r) ? 0 : mass_of_row(b, row);  // not asked for when top_k cuts first

  // 3. What is kept.
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  Kept kept{0, 0xffffffffU, total};
  const int k = p.top_k[r];
  const bool some = k > 0 && k < n;
  const float sharp = 1.44269504F / p.temperature[r];
  b.sweep(p.logits + static_cast<std::size_t>(r) * n, n,
          [&](int i, float logit) { weights[i] = integer_exp2((bounded(logit) - best.value) * sharp); });
  b.barrier();
  if (some) kept = threshold(b, weights, n, kept, static_cast<std::uint64_t>(k), kAll);
  if (p.top_p[r] < 1.0F) kept = threshold(b, weights, n, kept, kAll, wanted_mass(p.top_p[r], kept.total));

  // 4. The token at a random place of the kept mass, in the order of indices: piece, part of the piece, element.
  const std::uint64_t target = multiply_high(counter_random(p.seed[r], p.position[r]), kept.total);
  auto mass_of = [&](int first, int size, Wave w, std::uint64_t& sum, std::uint32_t& ties) {
    // weights above the threshold fill the low 52 bits (2^20 tokens of 31 bits), equal ones are counted apart
    sum = w.total_of(size, [&](int i) -> std::uint64_t {
      const std::uint32_t v = weights[first + i];
      return v > kept.weight ? v : 0;
    });
    ties = static_cast<std::uint32_t>(
        w.total_of(size, [&](int i) -> std::uint64_t { return weights[first + i] == kept.weight ? 1 : 0; }));
  };
  auto find = [&](std::uint64_t left, std::uint64_t ties_before) {
    int q = 0;
    for (; q < kPieces - 1; ++q) {
      const std::uint64_t room = kept.ties > ties_before ? kept.ties - ties_before : 0;
      const std::uint64_t tied = ties_of[q] < room ? ties_of[q] : room;
      const std::uint64_t here = sums[q] + tied * kept.weight;
      if (left < here) break;
      left -= here;
      ties_before += ties_of[q];
    }
    aim[0] = static_cast<std::uint64_t>(q);
    aim[1] = left;
    aim[2] = ties_before;
  };
  b.barrier();
  b.rows(kPieces, [&](int q, Wave w) {
    std::uint64_t sum;
    std::uint32_t ties;
    mass_of(q * piece, size_of(q), w, sum, ties);
    w.once([&] {
      sums[q] = sum;
      ties_of[q] = ties;
    });
  });
  b.barrier();
  b.once([&] { find(target, 0); });
  b.barrier();
  const int chosen = static_cast<int>(aim[0]) * piece, inside = size_of(static_cast<int>(aim[0]));
  const int small = (piece + kPieces - 1) / kPieces;
  b.rows(kPieces, [&](int q, Wave w) {
    const int first = q * small, rest = inside - first;
    std::uint64_t sum;
    std::uint32_t ties;
    mass_of(chosen + first, rest < 0 ? 0 : rest < small ? rest : small, w, sum, ties);
    w.once([&] {
      sums[q] = sum;
      ties_of[q] = ties;
    });
  });
  b.barrier();
  b.once([&] {
    find(aim[1], aim[2]);
    std::uint64_t left = aim[1], before = aim[2];
    int i = chosen + static_cast<int>(aim[0]) * small, token = at;
    for (const int end = chosen + inside; i < end; ++i) {
      const std::uint32_t v = weights[i];
      std::uint64_t here = 0;
      if (v > kept.weight) here = v;
      if (v == kept.weight) here = before++ < kept.ties ? v : 0;
      if (left < here) {
        token = i;
        break;
      }
      left -= here;
    }
    p.token[r] = token;
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
