#include "core/base/random.h"

#include <cmath>

#include "core/base/assert.h"
#include "core/base/math.h"

namespace faultline {

__extension__ using Wide = unsigned __int128;

std::uint64_t Random::below(std::uint64_t n) {
  FAULTLINE_ASSERT(n > 0);
  Wide product = static_cast<Wide>(bits()) * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t threshold = (0 - n) % n;
    while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(bits()) * n;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

double Random::exponential(double mean) { return -mean * stable::log(uniform_open()); }

double Random::normal() { return normal_pair().first; }

std::pair<double, double> Random::normal_pair() {
  for (;;) {
    const double u = 2 * uniform() - 1, v = 2 * uniform() - 1, s = u * u + v * v;
    if (s > 0 && s < 1) {
      const double factor = std::sqrt(-2 * stable::log(s) / s);
      return {u * factor, v * factor};
    }
  }
}

double Random::lognormal(double log_mean, double log_deviation) {
  return stable::exp(log_mean + log_deviation * normal());
}

double Random::gamma(double shape, double scale) {
  FAULTLINE_ASSERT(shape > 0 && scale > 0, "shape={} scale={}", shape, scale);
  if (shape < 1) {
    const double boost = stable::pow(uniform_open(), 1 / shape);
    return gamma(shape + 1, scale) * boost;
  }
  const double d = shape - 1.0 / 3.0, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(), t = 1 + c * x;
    if (t <= 0) continue;
    const double v = t * t * t, u = uniform_open();
    if (stable::log(u) < 0.5 * x * x + d - d * v + d * stable::log(v)) return d * v * scale;
  }
}

double Random::weibull(double shape, double scale) {
  FAULTLINE_ASSERT(shape > 0 && scale > 0, "shape={} scale={}", shape, scale);
  return scale * stable::pow(-stable::log(uniform_open()), 1 / shape);
}

std::uint64_t Random::poisson(double mean) {
  FAULTLINE_ASSERT(mean >= 0 && mean <= 1e6, "mean={}", mean);
  // Sums of parts of mean at most 16, each by counting exponential gaps: exact, and fast enough for our means.
  std::uint64_t count = 0;
  while (mean > 0) {
    const double part = mean < 16 ? mean : 16;
    mean -= part;
    double product = uniform_open();
    const double limit = stable::exp(-part);
    while (product > limit) {
      ++count;
      product *= uniform_open();
    }
  }
  return count;
}

}  // namespace faultline
