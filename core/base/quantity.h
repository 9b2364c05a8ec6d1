// Units as types: a value of one kind never converts silently into another. All integer, so logs are byte-stable.
// Durations and instants are nanoseconds; a double for time appears only inside sim/engine.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace faultline {

template <class Tag>
struct Quantity {
  std::int64_t v{};

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return {a.v + b.v}; }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return {a.v - b.v}; }
  friend constexpr Quantity operator-(Quantity a) { return {-a.v}; }
  friend constexpr Quantity operator*(Quantity a, std::int64_t k) { return {a.v * k}; }
  friend constexpr Quantity operator*(std::int64_t k, Quantity a) { return {a.v * k}; }
  friend constexpr Quantity operator/(Quantity a, std::int64_t k) { return {a.v / k}; }
  friend constexpr std::int64_t operator/(Quantity a, Quantity b) { return a.v / b.v; }
  friend constexpr Quantity operator%(Quantity a, Quantity b) { return {a.v % b.v}; }
  constexpr Quantity& operator+=(Quantity b) {
    v += b.v;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity b) {
    v -= b.v;
    return *this;
  }
};

using Bytes = Quantity<struct BytesTag>;
using Tokens = Quantity<struct TokensTag>;
using Duration = Quantity<struct NanosecondsTag>;
using BytesPerSecond = Quantity<struct BytesPerSecondTag>;
using FlopsPerSecond = Quantity<struct FlopsPerSecondTag>;  // up to 9.2e18

/// A point on the run's time axis, ns since the run began.
struct Instant {
  std::int64_t ns{};
  friend constexpr auto operator<=>(Instant, Instant) = default;
  friend constexpr Instant operator+(Instant t, Duration d) { return {t.ns + d.v}; }
  friend constexpr Instant operator-(Instant t, Duration d) { return {t.ns - d.v}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return {a.ns - b.ns}; }
};

inline constexpr Instant kNever{std::numeric_limits<std::int64_t>::max()};
inline constexpr Duration kForever{std::numeric_limits<std::int64_t>::max()};

constexpr double seconds(Duration d) { return static_cast<double>(d.v) * 1e-9; }
constexpr double seconds(Instant t) { return static_cast<double>(t.ns) * 1e-9; }
/// Nearest nanosecond; saturates at kForever.
constexpr Duration duration_from_seconds(double s) {
  const double ns = s * 1e9;
  if (ns >= 9.2e18) return kForever;
  return {static_cast<std::int64_t>(ns + (ns < 0 ? -0.5 : 0.5))};
}

namespace literals {
constexpr Duration operator""_ns(unsigned long long x) { return {static_cast<std::int64_t>(x)}; }
constexpr Duration operator""_us(unsigned long long x) { return {static_cast<std::int64_t>(x) * 1'000}; }
constexpr Duration operator""_ms(unsigned long long x) { return {static_cast<std::int64_t>(x) * 1'000'000}; }
constexpr Duration operator""_s(unsigned long long x) { return {static_cast<std::int64_t>(x) * 1'000'000'000}; }
constexpr Bytes operator""_B(unsigned long long x) { return {static_cast<std::int64_t>(x)}; }
constexpr Bytes operator""_KiB(unsigned long long x) { return {static_cast<std::int64_t>(x) << 10}; }
constexpr Bytes operator""_MiB(unsigned long long x) { return {static_cast<std::int64_t>(x) << 20}; }
constexpr Bytes operator""_GiB(unsigned long long x) { return {static_cast<std::int64_t>(x) << 30}; }
constexpr Tokens operator""_tok(unsigned long long x) { return {static_cast<std::int64_t>(x)}; }
constexpr BytesPerSecond operator""_GBps(unsigned long long x) {
  return {static_cast<std::int64_t>(x) * 1'000'000'000};
}
constexpr BytesPerSecond operator""_Gbps(unsigned long long x) { return {static_cast<std::int64_t>(x) * 125'000'000}; }
}  // namespace literals

}  // namespace faultline
