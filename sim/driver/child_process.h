// One piece of work in a process of its own: SimGrid allows one simulation a process, and a crash takes nothing with
// it. What the work returns, or the error that it threw, comes back through a pipe. Every run beside this process goes
// through here: paired runs, replicas of sweeps, cases of campaigns, tasks of a plan.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

namespace faultline::sim {

class ChildProcess {
 public:
  /// Forks: call before this process has threads or an engine. In the child SIGINT is ignored (the parent decides what
  /// an interrupt means; what runs is finished). Throws std::runtime_error where the system gives no process.
  explicit ChildProcess(const std::function<std::string()>& work);
  ~ChildProcess();  // a child that was not waited for is ended
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// To poll: readable when read_some() will not block.
  int fd() const { return fd_; }
  /// Takes what the child has written. False at its end: then wait() returns at once.
  bool read_some();

  struct Result {
    std::string bytes;  // what the work returned
    std::string
        error;  // why it ended without: what it threw, "the process was ended by signal 6"; empty where it ended well
    bool well() const { return error.empty(); }
  };
  /// Reads on until the child has ended.
  Result wait();

 private:
  void end();
  pid_t pid_ = -1;
  int fd_ = -1;
  std::string bytes_;
};

/// All of `bytes`, however often a signal comes between. False where the other end is gone.
bool write_all(int fd, const void* bytes, std::size_t size);

}  // namespace faultline::sim
