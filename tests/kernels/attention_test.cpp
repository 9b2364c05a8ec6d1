#include <algorithm>
#include <cstring>

#include "kernels/ops/launch.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using reference::Matrix;

struct Case {
  AttentionKind kind;
  int heads, kv_heads;
  std::vector<int> q_len, kv_len;
  bool causal = true;
};

struct Width {
  int dq, dv, bytes;
  bool shared_v;  // V is the first part of K (MLA)
};
Width width(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::mla_decode_fp8: return {576, 512, 1, true};
    case AttentionKind::mla_decode_bf16: return {576, 512, 2, true};
    case AttentionKind::mla_prefill_bf16: return {192, 128, 2, false};
    case AttentionKind::gqa_decode_bf16:
    case AttentionKind::gqa_prefill_bf16: break;
  }
  return {128, 128, 2, false};
}

// Bounds relative to the largest |v| that a token sees. bf16: the output's rounding 2^-8 and the probabilities' 2^-8,
// both relative to what is at most the largest |v|. FP8: probabilities are rounded to 3 mantissa bits, relative 2^-4
// each and at worst all the same way.
double bound(const Width& w) { return w.bytes == 1 ? 0x1p-4 + 0x1p-8 : 0x1p-7; }

// Everything that a case needs, on one device.
struct Cached {
  Case c;
  Width w;
  int tokens = 0, pages_ld = 0, page_count = 0;
  std::vector<int> q_start, pages;
  std::vector<std::uint8_t> q, k, v;  // v empty when shared
  float q_scale = 1, kv_scale = 1;

  Cached(const Case& given, test::Random& random) : c(given), w(width(given.kind)) {
    int longest = 1;
    for (std::size_t s = 0; s < c.q_len.size(); ++s) {
      q_start.push_back(tokens);
      tokens += c.q_len[s];
      longest = std::max(longest, c.kv_len[s]);
    }
    pages_ld = (longest + 63) / 64;
    page_count = pages_ld * static_cast<int>(c.q_len.size()) + 2;
    std::vector<int> order(static_cast<std::size_t>(page_count));
    for (int i = 0; i < page_count; ++i) order[static_cast<std::size_t>(i)] = i;
    for (std::size_t i = order.size() - 1; i > 0; --i)
      std::swap(order[i], order[static_cast<std::size_t>(random.below(static_cast<int>(i) + 1))]);
    for (std::size_t i = 0; i < c.q_len.size() * static_cast<std::size_t>(pages_ld); ++i) pages.push_back(order[i]);
    auto values = [&](std::size_t n) {
      if (w.bytes == 1) return test::random_codes(random, n);
      return test::bytes_of(test::random_bf16(random, n));
    };
    q = values(static_cast<std::size_t>(tokens) * c.heads * w.dq);
    k = values(static_cast<std::size_t>(page_count) * 64 * c.kv_heads * w.dq);
    if (!w.shared_v) v = values(static_cast<std::size_t>(page_count) * 64 * c.kv_heads * w.dv);
    if (w.bytes == 1) q_scale = 0.03F, kv_scale = 0.03F;  // codes have deviation 30
  }
  std::size_t row(std::size_t sequence, int token) const {
    return static_cast<std::size_t>(
               pages[sequence * static_cast<std::size_t>(pages_ld) + static_cast<std::size_t>(token / 64)]) *
               64 +
           static_cast<std::size_t>(token % 64);
  }
  double element(const std::vector<std::uint8_t>& from, std::size_t index, float scale) const {
    if (w.bytes == 1) return static_cast<double>(fp8_decode(from[index], Fp8Format::fnuz)) * static_cast<double>(scale);
    std::uint16_t h = 0;
    std::memcpy(&h, &from[index * 2], 2);
    return static_cast<double>(bf16_to_float(h)) * static_cast<double>(scale);
  }
  double softmax_scale() const {
    return w.shared_v ? 1.0 / std::sqrt(192.0) : 1.0 / std::sqrt(static_cast<double>(w.dq));
  }

