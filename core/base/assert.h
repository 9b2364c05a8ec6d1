// Broken invariants end the process, in every build, with the values that broke them. User input never comes here.
#pragma once

#include <fmt/format.h>

#include <string>

namespace faultline {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const std::string& values);
}

/// FAULTLINE_ASSERT(a <= b, "a={} b={}", a, b)
#define FAULTLINE_ASSERT(expression, ...)                                                            \
  do {                                                                                               \
    if (!(expression)) [[unlikely]]                                                                  \
      ::faultline::assertion_failed(#expression, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
