#include "sim/faults/support.h"

namespace faultline::sim {

std::string_view why_not_simulated(fault::FaultKind kind) {
  using fault::FaultKind;
  switch (kind) {
    case FaultKind::partition: return "a simulated peer is heard by all or by none; crash the node, or cut its links";
    case FaultKind::registry_loss:
      return "the simulated control plane has no registry of its own; crash the router's host";
    case FaultKind::clock_skew: return "all simulated machines share one clock";
    case FaultKind::overload: return "it is not injected: raise the load or take capacity away";
    default: return {};
  }
}

}  // namespace faultline::sim
