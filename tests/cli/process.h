// Running the built program as a user would: its arguments, what it printed, how it ended, signals on the way.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace faultline::test {

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Ended {
  int status = -1;  // exit status; -signal where one ended it
  std::string out, err;
};

/// A folder of its own for each test, gone afterwards.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "faultline-cli-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// A process in a group of its own, so that a signal reaches its children as Ctrl-C at a terminal would.
class Process {
 public:
  Process(const Folder& folder, std::vector<std::string> arguments, const std::string& program = FAULTLINE_PROGRAM)
      : out_(folder / "stdout"), err_(folder / "stderr") {
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      const int in = open("/dev/null", O_RDONLY);
      const int out = open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      const int err = open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (chdir(folder.path().c_str()) != 0) _exit(126);
      dup2(in, 0), dup2(out, 1), dup2(err, 2);
      std::vector<char*> argv{const_cast<char*>(program.c_str())};
      for (std::string& a : arguments) argv.push_back(a.data());
      argv.push_back(nullptr);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    setpgid(pid_, pid_);
  }
  ~Process() {
    if (pid_ > 0) {
      kill(-pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// True as soon as `what` holds; false where the process ended before.
  bool until(const std::function<bool()>& what) {
    while (!what()) {
      siginfo_t info{};
      if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == pid_)
        return what();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
  }
  void signal_group(int number) const { kill(-pid_, number); }
  Ended wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), slurp(out_), slurp(err_)};
  }

 private:
  std::string out_, err_;
  pid_t pid_ = -1;
};

inline Ended call(const Folder& folder, std::vector<std::string> arguments) {
  return Process(folder, std::move(arguments)).wait();
}

inline std::string source(const std::string& path) { return std::string(FAULTLINE_SOURCE_DIR) + "/" + path; }

/// A small fleet that is simulated in a moment; `name` and `duration` (of the arrivals, s) differ by test.
inline std::string experiment_text(const std::string& name, int duration) {
  return fmt::format(R"(name: {0}
question: does it run?
answer: yes
seed: 1
topology:
  name: tiny
  nodes: 4
  hosts: 1
  node: {{from: {1}/topologies/nodes/mi300x-8gpu.yaml, name: 4x MI300X, gpus: 4, nics: 4}}
  fabric: {{from: {1}/topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 4}}
model: {1}/topologies/models/qwen3-235b-a22b.yaml
device: {1}/topologies/devices/mi300x.yaml
engine: {1}/topologies/engines/ideal.yaml
fleet: {{instances: 2, layout: 1P1D, prefill: {{dp: 4, ep: 4}}, decode: {{dp: 4, ep: 4}}}}
workload:
  arrivals: {{kind: poisson, rate: 20}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 200, max: 200}}, output: {{kind: uniform, min: 20, max: 20}}}}
  duration: {2} s
faults: [{{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-1, at: 5 s, repair: 1 s}}]
)",
                     name, FAULTLINE_SOURCE_DIR, duration);
}

inline std::string write(const Folder& folder, const std::string& name, const std::string& text) {
  const std::string path = folder / name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

}  // namespace faultline::test
