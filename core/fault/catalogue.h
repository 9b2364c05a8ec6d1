// The file faults/catalogue.yaml: live recipes for the kinds of kind.h. Rates are in faults/profiles (rates.h).
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/fields.h"
#include "core/fault/kind.h"

namespace faultline::fault {

struct LiveRecipe {
  std::string inject, undo, proof;  // proof: how one sees that the fault really happened
};
void describe(config::Fields& f, LiveRecipe& s);

struct CatalogueKind {
  FaultKind kind = FaultKind::placebo;
  std::vector<TargetKind> targets;
  SafetyClass safety = SafetyClass::s3;
  LiveRecipe live;
};
void describe(config::Fields& f, CatalogueKind& s);

struct Catalogue {
  std::vector<CatalogueKind> kinds;
};
/// Checks that each kind is there once, with the targets and the safety class of kind.h.
void describe(config::Fields& f, Catalogue& s);

}  // namespace faultline::fault
