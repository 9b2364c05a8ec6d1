#include <chrono>
#include <cstring>
#include <limits>
#include <thread>

#include "kernels/ops/launch.h"
#include "kernels/runtime/health.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using reference::Matrix;

TEST(RmsNorm, EqualsTheReferenceWithAndWithoutResidualAndQuantised) {
  test::Random random(60);
  for (const int h : {128, 384, 1000}) {
    const int m = 6;
    const auto x = test::random_bf16(random, static_cast<std::size_t>(m * h)),
               r = test::random_bf16(random, static_cast<std::size_t>(m * h));
    std::vector<float> weight(static_cast<std::size_t>(h));
    for (auto& w : weight) w = random.uniform(0.5F, 1.5F);
    std::vector<std::uint16_t> sum(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] = float_to_bf16(bf16_to_float(x[i]) + bf16_to_float(r[i]));
    test::SameBits same;
    for (const auto& device : test::all_devices(60)) {
      for (const bool residual : {false, true}) {
        SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name() << " h " << h
                                        << " residual " << residual);
        const Matrix expected = reference::rms_norm(test::widened(residual ? sum : x), weight, m, h, 1e-6);
        auto bx = Buffer::of(*device, x), br = Buffer::of(*device, r), bw = Buffer::of(*device, weight);
        Buffer out(*device, x.size() * 2), codes(*device, x.size()),
            scales(*device, static_cast<std::size_t>(m * (h / 128 + 1) * 4));
        NormArgs a{};
        a.x = bx.data<std::uint16_t>(), a.weight = bw.data<float>(), a.out = out.data<std::uint16_t>(),
        a.out_fp8 = codes.data(), a.scale = scales.data<float>();
        a.m = m, a.h = h, a.ldx = h, a.eps = 1e-6F, a.group = h % 128 == 0 ? 1 : 0;
        if (residual) a.residual = br.data<std::uint16_t>(), a.residual_out = br.data<std::uint16_t>();  // in place
        FAULTLINE_DONE(rms_norm(*device, a));
        const auto got = out.read<std::uint16_t>();
        const auto fp8 = codes.read<std::uint8_t>();
        auto s = scales.read<float>();
        s.resize(static_cast<std::size_t>(a.group != 0 ? m * (h / 128) : m));
        const std::string variant = residual ? " with residual" : "";
        same.expect(*device, "values" + variant, got);
        same.expect(*device, "codes" + variant, fp8);
        same.expect(*device, "scales" + variant, s);
        for (int i = 0; i < m; ++i)
          for (int c = 0; c < h; ++c) {
            const auto at = static_cast<std::size_t>(i * h + c);
            // bf16 rounding 2^-8, and float sums of h squares: h 2^-24 at worst
            ASSERT_NEAR(static_cast<double>(bf16_to_float(got[at])), expected[at],
                        std::fabs(expected[at]) * (0x1p-8 + h * 0x1p-24) + 1e-6)
                << i << " " << c;
            const float scale = s[static_cast<std::size_t>(a.group != 0 ? c / 128 * m + i : i)];
            ASSERT_NEAR(static_cast<double>(fp8_decode(fp8[at], device->fp8_format()) * scale), expected[at],
                        std::fabs(expected[at]) * (0x1p-4 + 0x1p-12) + static_cast<double>(scale) * 0x1p-10)
                << i << " " << c;
          }
        if (residual) {
          ASSERT_EQ(br.read<std::uint16_t>(), sum);
        }
      }
    }
  }
}

