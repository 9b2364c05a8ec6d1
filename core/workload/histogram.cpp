#include "core/workload/histogram.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/workload/table.h"

namespace faultline::workload {

void Histogram::add(std::uint32_t value, double weight) {
  FAULTLINE_ASSERT(weight >= 0, "value={} weight={}", value, weight);
  if (!(weight > 0)) return;
  values_.push_back(value);
  cumulative_.push_back(total_weight() + weight);
}

double Histogram::mean() const {
  double sum = 0, before = 0;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    sum += values_[i] * (cumulative_[i] - before);
    before = cumulative_[i];
  }
  return values_.empty() ? 0 : sum / before;
}

std::uint32_t Histogram::draw(Random& random) const {
  FAULTLINE_ASSERT(!values_.empty());
  const double at = random.uniform() * cumulative_.back();
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), at);
  // Rounding of the product may reach the total itself.
  const auto index = std::min<std::size_t>(static_cast<std::size_t>(found - cumulative_.begin()), values_.size() - 1);
  return values_[index];
}

std::optional<Histogram> read_histogram(std::string_view text, const std::string& file,
                                        config::Diagnostics& diagnostics) {
  RowErrors errors(file, diagnostics);
  Table table(text, errors);
  const auto columns = table.columns({{"tokens"}, {"weight"}});
  if (!columns) return std::nullopt;
  Histogram histogram;
  while (table.next_row()) {
    const auto tokens = table.tokens((*columns)[0], 1);
    const auto weight = table.number((*columns)[1], 0, 1e18);
    if (tokens && weight) histogram.add(*tokens, *weight);
  }
  if (errors.count() == 0 && histogram.empty()) errors.whole_file("no row with a weight above 0");
  if (errors.count() > 0) return std::nullopt;
  return histogram;
}

}  // namespace faultline::workload
