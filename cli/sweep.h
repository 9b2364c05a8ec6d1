// A sweep's work: which replicas there are, which are missing, and what their figures say. cli/sweep.cpp is the
// command.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/distributed.h"
#include "cli/sweep_store.h"
#include "core/experiment/spec.h"
#include "core/experiment/sweep.h"
#include "core/stats/stopping.h"

namespace faultline::cli {

struct SweepOptions {
  std::string file, out;
  std::vector<std::string> over, set;
  std::int64_t seeds = 0;
  int jobs = 0;
  bool json = false, quiet = false;
  std::optional<double> stop_within;     // relative half-width at which there are seeds enough
  std::string figure = "goodput tok/s";  // of this figure, at every point
  std::string baseline;                  // name of the point that the others are compared with; empty: the first
  stats::StoppingRule rule;
};

/// A number of a replica's summary that the table shows; absent ones are left out of a point's mean.
struct Figure {
  const char* name;
  std::vector<const char*> path;
  std::optional<double> of(const nlohmann::ordered_json& summary) const;
};
const std::vector<Figure>& figures();

/// Where random faults are not drawn as they come (`sampling:`), a seed has two replicas at each point: the drawn one,
/// and the base without random faults. Its figures are base + weight * (drawn - base): core/fault/rare.h.
class Sweep {
 public:
  explicit Sweep(const SweepOptions& options);
  int run();

 private:
  struct Replica {
    std::size_t point = 0, variant = 0;  // variant 1: the base
    std::int64_t seed = 0;
    std::string key;
  };
  Replica replica(std::size_t number) const;
  std::vector<Task> missing(std::int64_t first, std::int64_t last);
  std::vector<Task> next_round();
  std::int64_t needed() const;
  /// Figures of seed `s` at a point; nullopt where a replica is missing. `cost_model`: kept, where it has more
  /// extrapolated time than what is there.
  std::optional<std::vector<std::optional<double>>> values(std::size_t point, std::int64_t s,
                                                           nlohmann::ordered_json* cost_model = nullptr) const;
  void report_failure(const FailedTask& failed) const;
  void print(std::int64_t seeds) const;

  const SweepOptions& o_;
  experiment::SweepSpec sweep_;
  std::vector<experiment::ExperimentSpec> specs_;  // by point; then their bases, where there are any
  std::size_t variants_ = 1, baseline_ = 0;
  std::int64_t asked_ = 0;             // seeds of each point that were handed out
  std::unique_ptr<SweepStore> store_;  // the leader's
  std::string out_;
  std::size_t done_ = 0, there_ = 0;  // replicas
};

}  // namespace faultline::cli