TEST(MlaCache, WritesRotatedQueriesAndCacheLinesInBothFormats) {
  test::Random random(61);
  const int m = 5, heads = 3, slots = 256, positions = 300;
  const auto nope = test::random_bf16(random, static_cast<std::size_t>(m * heads * 512)),
             rope = test::random_bf16(random, static_cast<std::size_t>(m * heads * 64));
  const auto latent = test::random_bf16(random, static_cast<std::size_t>(m * 512)),
             k_rope = test::random_bf16(random, static_cast<std::size_t>(m * 64));
  const std::vector<int> position{0, 7, 299, 31, 5}, slot{3, 200, 255, -1, 64};
  const auto table = reference::angle_table(positions, 64, 10000.0);
  test::SameBits same;
  for (const auto& device : test::all_devices(61)) {
    for (const bool fp8 : {true, false}) {
      SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name()
                                      << (fp8 ? " fp8" : " bf16"));
      const auto bytes = static_cast<std::size_t>(fp8 ? 1 : 2);
      auto bn = Buffer::of(*device, nope), br = Buffer::of(*device, rope), bl = Buffer::of(*device, latent),
           bk = Buffer::of(*device, k_rope);
      auto bt = Buffer::of(*device, table), bp = Buffer::of(*device, position), bs = Buffer::of(*device, slot);
      Buffer q(*device, static_cast<std::size_t>(m * heads * 576) * bytes),
          cache(*device, static_cast<std::size_t>(slots * 576) * bytes), status(*device, 16);
      FAULTLINE_DONE(device->fill(status.data(), 0, 16));
      FAULTLINE_DONE(device->fill(cache.data(), 0x11, cache.bytes()));
      const float scale = 0.05F * test::unit(*device);
      MlaCacheArgs a{};
      a.q_nope = bn.data<std::uint16_t>(), a.q_rope = br.data<std::uint16_t>(), a.latent = bl.data<std::uint16_t>(),
      a.k_rope = bk.data<std::uint16_t>();
      a.angles = bt.data<float>(), a.position = bp.data<int>(), a.slot = bs.data<int>(), a.q_out = q.data(),
      a.cache = cache.data(), a.status = status.data<std::uint32_t>();
      a.m = m, a.heads = heads, a.slots = slots, a.positions = positions;
      a.q_nope_row = heads * 512, a.q_rope_row = heads * 64, a.q_rope_head = 64, a.latent_row = 512, a.k_rope_row = 64;
      a.q_inverse = a.cache_inverse = 1 / scale;
      FAULTLINE_DONE(mla_cache(*device, a, fp8));
      FAULTLINE_DONE(device->synchronize());
      EXPECT_EQ(status.read<std::uint32_t>()[0], 0U);
      const auto got_q = q.read<std::uint8_t>(), got_cache = cache.read<std::uint8_t>();
      same.expect(*device, fp8 ? "queries, fp8" : "queries, bf16", got_q);
      same.expect(*device, fp8 ? "cache, fp8" : "cache, bf16", got_cache);
      auto value = [&](const std::vector<std::uint8_t>& from, std::size_t at) {
        if (fp8) return static_cast<double>(fp8_decode(from[at], device->fp8_format()) * scale);
        std::uint16_t h = 0;
        std::memcpy(&h, &from[at * 2], 2);
        return static_cast<double>(bf16_to_float(h));
      };
      auto expect_line = [&](const std::vector<std::uint8_t>& from, std::size_t line, const std::uint16_t* plain,
                             const std::uint16_t* turned, int where) {
        std::vector<double> expected;
        for (int d = 0; d < 512; ++d) expected.push_back(static_cast<double>(bf16_to_float(plain[d])));
        std::vector<double> r;
        for (int d = 0; d < 64; ++d) r.push_back(static_cast<double>(bf16_to_float(turned[d])));
        reference::rotate(r, where, 10000.0, true);
        expected.insert(expected.end(), r.begin(), r.end());
        for (int d = 0; d < 576; ++d) {
          const double e = expected[static_cast<std::size_t>(d)];
          const double allowed =
              std::fabs(e) * (fp8 ? 0x1p-4 : 0x1p-8) * 1.001 + (fp8 ? static_cast<double>(scale) * 0x1p-10 : 1e-6);
          ASSERT_NEAR(value(from, line * 576 + static_cast<std::size_t>(d)), e, allowed) << d;
        }
      };
      for (int t = 0; t < m; ++t) {
        for (int h = 0; h < heads; ++h)
          expect_line(got_q, static_cast<std::size_t>(t * heads + h),
                      &nope[static_cast<std::size_t>((t * heads + h) * 512)],
                      &rope[static_cast<std::size_t>((t * heads + h) * 64)], position[static_cast<std::size_t>(t)]);
        if (slot[static_cast<std::size_t>(t)] >= 0)
          expect_line(got_cache, static_cast<std::size_t>(slot[static_cast<std::size_t>(t)]),
                      &latent[static_cast<std::size_t>(t * 512)], &k_rope[static_cast<std::size_t>(t * 64)],
                      position[static_cast<std::size_t>(t)]);
      }
      for (std::size_t i = 0; i < 3 * 576 * bytes; ++i) ASSERT_EQ(got_cache[i], 0x11) << "lines nobody asked for stay";
    }
  }
}

