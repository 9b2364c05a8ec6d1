#include "core/experiment/document_kind.h"

namespace faultline::experiment {

std::string_view command_for(const YAML::Node& root) {
  if (!root.IsMap() || !root["experiment"].IsDefined() || root["topology"].IsDefined()) return "run";
  return root["target"].IsDefined() ? "plan" : "sweep";
}

}  // namespace faultline::experiment
