// Time with 16 fractional bits: one unit is 2^-16 ns. Prices of steps are sums of many small terms that grow by a
// fraction of a nanosecond with every token of context; in this unit the sums are exact integers, so a jump over k
// decode steps lasts exactly as long as its k single steps. Range: 39 hours.
#pragma once

#include <compare>
#include <cstdint>

#include "core/base/quantity.h"

namespace faultline::model {

struct FixedTime {
  std::int64_t v{};
  static constexpr int kFractionBits = 16;

  friend constexpr auto operator<=>(FixedTime, FixedTime) = default;
  friend constexpr FixedTime operator+(FixedTime a, FixedTime b) { return {a.v + b.v}; }
  friend constexpr FixedTime operator-(FixedTime a, FixedTime b) { return {a.v - b.v}; }
  friend constexpr FixedTime operator*(FixedTime a, std::int64_t k) { return {a.v * k}; }
  friend constexpr FixedTime operator*(std::int64_t k, FixedTime a) { return {a.v * k}; }
  constexpr FixedTime& operator+=(FixedTime b) {
    v += b.v;
    return *this;
  }
};

/// Nearest unit; ns >= 0. Only IEEE operations, so the same on every machine.
constexpr FixedTime fixed_from_ns(double ns) { return {static_cast<std::int64_t>(ns * 65536.0 + 0.5)}; }
constexpr FixedTime fixed_from(Duration d) { return {d.v << FixedTime::kFractionBits}; }
constexpr double nanoseconds(FixedTime t) { return static_cast<double>(t.v) / 65536.0; }
/// Rounded down. To keep a run of steps exact, sum in FixedTime and convert the sums, never the parts.
constexpr Duration whole_nanoseconds(FixedTime t) { return {t.v >> FixedTime::kFractionBits}; }

/// Sum over j = 0 … count-1 of first + slope * j.
constexpr FixedTime series_sum(FixedTime first, FixedTime slope, std::int64_t count) {
  return {first.v * count + slope.v * (count * (count - 1) / 2)};
}

}  // namespace faultline::model
