// Named, keyed random values. A value is a pure function of (seed, purpose, entity, attempt, position), so that a new
// consumer or a fault never shifts the draws of another: runs with and without a fault share every other draw.
//
//   Random r(seed, "arrival/gap", request);   // entity may be any id or index
//   Duration gap = duration_from_seconds(r.exponential(1.0 / rate));
//
// All distributions use core/base/math.h, so they are bit-identical on every machine.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "core/base/hash.h"

namespace faultline {

class Random {
 public:
  explicit constexpr Random(std::uint64_t key) : key_(key) {}
  constexpr Random(std::uint64_t seed, std::string_view purpose, std::uint64_t entity = 0, std::uint64_t attempt = 0)
      : key_(hash_combine(hash_combine(hash_combine(mix64(seed), hash_text(purpose)), entity), attempt)) {}

  /// The same stream for another entity: cheaper than hashing the purpose again.
  constexpr Random at(std::uint64_t entity, std::uint64_t attempt = 0) const {
    return Random(hash_combine(hash_combine(key_, entity), attempt));
  }

  constexpr std::uint64_t bits() { return mix64(key_ + 0x9e3779b97f4a7c15ULL * ++position_); }
  /// Uniform on [0, 1): 53 random bits.
  constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  /// Uniform on (0, 1): never 0, so its logarithm is finite.
  constexpr double uniform_open() { return (static_cast<double>(bits() >> 12) + 0.5) * 0x1p-52; }
  /// Uniform on 0 … n-1; n > 0 (asserted). Unbiased (Lemire's multiply-and-reject).
  std::uint64_t below(std::uint64_t n);
  bool chance(double probability) { return uniform() < probability; }

  double exponential(double mean);
  double normal();  // standard normal, by inversion-free polar method
  /// Two independent ones at the cost of one; the first is what normal() would give.
  std::pair<double, double> normal_pair();
  double lognormal(double log_mean, double log_deviation);
  /// Mean shape * scale. Marsaglia and Tsang (2000); shape > 0, scale > 0 (asserted).
  double gamma(double shape, double scale);
  /// Survival exp(-(x/scale)^shape); shape > 0, scale > 0 (asserted).
  double weibull(double shape, double scale);
  /// Number of events in a Poisson process of the given mean; mean in [0, 1e6].
  std::uint64_t poisson(double mean);

 private:
  std::uint64_t key_;
  std::uint64_t position_ = 0;
};

}  // namespace faultline
