// Which components cost most: for every source of a rate profile, how often it strikes the fleet in a month and what
// one strike costs, measured by fluid runs around single strikes (rare events by conditioning: a month of chance would
// show most of them never). With intervals, and the cheapest fix for each.
#pragma once

#include <string>
#include <vector>

#include "core/plan/plan.h"

namespace faultline::plan {

struct Interval {
  double mean = 0, low = 0, high = 0;  // 95 %
};

struct Fix {
  std::string name;
  double per_month = 0;  // what it costs
  double saves = 0;      // money a month, of this row
};

struct RankRow {
  std::string source, kind, per;  // of the profile
  std::string component;          // "each of 128 gpus", or the one: "leaf-3"
  std::int64_t count = 0;         // components of the row
  double events_per_month = 0;
  Interval goodput_tokens, failed, lost_gpu_h, money;  // a month; failed: not answered, or answered too late
  std::vector<Fix> fixes;                              // that save more than they cost, the best first
};

struct RankOptions {
  std::int64_t samples = 12;  // strikes simulated a row
  const fluid::StartState* state = nullptr;
};

/// Rows by money a month, the dearest first. Sources that fluid fidelity cannot simulate go to `skipped`, each with the
/// reason. Money: GPU-hours that computed nothing at the fleet's price, and credits for failed requests.
std::vector<RankRow> rank(const experiment::ExperimentSpec& base, const fault::RateProfile& profile,
                          const fluid::Prices& prices, const fluid::Load& load, const RankOptions& options,
                          std::vector<std::string>& skipped);

/// 95 % interval of a Poisson mean of which `events` were counted, as factors on the estimate (Garwood, 1936); of an
/// unknown count that of three events.
Interval rate_interval(double events);

nlohmann::ordered_json to_json(const RankRow& row);

}  // namespace faultline::plan