TEST(MlaCache, BadSlotsPositionsAndValuesAreReportedAndHarmless) {
  const int m = 4;
  std::vector<std::uint16_t> nope(m * 512, float_to_bf16(1)), rope(m * 64, float_to_bf16(1)), latent = nope,
                                                                                              k_rope = rope;
  latent[512 + 3] = float_to_bf16(NAN);
  const std::vector<int> position{0, 1, 5000, 2}, slot{0, 1, 2, 999};
  const auto table = reference::angle_table(16, 64, 10000.0);
  for (const auto& device : test::all_devices(62)) {
    SCOPED_TRACE(device->name());
    auto bn = Buffer::of(*device, nope), br = Buffer::of(*device, rope), bl = Buffer::of(*device, latent),
         bk = Buffer::of(*device, k_rope);
    auto bt = Buffer::of(*device, table), bp = Buffer::of(*device, position), bs = Buffer::of(*device, slot);
    Buffer q(*device, m * 576), cache(*device, 64 * 576), status(*device, 16);
    FAULTLINE_DONE(device->fill(status.data(), 0, 16));
    FAULTLINE_DONE(device->fill(cache.data(), 0, cache.bytes()));
    MlaCacheArgs a{};
    a.q_nope = bn.data<std::uint16_t>(), a.q_rope = br.data<std::uint16_t>(), a.latent = bl.data<std::uint16_t>(),
    a.k_rope = bk.data<std::uint16_t>();
    a.angles = bt.data<float>(), a.position = bp.data<int>(), a.slot = bs.data<int>(), a.q_out = q.data(),
    a.cache = cache.data(), a.status = status.data<std::uint32_t>();
    a.m = m, a.heads = 1, a.slots = 64, a.positions = 16;
    a.q_nope_row = 512, a.q_rope_row = 64, a.q_rope_head = 64, a.latent_row = 512, a.k_rope_row = 64;
    a.q_inverse = a.cache_inverse = 1;
    FAULTLINE_DONE(mla_cache(*device, a, true));
    EXPECT_EQ(status.read<std::uint32_t>()[0],
              static_cast<std::uint32_t>(kStatusPageOutOfRange) | static_cast<std::uint32_t>(kStatusNotANumber));
    const auto lines = cache.read<std::uint8_t>();
    EXPECT_EQ(lines[576 + 3], 0) << "NaN is stored as zero";
    EXPECT_NE(lines[576 + 4], 0);
    for (int d = 0; d < 576; ++d) EXPECT_EQ(lines[static_cast<std::size_t>(2 * 576 + d)], 0) << "position outside";
  }
}

