#include "cli/profiles.h"

#include "cli/command.h"

namespace faultline::cli {

std::vector<fault::RateProfile> load_profiles(const std::vector<std::string>& names) {
  std::vector<fault::RateProfile> profiles;
  for (const std::string& name : names) {
    const bool path = name.find('/') != std::string::npos || name.ends_with(".yaml");
    const std::string file = path ? name : "faults/profiles/" + name + ".yaml";
    profiles.push_back(fault::load_profile(must_read_file(file), file));
  }
  return profiles;
}

}  // namespace faultline::cli
