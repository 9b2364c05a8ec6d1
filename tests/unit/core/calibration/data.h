// The shared measurements, where they are: $FAULTLINE_DATA or ../shared/data beside the sources. Tests that need them
// skip visibly without.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

namespace faultline::calibration::testing {

inline std::string data_folder() {
  if (const char* set = std::getenv("FAULTLINE_DATA")) return set;
  return std::string(FAULTLINE_SOURCE_DIR) + "/../shared/data";
}

inline std::string read_unpacked(const std::string& path) {
  std::string text;
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return text;
  char buffer[1 << 16];
  for (int count = 0; (count = gzread(file, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  gzclose(file);
  return text;
}

#define FAULTLINE_SHARED_FILE(variable, name)                                                   \
  const std::string variable = ::faultline::calibration::testing::data_folder() + "/" + (name); \
  if (!std::filesystem::exists(variable)) GTEST_SKIP() << "shared data absent: " << variable

}  // namespace faultline::calibration::testing
