// The event logs of a run's output folder.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

namespace faultline::cli {

struct StoredLog {
  std::string path, bytes;
};

/// events.flog of a simulated run, logs/*.flog of a live one by name; `given` may be a .flog itself. Throws
/// config::ConfigError where there is none.
std::vector<StoredLog> logs_of(const std::string& given);

/// Instances that lost an attempt of a request or were found failed, by what the controllers noted. nullopt where
/// `folder` holds no logs.
std::optional<std::set<std::uint32_t>> instances_hit(const std::string& folder);

}  // namespace faultline::cli
