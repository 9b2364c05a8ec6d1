// Sampling with counter-based random numbers and integer weights; rules in rows_args.h, SampleArgs. One block a row.
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

inline constexpr int kPieces = 64;    // a row is cut into this many pieces for counting
inline constexpr int kBins = 2048;    // 11 bits of the 31-bit weight, then 10, then 10

/// Finds the threshold: the largest weight such that the weights not below it number `count` or sum up to `mass`.
/// Goes down the bits of the weight in three rounds of counting. `limit` restricts to what an earlier call kept.
FAULTLINE_DEV Kept threshold(const Block& b, const std::uint32_t* weights, int n, const Kept& limit, std::uint64_t count, std::uint64_t mass) {
  Lds<std::uint32_t> bin_count = Block::shared<std::uint32_t, kBins, 10>();
  Lds<std::uint64_t> bin_mass = Block::shared<std::uint64_t, kBins, 11>();
  Lds<std::uint64_t> found = Block::shared<std::uint64_t, 4, 12>();  // prefix, count above, mass above
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
    b.once([&] {
      std::uint64_t c = found[1], s = found[2];
      // Weights equal to an earlier threshold count in full here, though kept in part: they are the lowest, so the search
      // ends in their bin either way.
      int bin = bins - 1;
      for (; bin > 0; --bin) {
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
  // How many of the equal ones are needed: enough for the count, or for the mass; never more than there are.
  const std::uint64_t there = kept.weight == limit.weight && limit.ties < found[3] ? limit.ties : found[3];
  const std::uint64_t by_count = count - found[1];
  const std::uint64_t lacking = mass > found[2] ? mass - found[2] : 0;
  const std::uint64_t by_mass = kept.weight > 0 ? (lacking + kept.weight - 1) / kept.weight : there;
  std::uint64_t ties = by_count < by_mass ? by_count : by_mass;
  ties = ties < there ? ties : there;
  kept.ties = static_cast<std::uint32_t>(ties);
  kept.total += ties * kept.weight;
  return kept;
}

FAULTLINE_DEV void sample(const Block& b, const SampleArgs& p) {
  Lds<float> piece_value = Block::shared<float, kPieces, 0>();
  Lds<int> piece_index = Block::shared<int, kPieces, 1>();
  Lds<std::uint64_t> piece_sum = Block::shared<std::uint64_t, kPieces, 2>(), small_sum = Block::shared<std::uint64_t, kPieces, 3>();
  Lds<std::uint32_t> piece_ties = Block::shared<std::uint32_t, kPieces, 4>(), small_ties = Block::shared<std::uint32_t, kPieces, 5>();
  Lds<std::uint64_t> aim = Block::shared<std::uint64_t, 4, 6>();  // piece, what is left of the target, ties before it
  const int n = p.vocabulary, piece = (n + kPieces - 1) / kPieces, r = b.x();
  const float* logits = p.logits + static_cast<std::size_t>(r) * n;
  std::uint32_t* weights = p.scratch + static_cast<std::size_t>(r) * n;
  auto size_of = [&](int q) {
    const int left = n - q * piece;
    return left < 0 ? 0 : left < piece ? left : piece;
  };

  // 1. The largest logit.
  auto logit = [&](int i) {
    const float v = logits[i];
    return v > 3e38F ? 3e38F : v;  // infinity wins, and stays subtractable
  };
  b.rows(kPieces, [&](int q, Wave w) {
    const Best best = w.best_of(size_of(q), [&](int i) { return logit(q * piece + i); });
    w.once([&] {
      piece_value[q] = best.value;
      piece_index[q] = best.index < n ? q * piece + best.index : -1;
    });
  });
  b.barrier();
  float largest = -3.4e38F;
  int at = -1;
  for (int q = 0; q < kPieces; ++q) {
    if (piece_index[q] >= 0 && piece_value[q] > largest) {
      largest = piece_value[q];
      at = piece_index[q];
    }
  }
  const float temperature = p.temperature[r];
  if (at < 0 || !(temperature > 0)) {
    b.once([&] { p.token[r] = at; });
    return;
  }

  // 2. Weights.
  const float sharp = 1.44269504F / temperature;
  b.rows(kPieces, [&](int q, Wave w) {
    const int first = q * piece;
    const std::uint64_t sum = w.total_of(size_of(q), [&](int i) -> std::uint64_t {
      const std::uint32_t v = integer_exp2((logit(first + i) - largest) * sharp);
      weights[first + i] = v;
      return v;
    });
    w.once([&] { piece_sum[q] = sum; });
  });
  b.barrier();
  std::uint64_t total = 0;
  for (int q = 0; q < kPieces; ++q) total += piece_sum[q];

  // 3. What is kept.
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  Kept kept{0, 0xffffffffU, total};
  const int k = p.top_k[r];
  if (k > 0 && k < n) kept = threshold(b, weights, n, kept, static_cast<std::uint64_t>(k), kAll);
  const float top_p = p.top_p[r];
  if (top_p < 1.0F) {
    // ceil(top_p * total), top_p as a 24-bit fraction so that the product is exact
    const std::uint64_t part = top_p > 0 ? static_cast<std::uint64_t>(top_p * 16777216.0F) : 0;
    const std::uint64_t mass = kept.total / 16777216ULL * part + (kept.total % 16777216ULL * part + 16777215ULL) / 16777216ULL;
    kept = threshold(b, weights, n, kept, kAll, mass > 0 ? mass : 1);
  }

  // 4. The token at a random place of the kept mass, in the order of indices: piece, part of the piece, element.
  const std::uint64_t target = multiply_high(counter_random(p.seed[r], p.position[r]), kept.total);
  auto mass_of = [&](int first, int size, Wave w, std::uint64_t& sum, std::uint32_t& ties) {
    // weights above the threshold fill the low 52 bits (2^20 tokens of 31 bits), equal ones are counted apart
    sum = w.total_of(size, [&](int i) -> std::uint64_t {
      const std::uint32_t v = weights[first + i];
      return v > kept.weight ? v : 0;
    });
    ties = static_cast<std::uint32_t>(w.total_of(size, [&](int i) -> std::uint64_t { return weights[first + i] == kept.weight ? 1 : 0; }));
  };
  auto find = [&](Lds<std::uint64_t> sums, Lds<std::uint32_t> counts, std::uint64_t left, std::uint64_t ties_before) {
    int q = 0;
    for (; q < kPieces - 1; ++q) {
      const std::uint64_t room = kept.ties > ties_before ? kept.ties - ties_before : 0;
      const std::uint64_t tied = counts[q] < room ? counts[q] : room;
      const std::uint64_t here = sums[q] + tied * kept.weight;
      if (left < here) break;
      left -= here;
      ties_before += counts[q];
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
      piece_sum[q] = sum;
      piece_ties[q] = ties;
    });
  });
  b.barrier();
  b.once([&] { find(piece_sum, piece_ties, target, 0); });
  b.barrier();
  const int chosen = static_cast<int>(aim[0]) * piece, inside = size_of(static_cast<int>(aim[0]));
  const int small = (piece + kPieces - 1) / kPieces;
  b.rows(kPieces, [&](int q, Wave w) {
    const int first = q * small, rest = inside - first;
    std::uint64_t sum;
    std::uint32_t ties;
    mass_of(chosen + first, rest < 0 ? 0 : rest < small ? rest : small, w, sum, ties);
    w.once([&] {
      small_sum[q] = sum;
      small_ties[q] = ties;
    });
  });
  b.barrier();
  b.once([&] {
    find(small_sum, small_ties, aim[1], aim[2]);
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
