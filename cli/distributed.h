// Tasks on this machine's cores, or, when started by mpirun or Slurm, on every rank of the job: one rank hands out
// tasks and stores what comes back, the others run them. A task is a pure function of its number and input, so a
// results file does not show how many ranks made it.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/task_pool.h"

namespace faultline::cli {

/// Number of ranks of the job this process belongs to, from the launcher's environment; 1 where there is none.
int job_size();
/// This process's number in the job; 0 is the leader, which alone opens result files and prints.
int job_rank();

/// A task that did not end well, and why.
struct FailedTask {
  Task task;
  std::string error;
};

/// All but `jobs` are of the leader only.
struct TaskRun {
  std::vector<Task> todo;  // in the order of starting
  std::size_t jobs = 1;    // at a time on this machine; under MPI every rank runs one at a time
  std::function<void(const Task&, const std::string& result)> done;
  /// The next round, asked for when every task has ended; none ends the run. What it depends on is there in full, so
  /// the rounds are the same on any number of ranks. May be empty.
  std::function<std::vector<Task>()> more;
  std::function<void()> progress;  // about twice a second; may be empty
};

/// Runs the tasks; returns on the leader only: the other ranks serve until it has finished, then end. Once a process,
/// and before it has threads. Returns the task that failed, if one did (no other is started then); ends early when
/// `interrupted`.
std::optional<FailedTask> run_tasks(const Work& work, TaskRun run);

/// Jobs at a time: as asked, or the cores of this machine where nothing was (0).
std::size_t jobs_or_cores(int asked);

/// A line on the terminal about every half second: how many are done, were there already, and the time left. Nothing
/// where standard error is no terminal or `quiet`.
class Progress {
 public:
  Progress(std::string what, bool quiet);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `there`: done before this process began.
  void show(std::size_t done, std::size_t count, std::size_t there);

 private:
  std::string what_;
  bool shown_;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace faultline::cli