TEST(MlaConcat, BuildsQueriesAndKeysOfPrefill) {
  test::Random random(63);
  const int m = 3, heads = 2;
  const auto q = test::random_bf16(random, m * heads * 192), kv = test::random_bf16(random, m * heads * 256),
             k_rope = test::random_bf16(random, m * 64);
  const std::vector<int> position{4, 0, 9};
  const auto table = reference::angle_table(16, 64, 10000.0);
  test::SameBits same;
  for (const auto& device : test::all_devices(63)) {
    SCOPED_TRACE(device->name());
    auto bq = Buffer::of(*device, q), bkv = Buffer::of(*device, kv), bk = Buffer::of(*device, k_rope),
         bt = Buffer::of(*device, table), bp = Buffer::of(*device, position);
    Buffer qo(*device, q.size() * 2), ko(*device, q.size() * 2), status(*device, 16);
    FAULTLINE_DONE(mla_concat(*device, {bq.data<std::uint16_t>(), bkv.data<std::uint16_t>(), bk.data<std::uint16_t>(),
                                        bt.data<float>(), bp.data<int>(), qo.data<std::uint16_t>(),
                                        ko.data<std::uint16_t>(), status.data<std::uint32_t>(), m, heads, 64, 16}));
    const auto got_q = qo.read<std::uint16_t>(), got_k = ko.read<std::uint16_t>();
    same.expect(*device, "queries", got_q);
    same.expect(*device, "keys", got_k);
    for (int t = 0; t < m; ++t)
      for (int h = 0; h < heads; ++h) {
        const auto line = static_cast<std::size_t>((t * heads + h) * 192);
        std::vector<double> rq, rk;
        for (int d = 0; d < 64; ++d) {
          rq.push_back(static_cast<double>(bf16_to_float(q[line + 128 + static_cast<std::size_t>(d)])));
          rk.push_back(static_cast<double>(bf16_to_float(k_rope[static_cast<std::size_t>(t * 64 + d)])));
        }
        reference::rotate(rq, position[static_cast<std::size_t>(t)], 10000.0, true);
        reference::rotate(rk, position[static_cast<std::size_t>(t)], 10000.0, true);
        for (std::size_t d = 0; d < 128; ++d) {
          ASSERT_EQ(got_q[line + d], q[line + d]);
          ASSERT_EQ(got_k[line + d], kv[static_cast<std::size_t>((t * heads + h) * 256) + d]);
        }
        for (std::size_t d = 0; d < 64; ++d) {
          ASSERT_NEAR(static_cast<double>(bf16_to_float(got_q[line + 128 + d])), rq[d],
                      std::fabs(rq[d]) * 0x1p-8 + 1e-6);
          ASSERT_NEAR(static_cast<double>(bf16_to_float(got_k[line + 128 + d])), rk[d],
                      std::fabs(rk[d]) * 0x1p-8 + 1e-6);
        }
      }
  }
}

TEST(GqaCache, RotatesHalvesAndWritesBothCaches) {
  test::Random random(64);
  const int m = 3, heads = 4, kv_heads = 2, slots = 128;
  const auto q = test::random_bf16(random, m * heads * 128), k = test::random_bf16(random, m * kv_heads * 128),
             v = test::random_bf16(random, m * kv_heads * 128);
  const std::vector<int> position{2, 11, 0}, slot{127, 0, 64};
  const auto table = reference::angle_table(16, 128, 500000.0);
  test::SameBits same;
  for (const auto& device : test::all_devices(64)) {
    SCOPED_TRACE(device->name());
    auto bq = Buffer::of(*device, q), bk = Buffer::of(*device, k), bv = Buffer::of(*device, v),
         bt = Buffer::of(*device, table), bp = Buffer::of(*device, position), bs = Buffer::of(*device, slot);
    Buffer kc(*device, slots * kv_heads * 256), vc(*device, slots * kv_heads * 256), status(*device, 16);
    FAULTLINE_DONE(
        gqa_cache(*device, {bq.data<std::uint16_t>(), bk.data<std::uint16_t>(), bv.data<std::uint16_t>(),
                            bt.data<float>(), bp.data<int>(), bs.data<int>(), kc.data<std::uint16_t>(),
                            vc.data<std::uint16_t>(), status.data<std::uint32_t>(), m, heads, kv_heads, slots, 16}));
    auto got_q = bq.read<std::uint16_t>();
    const auto got_k = kc.read<std::uint16_t>(), got_v = vc.read<std::uint16_t>();
    same.expect(*device, "queries", got_q);
    auto expect = [&](const std::uint16_t* from, const std::uint16_t* got, int where) {
      std::vector<double> r;
      for (int d = 0; d < 128; ++d) r.push_back(static_cast<double>(bf16_to_float(from[d])));
      reference::rotate(r, where, 500000.0, false);
      for (int d = 0; d < 128; ++d)
        ASSERT_NEAR(static_cast<double>(bf16_to_float(got[d])), r[static_cast<std::size_t>(d)],
                    std::fabs(r[static_cast<std::size_t>(d)]) * 0x1p-8 + 1e-6)
            << d;
    };
    for (int t = 0; t < m; ++t) {
      for (int h = 0; h < heads; ++h)
        expect(&q[static_cast<std::size_t>((t * heads + h) * 128)],
               &got_q[static_cast<std::size_t>((t * heads + h) * 128)], position[static_cast<std::size_t>(t)]);
      for (int h = 0; h < kv_heads; ++h) {
        const auto from = static_cast<std::size_t>((t * kv_heads + h) * 128),
                   to = static_cast<std::size_t>((slot[static_cast<std::size_t>(t)] * kv_heads + h) * 128);
        expect(&k[from], &got_k[to], position[static_cast<std::size_t>(t)]);
        ASSERT_EQ(0, std::memcmp(&v[from], &got_v[to], 256));
      }
    }
  }
}