  std::vector<std::uint16_t> run(Device& device, int split_tokens, std::uint32_t* status = nullptr) const {
    auto bq = Buffer::of(device, q), bk = Buffer::of(device, k);
    auto bv = v.empty() ? Buffer() : Buffer::of(device, v);
    auto bp = Buffer::of(device, pages), bqs = Buffer::of(device, q_start), bql = Buffer::of(device, c.q_len),
         bkl = Buffer::of(device, c.kv_len);
    Buffer out(device, static_cast<std::size_t>(tokens) * c.heads * w.dv * 2), bstatus(device, 16);
    require(device.fill(bstatus.data(), 0, 16));
    require(device.fill(out.data(), 0xff, out.bytes()));
    AttentionArgs a{};
    a.q = bq.data(), a.k = bk.data(), a.v = w.shared_v ? bk.data() : bv.data();
    a.pages = bp.data<int>(), a.q_start = bqs.data<int>(), a.q_len = bql.data<int>(), a.kv_len = bkl.data<int>();
    a.out = out.data<std::uint16_t>(), a.status = bstatus.data<std::uint32_t>();
    const auto line_k = static_cast<std::size_t>(w.dq * w.bytes),
               line_v = static_cast<std::size_t>((w.shared_v ? w.dq : w.dv) * w.bytes);
    const auto kv = static_cast<std::size_t>(c.kv_heads);
    a.q_head = line_k, a.q_token = line_k * static_cast<std::size_t>(c.heads);
    a.k_head = line_k, a.k_token = line_k * kv, a.k_page = a.k_token * 64;
    a.v_head = line_v, a.v_token = line_v * kv, a.v_page = a.v_token * 64;
    a.sequences = static_cast<int>(c.q_len.size()), a.tokens = tokens, a.pages_ld = pages_ld, a.page_count = page_count;
    a.heads = c.heads, a.kv_heads = c.kv_heads, a.causal = c.causal ? 1 : 0;
    a.split_tokens = split_tokens;
    a.splits = split_tokens == 0 ? 1 : std::max(1, (pages_ld * 64 + split_tokens - 1) / split_tokens);
    const float u = w.bytes == 1 ? test::unit(device) : 1.0F;
    a.score_scale = static_cast<float>(softmax_scale()) * q_scale * u * kv_scale * u * 1.44269504F;
    a.v_scale = kv_scale * u;
    Buffer partial(device, static_cast<std::size_t>(a.splits) * tokens * c.heads * w.dv * 4),
        peaks(device, static_cast<std::size_t>(a.splits) * tokens * c.heads * 8);
    a.partial = partial.data<float>(), a.peaks = peaks.data<float>();
    const int longest = c.q_len.empty() ? 0 : *std::max_element(c.q_len.begin(), c.q_len.end());
    require(attention(device, c.kind, a, longest));
    require(device.synchronize());
    if (status != nullptr) *status = bstatus.read<std::uint32_t>()[0];
    return out.read<std::uint16_t>();
  }

  void expect_reference(const std::vector<std::uint16_t>& got) const {
    for (std::size_t s = 0; s < c.q_len.size(); ++s) {
      const int n = c.kv_len[s];
      for (int kvh = 0; kvh < c.kv_heads; ++kvh) {
        Matrix dk, dv;
        for (int t = 0; t < n; ++t) {
          const std::size_t line = row(s, t) * static_cast<std::size_t>(c.kv_heads) + static_cast<std::size_t>(kvh);
          for (int d = 0; d < w.dq; ++d)
            dk.push_back(element(k, line * static_cast<std::size_t>(w.dq) + static_cast<std::size_t>(d), kv_scale));
          for (int d = 0; d < w.dv; ++d)
            dv.push_back(w.shared_v
                             ? dk[static_cast<std::size_t>(t * w.dq + d)]
                             : element(v, line * static_cast<std::size_t>(w.dv) + static_cast<std::size_t>(d), 1));
        }
        for (int i = 0; i < c.q_len[s]; ++i)
          for (int g = 0; g < c.heads / c.kv_heads; ++g) {
            const std::size_t line = static_cast<std::size_t>(q_start[s] + i) * static_cast<std::size_t>(c.heads) +
                                     static_cast<std::size_t>(kvh * (c.heads / c.kv_heads) + g);
            std::vector<double> dq;
            for (int d = 0; d < w.dq; ++d)
              dq.push_back(element(q, line * static_cast<std::size_t>(w.dq) + static_cast<std::size_t>(d), q_scale));
            const int sees = std::clamp(c.causal ? n - c.q_len[s] + i + 1 : n, 0, n);
            const auto expected = reference::attend(dq, dk, dv, sees, w.dq, w.dv, softmax_scale());
            double largest = 1e-30, error = 0;
            for (int t = 0; t < sees * w.dv; ++t)
              largest = std::max(largest, std::fabs(dv[static_cast<std::size_t>(t)]));
            for (int d = 0; d < w.dv; ++d) {
              const double v_got = static_cast<double>(
                  bf16_to_float(got[line * static_cast<std::size_t>(w.dv) + static_cast<std::size_t>(d)]));
              ASSERT_FALSE(std::isnan(v_got)) << "sequence " << s << " token " << i << " head " << g << " d " << d;
              error = std::max(error, std::fabs(v_got - expected[static_cast<std::size_t>(d)]));
            }
            ASSERT_LE(error, bound(w) * largest) << "sequence " << s << " token " << i << " head " << kvh << "/" << g;
          }
      }
    }
  }
};

