#include "core/fault/actuator.h"

#include <fmt/format.h>

namespace faultline::fault {

void check_supported(const FaultSchedule& schedule, const FaultActuator& actuator, config::Diagnostics& diagnostics) {
  for (const ScheduledFault& fault : schedule) {
    const Support support = actuator.supports(fault);
    if (support.yes) continue;
    diagnostics.error(fault.mark,
                      fmt::format("fault '{}' ({}{}{}) cannot be applied: {}", fault.name, name_of(fault.kind),
                                  fault.target.empty() ? "" : " on ", fault.target, support.reason));
  }
}

}  // namespace faultline::fault
