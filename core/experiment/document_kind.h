// What a YAML document is for: an experiment, or a sweep or a plan, which are made of one and have commands of their
// own.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string_view>

namespace faultline::experiment {

/// "sweep" or "plan" where the document names the experiment that it is made of; "run" for all others, broken ones
/// included, so that their errors are those of an experiment.
std::string_view command_for(const YAML::Node& root);

}  // namespace faultline::experiment