TEST(Embed, UnknownIdsGiveZeros) {
  test::Random random(65);
  const auto table = test::random_bf16(random, 10 * 96);
  const std::vector<int> ids{9, -1, 0, 10};
  for (const auto& device : test::all_devices(65)) {
    auto bt = Buffer::of(*device, table), bi = Buffer::of(*device, ids);
    Buffer out(*device, 4 * 96 * 2);
    FAULTLINE_DONE(embed(*device, {bt.data<std::uint16_t>(), bi.data<int>(), out.data<std::uint16_t>(), 4, 96, 10}));
    const auto got = out.read<std::uint16_t>();
    for (std::size_t c = 0; c < 96; ++c) {
      ASSERT_EQ(got[c], table[9 * 96 + c]);
      ASSERT_EQ(got[96 + c], 0);
      ASSERT_EQ(got[2 * 96 + c], table[c]);
      ASSERT_EQ(got[3 * 96 + c], 0);
    }
  }
}

struct SampleRow {
  float temperature;
  int top_k;
  float top_p;
};
std::vector<int> run_sample(Device& device, const std::vector<float>& logits, int m, int vocabulary,
                            const std::vector<SampleRow>& rows, std::uint64_t first_position) {
  std::vector<float> temperature, top_p;
  std::vector<int> top_k;
  std::vector<std::uint64_t> seed, position;
  for (int i = 0; i < m; ++i) {
    const SampleRow& r = rows[static_cast<std::size_t>(i)];
    temperature.push_back(r.temperature), top_k.push_back(r.top_k), top_p.push_back(r.top_p);
    seed.push_back(77 + static_cast<std::uint64_t>(i) * 13),
        position.push_back(first_position + static_cast<std::uint64_t>(i));
  }
  auto bl = Buffer::of(device, logits), bt = Buffer::of(device, temperature), bk = Buffer::of(device, top_k),
       bp = Buffer::of(device, top_p), bs = Buffer::of(device, seed), bo = Buffer::of(device, position);
  Buffer scratch(device, sample_scratch_bytes(m, vocabulary)), token(device, static_cast<std::size_t>(m) * 4);
  require(
      sample(device, {bl.data<float>(), bt.data<float>(), bk.data<int>(), bp.data<float>(), bs.data<std::uint64_t>(),
                      bo.data<std::uint64_t>(), scratch.data<std::uint32_t>(), token.data<int>(), m, vocabulary}));
  return token.read<int>();
}

