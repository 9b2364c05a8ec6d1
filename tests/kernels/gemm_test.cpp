#include <cstring>
#include <limits>

#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using reference::Matrix;

// Bound of a float sum of K products in any order: |error| <= K u sum |a b| (Higham, Accuracy and Stability,
// section 3.1), u = 2^-24; products of FP8 are exact in float. A factor 2 covers the scaling. For bf16 output another
// 2^-8 relative.
double sum_bound(double magnitude, int k) { return 2.0 * k * 0x1p-24 * magnitude; }
// Hopper's tensor cores align 32 FP8 products and the running sum to the largest and keep 14 bits of each (DeepSeek-V3
// technical report, section 3.3.2); our kernels take the sum out after four such instructions: 4 * 2^-14 of the sum of
// magnitudes. Measured: 2^-13.8.
double sum_bound(const Device& device, double magnitude, int k) {
  return sum_bound(magnitude, k) + (device.fp8_format() == Fp8Format::fn ? 0x1p-12 * magnitude : 0);
}

struct Problem {
  int m, n, k;
};

// Runs the per-row kernel; output float.
std::vector<float> run_ptpc(Device& device, const Problem& p, const std::vector<std::uint8_t>& a,
                            const std::vector<std::uint8_t>& w, const std::vector<float>& as,
                            const std::vector<float>& ws, bool parallel) {
  auto da = Buffer::of(device, a);
  auto dw = Buffer::of(device, shuffle_weights(w, p.n, p.k));
  auto das = Buffer::of(device, test::times(as, test::unit(device))),
       dws = Buffer::of(device, test::times(ws, test::unit(device)));
  Buffer out(device, static_cast<std::size_t>(p.m) * p.n * 4);
  Buffer partial(device, gemm_partial_floats(p.m, p.n, p.k) * 4);
  GemmArgs args{};
  args.a = da.data();
  args.w = dw.data();
  args.a_scale = das.data<float>();
  args.w_scale = dws.data<float>();
  args.out = out.data();
  args.partial = parallel ? partial.data<float>() : nullptr;
  args.m = p.m, args.n = p.n, args.k_bytes = p.k, args.lda = p.k, args.ldo = p.n, args.out_is_float = 1;
  require(gemm_fp8(device, args));
  return out.read<float>();
}

std::vector<float> random_scales(test::Random& random, int n) {
  std::vector<float> s(static_cast<std::size_t>(n));
  for (auto& x : s) x = std::exp(random.normal()) * 0.01F;
  return s;
}

TEST(Gemm, Fp8PerRowEqualsTheReferenceOnRaggedShapes) {
  test::Random random(10);
  std::vector<Problem> problems{{1, 128, 128}, {33, 200, 256}, {0, 128, 128}, {65, 16, 1152}, {150, 129, 128}};
  for (int i = 0; i < test::rounds(2, 30); ++i)
    problems.push_back({random.between(1, 140), random.between(1, 400), 128 * random.between(1, 12)});
  for (const auto& p : problems) {
    SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " m " << p.m << " n " << p.n << " k " << p.k);
    const auto a = test::random_codes(random, static_cast<std::size_t>(p.m) * p.k),
               w = test::random_codes(random, static_cast<std::size_t>(p.n) * p.k);
    const auto as = random_scales(random, p.m), ws = random_scales(random, p.n);
    const Matrix da = test::decoded(a), dw = test::decoded(w);
    Matrix absolute_a = da, absolute_w = dw;
    for (auto& x : absolute_a) x = std::fabs(x);
    for (auto& x : absolute_w) x = std::fabs(x);
    const Matrix expected = reference::product(da, dw, p.m, p.n, p.k),
                 size = reference::product(absolute_a, absolute_w, p.m, p.n, p.k);
    test::SameBits same;
    for (const auto& device : test::all_devices()) {
      SCOPED_TRACE(device->name());
      const auto got = run_ptpc(*device, p, a, w, as, ws, random.chance(0.5));
      same.expect(*device, "product", got);
      for (int i = 0; i < p.m; ++i)
        for (int j = 0; j < p.n; ++j) {
          const auto at = static_cast<std::size_t>(i) * p.n + j;
          const double scale = static_cast<double>(as[i]) * static_cast<double>(ws[j]);
          ASSERT_NEAR(static_cast<double>(got[at]), expected[at] * scale,
                      sum_bound(*device, size[at] * scale, p.k) + 1e-30)
              << i << ", " << j;
        }
    }
  }
}

