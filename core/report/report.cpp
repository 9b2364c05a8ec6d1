#include "core/report/report.h"

#include <algorithm>
#include <tuple>

namespace faultline::report {
namespace {

std::string joined(const metrics::FaultImpact& impact, std::string metrics::FaultMember::*field) {
  std::vector<std::string> seen;
  std::string out;
  for (const auto& m : impact.members) {
    const std::string& text = m.*field;
    if (text.empty() || std::find(seen.begin(), seen.end(), text) != seen.end()) continue;
    seen.push_back(text);
    out += (out.empty() ? "" : " + ") + text;
  }
  return out;
}

}  // namespace

Report make_report(const record::RunRecord& run, const record::RunRecord* without, const record::RunRecord* placebo,
                   const metrics::Options& options, std::string experiment_yaml, std::vector<Source> sources) {
  Report r;
  r.run = &run;
  r.without = without;
  r.placebo = placebo;
  r.options = options;
  r.summary = metrics::summarise(run, options);
  r.impacts = metrics::compare(run, without, placebo, options);
  r.experiment_yaml = std::move(experiment_yaml);
  r.sources = std::move(sources);
  return r;
}

std::string id_of(const metrics::FaultImpact& impact) { return joined(impact, &metrics::FaultMember::id); }
std::string kind_of(const metrics::FaultImpact& impact) { return joined(impact, &metrics::FaultMember::kind); }
std::string target_of(const metrics::FaultImpact& impact) { return joined(impact, &metrics::FaultMember::target); }

std::vector<Phase> phases_of(const metrics::FaultImpact& impact) {
  const auto after = [&](Instant t) -> std::optional<Duration> {
    if (t == kNever || !impact.applied()) return std::nullopt;
    return t - impact.at;
  };
  const record::FaultPhases& p = impact.phases;
  std::optional<Duration> t95, restore;
  if (impact.paired) {
    t95 = impact.paired->t95;
    restore = impact.paired->restore;
  }
  std::vector<Phase> phases{
      {"symptom", "symptom", after(p.symptom)},  {"detect", "detected", after(p.detect)},
      {"decide", "decided", after(p.decide)},    {"drain", "drained", after(p.drain)},
      {"reroute", "rerouted", after(p.reroute)}, {"replace", "replaced", after(p.replace)},
      {"ready", "ready", after(p.ready)},        {"first_token", "first token", after(p.first_token)},
      {"t95", "95 % from", t95, true},           {"restore", "restored", restore, true}};
  // Only recoveries on survivors have these.
  std::vector<Phase> survivors{{"fence", "fenced", after(p.fence)},
                               {"repair_state", "repairing", after(p.repair_state)},
                               {"degraded", "degraded", after(p.degraded)},
                               {"rejoin", "rejoined", after(p.rejoin)},
                               {"whole", "whole again", after(p.restore)}};
  std::erase_if(survivors, [](const Phase& x) { return !x.after; });
  phases.insert(phases.begin() + 3, survivors.begin(), survivors.end());
  return phases;
}

std::vector<Phase> by_time(std::vector<Phase> phases) {
  std::stable_sort(phases.begin(), phases.end(), [](const Phase& a, const Phase& b) {
    return std::tuple{a.service, !a.after, a.after.value_or(Duration{0})} <
           std::tuple{b.service, !b.after, b.after.value_or(Duration{0})};
  });
  return phases;
}

}  // namespace faultline::report