TEST(Sample, EveryDeviceDrawsTheTokenOfTheReference) {
  test::Random random(66);
  for (const int vocabulary : {1, 50, 1000, 5003}) {
    std::vector<SampleRow> rows{{0, 0, 1},     {1, 0, 1}, {0.7F, 1, 1},           {1, 40, 1},   {1, 0, 0.9F},
                                {2, 20, 0.5F}, {1, 0, 0}, {0.2F, 100000, 0.999F}, {-1, 5, 0.5F}};
    for (int i = 0; i < test::rounds(8, 200); ++i)
      rows.push_back({random.uniform(0.1F, 3), random.chance(0.5) ? random.between(1, 200) : 0,
                      random.chance(0.5) ? random.uniform(0, 1) : 1});
    const int m = static_cast<int>(rows.size());
    std::vector<float> logits(static_cast<std::size_t>(m * vocabulary));
    for (auto& x : logits) x = std::round(random.normal(4) * 8) / 8;  // an eighth: many ties
    for (const auto& device : test::all_devices(66)) {
      SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " " << device->name() << " vocabulary "
                                      << vocabulary);
      const auto got = run_sample(*device, logits, m, vocabulary, rows, 1000);
      for (int i = 0; i < m; ++i) {
        const SampleRow& r = rows[static_cast<std::size_t>(i)];
        ASSERT_EQ(got[static_cast<std::size_t>(i)],
                  reference::sample(
                      {logits.data() + static_cast<std::size_t>(i * vocabulary), static_cast<std::size_t>(vocabulary)},
                      r.temperature, r.top_k, r.top_p, 77 + static_cast<std::uint64_t>(i) * 13,
                      1000 + static_cast<std::uint64_t>(i)))
            << "row " << i << " temperature " << r.temperature << " top_k " << r.top_k << " top_p " << r.top_p;
      }
    }
  }
}

TEST(Sample, FrequenciesFollowTheSoftmax) {
  const std::vector<float> one{0, 1, 2, -1};
  auto device = make_cpu_device();
  const int m = 20000;
  std::vector<float> logits;
  for (int i = 0; i < m; ++i) logits.insert(logits.end(), one.begin(), one.end());
  const auto got = run_sample(*device, logits, m, 4, std::vector<SampleRow>(m, {1, 0, 1}), 5);
  std::vector<int> count(4);
  for (const int t : got) ++count[static_cast<std::size_t>(t)];
  double sum = 0;
  for (const float l : one) sum += std::exp(static_cast<double>(l));
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = std::exp(static_cast<double>(one[i])) / sum;
    EXPECT_NEAR(count[i], m * p, 5 * std::sqrt(m * p * (1 - p))) << i;  // five standard deviations of a binomial
  }
}

TEST(Sample, NotANumberIsNeverDrawnAndARowOfItGivesNoToken) {
  const float nan = NAN, inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits{nan, 1, nan, 0.5F, nan, nan, nan, nan, -inf, -inf, nan, -inf, 0, inf, 1, 2};
  for (const auto& device : test::all_devices(67)) {
    SCOPED_TRACE(device->name());
    for (std::uint64_t p = 0; p < 10; ++p) {
      const auto got = run_sample(*device, logits, 4, 4, {{1, 0, 1}, {1, 0, 1}, {1, 0, 1}, {1, 0, 1}}, p);
      EXPECT_TRUE(got[0] == 1 || got[0] == 3) << got[0];
      EXPECT_EQ(got[1], -1);
      EXPECT_EQ(got[2], -1);
      EXPECT_EQ(got[3], 1) << "infinity wins";
    }
  }
}

TEST(Probe, HealthAnswersWithTheTokenItWasGiven) {
  for (const auto& device : test::all_devices(68)) {
    SCOPED_TRACE(device->name());
    Buffer passed(*device, 12);
    for (const std::uint32_t token : {7U, 0xabcdef01U}) {
      FAULTLINE_DONE(device->launch(Kernel::health, {3, 1, 1}, HealthArgs{passed.data<std::uint32_t>(), token}));
      EXPECT_EQ(passed.read<std::uint32_t>(), std::vector<std::uint32_t>(3, token));
    }
  }
}

TEST(Probe, AHangIsNoticedWithinTheDeadlineAndForgivenAfterIt) {
  using namespace std::chrono_literals;
  for (const auto& device : test::all_devices(71)) {
    SCOPED_TRACE(device->name());
    HealthProbe probe(*device);
    FAULTLINE_DONE(probe.check(10s));
    if (device->limits().compute_units <= 1)
      continue;  // a CPU's launch returns when the work is done: it cannot hang behind our back
    Buffer stop(*device, 64, true), result(*device, 1024 * 4);
    *stop.data<std::uint32_t>() = 0;
    FAULTLINE_DONE(
        device->launch(Kernel::busy, {device->limits().compute_units, 1, 1},
                       BusyArgs{stop.data<std::uint32_t>(), result.data<std::uint32_t>(), ~std::uint64_t{0}}));
    const auto outcome = probe.check(100ms);
    ASSERT_FALSE(static_cast<bool>(outcome)) << "every compute unit spins";
    EXPECT_NE(outcome.failure().text().find("no answer from 8 of 8 blocks within 100 ms"), std::string::npos)
        << outcome.failure().text();
    __atomic_store_n(stop.data<std::uint32_t>(), 1U, __ATOMIC_RELEASE);
    FAULTLINE_DONE(device->synchronize());
    FAULTLINE_DONE(probe.check(10s));
  }
}

