// The report of a fluid run: for people, and as a summary.json with the keys of a step run's where they mean the same.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/fluid/prices.h"
#include "core/fluid/simulate.h"

namespace faultline::fluid {

struct Report {
  const experiment::ExperimentSpec* spec = nullptr;
  const experiment::Deployment* deployment = nullptr;
  const Capacity* capacity = nullptr;
  const Result* with = nullptr;
  const Result* without = nullptr;  // the same load without faults
  Prices prices;
};

FleetSize size_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment);
nlohmann::ordered_json summary_json(const Report& report);
std::string summary_text(const Report& report);

}  // namespace faultline::fluid
