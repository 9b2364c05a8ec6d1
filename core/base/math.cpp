#include "core/base/math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/base/assert.h"

namespace faultline::stable {
namespace {

constexpr double kLn2Hi = 6.93147180369123816490e-01;
constexpr double kLn2Lo = 1.90821492927058770002e-10;
constexpr double kInvLn2 = 1.44269504088896338700e+00;
constexpr double kPi = 3.14159265358979311600e+00;

/// x * 2^k without the C library; k in [-1100, 1100].
double scale_by_power_of_two(double x, int k) {
  while (k > 1000) {
    x *= std::bit_cast<double>(std::uint64_t{1000 + 1023} << 52);
    k -= 1000;
  }
  while (k < -1000) {
    x *= std::bit_cast<double>(std::uint64_t{1023 - 1000} << 52);
    k += 1000;
  }
  return x * std::bit_cast<double>(static_cast<std::uint64_t>(k + 1023) << 52);
}

/// x = m * 2^k with m in [sqrt(1/2), sqrt(2)).
double split_exponent(double x, int& k) {
  k = 0;
  if (x < std::numeric_limits<double>::min()) {  // subnormal
    x *= 18014398509481984.0;                    // 2^54
    k = -54;
  }
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
  k += static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffULL) | (std::uint64_t{1023} << 52));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++k;
  }
  return m;
}

double sin_kernel(double x) {  // |x| <= pi/4
  const double z = x * x;
  const double r =
      8.33333333332248946124e-03 +
      z * (-1.98412698298579493134e-04 +
           z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
  return x + z * x * (-1.66666666666666324348e-01 + z * r);
}

double cos_kernel(double x) {
  const double z = x * x;
  const double r = z * (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 +
                             z * (2.48015872894767294178e-05 +
                                  z * (-2.75573143513906633035e-07 +
                                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  return 1.0 - (0.5 * z - z * r);
}

/// x = n * pi/2 + r, |r| <= pi/4 (Cody-Waite in three parts; exact enough for |x| < 1e6).
double reduce_half_pi(double x, int& quadrant) {
  const double n = std::floor(x * 6.36619772367581382433e-01 + 0.5);
  quadrant = static_cast<int>(static_cast<std::int64_t>(n) & 3);
  return ((x - n * 1.57079632673412561417e+00) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21;
}

/// 2^-k log(1+f) series of fdlibm for m = 1 + f in [sqrt(1/2), sqrt(2)): returns the correction R with
/// log(1+f) = f - (f*f/2 - s*(f*f/2 + R)).
double log_remainder(double f, double& s) {
  s = f / (2.0 + f);
  const double z = s * s, w = z * z;
  const double t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double t2 =
      z * (6.666666666666735130e-01 +
           w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  return t1 + t2;
}

}  // namespace

double log(double x) {
  FAULTLINE_ASSERT(x > 0, "x={}", x);
  if (x == std::numeric_limits<double>::infinity()) return x;
  int k = 0;
  const double f = split_exponent(x, k) - 1.0;
  double s = 0;
  const double r = log_remainder(f, s);
  const double half = 0.5 * f * f;
  return k * kLn2Hi - ((half - (s * (half + r) + k * kLn2Lo)) - f);
}

double exp(double x) {
  if (x > 709.782712893383973096) return std::numeric_limits<double>::infinity();
  if (x < -745.13321910194110842) return 0.0;
  const double n = std::floor(x * kInvLn2 + 0.5);
  const double hi = x - n * kLn2Hi, lo = n * kLn2Lo;
  const double r = hi - lo;
  const double t = r * r;
  const double c =
      r -
      t * (1.66666666666666019037e-01 +
           t * (-2.77777777770155933842e-03 +
                t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
  const double y = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi);
  return scale_by_power_of_two(y, static_cast<int>(n));
}

double pow(double x, double y) {
  FAULTLINE_ASSERT(x >= 0, "x={}", x);
  if (y == 0.0 || x == 1.0) return 1.0;
  if (x == 0.0) return y > 0 ? 0.0 : std::numeric_limits<double>::infinity();
  // log x as hi + lo: lo is the error of hi, by one Newton step on exp.
  const double hi = log(x);
  const double back = exp(hi);
  const double lo = (back > 0 && back < std::numeric_limits<double>::infinity()) ? (x - back) / back : 0.0;
  const double p = y * hi;
  // Exact product error by Dekker splitting (no fma, which not every processor has).
  const auto split = [](double a, double& h) {
    const double t = 134217729.0 * a;
    h = t - (t - a);
    return a - h;
  };
  double y_hi = 0, l_hi = 0;
  const double y_lo = split(y, y_hi), l_lo = split(hi, l_hi);
  const double error = ((y_hi * l_hi - p) + y_hi * l_lo + y_lo * l_hi) + y_lo * l_lo;
  return exp(p) * (1.0 + (error + y * lo));
}

double sin(double x) {
  int q = 0;
  const double r = reduce_half_pi(x, q);
  switch (q) {
    case 0: return sin_kernel(r);
    case 1: return cos_kernel(r);
    case 2: return -sin_kernel(r);
    default: return -cos_kernel(r);
  }
}

double cos(double x) {
  int q = 0;
  const double r = reduce_half_pi(x, q);
  switch (q) {
    case 0: return cos_kernel(r);
    case 1: return -sin_kernel(r);
    case 2: return -cos_kernel(r);
    default: return sin_kernel(r);
  }
}

double lgamma(double x) {
  FAULTLINE_ASSERT(x > 0, "x={}", x);
  if (x < 0.5) return log(kPi / sin(kPi * x)) - lgamma(1.0 - x);
  constexpr double c[] = {0.99999999999980993,  676.5203681218851,     -1259.1392167224028,
                          771.32342877765313,   -176.61502916214059,   12.507343278686905,
                          -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7};
  const double z = x - 1.0;
  double a = c[0];
  for (int i = 1; i < 9; ++i) a += c[i] / (z + i);
  const double t = z + 7.5;
  return 0.91893853320467274178 + (z + 0.5) * log(t) - t + log(a);
}

}  // namespace faultline::stable
