// Which serving engines ship a recovery policy, and how that is known. A comparison takes the user's engine as its
// baseline; a policy that this engine does not ship is labelled so in every report.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/control/specs.h"

namespace faultline::control {

struct Shipped {
  std::string_view policy;   // as in recovery.policy, or migrate, shed, degraded_rail
  std::string_view engines;  // names separated by a blank; empty: none known
  std::string_view source;
};
std::span<const Shipped> shipped();

/// One sentence for each part of the recovery that the engine (by its profile's name) does not ship. Empty for the
/// ideal engine, which ships everything, and for engines that the list does not know.
std::vector<std::string> not_shipped(const EngineSpec& engine, const RecoverySpec& recovery, const RouterSpec& router);

}  // namespace faultline::control
