#include "cli/case_runs.h"

#include "cli/replica_work.h"

namespace faultline::cli {

void run_cases(const std::vector<experiment::ExperimentSpec>& specs, const std::vector<std::size_t>& which,
               std::size_t jobs, bool unpaired, const std::function<void(std::size_t, const CaseResult&)>& done,
               const std::function<void()>& turn) {
  TaskPool pool(replica_work(
                    specs,
                    [&](std::size_t k) {
                      return ReplicaTask{k, specs[k].seed};
                    },
                    unpaired),
                jobs);
  for (const std::size_t k : which) pool.add({k, {}});
  while (pool.turn(500, [&](const Task& task, const Result& r) { done(task.number, {r.bytes, r.error}); })) {
    if (turn) turn();
  }
}

CaseResult run_case(const experiment::ExperimentSpec& spec, bool unpaired) {
  sim::ChildProcess child([&] { return replica_summary(spec, *experiment::deploy(spec), unpaired); });
  const Result r = child.wait();
  return {r.bytes, r.error};
}

}  // namespace faultline::cli
