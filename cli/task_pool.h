// Work in processes of its own, several at a time: a crash of one task takes no other with it, and SimGrid allows one
// simulation a process. A task is a pure function of its number, so neither the number of jobs nor the order of their
// ends shows in what comes back.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/deployment.h"

namespace faultline::cli {

struct Work {
  std::function<void(std::size_t)> prepare;     // before the fork: what tasks share; may be empty
  std::function<std::string(std::size_t)> run;  // in the task's own process
};
using Done = std::function<void(std::size_t task, const std::string& result)>;

class TaskPool {
 public:
  TaskPool(Work work, std::size_t jobs) : work_(std::move(work)), jobs_(jobs) {}
  ~TaskPool();  // ends the processes that still run
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  void add(std::size_t task) { tasks_.push_back(task); }
  /// Tasks added that have not been started: none of them is, after drop().
  void drop() { tasks_.resize(next_); }
  std::size_t open() const { return tasks_.size() - next_ + workers_.size(); }
  /// Starts what fits, waits at most `wait_ms` for an end, calls `done` for those that ended; `done` may add tasks.
  /// False when nothing runs and nothing can start: all done, `interrupted`, or a task failed.
  bool turn(int wait_ms, const Done& done);
  std::optional<std::size_t> failed() const { return failed_; }

 private:
  struct Worker {
    pid_t pid = -1;
    int fd = -1;
    std::size_t task = 0;
    std::string bytes;
  };
  void start(std::size_t task);
  Work work_;
  std::size_t jobs_;
  std::vector<std::size_t> tasks_;
  std::size_t next_ = 0;
  std::vector<Worker> workers_;
  std::optional<std::size_t> failed_;
};

struct ReplicaTask {
  std::size_t spec = 0;  // index into the specs
  std::uint64_t seed = 0;
};
/// Task k: the summary (JSON as `faultline run` writes it, less what depends on the machine) of replicas[k]. What
/// replicas of one experiment share (topology, placement, prices) is made once.
Work replica_work(std::vector<experiment::ExperimentSpec> specs, std::vector<ReplicaTask> replicas, bool unpaired);

}  // namespace faultline::cli
