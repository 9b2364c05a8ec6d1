// Experiments as text, deployed as `faultline check` does, with the files of the repository at hand.
#pragma once

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/config/diagnostics.h"
#include "core/experiment/deployment.h"

namespace faultline::experiment::testing {

inline std::optional<std::string> read_repository(const std::string& path) {
  std::ifstream in(path.starts_with('/') ? path : std::string(FAULTLINE_SOURCE_DIR "/") + path);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// All errors of an experiment called e.yaml in the repository's root, "" where it is well.
inline std::string errors_of(const std::string& text, const std::vector<std::string>& set = {}) {
  try {
    Overrides overrides;
    overrides.set = set;
    deploy(load(text, "e.yaml", overrides, read_repository));
  } catch (const config::ConfigError& e) {
    std::string message = e.what();
    if (!message.ends_with('\n')) message += '\n';
    return message;
  }
  return "";
}

/// Whether text is `pattern`, in which '*' stands for anything but a line's end.
inline bool matches(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] != '*') return !text.empty() && text[0] == pattern[0] && matches(text.substr(1), pattern.substr(1));
  for (std::size_t n = 0;; ++n) {
    if (matches(text.substr(n), pattern.substr(1))) return true;
    if (n == text.size() || text[n] == '\n') return false;
  }
}

inline const std::string kBase =
    "name: test\n"
    "seed: 1\n"
    "topology: topologies/fleets/mi300x-32-rail.yaml\n"
    "model: topologies/models/deepseek-v3.yaml\n"
    "device: topologies/devices/mi300x.yaml\n"
    "engine: topologies/engines/sglang.yaml\n"
    "fleet:\n"
    "  instances: 4\n"
    "  layout: 2P2D\n"
    "  prefill: {dp: 16, ep: 16, kv_precision: fp8}\n"
    "  decode: {dp: 16, ep: 16, kv_precision: fp8}\n"
    "  restart_unit: instance\n"
    "workload:\n"
    "  arrivals: {kind: poisson, rate: 8}\n"
    "  lengths: {kind: azure_conversation}\n"
    "  duration: 10 s\n"
    "faults:\n"
    "  - {id: leaf, kind: switch.down, target: leaf-0, at: 5 s, duration: 2 s}\n"
    "recovery: {policy: restart}\n";

}  // namespace faultline::experiment::testing
