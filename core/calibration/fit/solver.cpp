// Opens the solver's module beside the program at the first fit.
#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

#include "core/calibration/fit/least_squares.h"

namespace faultline::calibration {
namespace {

SolveFunction* open_solver() {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libfaultline_least_squares.so";
  void* module = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw std::runtime_error(fmt::format("the least-squares solver cannot be loaded: {}", dlerror()));
  auto* function = reinterpret_cast<SolveFunction*>(dlsym(module, "faultline_solve_least_squares"));
  if (function == nullptr) throw std::runtime_error(fmt::format("{} is not the least-squares solver of this build", beside.string()));
  return function;
}

}  // namespace

LeastSquaresResult solve(const LeastSquares& problem) {
  static SolveFunction* const function = open_solver();
  LeastSquaresResult result;
  function(problem, result);
  return result;
}

}  // namespace faultline::calibration
