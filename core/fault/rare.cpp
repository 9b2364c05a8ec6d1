#include "core/fault/rare.h"

#include <algorithm>
#include <map>

#include "core/base/math.h"

namespace faultline::fault {

void describe(config::Fields& f, SamplingSpec& s) {
  f.field("draw", s.draw);
  f.field("raise", s.raise, {.min = 1e-6, .max = 1e9});
}

namespace {

/// Likelihood of what `units` did over [0, end) at their rates, over that at `raise` times these: each drawn failure
/// divides by the raise, each second up multiplies by exp((raise - 1) * rate).
double likelihood(const FaultSchedule& schedule, const std::vector<UnitRate>& units, double raise, Instant end) {
  std::map<std::pair<std::string, std::string>, const UnitRate*> by_name;  // (specification, component)
  double up = 0;                                                           // sum of rate * time up
  for (const UnitRate& u : units) {
    by_name[{u.spec->id, u.component}] = &u;
    up += u.per_s * seconds(end);
  }
  double failures = 0;
  for (const ScheduledFault& f : schedule) {
    const auto found = by_name.find({f.name.substr(0, f.name.rfind('#')), f.target});
    if (found == by_name.end() || !f.caused_by.empty()) continue;  // scripted, or a consequence
    ++failures;
    const UnitRate& u = *found->second;
    if (!u.momentary) up -= u.per_s * seconds(std::min(end, f.revert()) - std::get<Instant>(f.trigger));
  }
  return stable::exp((raise - 1) * up - failures * stable::log(raise));
}

}  // namespace

Sample sample(const std::vector<FaultSpec>& specs, const SamplingSpec& sampling, const ExpandOptions& options,
              const Candidates& candidates, config::Diagnostics& diagnostics) {
  if (sampling.draw == Draw::plain) return {expand(specs, options, candidates, diagnostics), 1};
  if (sampling.draw == Draw::given_a_fault) {
    ExpandOptions given = options;
    given.given_a_fault = true;
    const double p = probability_of_a_fault(specs, options, candidates, diagnostics);
    return {expand(specs, given, candidates, diagnostics), p > 0 ? p : 1};
  }
  const auto units = unit_rates(specs, options, candidates, diagnostics);
  std::vector<FaultSpec> raised = specs;
  for (FaultSpec& s : raised) {
    if (s.random && s.random->rate_per_hour) *s.random->rate_per_hour *= sampling.raise;
  }
  Sample out{expand(raised, options, candidates, diagnostics), 1};
  if (!units.empty() && diagnostics.ok()) out.weight = likelihood(out.schedule, units, sampling.raise, options.run_end);
  return out;
}

}  // namespace faultline::fault
