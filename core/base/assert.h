// Broken invariants end the process, in every build, with the values that broke them. User input never comes here.
#pragma once

#include <fmt/format.h>

#include <string>

namespace faultline {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const std::string& values);
}

/// FAULTLINE_ASSERT(a <= b, "a={} b={}", a, b)
#define FAULTLINE_ASSERT(expression, ...)                                                                       \
  do {                                                                                                          \
    if (!(expression)) [[unlikely]]                                                                             \
      ::faultline::assertion_failed(#expression, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__));             \
  } while (false)

#ifdef FAULTLINE_CHECKS
#define FAULTLINE_CHECK(...) FAULTLINE_ASSERT(__VA_ARGS__)
#else
/// As FAULTLINE_ASSERT, but only in builds with FAULTLINE_CHECKS: for checks that cost more than the work they guard.
#define FAULTLINE_CHECK(...) \
  do {                       \
  } while (false)
#endif
