// Parts of `faultline faults`.
#pragma once

#include <functional>

#include "cli/command.h"

namespace faultline::cli {

/// The options of `faultline faults fit`, and what it does.
std::function<int()> add_faults_fit(CLI::App& app);

}  // namespace faultline::cli
