// Attention over a cache, one text for MLA decode (FP8 and BF16 cache), MLA prefill and GQA decode and prefill.
// A block takes kM rows of one sequence and one KV head (a row: one query head of one new token) through the tokens of
// one split, 64 at a time: scores, running maximum, probabilities, values. Grid: row tiles x KV heads x sequences *
// splits. Roofline of MLA decode: a cached token is 576 bytes (FP8) and 2 x (576 + 512) operations for each of `heads`
// rows: 3.8 operations a byte and head. Memory-bound on MI300X below about 130 heads, so a DP-attention decode rank
// (128 heads) sits at the ridge.
#pragma once

#include "kernels/ops/attention_args.h"

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

inline constexpr float kMasked = -3e38F;

/// kInside: V is the first part of K's rows (launch.cpp checks that the pointers say so).
template <class T, int kM, int kDq, int kDv, bool kInside>
FAULTLINE_DEV void attention(const Block& b, const AttentionArgs& p) {
  constexpr int kP = kPageTokens, kLineQ = kDq * kQueryBytes<T> + kPad, kLineP = kP * kProbabilityBytes<T> + kPad;
  using Held = HeldQueries<T, kM, kDq>;
  constexpr int kStagedQueries = Held::kHeld ? 16 : kM * kLineQ;
  constexpr int kLineS = kScoreLine<kP>, kParts = kScoreParts<kM>, kScores = kParts * kM * kLineS * 4;
  constexpr int kScratch = (kTurnedBytes < T, kDv >> kScores) ? kTurnedBytes<T, kDv> : kScores;
  const int group = p.heads / p.kv_heads, head = b.y();
  const int sequence = b.z() / p.splits, split = b.z() % p.splits;
  const int new_tokens = p.q_len[sequence], rows = new_tokens * group, row0 = b.x() * kM;
  if (row0 >= rows) return;
  const int valid_rows = rows - row0 < kM ? rows - row0 : kM;
  const int cached = p.kv_len[sequence], token0 = p.q_start[sequence];
  // What row i sees: the first limit(i) tokens.
  auto limit = [&](int i) {
    const int r = row0 + (i < valid_rows ? i : valid_rows - 1);
    const int sees = p.causal ? cached - new_tokens + r / group + 1 : cached;
    return sees < cached ? sees : cached;
  };
  const int begin = p.splits > 1 ? split * p.split_tokens : 0;
  const int most = limit(kM - 1);
  const int end = p.splits > 1 && begin + p.split_tokens < most ? begin + p.split_tokens : most;

  Lds<std::uint8_t> q = Block::shared<std::uint8_t, kStagedQueries, 0>();
  Lds<std::uint8_t> probability = Block::shared<std::uint8_t, kM * kLineP, 1>();
  StagedRows<T, kDq, 0> keys;
  StagedRows<T, kDv, StagedRows<T, kDq, 0>::kBytes> values;
  Lds<std::uint8_t> scratch =
      Block::scratch<kScratch, keys.kBytes + (kInside ? 0 : values.kBytes)>();  // scores, then values being turned
  Lds<float> score = lds_as<float>(scratch);
  Lds<float> peak = Block::shared<float, kM, 3>(), sum = Block::shared<float, kM, 4>(),
             shrink = Block::shared<float, kM, 5>();
  Lds<int> sees = Block::shared<int, kM, 6>();

  b.each(kM, [&](int i) {
    peak[i] = kMasked;
    sum[i] = 0;
    sees[i] = limit(i);
  });
  ValueAcc<T, kM, kDv> out;
  b.zero(out);
  // Starts on the tile of tokens from t0 and gives the number of cached tokens in it.
  int slot = 0;
  const int* pages = p.pages != nullptr ? p.pages + static_cast<std::size_t>(sequence) * p.pages_ld : nullptr;
  int page_ahead = pages != nullptr && begin < end ? pages[begin / kP] : 0;  // read a tile earlier than it is needed
  auto fetch = [&](int t0) {
    int there = cached - t0 < kP ? cached - t0 : kP;
    std::size_t at_k, at_v;
    if (pages != nullptr) {
      int page = page_ahead;
      if (t0 + kP < end) page_ahead = pages[t0 / kP + 1];
      if (page < 0 || page >= p.page_count) {
        b.once([&] { atomic_or_global(p.status, static_cast<std::uint32_t>(kStatusPageOutOfRange)); });
        page = 0;
        there = 0;
      }
      at_k = page * p.k_page, at_v = page * p.v_page;
    } else {
      at_k = static_cast<std::size_t>(p.kv_start[sequence] + t0) * p.k_token;
      at_v = static_cast<std::size_t>(p.kv_start[sequence] + t0) * p.v_token;
    }
    keys.fetch(slot, p.k, at_k + head * p.k_head, p.k_token, there);
    if constexpr (!kInside) values.fetch(slot, p.v, at_v + head * p.v_head, p.v_token, there);
    slot ^= 1;
    return there;
  };
  int next = begin < end ? fetch(begin) : 0;
  Held held;
  auto query = [&](int i) {
    const int r = row0 + (i < valid_rows ? i : valid_rows - 1);
    return p.q + (token0 + r / group) * p.q_token + (head * group + r % group) * p.q_head;
  };
  if constexpr (Held::kHeld) {
    held.load(query);
  } else {
    constexpr int kChunks = kDq * T::kBytes / 16;
    b.each(kM * kChunks, [&](int e) {
      const int i = e / kChunks, c = e % kChunks;
      put_query<T>(q + i * kLineQ, c, query(i) + c * 16);
    });
  }
  b.barrier();

  for (int t0 = begin; t0 < end; t0 += kP) {
    b.arrived();
    const int there = next;
    const auto key = keys;
    const auto value = values;
    if (t0 + kP < end) next = fetch(t0 + kP);  // while this tile is worked on
    if constexpr (Held::kHeld) {
      held.scores(key.rows(p.k), key.stride, score);
      b.barrier();
      held.softmax(score, t0, there, sees, p.score_scale, probability, kLineP, shrink);
    } else {
      ScoreAcc<kM, kP> scores;
      b.zero(scores);
      b.template mma_scores<T>(scores, q, kLineQ, key.rows(p.k), key.stride, kDq * T::kBytes);
      if constexpr (kTurnedBytes<T, kDv> != 0) b.barrier();  // the last tile's values have been turned: scratch is free
      b.map(scores, [&](int i, int t, float& v) {
        const int seen = sees[i] - t0;
        const int part = score_part<kM>();
        const float hidden = part == 0 ? kMasked : 0.0F;
        score[(part * kM + i) * kLineS + t] = t < there && t < seen ? v * p.score_scale : hidden;
      });
      b.barrier();
      b.narrow_rows(kM, [&](int i, auto w) {
        Lds<float> s = score + i * kLineS;
        const float before = peak[i], here = w.max_of(kP, [&](int t) {
          if constexpr (kParts == 2) s[t] += s[t + kM * kLineS];
          return s[t];
        });
        const float now = here > before ? here : before;
        const float added = w.sum_of(kP, [&](int t) { return s[t] = exp2(s[t] - now); });
        w.each(kP,
               [&](int t) { put_probability<T>(probability + i * kLineP, t, s[t]); });  // by the lane that wrote s[t]
        const float a = exp2(before - now), old = sum[i];
        w.sync();
        w.once([&] {
          peak[i] = now;
          shrink[i] = a;
          sum[i] = fused(old, a, added);
        });
      });
    }
    b.barrier();
    b.map(out, [&](int i, int, float& v) { v *= shrink[i]; });
    b.template mma_columns<T, kM, kDv, kP>(out, probability, kLineP, kInside ? key.rows(p.k) : value.rows(p.v),
                                           kInside ? key.stride : value.stride, there, scratch);
  }
  if constexpr (Held::kHeld) held.finish(peak, sum);
  b.barrier();

  const float scale = T::kBytes == 1 ? p.v_scale / kFp8Target : p.v_scale;
  auto place = [&](int i) {  // token and head of row i as one index
    const int r = row0 + i;
    return static_cast<std::size_t>(token0 + r / group) * p.heads + head * group + r % group;
  };
  if (p.splits == 1) {
    b.map(out, [&](int i, int d, float& v) {
      if (i < valid_rows) p.out[place(i) * kDv + d] = to_bf16(sees[i] > 0 ? v * scale / sum[i] : 0.0F);
    });
    return;
  }
  const std::size_t all = static_cast<std::size_t>(p.tokens) * p.heads * split;
  b.store(
      out, [&](int i) { return i < valid_rows ? p.partial + (all + place(i)) * kDv : nullptr; },
      [&](float v) { return v * scale; });
  b.each(valid_rows, [&](int i) {
    p.peaks[(all + place(i)) * 2] = peak[i];
    p.peaks[(all + place(i)) * 2 + 1] = sum[i];
  });
}

