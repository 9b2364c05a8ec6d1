// What the commands that ask about months and money take: rate profiles and prices, as options and as values.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "core/experiment/spec.h"
#include "core/fault/rates.h"
#include "core/fluid/prices.h"

namespace faultline::cli {

/// By name (faults/profiles/NAME.yaml) or by file. Throws config::ConfigError: files that cannot be read or are wrong.
std::vector<fault::RateProfile> load_profiles(const std::vector<std::string>& names);
/// Of a price file, or the experiment's price of a GPU-hour where there is none (""). Throws config::ConfigError.
fluid::Prices load_prices(const std::string& file, const experiment::ExperimentSpec& spec);

void add_profiles_option(CLI::App& app, std::vector<std::string>& profiles);
void add_prices_option(CLI::App& app, std::string& prices);

}  // namespace faultline::cli
