// `faultline cluster run` as a user runs it: real processes, real signals. Outcomes are asserted, never how fast
// anything was; a run that is later than its scale wants is late, not wrong.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "core/record/event_log.h"

namespace faultline::live {
namespace {

namespace fs = std::filesystem;

struct Finished {
  int status = -1;
  std::string text;  // of both streams
};

class ClusterRun : public ::testing::Test {
 protected:
  void SetUp() override {
    program_ = fs::read_symlink("/proc/self/exe").parent_path() / "faultline";
    if (!fs::exists(program_)) GTEST_SKIP() << "the faultline binary is not built beside the tests";
    ::setenv("FAULTLINE_TEST_CLUSTER", std::to_string(::getpid()).c_str(), 1);  // marks the processes that we start
    folder_ = fs::temp_directory_path() / ("faultline-cluster-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override {
    if (!HasFailure()) fs::remove_all(folder_);
  }

  pid_t start(const std::vector<std::string>& arguments) {
    std::vector<char*> argv{const_cast<char*>(program_.c_str())};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    const std::string log = (folder_ / "text").string();
    const pid_t child = ::fork();
    if (child == 0) {
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      ::dup2(out, 1);
      ::dup2(out, 2);
      ::execv(program_.c_str(), argv.data());
      ::_exit(127);
    }
    return child;
  }
  Finished finish(pid_t child) {
    Finished f;
    int status = 0;
    ::waitpid(child, &status, 0);
    f.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    std::ifstream in(folder_ / "text");
    f.text.assign(std::istreambuf_iterator<char>(in), {});
    return f;
  }
  Finished call(const std::vector<std::string>& arguments) { return finish(start(arguments)); }
  std::string experiment(const std::string& name) const {
    return std::string(FAULTLINE_SOURCE_DIR) + "/experiments/live/" + name + ".yaml";
  }
  std::string out() const { return (folder_ / "out").string(); }
  nlohmann::json summary() const { return nlohmann::json::parse(std::ifstream(folder_ / "out" / "summary.json")); }
  /// Processes of clusters that this test has started, children of children too: they inherit a mark and a board.
  static std::size_t alive() {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::error_code error;
      const auto board = fs::read_symlink(entry.path() / "fd" / "4", error);
      if (error || board.string().find("cluster board") == std::string::npos) continue;
      std::ifstream in(entry.path() / "environ", std::ios::binary);
      const std::string text(std::istreambuf_iterator<char>(in), {});
      count += text.find("FAULTLINE_TEST_CLUSTER=" + std::to_string(::getpid())) != std::string::npos;
    }
    return count;
  }
  /// Those that the fleet manager found failed, by its log.
  std::set<std::uint32_t> detected_instances() const {
    std::ifstream in(folder_ / "out/logs/fleet-0.0.flog", std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(in), {});
    record::EventLogReader log(bytes);
    record::LogRecord r;
    std::set<std::uint32_t> found;
    while (log.next(r)) {
      for (const control::Command& c : r.commands) {
        const auto* note = std::get_if<control::NotePhase>(&c);
        if (note != nullptr && note->phase == control::Phase::detect) found.insert(note->instance.v);
      }
    }
    return found;
  }
  /// Its log holds so many bytes behind the experiment, with which it begins.
  bool router_heard(std::uintmax_t bytes) const {
    std::error_code error;
    const auto experiment = fs::file_size(folder_ / "out/experiment.yaml", error);
    if (error) return false;
    const auto log = fs::file_size(folder_ / "out/logs/router-0.0.flog", error);
    return !error && experiment > 0 && log > experiment + bytes;
  }
  /// Waits until it is so; a machine that is very busy gets its time.
  static bool wait(const std::function<bool()>& so) {
    for (int k = 0; k < 6'000; ++k) {
      if (so()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  fs::path program_, folder_;
};

TEST_F(ClusterRun, ANodeDiesTheInstanceRecoversOnASpareAndEveryLogReplays) {
  const Finished run =
      call({"cluster", "run", experiment("node_crash"), "--speed", "4", "--out", out(), "--quiet", "--set",
            "workload.duration=30 s", "--set", "network.rdma_timeout=15", "--set", "faults.0.at=8 s"});
  ASSERT_EQ(run.status, 0) << run.text;
  const auto s = summary();
  EXPECT_GT(s["requests"]["arrived"].get<int>(), 50);
  EXPECT_EQ(s["requests"]["unaccounted"], 0);
  EXPECT_EQ(s["requests"]["unfinished"], 0);
  EXPECT_EQ(s["requests"]["failed"], 0) << "the router tries lost attempts again";
  EXPECT_GE(s["requests"]["retried"].get<int>(), 1);
  EXPECT_EQ(s["requests"]["completed"], s["requests"]["arrived"]);
  const auto& fault = s["faults"][0];
  EXPECT_TRUE(fault["applied"].get<bool>());
  EXPECT_EQ(fault["blast_radius"]["instances_touched"]["direct"], 1);
  for (const char* phase : {"symptom", "detect", "decide", "reroute", "replace", "ready"})
    EXPECT_TRUE(fault["phases_s"][phase].is_number()) << phase;
  for (const char* file : {"requests.jsonl", "truth.jsonl", "experiment.yaml", "report.html", "logs/fleet-0.0.flog",
                           "logs/instance-1.0.flog"}) {
    EXPECT_TRUE(fs::exists(folder_ / "out" / file)) << file;
  }
  // The processes that end with the run are no failures that its log may name.
  EXPECT_EQ(detected_instances(), std::set<std::uint32_t>{1});
  const Finished replay = call({"replay", out()});
  EXPECT_EQ(replay.status, 0) << replay.text;
}

/// The bounds of docs/twin.md, which `compare` holds. They are times of an experiment, but a machine that is too busy
/// breaks them: ./faultline test --all runs it by itself, with nothing beside it.
TEST_F(ClusterRun, WhatIsObservedIsNearWhatWasPredicted) {
  if (std::getenv("FAULTLINE_TWIN_TEST") == nullptr) GTEST_SKIP() << "two minutes alone: FAULTLINE_TWIN_TEST=1";
  for (const char* name : {"node_crash", "rank_hang"}) {
    SCOPED_TRACE(name);
    const std::string predicted = (folder_ / "predicted").string();
    const Finished simulated = call({"run", experiment(name), "--out", predicted, "--quiet"});
    ASSERT_EQ(simulated.status, 0) << simulated.text;
    const Finished live = call({"cluster", "run", experiment(name), "--speed", "4", "--out", out(), "--quiet"});
    ASSERT_EQ(live.status, 0) << live.text;
    const Finished compared = call({"compare", predicted, out(), "--exit-code"});
    EXPECT_EQ(compared.status, 0) << compared.text;
    const Finished replay = call({"replay", out()});
    EXPECT_EQ(replay.status, 0) << replay.text;
    fs::remove_all(predicted);
    fs::remove_all(out());
  }
}

TEST_F(ClusterRun, CtrlCEndsEveryProcessAndWhatWasDoneIsReported) {
  const pid_t run = start({"cluster", "run", experiment("rank_hang"), "--speed", "2", "--out", out(), "--quiet"});
  ASSERT_TRUE(wait([&] { return router_heard(600); }));  // of that, some are arrivals
  ASSERT_GT(alive(), 5U);
  ::kill(run, SIGINT);
  const Finished finished = finish(run);
  EXPECT_EQ(finished.status, 130) << finished.text;
  EXPECT_EQ(alive(), 0U);
  EXPECT_GT(summary()["requests"]["arrived"].get<int>(), 0);
  const Finished replay = call({"replay", out()});
  EXPECT_EQ(replay.status, 0) << replay.text;
}

TEST_F(ClusterRun, WhenTheConductorIsKilledNoProcessRemains) {
  const pid_t run = start({"cluster", "run", experiment("rank_hang"), "--speed", "1", "--out", out(), "--quiet"});
  ASSERT_TRUE(wait([&] { return router_heard(1); }));
  ASSERT_GT(alive(), 5U);
  ::kill(run, SIGKILL);
  finish(run);
  EXPECT_TRUE(wait([&] { return alive() == 0; })) << alive() << " processes remain";
}

TEST_F(ClusterRun, AFaultThatNoSignalCanMakeTrueIsRefusedBeforeAnythingStarts) {
  const Finished run =
      call({"cluster", "run", std::string(FAULTLINE_SOURCE_DIR) + "/experiments/smoke/leaf_down.yaml", "--out", out()});
  EXPECT_EQ(run.status, 2);
  EXPECT_NE(run.text.find("switch.down"), std::string::npos) << run.text;
  EXPECT_NE(run.text.find("node.crash, gpu.failstop, gpu.hang and router.crash"), std::string::npos) << run.text;
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

}  // namespace
}  // namespace faultline::live
