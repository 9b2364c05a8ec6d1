// Campaigns on the command line: `faultline run X --campaign FILE [--case NAME]`.
#pragma once

#include <functional>

#include "cli/run.h"
#include "core/fault/campaign.h"

namespace faultline::cli {

/// The cases of the options' campaign on an experiment, kinds that the simulator lacks left out where the campaign
/// names none. Throws config::ConfigError.
std::vector<fault::CampaignCase> load_cases(const experiment::ExperimentSpec& spec, const std::string& campaign);

/// Every case as a pair of runs, in parallel processes; one table of all, and campaign.json. What is done is kept in
/// campaign.sqlite: the same command goes on from there. The exit status: 1 where a case broke a promise.
int run_campaign(const RunOptions& options);

}  // namespace faultline::cli
