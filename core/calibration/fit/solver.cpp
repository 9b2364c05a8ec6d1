// Opens the solver's module at the first fit.
#include "core/base/module.h"
#include "core/calibration/fit/least_squares.h"

namespace faultline::calibration {

LeastSquaresResult solve(const LeastSquares& problem) {
  static SolveFunction* const function =
      open_module<SolveFunction>("libfaultline_least_squares.so", "faultline_solve_least_squares");
  LeastSquaresResult result;
  function(problem, result);
  return result;
}

}  // namespace faultline::calibration
