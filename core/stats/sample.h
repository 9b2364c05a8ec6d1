// Summary statistics of a sample: moments as a running sum, and order statistics.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

namespace faultline::stats {

/// Count, mean and spread of a stream of numbers, in one pass without cancellation (Welford, 1962). The result depends
/// on the order of add() in the last bits only.
class Moments {
 public:
  void add(double x) {
    ++count_;
    const double delta = x - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (x - mean_);
  }
  std::int64_t count() const { return count_; }
  double mean() const { return mean_; }  // 0 of no numbers
  /// Of the population the numbers are drawn from (divides by n - 1); 0 below two numbers.
  double variance() const { return count_ < 2 ? 0 : squares_ / static_cast<double>(count_ - 1); }
  double deviation() const { return std::sqrt(variance()); }
  /// Coefficient of variation: deviation / mean; 0 where the mean is 0.
  double cv() const { return mean_ == 0 ? 0 : deviation() / mean_; }
  /// Half the width of the confidence interval of the mean at `z` standard errors (1.96: 95%), for independent numbers.
  double half_width(double z) const {
    return count_ < 2 ? 0 : z * deviation() / std::sqrt(static_cast<double>(count_));
  }

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

/// The q-quantile of ascending numbers, q in [0, 1] (asserted), linear between neighbours (type 7 of Hyndman and Fan,
/// 1996, the default of NumPy and R). 0 of no numbers.
double quantile(std::span<const double> ascending, double q);

}  // namespace faultline::stats
