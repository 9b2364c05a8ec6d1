#include "core/base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace faultline {
void assertion_failed(const char* expression, const char* file, int line, const std::string& values) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s%s%s\n", file, line, expression, values.empty() ? "" : "  ",
               values.c_str());
  std::abort();
}
}  // namespace faultline
