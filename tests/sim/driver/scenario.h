// Whole runs of the simulator from experiment text, each in a process of its own, for tests.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>

#include "core/experiment/deployment.h"
#include "core/experiment/replay.h"
#include "core/record/event_log.h"
#include "core/record/run_codec.h"
#include "sim/driver/simulate.h"
#include "tests/support/in_child.h"

namespace faultline::test {

inline std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) return std::nullopt;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Outcome {
  record::RunRecord run;
  std::string log;

  std::size_t count(record::Outcome o) const {
    return static_cast<std::size_t>(
        std::count_if(run.requests.begin(), run.requests.end(), [o](const auto& r) { return r.outcome == o; }));
  }
  std::size_t completed() const { return count(record::Outcome::completed); }
};

using Change = std::function<void(experiment::Deployment&)>;

/// `text` names its parts as an experiment in experiments/smoke/ would.
inline experiment::ExperimentSpec spec_of(const std::string& text, const experiment::Overrides& overrides = {}) {
  return experiment::load(text, std::string(FAULTLINE_SOURCE_DIR) + "/experiments/smoke/test.yaml", overrides,
                          read_file);
}

/// Runs the experiment with its faults. `change` may alter the deployment first, for instance its prices.
inline Outcome simulate(const experiment::ExperimentSpec& spec, const Change& change = {},
                        sim::SimulateOptions options = {}) {
  options.check_every_step = true;
  const std::string bytes = in_child([&] {
    const auto deployment = experiment::deploy(spec);
    if (change) change(*deployment);
    std::string log;
    record::EventLogWriter writer(experiment::resolved(spec), [&](std::string_view piece) { log += piece; });
    options.log = &writer;
    const record::RunRecord run = sim::simulate(spec, *deployment, read_file, options);
    const std::string encoded = record::encode_run(run);
    return fmt::format("{:020}", encoded.size()) + encoded + log;
  });
  Outcome outcome;
  if (bytes.size() < 20) return outcome;  // the failure is recorded already
  const std::size_t size = std::stoull(bytes.substr(0, 20));
  outcome.run = record::decode_run(bytes.substr(20, size));
  outcome.log = bytes.substr(20 + size);
  return outcome;
}
inline Outcome simulate(const std::string& text, const Change& change = {}) { return simulate(spec_of(text), change); }

}  // namespace faultline::test
