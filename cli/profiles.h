// Rate profiles by name (faults/profiles/NAME.yaml) or by file.
#pragma once

#include <string>
#include <vector>

#include "core/fault/rates.h"

namespace faultline::cli {

/// Throws config::ConfigError: files that cannot be read or are wrong.
std::vector<fault::RateProfile> load_profiles(const std::vector<std::string>& names);

}  // namespace faultline::cli
