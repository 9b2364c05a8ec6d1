// Sweeps under mpirun: the results file is the one that a single process makes, also after a kill in the middle.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "tests/cli/rows.h"

namespace {

namespace fs = std::filesystem;
const std::string kProgram = FAULTLINE_PROGRAM;

class SweepUnderMpi : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("mpirun --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "mpirun is not installed";
    if (!fs::exists(fs::path(kProgram).parent_path() / "libfaultline_mpi.so")) GTEST_SKIP() << "built without MPI";
    folder_ = fs::temp_directory_path() / ("faultline-mpi-test-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    std::ofstream(folder_ / "sweep.yaml") << "name: mpi\nexperiment: " FAULTLINE_SOURCE_DIR
                                             "/experiments/bench/replicas_3_instances.yaml\n"
                                             "seeds: 6\ngrid:\n  fleet.restart_unit: [ep_group, instance]\n";
  }
  void TearDown() override {
    std::error_code error;
    if (!folder_.empty()) fs::remove_all(folder_, error);
  }
  std::string sweep(const std::string& out) const {
    return kProgram + " sweep " + (folder_ / "sweep.yaml").string() + " -q --out " + (folder_ / out).string();
  }
  static std::string under_mpi(int ranks, const std::string& command) {
    // Root and more ranks than cores: both usual on a build machine.
    return "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -np " +
           std::to_string(ranks) + " " + command + " >/dev/null 2>&1";
  }
  /// Every row of the results file, by its key.
  std::map<std::string, std::string> rows(const std::string& out) const {
    return faultline::test::rows((folder_ / out).string());
  }
  fs::path folder_;
};

TEST_F(SweepUnderMpi, ResultsEqualThoseOfOneProcess) {
  ASSERT_EQ(std::system((sweep("one.sqlite") + " -j1 >/dev/null").c_str()), 0);
  ASSERT_EQ(std::system(under_mpi(3, sweep("three.sqlite")).c_str()), 0);
  const auto one = rows("one.sqlite"), three = rows("three.sqlite");
  EXPECT_EQ(one.size(), 12U);
  EXPECT_EQ(one, three);
}

// Rounds of seeds are added until the interval is narrow: the number depends on the values by seed, not on the ranks.
TEST_F(SweepUnderMpi, AStoppingRuleStopsAtTheSameSeedOnAnyNumberOfRanks) {
  const std::string rule = " --stop-within 0.02 --least 4 --most 40 --figure 'lost GPU-s'";
  ASSERT_EQ(std::system((sweep("one.sqlite") + rule + " -j1 >/dev/null").c_str()), 0);
  ASSERT_EQ(std::system(under_mpi(3, sweep("three.sqlite") + rule).c_str()), 0);
  const auto one = rows("one.sqlite"), three = rows("three.sqlite");
  EXPECT_GT(one.size(), 8U) << "the first round is not enough, or the test shows nothing";
  EXPECT_EQ(one, three);
}

TEST_F(SweepUnderMpi, KilledJobGoesOnFromWhatIsStored) {
  ASSERT_EQ(std::system((sweep("one.sqlite") + " -j1 >/dev/null").c_str()), 0);
  const pid_t job = fork();
  ASSERT_GE(job, 0);
  if (job == 0) {
    setpgid(0, 0);
    const std::string command = "exec env " + under_mpi(2, sweep("killed.sqlite"));
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  std::size_t stored = 0;
  for (int k = 0; k < 6000 && stored < 3; ++k) {  // until a few replicas are there
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    stored = rows("killed.sqlite").size();
  }
  kill(job, SIGKILL);  // mpirun: its ranks see their launcher gone
  kill(-job, SIGKILL);
  waitpid(job, nullptr, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  stored = rows("killed.sqlite").size();
  ASSERT_GE(stored, 3U);
  const auto before = rows("killed.sqlite");
  ASSERT_EQ(std::system(under_mpi(2, sweep("killed.sqlite")).c_str()), 0);
  const auto after = rows("killed.sqlite"), one = rows("one.sqlite");
  EXPECT_EQ(after, one);
  for (const auto& [key, row] : before) EXPECT_EQ(after.at(key), row);
}

}  // namespace
