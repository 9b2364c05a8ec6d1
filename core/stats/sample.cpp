#include "core/stats/sample.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::stats {

double quantile(std::span<const double> ascending, double q) {
  FAULTLINE_ASSERT(q >= 0 && q <= 1, "q={}", q);
  if (ascending.empty()) return 0;
  const double place = q * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, ascending.size() - 1);
  const double part = place - static_cast<double>(below);
  return ascending[below] + part * (ascending[above] - ascending[below]);
}

}  // namespace faultline::stats
