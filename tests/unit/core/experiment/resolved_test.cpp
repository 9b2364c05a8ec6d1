// `faultline check --resolved`: the complete experiment reads back to the same experiment.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/unit/core/experiment/support.h"

namespace faultline::experiment {
namespace {

using namespace testing;

/// Every file below experiments/ that is an experiment (studies, sweeps and calibration tables have another form).
std::vector<std::string> experiment_files() {
  const std::filesystem::path root(FAULTLINE_SOURCE_DIR);
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "experiments")) {
    if (entry.path().extension() != ".yaml") continue;
    const std::string path = std::filesystem::relative(entry.path(), root).string();
    const std::string text = "\n" + *read_repository(path);
    if (text.find("\nworkload:") != std::string::npos && text.find("\nfleet:") != std::string::npos)
      files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(ResolvedExperiment, ReadsBackToItselfForEveryFileInExperiments) {
  const auto files = experiment_files();
  EXPECT_GE(files.size(), 2U);
  for (const std::string& file : files) {
    const std::string once = resolved(load(*read_repository(file), file, {}, read_repository));
    // Nothing is read from elsewhere any more.
    const auto no_files = [](const std::string& path) -> std::optional<std::string> {
      ADD_FAILURE() << "the resolved experiment reads " << path;
      return std::nullopt;
    };
    EXPECT_EQ(resolved(load(once, "resolved.yaml", {}, no_files)), once) << file;
  }
}

TEST(ResolvedExperiment, DeploysTheSameFleet) {
  const auto a = deploy(load(kBase, "e.yaml", {}, read_repository));
  const auto b = deploy(load(resolved(load(kBase, "e.yaml", {}, read_repository)), "r.yaml", {}, read_repository));
  ASSERT_EQ(a->instances.size(), b->instances.size());
  for (std::size_t i = 0; i < a->instances.size(); ++i) {
    ASSERT_EQ(a->instances[i].groups.size(), b->instances[i].groups.size());
    for (std::size_t g = 0; g < a->instances[i].groups.size(); ++g) {
      EXPECT_EQ(a->instances[i].groups[g].nodes, b->instances[i].groups[g].nodes);
      EXPECT_EQ(a->instances[i].groups[g].kv_blocks_per_rank, b->instances[i].groups[g].kv_blocks_per_rank);
    }
  }
  EXPECT_EQ(a->kv_bytes_per_token, b->kv_bytes_per_token);
  EXPECT_EQ(a->faults.size(), b->faults.size());
}

TEST(ResolvedExperiment, KeepsWhatTheCommandLineSet) {
  Overrides o;
  o.set = {"fleet.instances=3", "recovery.decision_delay=7 ms"};
  o.seed = 99;
  const std::string text = resolved(load(kBase, "e.yaml", o, read_repository));
  const ExperimentSpec s = load(text, "r.yaml", {}, read_repository);
  EXPECT_EQ(s.fleet.instances, 3U);
  EXPECT_EQ(s.seed, 99U);
  EXPECT_EQ(s.recovery.decision_delay, Duration{7'000'000});
}

TEST(InstanceLayout, ReadsWhatItWrites) {
  for (const char* text : {"1P1D", "2P2D", "25P25D", "9999P1D", "1PD", "4PD"}) {
    const auto layout = InstanceLayout::parse(text);
    ASSERT_TRUE(layout) << text;
    EXPECT_EQ(layout->text(), text);
  }
  for (const char* text : {"", "P", "PD", "0PD", "2P", "2D", "2P2", "2P 2D", "2P2D2", "-1P1D", "2p2d", "12345PD"}) {
    EXPECT_FALSE(InstanceLayout::parse(text)) << text;
  }
}

}  // namespace
}  // namespace faultline::experiment
