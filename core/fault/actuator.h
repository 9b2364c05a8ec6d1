// FaultActuator: makes a fault true in one world. The simulator switches links and ranks, the live backend kills, stops
// and unplugs. What an actuator cannot do is an error before the run starts, never a silent skip. Controllers never see
// an actuator: its acts go to the TruthLog.
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/fault/schedule.h"

namespace faultline::fault {

struct Support {
  bool yes = true;
  std::string reason;  // why not, in words for the user
};

class FaultActuator {
 public:
  virtual ~FaultActuator() = default;
  /// Asked for every fault of a schedule before anything starts.
  virtual Support supports(const ScheduledFault& fault) const = 0;
  /// Makes it true now; for a flap this includes every later change. Returns after the effect has been confirmed (the
  /// port is down, the process is gone). Errors: device_lost or peer_lost (the target is gone already), protection (not
  /// permitted), timeout (asked for, not confirmed). A failed apply leaves nothing to revert.
  virtual Status apply(const ScheduledFault& fault, Instant now) = 0;
  /// Undoes it; a second call does nothing. A parent that is down keeps its children down.
  virtual Status revert(const ScheduledFault& fault, Instant now) = 0;
};

/// What `actuator` refuses, one error per fault, so that a user sees all of them at once.
void check_supported(const FaultSchedule& schedule, const FaultActuator& actuator, config::Diagnostics& diagnostics);

}  // namespace faultline::fault
