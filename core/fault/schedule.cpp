#include "core/fault/schedule.h"

#include <fmt/format.h>

#include <algorithm>

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
  for (const std::string& name : names_for(info(s.kind), candidates)) {
    if (!matches(s.target, name)) continue;
    const auto component = candidates.resolve(name);
    FAULTLINE_ASSERT(component.has_value(), "a listed name does not resolve: {}", name);
    out.push_back({name, *component});
  }
  if (out.empty()) {
    diagnostics.error(s.target_mark, fmt::format("no {} matches '{}'", kinds_text(info(s.kind)), s.target));
  }
  return out;
}

/// Gaps in seconds of the given mean.
double draw_gap(Random& random, const RandomTimes& times, double mean_s) {
  if (times.distribution == GapDistribution::exponential) return random.exponential(mean_s);
  // Mean of a Weibull: scale * Gamma(1 + 1/shape).
  const double scale = mean_s / stable::exp(stable::lgamma(1 + 1 / times.shape));
  return random.weibull(times.shape, scale);
}

struct Drawn {
  Instant at;
  std::size_t component;  // index into the matching components
};

/// Saturates at kNever, so that a huge gap ends a sequence.
Instant later(Instant t, double gap_s) {
  const Duration gap = duration_from_seconds(gap_s);
  if (gap == kForever || t.ns > kNever.ns - gap.v) return kNever;
  return t + gap;
}

void draw_per_component(const FaultSpec& s, const std::vector<Named>& components, Instant until, std::uint64_t seed,
                        std::vector<Drawn>& out) {
  const RandomTimes& times = *s.random;
  const double mean_s = kHourSeconds / *times.rate_per_hour;
  const Duration outage = s.length();
  for (std::size_t c = 0; c < components.size(); ++c) {
    Random random(seed, "fault/" + s.id, hash_text(components[c].name));
    Instant t = times.from;
    while (out.size() <= kRandomEventsMax) {
      t = later(t, draw_gap(random, times, mean_s));
      if (t >= until) break;
      out.push_back({t, c});
      if (outage == kForever || t.ns > kNever.ns - outage.v) break;
      t = t + outage;  // it fails again only after it was repaired
    }
  }
}

void draw_together(const FaultSpec& s, const std::vector<Named>& components, Instant until, std::uint64_t seed,
                   std::vector<Drawn>& out) {
  const RandomTimes& times = *s.random;
  const Duration outage = s.length();
  std::vector<Instant> up_again(components.size(), Instant{0});
  std::vector<std::size_t> up;
  Instant t = times.from;
  for (std::uint64_t n = 0; out.size() <= kRandomEventsMax; ++n) {
    Random random(seed, "fault/" + s.id, n);
    t = later(t, draw_gap(random, times, seconds(*times.mean_interval)));
    if (t >= until) break;
    up.clear();
    for (std::size_t c = 0; c < components.size(); ++c) {
      if (up_again[c] <= t) up.push_back(c);
    }
    if (up.empty()) {
      if (outage == kForever) break;
      continue;
    }
    const std::size_t c = up[random.below(up.size())];
    out.push_back({t, c});
    up_again[c] = outage == kForever || t.ns > kNever.ns - outage.v ? kNever : t + outage;
  }
}

ScheduledFault make(const FaultSpec& s, const Named& component, Trigger trigger) {
  ScheduledFault f;
  f.name = s.id;
  f.kind = s.kind;
  f.target = component.name;
  f.component = component.component;
  f.trigger = std::move(trigger);
  f.length = s.length();
  f.factor = s.factor.value_or(1);
  f.down = s.down.value_or(Duration{0});
  f.up = s.up.value_or(Duration{0});
  f.cycles = s.cycles.value_or(0);
  f.mark = s.mark;
  return f;
}

void expand_random(const FaultSpec& s, const ExpandOptions& options, const Candidates& candidates,
                   config::Diagnostics& diagnostics, FaultSchedule& out) {
  const RandomTimes& times = *s.random;
  if (!times.until && options.run_end == kNever) {
    diagnostics.error(s.mark, fmt::format("random fault '{}' needs 'until': the run has no time limit", s.id));
    return;
  }
  const auto components = resolve_pattern(s, candidates, diagnostics);
  if (components.empty()) return;
  const Instant until = std::min(times.until.value_or(options.run_end), options.run_end);
  std::vector<Drawn> drawn;
  if (times.rate_per_hour)
    draw_per_component(s, components, until, options.seed, drawn);
  else
    draw_together(s, components, until, options.seed, drawn);
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
    ScheduledFault f = make(s, components[drawn[i].component], drawn[i].at);
    if (i > 0) f.name += fmt::format("#{}", i + 1);
    out.push_back(std::move(f));
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
  if (length == kForever || applied == kNever || applied.ns > kNever.ns - length.v) return kNever;
  return applied + length;
}

Instant ScheduledFault::revert() const {
  const Instant* at = std::get_if<Instant>(&trigger);
  return at ? revert_at(*at) : kNever;
}

std::vector<ScheduledFault::Transition> ScheduledFault::transitions(Instant applied) const {
  std::vector<Transition> out;
  if (kind == FaultKind::link_flap) {
    Instant t = applied;
    for (std::int64_t i = 0; i < cycles; ++i) {
      out.push_back({t, true});
      out.push_back({t + down, false});
      t = t + down + up;
    }
    return out;
  }
  out.push_back({applied, true});
  if (revert_at(applied) != kNever) out.push_back({revert_at(applied), false});
  return out;
}

FaultSchedule expand(const std::vector<FaultSpec>& specs, const ExpandOptions& options, const Candidates& candidates,
                     config::Diagnostics& diagnostics) {
  FaultSchedule out;
  for (const FaultSpec& s : specs) {
    if (s.random) {
      expand_random(s, options, candidates, diagnostics, out);
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
    if (s.at)
      out.push_back(make(s, *target, *s.at));
    else
      out.push_back(make(s, *target, *s.after));
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