void check(const std::vector<Case>& cases, std::uint64_t salt) {
  test::Random random(salt);
  for (const Case& c : cases) {
    const Cached setup(c, random);
    test::SameBits same;
    for (const auto& device : test::all_devices(salt)) {
      for (const int split : {0, 128}) {
        SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name() << " split " << split
                                        << " first kv_len " << c.kv_len[0]);
        std::uint32_t status = 99;
        const auto got = setup.run(*device, split, &status);
        EXPECT_EQ(status, 0U);
        same.expect(*device, "output with splits of " + std::to_string(split), got);
        setup.expect_reference(got);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

std::vector<Case> random_decodes(AttentionKind kind, int heads, int kv_heads, std::uint64_t salt, int few, int many) {
  test::Random random(salt);
  std::vector<Case> cases;
  for (int i = 0; i < test::rounds(few, many); ++i) {
    Case c{kind, heads, kv_heads, {}, {}};
    for (int s = random.between(1, 3); s > 0; --s) {
      c.q_len.push_back(random.between(1, 2));
      c.kv_len.push_back(c.q_len.back() + random.below(300));
    }
    cases.push_back(c);
  }
  return cases;
}

TEST(MlaDecode, Fp8EqualsTheReferenceOnRaggedAndEmptySequences) {
  std::vector<Case> cases{{AttentionKind::mla_decode_fp8, 16, 1, {1, 1, 1}, {1, 64, 65}},
                          {AttentionKind::mla_decode_fp8,
                           4,
                           1,
                           {1, 0, 2},
                           {0, 5, 130}},  // empty sequence, no query, fewer heads than a tile
                          {AttentionKind::mla_decode_fp8, 32, 1, {1}, {200}, false}};
  const auto more = random_decodes(AttentionKind::mla_decode_fp8, 16, 1, 21, 1, 20);
  cases.insert(cases.end(), more.begin(), more.end());
  check(cases, 20);
}

TEST(MlaDecode, Bf16EqualsTheReference) {
  std::vector<Case> cases{{AttentionKind::mla_decode_bf16, 16, 1, {1, 2}, {63, 129}}};
  const auto more = random_decodes(AttentionKind::mla_decode_bf16, 20, 1, 23, 1, 10);
  cases.insert(cases.end(), more.begin(), more.end());
  check(cases, 22);
}

TEST(MlaPrefill, ChunksEqualTheReferenceCausally) {
  check({{AttentionKind::mla_prefill_bf16, 2, 2, {70, 3}, {70, 3}},
         {AttentionKind::mla_prefill_bf16, 3, 3, {20, 65}, {90, 65}},  // a chunk after 70 tokens that are there
         {AttentionKind::mla_prefill_bf16, 1, 1, {5}, {133}, false}},
        24);
}

TEST(GqaDecode, EqualsTheReference) {
  std::vector<Case> cases{{AttentionKind::gqa_decode_bf16, 8, 2, {1, 1}, {1, 131}}};
  const auto more = random_decodes(AttentionKind::gqa_decode_bf16, 12, 3, 26, 1, 20);
  cases.insert(cases.end(), more.begin(), more.end());
  check(cases, 25);
}

TEST(GqaPrefill, EqualsTheReferenceCausally) {
  check(
      {{AttentionKind::gqa_prefill_bf16, 4, 1, {33, 7}, {33, 80}}, {AttentionKind::gqa_prefill_bf16, 6, 2, {66}, {66}}},
      27);
}

TEST(Attention, ASequencesBitsDoNotDependOnItsBatchOrOnLongerNeighbours) {
  test::Random random(28);
  for (const auto kind : {AttentionKind::mla_decode_fp8, AttentionKind::gqa_decode_bf16}) {
    const bool mla = kind == AttentionKind::mla_decode_fp8;
    const Cached all({kind, 16, mla ? 1 : 4, {1, 1, 1}, {100, 300, 40}}, random);
    Cached one = all;  // the first sequence alone: same cache, fewer pages and splits
    one.c.q_len = {1};
    one.c.kv_len = {100};
    one.tokens = 1;
    one.pages_ld = 2;
    one.pages.assign(all.pages.begin(), all.pages.begin() + 2);
    one.q_start = {0};
    one.q.resize(all.q.size() / 3);
    test::SameBits same;
    for (const auto& device : test::all_devices(28)) {
      SCOPED_TRACE(device->name());
      const auto batch = all.run(*device, 128);
      same.expect(*device, "batch", batch);
      const auto alone = one.run(*device, 128);
      ASSERT_EQ(0, std::memcmp(batch.data(), alone.data(), alone.size() * 2));
      const auto unsplit = one.run(*device, 0);  // 100 tokens are one split either way
      ASSERT_EQ(0, std::memcmp(unsplit.data(), alone.data(), alone.size() * 2));
    }
  }
}

TEST(Attention, APageOutsideTheCacheIsMaskedAndReported) {
  test::Random random(29);
  Cached setup({AttentionKind::mla_decode_fp8, 16, 1, {1, 1}, {100, 130}}, random);
  const Cached good = setup;
  setup.pages[1] = setup.page_count;                           // sequence 0, second page
  setup.pages[static_cast<std::size_t>(setup.pages_ld)] = -5;  // sequence 1, first page
  test::SameBits same;
  for (const auto& device : test::all_devices(29)) {
    SCOPED_TRACE(device->name());
    std::uint32_t status = 0;
    const auto got = setup.run(*device, 0, &status);
    EXPECT_EQ(status, kStatusPageOutOfRange);
    same.expect(*device, "output", got);
    Cached shorter = good;  // the bad page of sequence 0 is its last: as if it were not there
    shorter.c.kv_len[0] = 64;
    const auto expected = shorter.run(*device, 0);
    ASSERT_EQ(0, std::memcmp(got.data(), expected.data(), expected.size())) << "sequence 0";
    for (const auto h : got) ASSERT_FALSE(std::isnan(bf16_to_float(h)));
  }
}

TEST(Attention, ShapesThatDoNotFitAreRefused) {
  auto device = make_cpu_device();
  AttentionArgs a{};
  a.sequences = 1, a.tokens = 1, a.heads = 6, a.kv_heads = 4, a.splits = 1;
  EXPECT_FALSE(static_cast<bool>(attention(*device, AttentionKind::gqa_decode_bf16, a, 1))) << "6 heads over 4";
  a.kv_heads = 3;
  EXPECT_FALSE(static_cast<bool>(attention(*device, AttentionKind::gqa_decode_bf16, a, 1))) << "no pages";
  a.splits = 2, a.split_tokens = 100;
  EXPECT_FALSE(static_cast<bool>(attention(*device, AttentionKind::gqa_decode_bf16, a, 1))) << "splits of 100";
  a.splits = 1, a.sequences = 0;
  int start = 0;
  a.kv_start = &start;
  EXPECT_TRUE(static_cast<bool>(attention(*device, AttentionKind::gqa_decode_bf16, a, 0))) << "nothing to do";
}

}  // namespace
}  // namespace faultline::kernels
