#include "core/fault/catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace faultline::fault {

void describe(config::Fields& f, LiveRecipe& s) {
  f.required("inject", s.inject);
  f.required("undo", s.undo);
  f.required("proof", s.proof);
}

void describe(config::Fields& f, CatalogueKind& s) {
  f.required("kind", s.kind);
  f.list("targets", s.targets, true);
  f.required("safety", s.safety);
  f.object("live", s.live, true);
  if (!f.reading()) return;
  const KindInfo& known = info(s.kind);
  if (!std::equal(s.targets.begin(), s.targets.end(), known.targets.begin(), known.targets.end())) {
    f.error("targets", fmt::format("not what {} targets", name_of(s.kind)));
  }
  if (s.safety != known.safety) {
    f.error("safety", fmt::format("{} is of class {}", name_of(s.kind),
                                  enum_names(&s.safety)[static_cast<std::size_t>(known.safety)]));
  }
}

void describe(config::Fields& f, RateProfile& s) {
  f.required("name", s.name);
  f.required("kind", s.kind);
  f.required("per", s.per);
  f.required("rate_per_hour", s.rate_per_hour, config::kPositive);
  f.required("evidence", s.evidence);
  f.required("fleet", s.fleet);
  f.required("source", s.source);
  if (!f.reading()) return;
  const auto targets = info(s.kind).targets;
  if (std::find(targets.begin(), targets.end(), s.per) == targets.end()) {
    f.error("per", fmt::format("{} does not target a {}", name_of(s.kind), name_of(s.per)));
  }
}

void describe(config::Fields& f, Catalogue& s) {
  f.list("kinds", s.kinds, true);
  f.list("rates", s.rates, true);
  if (!f.reading()) return;
  std::set<FaultKind> seen;
  for (const CatalogueKind& k : s.kinds) {
    if (!seen.insert(k.kind).second) f.error("kinds", fmt::format("kind {} appears twice", name_of(k.kind)));
  }
  for (const KindInfo& k : catalogue()) {
    if (!seen.contains(k.kind)) f.error("kinds", fmt::format("kind {} is missing", name_of(k.kind)));
  }
  std::set<std::string> names;
  for (const RateProfile& r : s.rates) {
    if (!names.insert(r.name).second) f.error("rates", fmt::format("rate '{}' appears twice", r.name));
  }
}

}  // namespace faultline::fault
