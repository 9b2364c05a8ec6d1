#include "core/experiment/campaign.h"

#include "core/experiment/candidates.h"
#include "core/experiment/deployment.h"

namespace faultline::experiment {

std::vector<fault::CampaignCase> campaign_cases(const ExperimentSpec& spec, const fault::CampaignSpec& campaign,
                                                const std::function<bool(fault::FaultKind)>& can_apply,
                                                config::Diagnostics& diagnostics) {
  const topology::Topology topology = topology::build(spec.topology);
  const topology::Placement placement = topology::place(topology, placement_of(spec), spec.fleet_mark, diagnostics);
  if (!diagnostics.ok()) return {};
  return fault::cases_of(campaign, candidates_of(topology, placement, spec.risk), can_apply, diagnostics);
}

}  // namespace faultline::experiment
