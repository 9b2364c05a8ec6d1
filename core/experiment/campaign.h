// Campaigns applied to an experiment: the cases on its own topology and placement.
#pragma once

#include "core/experiment/spec.h"
#include "core/fault/campaign.h"

namespace faultline::experiment {

/// Cases of a campaign on the experiment's fleet (see fault::cases_of). Errors go to `diagnostics`.
std::vector<fault::CampaignCase> campaign_cases(const ExperimentSpec& spec, const fault::CampaignSpec& campaign,
                                                const std::function<bool(fault::FaultKind)>& can_apply,
                                                config::Diagnostics& diagnostics);

}  // namespace faultline::experiment