TEST(Gemm, ARowHasTheSameBitsInEveryBatchAndWithPartsInBlocksOrInALoop) {
  test::Random random(11);
  const Problem big{200, 256, 4096};  // K in parts: see gemm_splits
  ASSERT_GT(gemm_splits(big.n, big.k), 1);
  const auto a = test::random_codes(random, static_cast<std::size_t>(big.m) * big.k),
             w = test::random_codes(random, static_cast<std::size_t>(big.n) * big.k);
  const auto as = random_scales(random, big.m), ws = random_scales(random, big.n);
  test::SameBits same;
  for (const auto& device : test::all_devices()) {
    SCOPED_TRACE(device->name());
    const int most = test::is_emulator(*device) ? 70 : big.m;
    const Problem all{most, big.n, big.k};
    const std::vector<std::uint8_t> head(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(most) * big.k);
    const std::vector<float> head_scales(as.begin(), as.begin() + most);
    const auto whole = run_ptpc(*device, all, head, w, head_scales, ws, false);
    for (const auto& [first, count] : {std::pair{0, 1}, {5, 1}, {31, 3}, {64, 6}, {2, 40}}) {
      const Problem part{count, big.n, big.k};
      const std::vector<std::uint8_t> rows(a.begin() + static_cast<std::ptrdiff_t>(first) * big.k,
                                           a.begin() + static_cast<std::ptrdiff_t>(first + count) * big.k);
      const std::vector<float> scales(as.begin() + first, as.begin() + first + count);
      const auto got = run_ptpc(*device, part, rows, w, scales, ws, true);
      same.expect(*device, "rows from " + std::to_string(first), got);
      ASSERT_EQ(0, std::memcmp(got.data(), whole.data() + static_cast<std::size_t>(first) * big.n, got.size() * 4))
          << first << " + " << count;
    }
  }
}

TEST(Gemm, TheTallTileHasTheSameBitsAsTheLowOne) {
  test::Random random(12);
  for (const auto& device : test::two_devices()) {
    SCOPED_TRACE(device->name());
    // Above 512 rows: tiles of 128; on a GPU only where there are enough of them, so that a block has several.
    const bool gpu = test::wanted_gpu() != nullptr;
    const Problem p{gpu ? 700 : 520, gpu ? 5003 : 128, 256};
    const auto a = test::random_codes(random, static_cast<std::size_t>(p.m) * p.k),
               w = test::random_codes(random, static_cast<std::size_t>(p.n) * p.k);
    const auto as = random_scales(random, p.m), ws = random_scales(random, p.n);
    const auto whole = run_ptpc(*device, p, a, w, as, ws, false);
    const std::vector<std::uint8_t> rows(a.end() - 3 * p.k, a.end());
    const std::vector<float> scales(as.end() - 3, as.end());
    const auto got = run_ptpc(*device, {3, p.n, p.k}, rows, w, scales, ws, false);
    ASSERT_EQ(0, std::memcmp(got.data(), whole.data() + static_cast<std::size_t>(p.m - 3) * p.n, got.size() * 4));
  }
}

