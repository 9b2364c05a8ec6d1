#include "kernels/tile/fp8.h"

#include <array>
#include <limits>

#include "kernels/ops/launch.h"
#include "support.h"

namespace faultline::kernels {
namespace {

// Every code's value from the definition of the format, in double.
double value(int code, Fp8Format f) {
  const int bias = f == Fp8Format::fnuz ? 8 : 7, e = code >> 3 & 15, m = code & 7;
  const double v = e == 0 ? std::ldexp(m / 8.0, 1 - bias) : std::ldexp(1.0 + m / 8.0, e - bias);
  return (code & 0x80) != 0 ? -v : v;
}
bool is_nan_code(int code, Fp8Format f) { return f == Fp8Format::fnuz ? code == 0x80 : (code & 0x7f) == 0x7f; }

class EveryCode : public testing::TestWithParam<Fp8Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, EveryCode, testing::Values(Fp8Format::fnuz, Fp8Format::fn));

TEST_P(EveryCode, DecodesToItsDefinition) {
  for (int c = 0; c < 256; ++c) {
    const float v = fp8_decode(static_cast<std::uint8_t>(c), GetParam());
    if (is_nan_code(c, GetParam())) {
      EXPECT_TRUE(std::isnan(v)) << c;
    } else {
      EXPECT_EQ(static_cast<double>(v), value(c, GetParam())) << c;
    }
  }
}

TEST_P(EveryCode, SurvivesARoundTrip) {
  for (int c = 0; c < 256; ++c) {
    const auto code = static_cast<std::uint8_t>(c);
    if (is_nan_code(c, GetParam())) continue;
    EXPECT_EQ(fp8_encode(fp8_decode(code, GetParam()), GetParam()), code) << c;
  }
}

TEST_P(EveryCode, IsTheNearestOfItsNeighbourhood) {
  test::Random random(1);
  std::vector<double> finite;
  for (int c = 0; c < 256; ++c)
    if (!is_nan_code(c, GetParam())) finite.push_back(value(c, GetParam()));
  for (int i = 0; i < 20000; ++i) {
    const float x = std::ldexp(random.uniform(-2.0F, 2.0F), random.between(-14, 9));
    const double got = value(fp8_encode(x, GetParam()), GetParam());
    double best = 1e9;
    for (const double v : finite) best = std::min(best, std::fabs(v - static_cast<double>(x)));
    ASSERT_EQ(std::fabs(got - static_cast<double>(x)), best) << x;
  }
}

TEST_P(EveryCode, TiesGoToTheEvenCode) {
  for (int c = 0; c + 1 < 0x7e; ++c) {
    const double middle = (value(c, GetParam()) + value(c + 1, GetParam())) / 2;
    EXPECT_EQ(fp8_encode(static_cast<float>(middle), GetParam()) & 1, 0) << c;
  }
}

TEST_P(EveryCode, SaturatesAndKeepsNaN) {
  const float largest = fp8_max(GetParam());
  for (const float x : {largest, largest * 1.01F, 1e30F, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(fp8_decode(fp8_encode(x, GetParam()), GetParam()), largest) << x;
    EXPECT_EQ(fp8_decode(fp8_encode(-x, GetParam()), GetParam()), -largest) << x;
  }
  EXPECT_TRUE(std::isnan(fp8_decode(fp8_encode(NAN, GetParam()), GetParam())));
  EXPECT_TRUE(std::isnan(fp8_decode(fp8_encode_unclamped(largest * 2, GetParam()), GetParam())))
      << "the hardware without a clamp";
}

TEST(Fp8, FnWeightsBecomeFnuzWithoutLossWhenTheScaleDoubles) {
  for (int c = 0; c < 256; ++c) {
    std::array<std::uint8_t, 1> code{static_cast<std::uint8_t>(c)};
    std::array<float, 1> scale{0.75F};
    const float before = fp8_decode(code[0], Fp8Format::fn) * scale[0];
    convert_weights_fn_to_fnuz(code, scale);
    const float after = fp8_decode(code[0], Fp8Format::fnuz) * scale[0];
    if (std::isnan(before)) {
      EXPECT_TRUE(std::isnan(after)) << c;
    } else {
      EXPECT_EQ(before, after) << c;
    }
  }
}

TEST(Fp8, FnuzBecomesFnExceptForItsTwoLargestCodes) {
  int refused = 0;
  for (int c = 0; c < 256; ++c) {
    auto code = static_cast<std::uint8_t>(c);
    const float before = fp8_decode(code, Fp8Format::fnuz);
    if (!fp8_fnuz_to_fn(code)) {
      ++refused;
      EXPECT_EQ(std::fabs(before), 240.0F);
    } else if (!std::isnan(before)) {
      EXPECT_EQ(fp8_decode(code, Fp8Format::fn), 2 * before) << c;
    } else {
      EXPECT_TRUE(std::isnan(fp8_decode(code, Fp8Format::fn)));
    }
  }
  EXPECT_EQ(refused, 2);
}

TEST(Fp8, EveryDeviceEncodesAsTheHostDoes) {
  // Through quantize with a row whose largest magnitude is the target: then the scale is 1 and codes are direct.
  test::Random random(2);
  std::vector<std::uint16_t> x(4096);
  for (auto& h : x) h = float_to_bf16(std::ldexp(random.uniform(-1.75F, 1.75F), random.between(-12, 7)));
  for (std::size_t i = 0; i < x.size(); ++i)
    if (std::fabs(bf16_to_float(x[i])) > kFp8FnuzTarget) x[i] = 0;
  x[17] = float_to_bf16(kFp8FnuzTarget);
  for (const auto& device : test::all_devices()) {
    SCOPED_TRACE(device->name());
    auto in = Buffer::of(*device, x);
    Buffer out(*device, x.size()), scale(*device, 4);
    FAULTLINE_DONE(
        quantize(*device, {in.data<std::uint16_t>(), out.data(), scale.data<float>(), 1, 4096, 4096, 4096, 0}));
    const float unit = test::unit(*device);
    EXPECT_EQ(scale.read<float>()[0], unit);
    const auto codes = out.read<std::uint8_t>();
    const Fp8Format format = device->fp8_format();
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(codes[i], fp8_encode(bf16_to_float(x[i]) / unit, format)) << bf16_to_float(x[i]);
  }
}

TEST(Quantize, GroupsHaveTheirOwnScalesAndABadRowPoisonsOnlyItself) {
  test::Random random(3);
  const int m = 7, k = 384;
  auto x = test::random_bf16(random, static_cast<std::size_t>(m) * k);
  for (int c = 0; c < k; ++c) x[static_cast<std::size_t>(2 * k + c)] = 0;  // a zero row
  x[static_cast<std::size_t>(4 * k + 200)] = float_to_bf16(NAN);
  x[static_cast<std::size_t>(5 * k + 5)] = float_to_bf16(std::numeric_limits<float>::infinity());
  test::SameBits same;
  for (const auto& device : test::all_devices()) {
    SCOPED_TRACE(device->name());
    auto in = Buffer::of(*device, x);
    Buffer out(*device, x.size()), scale(*device, m * 3 * 4);
    FAULTLINE_DONE(quantize(*device, {in.data<std::uint16_t>(), out.data(), scale.data<float>(), m, k, k, k, 1}));
    const auto codes = out.read<std::uint8_t>();
    const auto scales = scale.read<float>();
    same.expect(*device, "codes", codes);
    same.expect(*device, "scales", scales);
    for (int r = 0; r < m; ++r)
      for (int g = 0; g < 3; ++g) {
        const float s = scales[static_cast<std::size_t>(g * m + r)];
        if ((r == 4 && g == 1) || (r == 5 && g == 0)) {
          EXPECT_TRUE(std::isnan(s));
          continue;
        }
        ASSERT_FALSE(std::isnan(s)) << r << " " << g;
        for (int c = 0; c < 128; ++c) {
          const auto at = static_cast<std::size_t>(r * k + g * 128 + c);
          const float v = bf16_to_float(x[at]), back = fp8_decode(codes[at], device->fp8_format()) * s;
          // Half a unit in the last place of 3 mantissa bits, and half the denormal unit of the scaled grid.
          ASSERT_NEAR(back, v, std::fabs(v) * 0x1p-4F * 1.001F + s * 0x1p-11F) << r << " " << g << " " << c;
        }
      }
  }
}

}  // namespace
}  // namespace faultline::kernels