TEST(Probe, CopyMovesEveryByteAndNoMore) {
  test::Random random(69);
  for (const auto& device : test::all_devices(69)) {
    for (const std::uint64_t chunks : {0, 1, 4095, 9000}) {
      std::vector<std::uint8_t> bytes(chunks * 16 + 64);
      for (auto& b : bytes) b = static_cast<std::uint8_t>(random.below(256));
      auto from = Buffer::of(*device, bytes);
      Buffer to(*device, bytes.size());
      FAULTLINE_DONE(device->fill(to.data(), 0x5a, bytes.size()));
      FAULTLINE_DONE(device->launch(Kernel::copy_memory, {3, 1, 1}, CopyArgs{from.data(), to.data(), chunks, 3}));
      const auto got = to.read<std::uint8_t>();
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end() - 64, got.begin()));
      for (std::size_t i = chunks * 16; i < bytes.size(); ++i) ASSERT_EQ(got[i], 0x5a);
    }
  }
}

TEST(Flags, AGraphMeetsAHostProxyAndTimesOutWithoutOne) {
  for (const auto& device : test::all_devices(70)) {
    SCOPED_TRACE(device->name());
    Buffer flags(*device, 64, true), data(*device, 64), copy(*device, 64);
    auto* request = flags.data<std::uint32_t>();
    auto* answer = request + 1;
    auto* status = request + 2;
    *request = *answer = *status = 0;
    FAULTLINE_DONE(device->fill(data.data(), 1, 64));
    FAULTLINE_DONE(device->fill(copy.data(), 0, 64));
    FAULTLINE_DONE(device->synchronize());
    FAULTLINE_DONE(device->begin_capture());
    const std::uint64_t patience = test::is_emulator(*device) ? 2000 : 200000000;
    FAULTLINE_DONE(device->launch(Kernel::store_flag, {1, 1, 1}, FlagArgs{request, status, 0, 5, 0}));
    FAULTLINE_DONE(device->launch(Kernel::wait_flag, {1, 1, 1}, FlagArgs{answer, status, patience, 6, 0x100}));
    FAULTLINE_DONE(device->launch(Kernel::copy_memory, {1, 1, 1}, CopyArgs{data.data(), copy.data(), 4, 1}));
    auto graph = device->end_capture();
    ASSERT_TRUE(static_cast<bool>(graph));
    {
      std::thread proxy([&] {
        if (test::is_emulator(*device)) {  // the emulator owns the only thread that would spin: answer before it asks
          __atomic_store_n(answer, 6U, __ATOMIC_RELEASE);
          return;
        }
        while (__atomic_load_n(request, __ATOMIC_ACQUIRE) != 5U) std::this_thread::yield();
        __atomic_store_n(answer, 6U, __ATOMIC_RELEASE);
      });
      if (test::is_emulator(*device)) proxy.join();
      FAULTLINE_DONE(device->run(*graph.value()));
      FAULTLINE_DONE(device->synchronize());
      if (proxy.joinable()) proxy.join();
    }
    EXPECT_EQ(*request, 5U);
    EXPECT_EQ(*status, 0U);
    EXPECT_EQ(copy.read<std::uint8_t>()[0], 1);
    // Nobody answers: the wait gives up, says so, and the graph ends.
    *answer = 0;
    FAULTLINE_DONE(device->launch(Kernel::wait_flag, {1, 1, 1}, FlagArgs{answer, status, 100, 6, 0x100}));
    FAULTLINE_DONE(device->synchronize());
    EXPECT_EQ(*status, 0x100U);
  }
}

}  // namespace
}  // namespace faultline::kernels
