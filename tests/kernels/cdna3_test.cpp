// What changes when the emulator adds as the matrix cores of an MI300X are said to (kernels/emulator/cdna3.h) instead
// of in the chain that it shares with the CPU: the bounds of the kernels must hold all the same.
#include "kernels/emulator/cdna3.h"

#include <algorithm>

#include "kernels/emulator/emulator.h"
#include "kernels/model/model.h"
#include "kernels/ops/launch.h"
#include "kernels/ops/shuffle.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using emulator::cdna3_add;

float add(const std::vector<float>& values, float c, bool fp8) {
  std::vector<int> exponents;
  for (const float v : values) exponents.push_back(v == 0 ? emulator::kNoExponent : std::ilogb(v));  // times 1
  return cdna3_add(values.data(), exponents.data(), static_cast<int>(values.size()), c, fp8);
}

TEST(Cdna3, SmallProductsAreCutOffAndSumsOfOddAndEvenOnesRoundedDown) {
  for (const bool fp8 : {false, true}) {
    EXPECT_EQ(add({1, 2, 4, 8}, 16, fp8), 31) << "sums that need no rounding";
    EXPECT_EQ(add({0, 0, 0, 0}, 0.1F, fp8), 0.1F);
    EXPECT_EQ(add({0x1p-140F, 0, 0, 0}, 0, fp8), 0x1p-140F) << "subnormal";
  }
  // 2^-15 is 25 bits below 2^10: nothing of it is left beside a product of its own parity.
  EXPECT_EQ(add({0x1p10F, 0, -0x1p-15F, 0}, 0, true), 0x1p10F);
  // The sums of both parities are rounded down: what is negative counts for a whole unit.
  EXPECT_EQ(add({0x1p10F, -0x1p-15F, 0, 0}, 0, true), 0x1p10F - 0x1p-14F);
  EXPECT_EQ(add({0x1p10F, 0x1p-15F, 0, 0}, 0, true), 0x1p10F);
  // Sixteen products are rounded once: 1 + 2^-24 eight times is 1 + 2^-21, where a chain rounds each away.
  EXPECT_EQ(add({1, 0x1p-24F, 0x1p-24F, 0x1p-24F, 0x1p-24F, 0x1p-24F, 0x1p-24F, 0x1p-24F}, 0x1p-24F, false),
            1 + 0x1p-21F);
  // c below the products: bf16 rounds it down, FP8 drops it from 26 bits on.
  EXPECT_EQ(add({1, 0, 0, 0}, -0x1p-30F, false), 1 - 0x1p-24F);
  EXPECT_EQ(add({1, 0, 0, 0}, -0x1p-30F, true), 1);
  EXPECT_TRUE(std::isnan(add({1, NAN, 0, 0}, 0, true)));
  EXPECT_EQ(add({1, 0, 0, 0}, INFINITY, true), INFINITY);
}

class WithCdna3Arithmetic : public testing::Test {
 protected:
  WithCdna3Arithmetic() { emulator::arithmetic() = emulator::Arithmetic::cdna3; }
  ~WithCdna3Arithmetic() override { emulator::arithmetic() = emulator::Arithmetic::chain; }
  EmulatedDevice device_{test::run_seed()};
};

TEST_F(WithCdna3Arithmetic, AGemmStaysWithinItsBoundAndARowKeepsItsBits) {
  test::Random random(110);
  const int m = 70, n = 128, k = 512;
  const auto a = test::random_codes(random, static_cast<std::size_t>(m) * k), w = test::random_codes(random, n * k);
  auto run = [&](Device& device, int rows) {
    auto ba = Buffer::of(device, a), bw = Buffer::of(device, shuffle_weights(w, n, k));
    auto as = Buffer::of(device, std::vector<float>(static_cast<std::size_t>(m), 1.0F)),
         ws = Buffer::of(device, std::vector<float>(n, 1.0F));
    Buffer out(device, static_cast<std::size_t>(rows) * n * 4);
    GemmArgs args{};
    args.a = ba.data(), args.w = bw.data(), args.a_scale = as.data<float>(), args.w_scale = ws.data<float>(),
    args.out = out.data();
    args.m = rows, args.n = n, args.k_bytes = args.lda = k, args.ldo = n, args.out_is_float = 1;
    require(gemm_fp8(device, args));
    return out.read<float>();
  };
  const auto got = run(device_, m);
  auto da = test::decoded(a), dw = test::decoded(w);
  const auto expected = reference::product(da, dw, m, n, k);
  for (auto& x : da) x = std::fabs(x);
  for (auto& x : dw) x = std::fabs(x);
  const auto size = reference::product(da, dw, m, n, k);
  // At most 18 units of 2^-24 of the largest term are lost in each 16 of K: less than the 2 K u of a chain (gemm_test).
  for (std::size_t at = 0; at < got.size(); ++at)
    ASSERT_NEAR(static_cast<double>(got[at]), expected[at], 2.0 * k * 0x1p-24 * size[at]) << at;
  const auto few = run(device_, 3);  // tiles of 32 rows instead of 128
  EXPECT_EQ(0, std::memcmp(few.data(), got.data(), few.size() * 4));
  EXPECT_NE(run(*make_cpu_device(), m), got) << "this arithmetic is another than the CPU's";
}

// Logits of the emulator with the hardware's arithmetic and of the CPU: two quantised walks to the same logits, each
// within 2.8 % of the exact ones (model_test.cpp), so within 0.04 of each other where no expert is chosen.
TEST_F(WithCdna3Arithmetic, LogitsStayNearThoseOfTheCpu) {
  const auto weights = model::seeded_weights(7);
  model::Config config;
  config.groups = config.top_groups = 1;
  config.top_k = config.experts;
  model::Limits limits;
  limits.tokens = 32, limits.sequences = 2, limits.positions = 128, limits.pages = 4;
  limits.cache = model::CacheFormat::fp8;
  auto cpu = make_cpu_device();
  model::Model here(*cpu, config, *weights, limits), there(device_, config, *weights, limits);
  test::Random random(111);
  const int count = test::rounds(2, 40), steps = 2;
  int same = 0;
  double squares = 0;
  for (int i = 0; i < count; ++i) {
    model::SequenceInput in{{}, 0, {0}};
    for (int t = random.between(2, 9); t > 0; --t) in.tokens.push_back(random.below(config.vocabulary));
    for (int n = 0; n < steps; ++n) {
      const auto expected = here.step({in}), got = there.step({in});
      const int token = here.greedy()[0];
      const double error = test::relative_rms(got, expected);
      EXPECT_LT(error, 0.04) << "seed " << test::run_seed() << " prompt " << i << " step " << n;
      squares += error * error;
      same += there.greedy()[0] == token ? 1 : 0;
      in.cached += static_cast<int>(in.tokens.size());
      in.tokens = {token};
    }
  }
  std::printf("  relative difference %.2g (rms); %d of %d tokens are the same\n", std::sqrt(squares / (count * steps)),
              same, count * steps);
}

}  // namespace
}  // namespace faultline::kernels
