#include "kernels/emulator/cdna3.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace faultline::kernels::emulator {
namespace {

constexpr int kLeastFloat = -126;

double power(int e) { return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52); }
double towards_zero(double v) { return static_cast<double>(static_cast<std::int64_t>(v)); }  // |v| < 2^63
double down(double v) {
  const double t = towards_zero(v);
  return t > v ? t - 1 : t;
}

struct Aligned {
  double units = 0;  // the value is units * 2^(exponent - 24)
  int exponent = kNoExponent;
};

Aligned sum_of(const float* products, const int* exponents, int n, int first, int step) {
  Aligned sum;
  for (int i = first; i < n; i += step) sum.exponent = std::max(sum.exponent, exponents[i]);
  if (sum.exponent == kNoExponent) return sum;
  const double scale = power(24 - sum.exponent);
  for (int i = first; i < n; i += step) sum.units += towards_zero(static_cast<double>(products[i]) * scale);
  return sum;
}
Aligned both(const Aligned& a, const Aligned& b) {
  if (a.exponent == kNoExponent || b.exponent == kNoExponent) return a.exponent == kNoExponent ? b : a;
  const int e = std::max(a.exponent, b.exponent);
  return {down(a.units * power(a.exponent - e)) + down(b.units * power(b.exponent - e)), e};
}

}  // namespace

int alignment_exponent(float v, int least) { return v == 0 ? kNoExponent : std::clamp(std::ilogb(v), least, 128); }

float cdna3_add(const float* products, const int* exponents, int n, float c, bool fp8) {
  double plain = static_cast<double>(c);
  for (int i = 0; i < n; ++i) plain += static_cast<double>(products[i]);
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  const Aligned sum = fp8 ? both(sum_of(products, exponents, n, 0, 2), sum_of(products, exponents, n, 1, 2))
                          : sum_of(products, exponents, n, 0, 1);
  if (sum.exponent == kNoExponent) return c;
  const int of_c = c == 0 ? kLeastFloat : alignment_exponent(c, kLeastFloat), e = std::max(sum.exponent, of_c);
  const double products_part = down(sum.units * power(sum.exponent - e + 7));
  const double c_part = fp8 && of_c < e - 25 ? 0.0 : down(static_cast<double>(c) * power(24 - e));
  return static_cast<float>((products_part + c_part * 128) * power(e - 31));
}

}  // namespace faultline::kernels::emulator
