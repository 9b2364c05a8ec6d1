#include "sim/faults/support.h"

namespace faultline::sim {

std::string_view why_not_simulated(fault::FaultKind kind) {
  using fault::FaultKind;
  switch (kind) {
    case FaultKind::gpu_ecc:
    case FaultKind::gpu_sdc:
    case FaultKind::pcie_degrade:
    case FaultKind::process_crash:
    case FaultKind::xgmi_degrade:
    case FaultKind::link_lossy:
    case FaultKind::link_oneway:
    case FaultKind::pfc_storm:
    case FaultKind::kv_fail:
    case FaultKind::node_maintenance:
    case FaultKind::cooling_loss:
    case FaultKind::storage_slow:
    case FaultKind::rollout_bad:
      return "the simulator has no model of it";
    case FaultKind::partition:
      return "a simulated peer is either heard by all or by none; crash the node, or cut its links";
    case FaultKind::registry_loss: return "the simulated control plane keeps its leases itself; crash its router's host";
    case FaultKind::clock_skew: return "all simulated machines share one clock";
    case FaultKind::overload: return "it is not injected: raise the load or take capacity away";
    default: return {};
  }
}

}  // namespace faultline::sim
