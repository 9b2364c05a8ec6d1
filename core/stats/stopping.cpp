#include "core/stats/stopping.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "core/stats/sample.h"

namespace faultline::stats {
namespace {

double half_width(const Moments& m) {
  if (m.count() < 2) return std::numeric_limits<double>::infinity();
  const boost::math::students_t t(static_cast<double>(m.count() - 1));
  return m.half_width(boost::math::quantile(t, 0.975));
}

}  // namespace

Interval interval(std::span<const double> values) {
  Moments m;
  for (const double v : values) m.add(v);
  return {m.count(), m.mean(), half_width(m)};
}

std::optional<std::int64_t> stops_after(std::span<const double> values, const StoppingRule& rule) {
  Moments m;
  for (const double v : values) {
    m.add(v);
    if (m.count() < std::max<std::int64_t>(2, rule.least)) continue;
    if (m.count() >= rule.most || half_width(m) <= rule.relative_half_width * std::abs(m.mean())) return m.count();
  }
  return std::nullopt;
}

}  // namespace faultline::stats
