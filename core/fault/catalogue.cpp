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

void describe(config::Fields& f, Catalogue& s) {
  f.list("kinds", s.kinds, true);
  if (!f.reading()) return;
  std::set<FaultKind> seen;
  for (const CatalogueKind& k : s.kinds) {
    if (!seen.insert(k.kind).second) f.error("kinds", fmt::format("kind {} appears twice", name_of(k.kind)));
  }
  for (const KindInfo& k : catalogue()) {
    if (!seen.contains(k.kind)) f.error("kinds", fmt::format("kind {} is missing", name_of(k.kind)));
  }
}

}  // namespace faultline::fault
