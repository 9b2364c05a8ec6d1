// An empirical distribution over token counts: values with weights, drawn by inversion.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/config/diagnostics.h"

namespace faultline::workload {

class Histogram {
 public:
  /// Weight >= 0 (asserted); a weight of 0 is kept out. Values may come in any order.
  void add(std::uint32_t value, double weight);
  bool empty() const { return values_.empty(); }
  std::size_t size() const { return values_.size(); }
  double total_weight() const { return cumulative_.empty() ? 0 : cumulative_.back(); }
  double mean() const;
  /// One value with chance weight / total_weight. Precondition: not empty (asserted). O(log size).
  std::uint32_t draw(Random& random) const;

 private:
  std::vector<std::uint32_t> values_;
  std::vector<double> cumulative_;
};

/// Reads a CSV with the columns `tokens,weight` (weights as counts or probabilities, any scale). Errors carry
/// file:line.
std::optional<Histogram> read_histogram(std::string_view text, const std::string& file,
                                        config::Diagnostics& diagnostics);

}  // namespace faultline::workload