TEST(Gemm, TallTilesOfBf16BatchesHaveTheBitsOfLowOnesOnAGpu) {
  const auto device = test::wanted_gpu();
  if (device == nullptr) GTEST_SKIP() << "FAULTLINE_GPU is not 1";
  test::Random random(16);
  const Problem p{700, 2500, 192};
  constexpr int kBatches = 3;
  const auto a = test::random_bf16(random, std::size_t{kBatches} * p.m * p.k);
  std::vector<std::uint8_t> w;
  for (int b = 0; b < kBatches; ++b) {
    const auto one = test::bytes_of(test::random_bf16(random, static_cast<std::size_t>(p.n) * p.k));
    const auto shuffled = shuffle_weights(one, p.n, p.k * 2);
    w.insert(w.end(), shuffled.begin(), shuffled.end());
  }
  auto da = Buffer::of(*device, a), dw = Buffer::of(*device, w);
  const std::size_t w_stride = shuffled_bytes(p.n, p.k * 2);
  for (const bool to_float : {true, false}) {
    const auto run = [&](int first, int m, int batches) {
      Buffer out(*device, static_cast<std::size_t>(batches) * m * p.n * 4);
      GemmArgs args{};
      args.a = da.data() + static_cast<std::size_t>(first) * p.k * 2, args.out = out.data();
      args.w = dw.data() + static_cast<std::size_t>(first / p.m) * w_stride, args.w_stride = w_stride;
      args.a_stride = static_cast<std::size_t>(p.m) * p.k * 2, args.out_stride = static_cast<std::size_t>(m) * p.n;
      args.m = m, args.n = p.n, args.k_bytes = p.k * 2, args.lda = p.k * 2, args.ldo = p.n,
      args.out_is_float = to_float ? 1 : 0;
      require(gemm_bf16(*device, args, batches));
      return out.read<std::uint8_t>();
    };
    const auto whole = run(0, p.m, kBatches);
    const std::size_t line = static_cast<std::size_t>(p.n) * (to_float ? 4 : 2);
    for (const int first : {0, 127, p.m + 130, 2 * p.m + 690}) {
      const auto got = run(first, 10, 1);
      ASSERT_EQ(0, std::memcmp(got.data(), whole.data() + static_cast<std::size_t>(first) * line, 10 * line)) << first;
    }
  }
}

// Block scales, bf16 out; a_scale has a row of scales for every 128 of K.
std::vector<std::uint16_t> run_blocks(Device& device, const Problem& p, const std::vector<std::uint8_t>& a,
                                      const Buffer& w, const std::vector<float>& as, const Buffer& ws) {
  auto da = Buffer::of(device, a);
  auto das = Buffer::of(device, as);
  Buffer out(device, static_cast<std::size_t>(p.m) * p.n * 2), partial(device, gemm_partial_floats(p.m, p.n, p.k) * 4);
  GemmArgs args{};
  args.a = da.data(), args.w = w.data(), args.a_scale = das.data<float>(), args.w_scale = ws.data<float>();
  args.out = out.data(), args.partial = partial.data<float>();
  args.m = p.m, args.n = p.n, args.k_bytes = p.k, args.lda = p.k, args.ldo = p.n;
  require(gemm_fp8_blocks(device, args));
  return out.read<std::uint16_t>();
}

// Shapes large enough for what only a GPU chooses: tall tiles with K whole and in parts, and the columns of a nearly
// empty last wave cut into parts. Rows of the large problem against the same rows alone.
TEST(Gemm, RowsOfLargeProblemsOnAGpuHaveTheirBitsAlone) {
  const auto device = test::wanted_gpu();
  if (device == nullptr) GTEST_SKIP() << "FAULTLINE_GPU is not 1";
  test::Random random(15);
  for (const Problem& p : {Problem{1000, 3456, 256}, {1000, 7168, 4096}, {1000, 2112, 4096}, {4096, 2112, 4096}}) {
    SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " m " << p.m << " n " << p.n << " k " << p.k);
    const auto a = test::random_codes(random, static_cast<std::size_t>(p.m) * p.k);
    const int groups = p.k / 128;
    const auto as = random_scales(random, groups * p.m);
    const auto w =
        Buffer::of(*device, shuffle_weights(test::random_codes(random, static_cast<std::size_t>(p.n) * p.k), p.n, p.k));
    const auto ws = Buffer::of(*device, random_scales(random, (p.n + 127) / 128 * groups));
    const auto whole = run_blocks(*device, p, a, w, as, ws);
    for (const auto& [first, count] : {std::pair{0, 3}, {127, 2}, {250, 33}, {p.m - 70, 70}}) {
      const std::vector<std::uint8_t> rows(a.begin() + static_cast<std::ptrdiff_t>(first) * p.k,
                                           a.begin() + static_cast<std::ptrdiff_t>(first + count) * p.k);
      std::vector<float> scales;
      for (int g = 0; g < groups; ++g)
        scales.insert(scales.end(), as.begin() + g * p.m + first, as.begin() + g * p.m + first + count);
      const auto got = run_blocks(*device, {count, p.n, p.k}, rows, w, scales, ws);
      ASSERT_EQ(0, std::memcmp(got.data(), whole.data() + static_cast<std::size_t>(first) * p.n, got.size() * 2))
          << first << " + " << count;
    }
  }
}

