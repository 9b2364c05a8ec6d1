// Golden files: compared byte by byte, rewritten by FAULTLINE_UPDATE_GOLDEN=1 build/<preset>/bin/test_unit.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace faultline::report::testing {

inline void expect_golden(const std::string& name, const std::string& actual) {
  const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/tests/unit/core/report/golden/" + name;
  if (std::getenv("FAULTLINE_UPDATE_GOLDEN")) {
    std::ofstream(path) << actual;
    GTEST_SKIP() << "rewrote " << path;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file.good()) << "missing " << path;
  std::stringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(actual, expected.str()) << "differs from " << path;
}

}  // namespace faultline::report::testing
