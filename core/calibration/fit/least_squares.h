// Robust least squares on positive parameters, by Ceres. The only user of its headers, which compile slowly.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace faultline::calibration {

struct LeastSquares {
  std::vector<double> start;               // logarithms of the parameters
  std::vector<double> prior, prior_sigma;  // of the logarithms
  std::size_t rows = 0;
  /// log(predicted / measured) of a row at the given parameters (not their logarithms), times the row's weight.
  std::function<double(std::span<const double> parameters, std::size_t row)> error;
  double loss_scale = 0.1;  // errors beyond it count linearly (soft L1)
  int iterations_max = 60;
};

struct LeastSquaresResult {
  std::vector<double> value;  // logarithms
  std::vector<double>
      sigma;  // standard errors from the curvature, residual variance included; prior's where undetermined
  bool converged = false;
};

/// Deterministic: one thread, central differences of 1e-4 in the logarithms. Throws std::runtime_error when the
/// solver's module (least_squares.cpp, beside the program) cannot be loaded.
LeastSquaresResult solve(const LeastSquares& problem);

/// What the module exports, with C linkage, as faultline_solve_least_squares.
using SolveFunction = void(const LeastSquares& problem, LeastSquaresResult& result);

}  // namespace faultline::calibration