TEST(Gemm, AScaleThatIsNotANumberPoisonsItsRowOnly) {
  test::Random random(13);
  const Problem p{40, 128, 128};
  const auto a = test::random_codes(random, static_cast<std::size_t>(p.m) * p.k),
             w = test::random_codes(random, static_cast<std::size_t>(p.n) * p.k);
  auto as = random_scales(random, p.m);
  as[21] = NAN;
  const auto ws = random_scales(random, p.n);
  test::SameBits same;
  for (const auto& device : test::all_devices()) {
    const auto got = run_ptpc(*device, p, a, w, as, ws, false);
    same.expect(*device, "product", got);
    for (int i = 0; i < p.m; ++i)
      for (int j = 0; j < p.n; ++j) ASSERT_EQ(std::isnan(got[static_cast<std::size_t>(i * p.n + j)]), i == 21) << i;
  }
}

TEST(Gemm, BlockScalesEqualTheReference) {
  test::Random random(14);
  std::vector<Problem> problems{{1, 128, 128}, {37, 300, 640}};
  for (int i = 0; i < test::rounds(1, 20); ++i)
    problems.push_back({random.between(1, 100), random.between(1, 400), 128 * random.between(1, 10)});
  for (const auto& p : problems) {
    SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " m " << p.m << " n " << p.n << " k " << p.k);
    const auto a = test::random_codes(random, static_cast<std::size_t>(p.m) * p.k),
               w = test::random_codes(random, static_cast<std::size_t>(p.n) * p.k);
    const int groups = p.k / 128, columns = (p.n + 127) / 128;
    const auto as = random_scales(random, groups * p.m), ws = random_scales(random, columns * groups);
    Matrix da = test::decoded(a), dw = test::decoded(w);
    for (int i = 0; i < p.m; ++i)
      for (int k = 0; k < p.k; ++k)
        da[static_cast<std::size_t>(i) * p.k + k] *=
            static_cast<double>(as[static_cast<std::size_t>(k / 128 * p.m + i)]);
    for (int j = 0; j < p.n; ++j)
      for (int k = 0; k < p.k; ++k)
        dw[static_cast<std::size_t>(j) * p.k + k] *=
            static_cast<double>(ws[static_cast<std::size_t>(j / 128 * groups + k / 128)]);
    const Matrix expected = reference::product(da, dw, p.m, p.n, p.k);
    for (auto& x : da) x = std::fabs(x);
    for (auto& x : dw) x = std::fabs(x);
    const Matrix size = reference::product(da, dw, p.m, p.n, p.k);
    test::SameBits same;
    for (const auto& device : test::all_devices()) {
      SCOPED_TRACE(device->name());
      auto ba = Buffer::of(*device, a), bw = Buffer::of(*device, shuffle_weights(w, p.n, p.k));
      auto bas = Buffer::of(*device, test::times(as, test::unit(*device))),
           bws = Buffer::of(*device, test::times(ws, test::unit(*device)));
      Buffer out(*device, static_cast<std::size_t>(p.m) * p.n * 2),
          partial(*device, gemm_partial_floats(p.m, p.n, p.k) * 4);
      GemmArgs args{};
      args.a = ba.data(), args.w = bw.data(), args.a_scale = bas.data<float>(), args.w_scale = bws.data<float>(),
      args.out = out.data();
      args.partial = random.chance(0.5) ? partial.data<float>() : nullptr;
      args.m = p.m, args.n = p.n, args.k_bytes = p.k, args.lda = p.k, args.ldo = p.n;
      FAULTLINE_DONE(gemm_fp8_blocks(*device, args));
      const auto got = out.read<std::uint16_t>();
      same.expect(*device, "product", got);
      for (std::size_t at = 0; at < got.size(); ++at)
        ASSERT_NEAR(static_cast<double>(bf16_to_float(got[at])), expected[at],
                    sum_bound(*device, size[at], p.k) + std::fabs(expected[at]) * 0x1p-8)
            << at;
    }
  }
}

