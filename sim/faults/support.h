// Which kinds of fault the simulator can make true. What it cannot is an error before the run, with the reason.
#pragma once

#include <string_view>

#include "core/fault/kind.h"

namespace faultline::sim {

/// Why a kind cannot be simulated; empty where it can.
std::string_view why_not_simulated(fault::FaultKind kind);

}  // namespace faultline::sim
