// The file faults/catalogue.yaml: live recipes and measured rates for the kinds of kind.h.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/fields.h"
#include "core/fault/kind.h"

namespace faultline::fault {

enum class Evidence : std::uint8_t {
  read,      // in the authors' own text
  quoted,    // in a text that quotes it
  computed,  // from the counts that the source states
};
constexpr std::array<std::string_view, 3> enum_names(const Evidence*) { return {"read", "quoted", "computed"}; }

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

/// How often something failed in a fleet that somebody measured; a value for RandomTimes::rate_per_hour.
struct RateProfile {
  std::string name;
  FaultKind kind = FaultKind::placebo;
  TargetKind per = TargetKind::gpu;  // the component that the rate is of
  double rate_per_hour = 0;
  Evidence evidence = Evidence::quoted;
  std::string fleet, source;
};
void describe(config::Fields& f, RateProfile& s);

struct Catalogue {
  std::vector<CatalogueKind> kinds;
  std::vector<RateProfile> rates;
};
/// Checks that each kind is there once, with the targets and the safety class of kind.h, and that a rate is of a
/// component that its kind targets.
void describe(config::Fields& f, Catalogue& s);

}  // namespace faultline::fault
