// Tasks on this machine's cores, or, when started by mpirun or Slurm, on every rank of the job: one rank hands out task
// numbers and stores what comes back, the others run them. A task is a pure function of its number, so a results file
// does not show how many ranks made it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/task_pool.h"

namespace faultline::cli {

/// Number of ranks of the job this process belongs to, from the launcher's environment; 1 where there is none.
int job_size();
/// This process's number in the job; 0 is the leader, which alone opens result files and prints.
int job_rank();

struct TaskRun {
  std::vector<std::size_t> todo;   // in the order of starting; of the leader
  std::size_t jobs = 1;            // at a time on this machine; under MPI every rank runs one at a time
  Done done;                       // leader only
  std::function<void()> progress;  // leader only, about twice a second; may be empty
  std::function<bool()> enough;    // leader only, may be empty: true starts no further task
};

/// Runs the tasks; returns on the leader only: the other ranks serve until it has finished, then end. Returns the task
/// that failed, if one did; ends early when `interrupted`. Call before this process has threads.
std::optional<std::size_t> run_tasks(const Work& work, TaskRun run);

}  // namespace faultline::cli
