// The solver's module: see solver.cpp, which opens it.
#include "core/calibration/fit/least_squares.h"

#include <ceres/ceres.h>
#include <glog/logging.h>

#include <cmath>

#include "core/base/math.h"

namespace faultline::calibration {
namespace {

constexpr double kStep = 1e-4;

class Row final : public ceres::CostFunction {
 public:
  Row(const LeastSquares& problem, std::size_t row) : problem_(problem), row_(row) {
    set_num_residuals(1);
    mutable_parameter_block_sizes()->push_back(static_cast<int>(problem.start.size()));
  }
  bool Evaluate(double const* const* blocks, double* residual, double** jacobian) const override {
    const std::size_t count = problem_.start.size();
    std::vector<double> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = stable::exp(blocks[0][i]);
    residual[0] = problem_.error(values, row_);
    if (!std::isfinite(residual[0])) return false;
    if (jacobian == nullptr || jacobian[0] == nullptr) return true;
    const double up = stable::exp(kStep), down = stable::exp(-kStep);
    for (std::size_t i = 0; i < count; ++i) {
      const double at = values[i];
      values[i] = at * up;
      const double high = problem_.error(values, row_);
      values[i] = at * down;
      jacobian[0][i] = (high - problem_.error(values, row_)) / (2 * kStep);
      values[i] = at;
    }
    return true;
  }

 private:
  const LeastSquares& problem_;
  std::size_t row_;
};

class Prior final : public ceres::CostFunction {
 public:
  Prior(std::size_t count, std::size_t index, double centre, double sigma)
      : index_(index), centre_(centre), sigma_(sigma) {
    set_num_residuals(1);
    mutable_parameter_block_sizes()->push_back(static_cast<int>(count));
  }
  bool Evaluate(double const* const* blocks, double* residual, double** jacobian) const override {
    residual[0] = (blocks[0][index_] - centre_) / sigma_;
    if (jacobian != nullptr && jacobian[0] != nullptr) {
      for (int i = 0; i < parameter_block_sizes()[0]; ++i) jacobian[0][i] = 0;
      jacobian[0][index_] = 1 / sigma_;
    }
    return true;
  }

 private:
  std::size_t index_;
  double centre_, sigma_;
};

LeastSquaresResult solve_here(const LeastSquares& p) {
  static const bool quiet = [] {
    FLAGS_minloglevel = 3;  // Ceres warns through glog; what matters comes back as `converged`
    return true;
  }();
  (void)quiet;
  const std::size_t count = p.start.size();
  LeastSquaresResult result;
  result.value = p.start;
  ceres::Problem problem;
  problem.AddParameterBlock(result.value.data(), static_cast<int>(count));
  // Errors are divided by the loss scale, so that a prior of one sigma weighs as much as an error of that size.
  for (std::size_t row = 0; row < p.rows; ++row)
    problem.AddResidualBlock(new Row(p, row),
                             new ceres::ScaledLoss(new ceres::SoftLOneLoss(p.loss_scale),
                                                   1 / (p.loss_scale * p.loss_scale), ceres::TAKE_OWNERSHIP),
                             result.value.data());
  for (std::size_t i = 0; i < count; ++i)
    problem.AddResidualBlock(new Prior(count, i, p.prior[i], p.prior_sigma[i]), nullptr, result.value.data());
  ceres::Solver::Options options;
  options.max_num_iterations = p.iterations_max;
  options.linear_solver_type = ceres::DENSE_QR;
  options.function_tolerance = 1e-6;
  options.num_threads = 1;
  options.logging_type = ceres::SILENT;
  ceres::Solver::Summary summary;
  ceres::Solve(options, &problem, &summary);
  result.converged = summary.IsSolutionUsable();

  ceres::Covariance::Options covariance_options;
  covariance_options.algorithm_type = ceres::DENSE_SVD;
  covariance_options.null_space_rank = -1;
  ceres::Covariance covariance(covariance_options);
  result.sigma = p.prior_sigma;
  const std::vector<const double*> blocks{result.value.data()};
  if (covariance.Compute(blocks, &problem)) {
    std::vector<double> matrix(count * count);
    covariance.GetCovarianceBlock(result.value.data(), result.value.data(), matrix.data());
    for (std::size_t i = 0; i < count; ++i) {
      const double variance = matrix[i * count + i];
      if (variance > 0) result.sigma[i] = std::min(p.prior_sigma[i], std::sqrt(variance));
    }
  }
  return result;
}

}  // namespace
}  // namespace faultline::calibration

extern "C" __attribute__((visibility("default"))) void faultline_solve_least_squares(
    const faultline::calibration::LeastSquares& problem, faultline::calibration::LeastSquaresResult& result) {
  result = faultline::calibration::solve_here(problem);
}
