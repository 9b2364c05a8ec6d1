// A plan's work: step runs that calibrate the capacity of every shape, searches of fleets that rest on it, step runs
// that check the cheapest. cli/plan.cpp is the command, cli/plan_print.cpp its report.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/distributed.h"
#include "cli/sweep_store.h"
#include "core/plan/calibrate.h"

namespace faultline::cli {

struct PlanOptions {
  std::string file, out, prices;
  std::vector<std::string> set, profiles;
  double target = 0;
  std::int64_t seeds = 0;
  int jobs = 0;
  bool json = false, quiet = false, no_sensitivity = false, no_verify = false;
};

/// What step runs of a fleet showed at the peak load.
struct Checked {
  double attainment = 0;                 // of requests within the SLO, nothing failing
  double ready_s = -1, interrupted = 0;  // after one dead decode GPU
  double gpus = 0;                       // of the run
};

/// The answer under one profile, or under one changed assumption.
struct PlanOutcome {
  std::vector<plan::ShapeChoice> shapes;
  std::vector<plan::Search> searches;                      // by shape
  std::vector<std::pair<std::size_t, Checked>> confirmed;  // shape, in the order of the checks
  std::vector<std::string> refuted;
  std::optional<std::size_t> best;    // the cheapest shape that holds the target
  nlohmann::ordered_json cost_model;  // of the best fleet
};

class Planner {
 public:
  explicit Planner(const PlanOptions& options);
  int run();

 private:
  /// One assumption changed, or none, under one profile.
  struct Setting {
    plan::PlanSpec plan;
    experiment::ExperimentSpec base;
    fault::RateProfile profile;
    fluid::Load load;
    std::vector<plan::ShapeChoice> shapes;
    std::size_t change = 0, profile_index = 0;
    std::string hash;  // of all that a search depends on but the shape
  };
  void make_settings();
  experiment::ExperimentSpec calibration_run(const Setting& setting, const plan::ShapeChoice& shape,
                                             double factor) const;
  std::string run_task(const Task& task) const;
  std::string key_of(const Task& task) const;
  /// The result of a task, if it is known; else it is one of the next round.
  std::optional<nlohmann::json> ask(const nlohmann::json& input);
  /// Goes as far as the known results carry; true when the answer is complete.
  bool advance();
  bool calibrate();
  bool search(std::size_t setting, PlanOutcome& outcome);
  bool check(std::size_t setting, PlanOutcome& outcome);
  std::string print_json() const;
  void print() const;
  void print_profile(std::size_t p) const;
  std::vector<std::pair<std::string, std::string>> sensitivity() const;
  bool same_winner() const;

  const PlanOptions& o_;
  plan::PlanSpec plan_;
  experiment::ExperimentSpec base_;
  std::vector<fault::RateProfile> profiles_;
  fluid::Prices prices_;
  std::string prices_text_;
  fluid::Load load_;
  std::vector<plan::Change> changes_;
  std::vector<Setting> settings_;  // the profiles with nothing changed, then the changes under the middle profile
  std::vector<PlanOutcome> outcomes_;
  std::string out_;
  // The leader's.
  std::unique_ptr<SweepStore> store_;
  std::map<std::string, nlohmann::json> known_;  // results by key
  std::vector<Task> round_;
  std::set<std::string> asked_;              // keys of the round
  std::map<std::string, std::string> keys_;  // by input
  std::size_t done_ = 0, there_ = 0, open_ = 0;
};

/// The cheapest that holds the target; nothing where none does.
std::optional<std::size_t> cheapest(const PlanOutcome& outcome);
std::string fleet_text(const plan::Evaluated& e);

}  // namespace faultline::cli
