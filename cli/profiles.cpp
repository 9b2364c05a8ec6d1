#include "cli/profiles.h"

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

fluid::Prices load_prices(const std::string& file, const experiment::ExperimentSpec& spec) {
  return file.empty() ? fluid::prices_of(spec.cost.gpu_hour, spec.topology.node.gpus)
                      : fluid::load_prices(must_read_file(file), file);
}

void add_profiles_option(CLI::App& app, std::vector<std::string>& profiles) {
  app.add_option("--profiles", profiles, "Rate profiles: names under faults/profiles, or files")->delimiter(',');
}

void add_prices_option(CLI::App& app, std::string& prices) {
  app.add_option("--prices", prices, "Price file (default: the experiment's price of a GPU-hour)");
}

}  // namespace faultline::cli
