// From the logs of a live run to the record that reports are made from: the same Observer that folds a simulated run,
// fed with the notes, steps and hand-offs of all processes in the order of their stamps (one clock, one host), the
// conductor's arrivals and the truth.
#pragma once

#include <string>
#include <vector>

#include "backend/driver/conductor.h"
#include "core/record/run_record.h"

namespace faultline::live {

/// Logs of a run's folder by name, e.g. "node-3.0.flog", in a stable order. Throws std::runtime_error if there are
/// none.
struct NamedLog {
  std::string name, bytes;
};
std::vector<NamedLog> read_logs(const std::string& out);

/// A log that ends in the middle of a record (its process was killed while it wrote) counts up to there, with a
/// warning.
record::RunRecord observe(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                          const LiveRun& live, const std::vector<NamedLog>& logs);

}  // namespace faultline::live
