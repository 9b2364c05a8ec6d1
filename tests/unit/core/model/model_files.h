// The models and devices that the project ships, read from its folders, and a model small enough for sums by hand.
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

/// Small enough that the numbers that tests expect of it were computed by hand.
inline ModelShape tiny() {
  ModelShape s;
  s.name = "tiny";
  s.hidden = 8;
  s.layers = 2;
  s.dense_layers = 1;
  s.vocab = 10;
  s.attention = {.kind = AttentionKind::gqa, .heads = 2, .kv_heads = 1, .head_dim = 4};
  s.dense_inter = 16;
  s.experts = 4;
  s.experts_per_token = 2;
  s.shared_experts = 1;
  s.expert_inter = 4;
  s.weight_precision = Precision::bf16;
  return s;
}

}  // namespace faultline::model