/// Joins the splits of each (token, head), in their order. Grid: ceil(q_len_max * heads / kMergeRows<kDv>) x
/// sequences.
template <int kDv>
FAULTLINE_DEV void attention_merge(const Block& b, const AttentionArgs& p) {
  const int sequence = b.y(), rows = p.q_len[sequence] * p.heads;
  constexpr int kRows = kMergeRows<kDv>;
  const int row0 = b.x() * kRows;
  if (row0 >= rows) return;
  constexpr int kShares = 16;  // of a row, kept in LDS; a longer sequence computes the rest again for each value
  Lds<float> shares = Block::shared<float, kRows * kShares, 0>();
  Lds<float> peaks = Block::shared<float, kRows, 1>(), sums = Block::shared<float, kRows, 2>();
  Lds<int> counts = Block::shared<int, kRows, 3>();
  const std::size_t all = static_cast<std::size_t>(p.tokens) * p.heads;
  auto place = [&](int i) {  // token and head of row i as one index
    const int r = row0 + i;
    return static_cast<std::size_t>(p.q_start[sequence] + r / p.heads) * p.heads + r % p.heads;
  };
  const int here = rows - row0 < kRows ? rows - row0 : kRows;
  auto parts_of = [&](int i) {
    const int token = (row0 + i) / p.heads, cached = p.kv_len[sequence];
    int sees = p.causal ? cached - p.q_len[sequence] + token + 1 : cached;
    sees = sees < cached ? sees : cached;
    const int wanted = sees > 0 ? (sees + p.split_tokens - 1) / p.split_tokens : 0;
    return wanted < p.splits ? wanted : p.splits;
  };
  if constexpr (kMergeAlone) {
    // The same sums in the same order, but each thread finds the shares by itself: the loads of the first parts are
    // under way at once, and no thread waits for another.
    constexpr int kTogether = 4;
    b.each(here * (kDv / 4), [&](int e) {
      const int i = e / (kDv / 4), d = e % (kDv / 4), parts = parts_of(i);
      const std::size_t at = place(i);
      const float *from = p.partial + at * kDv + 4 * d, *peaks_at = p.peaks + at * 2;
      float peak = kMasked, sum = 0, v[4] = {};
      auto add = [&](float m, float l, const float(&y)[4]) {
        const float share = exp2(m - peak);
        sum = fused(l, share, sum);
        for (int c = 0; c < 4; ++c) v[c] = fused(y[c], share, v[c]);
      };
      auto highest = [&](float m) { peak = m > peak || m != m ? m : peak; };  // NaN wins, as below
      float x[kTogether][4], m[kTogether];
      FAULTLINE_UNROLL_LOADS
      for (int s = 0; s < kTogether; ++s) {
        const int t = s < parts ? s : 0;
        m[s] = peaks_at[t * all * 2];
        load_four(from + t * all * kDv, x[s]);
      }
      for (int s = kTogether; s < parts; ++s) highest(peaks_at[s * all * 2]);
      FAULTLINE_UNROLL_LOADS
      for (int s = 0; s < kTogether; ++s) highest(m[s]);
      FAULTLINE_UNROLL_LOADS
      for (int s = 0; s < kTogether; ++s)
        if (s < parts) add(m[s], peaks_at[s * all * 2 + 1], x[s]);
      for (int s = kTogether; s < parts; ++s) {
        float y[4];
        load_four(from + s * all * kDv, y);
        add(peaks_at[s * all * 2], peaks_at[s * all * 2 + 1], y);
      }
      for (int c = 0; c < 4; ++c) p.out[at * kDv + 4 * d + c] = to_bf16(parts > 0 ? v[c] / sum : 0.0F);
    });
    return;
  }
  b.rows(here, [&](int i, Wave w) {
    const std::size_t at = place(i);
    const int parts = parts_of(i);
    float peak = kMasked;
    FAULTLINE_UNROLL_LOADS
    for (int s = 0; s < parts; ++s) {
      const float m = p.peaks[(s * all + at) * 2];
      peak = m > peak || m != m ? m : peak;  // NaN wins, so that it shows in the result
    }
    Lds<float> share = shares + i * kShares;
    w.each(parts < kShares ? parts : kShares, [&](int s) { share[s] = exp2(p.peaks[(s * all + at) * 2] - peak); });
    w.sync();
    float sum = 0;
    FAULTLINE_UNROLL_LOADS
    for (int s = 0; s < parts; ++s)
      sum = fused(p.peaks[(s * all + at) * 2 + 1], s < kShares ? share[s] : exp2(p.peaks[(s * all + at) * 2] - peak),
                  sum);
    w.once([&] {
      peaks[i] = peak;
      sums[i] = sum;
      counts[i] = parts;
    });
  });
  b.barrier();
  // Four values at a time: their loads are under way together, their sums are formed in the order of the splits.
  b.each(here * (kDv / 4), [&](int e) {
    const int i = e / (kDv / 4), d = e % (kDv / 4), parts = counts[i];
    const std::size_t at = place(i);
    const float* from = p.partial + at * kDv + 4 * d;
    float v[4] = {};
    FAULTLINE_UNROLL_LOADS
    for (int s = 0; s < parts; ++s) {
      const float f = s < kShares ? shares[i * kShares + s] : exp2(p.peaks[(s * all + at) * 2] - peaks[i]);
      float x[4];
      load_four(from + s * all * kDv, x);
      for (int c = 0; c < 4; ++c) v[c] = fused(x[c], f, v[c]);
    }
    for (int c = 0; c < 4; ++c) p.out[at * kDv + 4 * d + c] = to_bf16(parts > 0 ? v[c] / sums[i] : 0.0F);
  });
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE
