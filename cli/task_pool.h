// Tasks in processes of their own, several at a time. A task is a pure function of its number and input, so neither the
// number of jobs nor the order of their ends shows in what comes back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sim/driver/child_process.h"

namespace faultline::cli {

struct Task {
  std::size_t number = 0;
  std::string input;  // what the number does not say; "" for most
};

struct Work {
  std::function<void(const Task&)> prepare;     // before the fork: what tasks share; may be empty
  std::function<std::string(const Task&)> run;  // in the task's own process
};
using Result = sim::ChildProcess::Result;
using Ended = std::function<void(const Task& task, const Result& result)>;

/// Tasks that still run when it goes are ended.
class TaskPool {
 public:
  TaskPool(Work work, std::size_t jobs) : work_(std::move(work)), jobs_(jobs) {}

  void add(Task task) { tasks_.push_back(std::move(task)); }
  /// Tasks that have not been started: none of them is, after drop().
  void drop() { tasks_.resize(next_); }
  /// Starts what fits, waits at most `wait_ms` for an end, calls `ended` for those that did; `ended` may add tasks and
  /// drop them. False when nothing runs and nothing can start: all done, or `interrupted`.
  bool turn(int wait_ms, const Ended& ended);

 private:
  struct Worker {
    Task task;
    sim::ChildProcess process;
  };
  void start(const Task& task);
  Work work_;
  std::size_t jobs_;
  std::vector<Task> tasks_;
  std::size_t next_ = 0;
  std::vector<Worker> workers_;
};

}  // namespace faultline::cli
