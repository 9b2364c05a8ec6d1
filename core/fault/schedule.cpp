#include "core/fault/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/assert.h"
#include "core/base/hash.h"
#include "core/base/math.h"
#include "core/base/random.h"

namespace faultline::fault {
namespace {

constexpr std::size_t kRandomEventsMax = 100'000;
constexpr double kHourSeconds = 3600;

struct Named {
  std::string name;
  ComponentId component;
};

std::string kinds_text(const KindInfo& kind) {
  std::string out;
  for (const TargetKind target : kind.targets) out += (out.empty() ? "" : " or ") + std::string(name_of(target));
  return out;
}

std::vector<std::string> names_for(const KindInfo& kind, const Candidates& candidates) {
  std::vector<std::string> out;
  for (const TargetKind target : kind.targets) {
    auto names = candidates.names(target);
    out.insert(out.end(), std::make_move_iterator(names.begin()), std::make_move_iterator(names.end()));
  }
  return out;
}

/// The one component of a fault with a fixed target.
std::optional<Named> resolve_one(const FaultSpec& s, const Candidates& candidates, config::Diagnostics& diagnostics) {
  const KindInfo& kind = info(s.kind);
  const auto component = candidates.resolve(s.target);
  if (!component) {
    const auto names = names_for(kind, candidates);
    const std::string suggestion = config::did_you_mean(s.target, names);
    std::string note;
    if (!names.empty()) {
      note = fmt::format("known {} names: {}{}{}", kinds_text(kind), config::name_list(names),
                         suggestion.empty() ? "" : " ", suggestion);
    } else if (!kind.targets.empty()) {
      note = fmt::format("there is no {} in this experiment", kinds_text(kind));
    }
    diagnostics.error(s.target_mark, fmt::format("unknown component '{}' in fault target", s.target), note);
    return std::nullopt;
  }
  const auto is = candidates.kind_of(s.target, *component);
  if (!kind.targets.empty() &&
      (!is || std::find(kind.targets.begin(), kind.targets.end(), *is) == kind.targets.end())) {
    diagnostics.error(s.target_mark,
                      fmt::format("{} targets a {}, '{}' is {}{}", name_of(s.kind), kinds_text(kind), s.target,
                                  is ? "a " : "nothing that fails by itself", is ? name_of(*is) : ""));
    return std::nullopt;
  }
  return Named{s.target, *component};
}

/// Everything a random fault may strike.
std::vector<Named> resolve_pattern(const FaultSpec& s, const Candidates& candidates, config::Diagnostics& diagnostics) {
  if (s.target.empty()) return {{"", ComponentId{}}};  // a placebo
  if (s.target.find('*') == std::string::npos) {
    const auto one = resolve_one(s, candidates, diagnostics);
    return one ? std::vector<Named>{*one} : std::vector<Named>{};
  }
  std::vector<Named> out;
  const auto per = s.random->per;
  for (const std::string& name : per ? candidates.names(*per) : names_for(info(s.kind), candidates)) {
    if (!matches(s.target, name)) continue;
    const auto component = candidates.resolve(name);
    FAULTLINE_ASSERT(component.has_value(), "a listed name does not resolve: {}", name);
    out.push_back({name, *component});
  }
  if (out.empty()) {
    const std::string sort = per ? std::string(name_of(*per)) : kinds_text(info(s.kind));
    diagnostics.error(s.target_mark, fmt::format("no {} matches '{}'", sort, s.target));
  }
  return out;
}

struct Drawn {
  Instant at;
  std::size_t component;  // index into the matching components
  Duration outage;
};

/// Saturates at kNever, so that a huge gap ends a sequence.
Instant later(Instant t, double gap_s) {
  const Duration gap = duration_from_seconds(gap_s);
  if (gap == kForever || t.ns > kNever.ns - gap.v) return kNever;
  return t + gap;
}

/// How long the n-th failure of a unit lasts.
Duration draw_outage(const FaultSpec& s, std::uint64_t seed, std::uint64_t unit, std::uint64_t n) {
  if (!s.repair || s.repair_spread == 0) return s.length();
  Random random(seed, "fault/repair/" + s.id, unit, n);
  return draw_repair(random, {*s.repair, s.repair_spread});
}

/// A process that dies leaves its unit as it was: the engine starts another, which may die, too.
bool momentary(const FaultSpec& s) {
  return !info(s.kind).takes_duration && info(s.kind).parameters != Parameters::flap;
}

bool lasts(Duration outage, Instant t) { return outage == kForever || t.ns > kNever.ns - outage.v; }

/// What strikes whole shared-risk groups: one renewal process a group, keyed by its number.
void draw_groups(const FaultSpec& s, const std::vector<Named>& components, Instant until, const ExpandOptions& options,
                 const Candidates& candidates, std::vector<Drawn>& out) {
  const RandomTimes& times = *s.random;
  std::map<std::uint32_t, std::vector<std::size_t>> groups;
  for (std::size_t c = 0; c < components.size(); ++c) {
    if (const auto g = candidates.group_of(times.common.group, components[c].component)) groups[*g].push_back(c);
  }
  for (const auto& [number, members] : groups) {
    Random random(options.seed, "fault/common/" + s.id, number);
    Instant t = times.from;
    for (std::uint64_t n = 0; out.size() <= kRandomEventsMax; ++n) {
      t = later(t, draw_life_s(random, times.life, kHourSeconds / *times.rate_per_hour / times.common.share));
      if (t >= until) break;
      const Duration outage = draw_outage(s, options.seed, hash_combine(number, 1), n);
      for (const std::size_t c : members) out.push_back({t, c, outage});
      if (momentary(s)) continue;
      if (lasts(outage, t)) break;
      t = t + outage;
    }
  }
  if (momentary(s)) return;
  // What is down already does not fail: of two overlapping failures of one component the later does not happen.
  std::stable_sort(out.begin(), out.end(), [](const Drawn& a, const Drawn& b) { return a.at < b.at; });
  std::vector<Instant> up_again(components.size(), Instant{0});
  std::erase_if(out, [&](const Drawn& d) {
    if (d.at < up_again[d.component]) return true;
    up_again[d.component] = lasts(d.outage, d.at) ? kNever : d.at + d.outage;
    return false;
  });
}

/// The first fault of a run that is known to have one. Exponential laws have no memory: from then on everything is as
/// it would be at the start.
struct FirstFault {
  Instant at = Instant{0};
  const FaultSpec* spec = nullptr;  // nullptr: no condition
  std::size_t component = 0;
};

bool memoryless(const FaultSpec& s) {
  const RandomTimes& t = *s.random;
  return t.rate_per_hour && t.life.distribution == GapDistribution::exponential && t.common.share == 0 &&
         t.repeat.probability == 0 && t.from == Instant{0} && !t.until && !t.max;
}

double sum_of(const std::vector<UnitRate>& units) {
  double sum = 0;
  for (const UnitRate& u : units) sum += u.per_s;
  return sum;
}

FirstFault draw_first(const std::vector<FaultSpec>& specs, const ExpandOptions& options, const Candidates& candidates,
                      config::Diagnostics& diagnostics) {
  FirstFault first;
  const auto units = unit_rates(specs, options, candidates, diagnostics);
  const double rate = sum_of(units);
  if (rate == 0) return first;
  Random random(options.seed, "fault/first");
  // Exponential, truncated at the run's end: inverse of (1 - exp(-rate t)) / (1 - exp(-rate end)).
  const double p = 1 - stable::exp(-rate * seconds(options.run_end));
  first.at = later(Instant{0}, -stable::log(1 - random.uniform() * p) / rate);
  double left = random.uniform() * rate;
  for (const UnitRate& u : units) {
    if (left < 0) break;
    first.component = u.spec == first.spec ? first.component + 1 : 0;
    first.spec = u.spec;
    left -= u.per_s;
  }
  return first;
}

/// One alternating renewal process a component, keyed by its name; those of whole groups beside them.
void draw_per_component(const FaultSpec& s, const std::vector<Named>& components, Instant until,
                        const ExpandOptions& options, const FirstFault& known, const Candidates& candidates,
                        std::vector<Drawn>& out) {
  const RandomTimes& times = *s.random;
  // A repeat adds failures: the law of the others is stretched so that the rate of all stays what it says.
  const double p = times.repeat.probability, repeat_s = seconds(times.repeat.within) / 2;
  const double primary_s = (kHourSeconds / *times.rate_per_hour - p * repeat_s) / (1 - p);
  const double alone = 1 - times.common.share;
  for (std::size_t c = 0; c < components.size() && alone > 0; ++c) {
    const std::uint64_t unit = hash_text(components[c].name);
    Random random(options.seed, "fault/" + s.id, unit);
    const double unit_s = primary_s / (alone * frailty(times.lemons, options.seed, s.id, unit));
    Instant t = known.spec ? known.at : times.from;
    bool again = false, first = known.spec == &s && known.component == c;
    for (std::uint64_t n = 0; out.size() <= kRandomEventsMax; ++n) {
      if (!std::exchange(first, false)) {
        t = later(t, again ? random.uniform() * 2 * repeat_s : draw_life_s(random, times.life, unit_s));
      }
      if (t >= until) break;
      const Duration outage = draw_outage(s, options.seed, unit, n);
      out.push_back({t, c, outage});
      if (!momentary(s)) {
        if (lasts(outage, t)) break;
        t = t + outage;  // it fails again only after it was repaired
      }
      again = p > 0 && random.chance(p);
    }
  }
  if (times.common.share > 0) draw_groups(s, components, until, options, candidates, out);
}

void draw_together(const FaultSpec& s, const std::vector<Named>& components, Instant until, std::uint64_t seed,
                   std::vector<Drawn>& out) {
  const RandomTimes& times = *s.random;
  std::vector<Instant> up_again(components.size(), Instant{0});
  std::vector<std::size_t> up;
  Instant t = times.from;
  for (std::uint64_t n = 0; out.size() <= kRandomEventsMax; ++n) {
    Random random(seed, "fault/" + s.id, n);
    t = later(t, draw_life_s(random, times.life, seconds(*times.mean_interval)));
    if (t >= until) break;
    up.clear();
    for (std::size_t c = 0; c < components.size(); ++c) {
      if (up_again[c] <= t) up.push_back(c);
    }
    if (up.empty()) {
      if (s.length() == kForever) break;
      continue;
    }
    const std::size_t c = up[random.below(up.size())];
    const Duration outage = draw_outage(s, seed, 0, n);
    out.push_back({t, c, outage});
    if (!momentary(s)) up_again[c] = lasts(outage, t) ? kNever : t + outage;
  }
}

ScheduledFault make(const FaultSpec& s, const Named& component, Trigger trigger, std::string name, Duration length,
                    std::uint64_t seed) {
  ScheduledFault f;
  f.name = std::move(name);
  f.kind = s.kind;
  f.target = component.name;
  f.component = component.component;
  f.trigger = std::move(trigger);
  f.length = length;
  f.factor = s.factor.value_or(1);
  f.loss = s.loss.value_or(0);
  f.shutdown_after = s.shutdown_after.value_or(kForever);
  f.drain = s.drain.value_or(Duration{0});
  f.down = s.down.value_or(Duration{0});
  f.up = s.up.value_or(Duration{0});
  f.cycles = s.cycles.value_or(0);
  f.mark = s.mark;
  if (s.contained) f.process_only = Random(seed, "fault/contained", hash_text(f.name)).chance(*s.contained);
  return f;
}

/// The faults that `parent` leads to, each on the first component around it that its kind can target.
void add_chain(const FaultSpec& s, const ScheduledFault& parent, const ExpandOptions& options,
               const Candidates& candidates, config::Diagnostics& diagnostics, FaultSchedule& out) {
  for (std::size_t k = 0; k < s.then.size(); ++k) {
    const ChainLink& link = s.then[k];
    const KindInfo& kind = info(link.kind);
    Random random(options.seed, "fault/then", hash_text(parent.name), k);
    if (!random.chance(link.probability)) continue;
    ScheduledFault f;
    f.name = fmt::format("{}>{}", parent.name, name_of(link.kind));
    f.kind = link.kind;
    f.caused_by = parent.name;
    f.factor = link.factor > 0 ? link.factor : 1;
    f.loss = link.loss;
    f.mark = s.mark;
    std::optional<std::string> on;
    if (kind.targets.empty()) on = "";
    for (const TargetKind target : kind.targets) {
      if (!on && parent.component.valid()) on = candidates.container(target, parent.component);
    }
    if (!on) {
      diagnostics.error(s.mark, fmt::format("fault '{}' leads to {}, but '{}' has no {} around it", s.id,
                                            name_of(link.kind), parent.target, kinds_text(kind)));
      return;
    }
    f.target = *on;
    if (!on->empty()) f.component = *candidates.resolve(*on);
    if (const Instant* at = std::get_if<Instant>(&parent.trigger)) {
      const Instant begins = later(*at, seconds(link.delay));
      if (begins >= options.run_end) continue;
      f.trigger = begins;
    } else {
      AfterEvent after = std::get<AfterEvent>(parent.trigger);
      after.delay += link.delay;
      f.trigger = after;
    }
    if (!kind.takes_duration) f.length = kForever;
    else if (link.repair.mean != kForever) f.length = draw_repair(random, link.repair);
    else if (parent.length != kForever) f.length = std::max(Duration{1}, parent.length - link.delay);
    out.push_back(std::move(f));
  }
}

void expand_random(const FaultSpec& s, const ExpandOptions& options, const FirstFault& known,
                   const Candidates& candidates, config::Diagnostics& diagnostics, FaultSchedule& out) {
  const RandomTimes& times = *s.random;
  if (!times.until && options.run_end == kNever) {
    diagnostics.error(s.mark, fmt::format("random fault '{}' needs 'until': the run has no time limit", s.id));
    return;
  }
  const auto components = resolve_pattern(s, candidates, diagnostics);
  if (components.empty()) return;
  const Instant until = std::min(times.until.value_or(options.run_end), options.run_end);
  const double repeats = times.repeat.probability * seconds(times.repeat.within) / 2;
  if (times.rate_per_hour && repeats * *times.rate_per_hour >= kHourSeconds) {
    diagnostics.error(s.mark, fmt::format("random fault '{}': its repeats alone exceed its rate", s.id),
                      "lower 'repeat.probability' or 'repeat.within'");
    return;
  }
  std::vector<Drawn> drawn;
  if (times.rate_per_hour) draw_per_component(s, components, until, options, known, candidates, drawn);
  else draw_together(s, components, until, options.seed, drawn);
  if (drawn.size() > kRandomEventsMax) {
    diagnostics.error(s.mark,
                      fmt::format("random fault '{}' strikes more than {} times in this run", s.id, kRandomEventsMax),
                      "lower its rate or bound it by 'until'");
    return;
  }
  std::stable_sort(drawn.begin(), drawn.end(), [](const Drawn& a, const Drawn& b) { return a.at < b.at; });
  if (times.max && drawn.size() > static_cast<std::size_t>(*times.max))
    drawn.resize(static_cast<std::size_t>(*times.max));
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const std::string name = i == 0 ? s.id : fmt::format("{}#{}", s.id, i + 1);
    out.push_back(make(s, components[drawn[i].component], drawn[i].at, name, drawn[i].outage, options.seed));
    add_chain(s, ScheduledFault(out.back()), options, candidates, diagnostics, out);
  }
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  // Greedy with one point to come back to: linear for patterns with one star, quadratic at worst.
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Instant ScheduledFault::revert_at(Instant applied) const {
  if (length == kForever || applied == kNever || applied.ns > kNever.ns - length.v - drain.v) return kNever;
  return applied + drain + length;
}

Instant ScheduledFault::revert() const {
  const Instant* at = std::get_if<Instant>(&trigger);
  return at ? revert_at(*at) : kNever;
}

std::vector<ScheduledFault::Transition> ScheduledFault::transitions(Instant applied) const {
  std::vector<Transition> out;
  if (info(kind).parameters == Parameters::flap) {
    Instant t = applied;
    for (std::int64_t i = 0; i < cycles; ++i) {
      out.push_back({t, true});
      out.push_back({t + down, false});
      t = t + down + up;
    }
    return out;
  }
  out.push_back({applied, true});
  if (kind == FaultKind::process_crash || process_only) {  // over at once; the process stays dead until it is started
    out.push_back({applied, false});
    return out;
  }
  if (revert_at(applied) != kNever) out.push_back({revert_at(applied), false});
  return out;
}

std::vector<UnitRate> unit_rates(const std::vector<FaultSpec>& specs, const ExpandOptions& options,
                                 const Candidates& candidates, config::Diagnostics& diagnostics) {
  std::vector<UnitRate> units;
  for (const FaultSpec& s : specs) {
    if (!s.random) continue;
    if (!memoryless(s) || options.run_end == kNever) {
      diagnostics.error(
          s.mark, fmt::format("random fault '{}' cannot be drawn given that one strikes", s.id),
          "that needs exponential rates over the whole of a run with an end, without 'common' and 'repeat'");
      return {};
    }
    for (const Named& c : resolve_pattern(s, candidates, diagnostics)) {
      const double rate =
          *s.random->rate_per_hour / kHourSeconds * frailty(s.random->lemons, options.seed, s.id, hash_text(c.name));
      units.push_back({&s, c.name, rate, momentary(s)});
    }
  }
  return units;
}

double probability_of_a_fault(const std::vector<FaultSpec>& specs, const ExpandOptions& options,
                              const Candidates& candidates, config::Diagnostics& diagnostics) {
  const double rate = sum_of(unit_rates(specs, options, candidates, diagnostics));
  return rate == 0 ? 0 : 1 - stable::exp(-rate * seconds(options.run_end));
}

FaultSchedule expand(const std::vector<FaultSpec>& specs, const ExpandOptions& options, const Candidates& candidates,
                     config::Diagnostics& diagnostics) {
  FaultSchedule out;
  FirstFault known;
  if (options.given_a_fault) known = draw_first(specs, options, candidates, diagnostics);
  for (const FaultSpec& s : specs) {
    if (s.random) {
      expand_random(s, options, known, candidates, diagnostics, out);
      continue;
    }
    if (s.at && *s.at >= options.run_end) {
      diagnostics.error(s.mark, fmt::format("fault '{}' comes at {}, after the end of the run at {}", s.id,
                                            config::print_scalar(*s.at), config::print_scalar(options.run_end)));
      continue;
    }
    std::optional<Named> target = Named{"", ComponentId{}};
    if (!s.target.empty()) target = resolve_one(s, candidates, diagnostics);
    if (!target) continue;
    const Trigger trigger = s.at ? Trigger{*s.at} : Trigger{*s.after};
    out.push_back(make(s, *target, trigger, s.id, draw_outage(s, options.seed, 0, 0), options.seed));
    add_chain(s, ScheduledFault(out.back()), options, candidates, diagnostics, out);
  }
  const auto time_of = [](const ScheduledFault& f) {
    const Instant* at = std::get_if<Instant>(&f.trigger);
    return at ? *at : kNever;
  };
  std::stable_sort(out.begin(), out.end(),
                   [&](const ScheduledFault& a, const ScheduledFault& b) { return time_of(a) < time_of(b); });
  for (std::uint32_t i = 0; i < out.size(); ++i) out[i].id = FaultId{i};
  return out;
}

}  // namespace faultline::fault
