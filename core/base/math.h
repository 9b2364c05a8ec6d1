// Elementary functions whose results do not depend on the C library or the processor: only +, -, *, / and sqrt of
// IEEE doubles (exactly rounded everywhere; contraction is off in the whole build). Everything that decides a simulated
// time or a random draw uses these instead of <cmath>.
// Algorithms: argument reduction and the polynomials of fdlibm 5.3 (Sun Microsystems, freely distributable).
// Accuracy: within 2 ulp over the ranges stated; tests/unit/core/base/math_test.cpp compares with <cmath>.
#pragma once

namespace faultline::stable {

/// Natural logarithm; x > 0 (asserted). log(inf) = inf.
double log(double x);
/// Exponential; overflows to inf above 709.78, underflows to 0 below -745.13.
double exp(double x);
/// x^y for x >= 0, as exp(y log x) with a double-double logarithm; relative error below 1e-14 for |y log x| < 50.
double pow(double x, double y);
/// Sine and cosine; |x| < 1e6.
double sin(double x);
double cos(double x);
/// Logarithm of the gamma function, x > 0. Lanczos approximation (g = 7, n = 9), relative error below 1e-13.
double lgamma(double x);

}  // namespace faultline::stable
