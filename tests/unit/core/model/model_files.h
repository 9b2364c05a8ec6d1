// The models and devices that the project ships, read from its folders.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "core/model/device.h"
#include "core/model/shape.h"

namespace faultline::model {

inline std::string text_of(const std::string& path) {
  std::ifstream file(std::string(FAULTLINE_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline ModelShape shipped_model(const std::string& name) {
  config::Diagnostics diagnostics;
  const std::string path = "topologies/models/" + name + ".yaml";
  const ModelShape s = read_model(text_of(path), path, diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << diagnostics.text();
  return s;
}

inline DeviceSpec shipped_device(const std::string& name) {
  config::Diagnostics diagnostics;
  const std::string path = "topologies/devices/" + name + ".yaml";
  const DeviceSpec d = read_device(text_of(path), path, diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << diagnostics.text();
  return d;
}

}  // namespace faultline::model
