#include "sim/driver/replicas.h"

#include <stdexcept>

#include "core/record/run_codec.h"
#include "sim/driver/simulate.h"
#include "sim/engine/flow_net_module.h"

namespace faultline::sim {

Replicas::Replicas(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                   const config::FileReader& reader, const std::vector<ReplicaJob>& jobs) {
  if (!jobs.empty()) load_flow_net();
  for (const ReplicaJob& job : jobs) {
    children_.emplace_back([&] {
      SimulateOptions options;
      options.with_faults = job.with_faults;
      options.placebo = job.placebo;
      if (job.seed_offset == 0) return record::encode_run(simulate(spec, deployment, reader, options));
      experiment::ExperimentSpec other = spec;
      other.seed += job.seed_offset;
      return record::encode_run(simulate(other, *experiment::deploy(other), reader, options));
    });
  }
}

std::vector<record::RunRecord> Replicas::collect() {
  std::vector<record::RunRecord> runs;
  for (ChildProcess& c : children_) {
    const ChildProcess::Result r = c.wait();
    if (!r.well()) throw std::runtime_error("a paired run failed: " + r.error);
    runs.push_back(record::decode_run(r.bytes));
  }
  children_.clear();
  return runs;
}

}  // namespace faultline::sim