TEST(Gemm, Bf16BatchesEqualTheReference) {
  test::Random random(15);
  std::vector<Problem> problems{{3, 48, 64}, {70, 140, 192}};
  for (int i = 0; i < test::rounds(1, 20); ++i)
    problems.push_back({random.between(1, 100), random.between(1, 300), 64 * random.between(1, 10)});
  for (const auto& p : problems) {
    for (const int batches : {1, 3}) {
      SCOPED_TRACE(testing::Message() << "seed " << test::run_seed() << " m " << p.m << " n " << p.n << " k " << p.k
                                      << " x " << batches);
      std::vector<std::vector<std::uint16_t>> a, w;
      std::vector<std::uint16_t> all_a;
      std::vector<std::uint8_t> all_w;
      for (int b = 0; b < batches; ++b) {
        a.push_back(test::random_bf16(random, static_cast<std::size_t>(p.m) * p.k));
        w.push_back(test::random_bf16(random, static_cast<std::size_t>(p.n) * p.k));
        all_a.insert(all_a.end(), a.back().begin(), a.back().end());
        const auto shuffled = shuffle_weights(test::bytes_of(w.back()), p.n, p.k * 2);
        all_w.insert(all_w.end(), shuffled.begin(), shuffled.end());
      }
      test::SameBits same;
      for (const auto& device : test::all_devices()) {
        SCOPED_TRACE(device->name());
        auto ba = Buffer::of(*device, all_a), bw = Buffer::of(*device, all_w);
        Buffer out(*device, static_cast<std::size_t>(batches) * p.m * p.n * 4);
        GemmArgs args{};
        args.a = ba.data(), args.w = bw.data(), args.out = out.data();
        args.a_stride = static_cast<std::size_t>(p.m) * p.k * 2, args.w_stride = shuffled_bytes(p.n, p.k * 2),
        args.out_stride = static_cast<std::size_t>(p.m) * p.n;
        args.m = p.m, args.n = p.n, args.k_bytes = p.k * 2, args.lda = p.k * 2, args.ldo = p.n, args.out_is_float = 1;
        FAULTLINE_DONE(gemm_bf16(*device, args, batches));
        const auto got = out.read<float>();
        same.expect(*device, "products", got);
        for (int b = 0; b < batches; ++b) {
          Matrix da = test::widened(a[static_cast<std::size_t>(b)]), dw = test::widened(w[static_cast<std::size_t>(b)]);
          const Matrix expected = reference::product(da, dw, p.m, p.n, p.k);
          for (auto& x : da) x = std::fabs(x);
          for (auto& x : dw) x = std::fabs(x);
          const Matrix size = reference::product(da, dw, p.m, p.n, p.k);
          for (std::size_t at = 0; at < expected.size(); ++at)
            ASSERT_NEAR(static_cast<double>(got[static_cast<std::size_t>(b) * expected.size() + at]), expected[at],
                        sum_bound(size[at], p.k))
                << b << " " << at;
        }
      }
    }
  }
}

TEST(Gemm, ShapesThatDoNotFitAreRefusedByName) {
  auto device = make_cpu_device();
  GemmArgs args{};
  args.m = 1, args.n = 128, args.k_bytes = 100, args.lda = 112, args.ldo = 128;
  auto outcome = gemm_fp8(*device, args);
  ASSERT_FALSE(static_cast<bool>(outcome));
  EXPECT_NE(outcome.failure().text().find("k_bytes = 100"), std::string::npos) << outcome.failure().text();
  args.k_bytes = 128;
  EXPECT_FALSE(static_cast<bool>(gemm_fp8(*device, args))) << "lda below k";
  args.lda = 128, args.m = -1;
  EXPECT_FALSE(static_cast<bool>(gemm_fp8(*device, args)));
  EXPECT_THROW(shuffle_weights(std::vector<std::uint8_t>(100), 1, 100), std::invalid_argument);
  EXPECT_THROW(shuffle_weights(std::vector<std::uint8_t>(100), 1, 128), std::invalid_argument);
}

}  // namespace
}  // namespace faultline::kernels
