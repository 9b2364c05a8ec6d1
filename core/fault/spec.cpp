#include "core/fault/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

namespace faultline::fault {
namespace {

constexpr config::Range kFlapCycles{.min = 1, .max = 10'000};

/// An optional that is printed only when it has a value (a resolved file must not show keys that its kind refuses) and,
/// when its key is there, must have one ("none" is not a value here).
template <class T>
void maybe(config::Fields& f, std::string_view key, std::optional<T>& value, config::Range range = {}) {
  if (!f.reading()) {
    if (value) f.field(key, *value, range);
    return;
  }
  T read{};
  f.field(key, read, range);
  if (f.has(key)) value = read;
}

void check_parameters(config::Fields& f, const FaultSpec& s) {
  const KindInfo& kind = info(s.kind);
  const bool wants_factor = kind.parameters == Parameters::slowdown || kind.parameters == Parameters::share;
  const bool wants_flap = kind.parameters == Parameters::flap;
  const bool cools = kind.parameters == Parameters::cooling;
  const auto check = [&](std::string_view key, bool wanted, std::string_view meaning) {
    if (wanted && !f.has(key)) {
      f.error("kind", fmt::format("{} needs '{}'", name_of(s.kind), key), std::string(meaning));
    } else if (!wanted && f.has(key)) {
      f.error(key, fmt::format("{} takes no '{}'", name_of(s.kind), key));
    }
  };
  check("factor", wants_factor || cools,
        kind.parameters == Parameters::share ? "the share of the capacity that remains, such as 0.5"
                                             : "how many times slower it becomes, such as 1.5");
  check("loss", kind.parameters == Parameters::loss, "the share of the packets that is lost, such as 1e-4");
  check("contained", kind.parameters == Parameters::contained,
        "the probability that only the process dies, such as 0.92");
  check("shutdown_after", cools, "from the loss of cooling to the loss of power, such as '120 s'");
  check("drain", kind.parameters == Parameters::drain, "from the notice to the shutdown, such as '300 s'");
  check("down", wants_flap, "how long the link is down in each cycle, such as '1 s'");
  check("up", wants_flap, "how long the link is up between two outages, such as '5 s'");
  check("cycles", wants_flap, "how many times the link goes down");
  for (const std::string_view key : {"duration", "repair"}) {
    if (!kind.takes_duration && f.has(key)) {
      f.error(
          key, fmt::format("{} takes no '{}'", name_of(s.kind), key),
          wants_flap ? "its length is cycles * (down + up)" : "it is over at once; the engine restarts the process");
    }
  }
  if (f.has("duration") && f.has("repair")) f.error("repair", "'duration' and 'repair' exclude each other");
  if (f.has("repair_spread") && !f.has("repair")) f.error("repair_spread", "'repair_spread' needs 'repair', its mean");
  if ((wants_factor || cools) && s.factor) {
    if (kind.parameters != Parameters::share && !(*s.factor > 1)) {
      f.error("factor", fmt::format("factor: what is slowed takes more than 1 times as long, got '{}'", *s.factor));
    }
    if (kind.parameters == Parameters::share && !(*s.factor > 0 && *s.factor < 1)) {
      f.error(
          "factor",
          fmt::format("factor: a degraded link keeps more than 0 and less than 1 of its capacity, got '{}'", *s.factor),
          *s.factor == 0 ? "use link.down for a link that carries nothing" : "");
    }
  }
}

void check_trigger(config::Fields& f, const FaultSpec& s) {
  const int triggers = int{f.has("at")} + int{f.has("after")} + int{f.has("random")};
  if (triggers == 0)
    f.error("", fmt::format("'{}': no trigger", f.what()), "one of 'at', 'after' and 'random' says when");
  if (triggers > 1) {
    const std::string_view second = f.has("random") ? "random" : "after";
    f.error(second, "more than one trigger", "only one of 'at', 'after' and 'random' says when");
  }
  if (f.has("target") && !f.has("random") && s.target.find('*') != std::string::npos) {
    f.error("target", fmt::format("target '{}': a pattern needs a random trigger", s.target),
            "'at' and 'after' take one component by its full name");
  }
}

/// Reports a kind that the catalogue does not have: its list is too long for a message, so those of the same family
/// ("gpu.", "link.") come first and docs/faults.md has the rest.
bool unknown_kind(config::Fields& f) {
  if (!f.has("kind")) return false;  // "missing key"
  const YAML::Node node = static_cast<const YAML::Node&>(f.node())["kind"];
  if (!node.IsScalar()) {
    f.raw("kind");
    f.error("kind", fmt::format("kind: expected a name, got {}", node.IsSequence() ? "a list" : "a mapping"));
    return true;
  }
  const std::string& word = node.Scalar();
  const std::string family = word.substr(0, word.find('.') + 1);
  std::vector<std::string> names;
  for (const std::string_view name : enum_names(static_cast<const FaultKind*>(nullptr))) names.emplace_back(name);
  if (std::find(names.begin(), names.end(), word) != names.end()) return false;
  const std::string suggestion = config::did_you_mean(word, names);
  std::stable_partition(names.begin(), names.end(),
                        [&](const std::string& n) { return !family.empty() && n.starts_with(family); });
  f.raw("kind");  // known as a key, not read any further
  f.error("kind", fmt::format("kind: unknown fault kind '{}'", word),
          fmt::format("known kinds: {}, all in docs/faults.md{}{}", config::name_list(names),
                      suggestion.empty() ? "" : " ", suggestion));
  return true;
}

}  // namespace

Duration FaultSpec::length() const {
  if (info(kind).parameters == Parameters::flap) return *cycles * *down + (*cycles - 1) * *up;
  if (duration) return *duration;
  if (repair) return *repair;
  return kForever;
}

void describe(config::Fields& f, AfterEvent& s) {
  f.required("event", s.event);
  f.field("nth", s.nth, {.min = 1});
  f.field("scope", s.scope);
  if (f.reading() || !s.fault.empty()) f.field("fault", s.fault);
  f.field("delay", s.delay, config::kNotNegative);
  if (!f.reading() || !f.has("event")) return;
  if (is_recovery(s.event) && s.fault.empty()) {
    f.error("event", "a recovery event needs 'fault'", "the id of the fault whose recovery is meant");
  }
  if (!is_recovery(s.event) && !s.fault.empty()) f.error("fault", "only recovery events take 'fault'");
}

void describe(config::Fields& f, RandomTimes& s) {
  maybe(f, "rate_per_hour", s.rate_per_hour, {.min = std::numeric_limits<double>::min(), .max = 1e6});
  maybe(f, "mean_interval", s.mean_interval, config::kPositive);
  maybe(f, "per", s.per);
  f.field("distribution", s.life.distribution);
  if (f.reading() || s.life.distribution == GapDistribution::weibull) {
    f.field("shape", s.life.shape, {.min = 0.1, .max = 20});
  }
  f.field("from", s.from, config::kNotNegative);
  maybe(f, "until", s.until, config::kPositive);
  maybe(f, "max", s.max, {.min = 1, .max = 1e6});
  if (f.reading() || s.lemons.share != 0) f.object("lemons", s.lemons);
  if (f.reading() || s.common.share != 0) f.object("common", s.common);
  if (f.reading() || s.repeat.probability != 0) f.object("repeat", s.repeat);
  if (!f.reading()) return;
  const bool rate = f.has("rate_per_hour"), interval = f.has("mean_interval");
  if (rate == interval) {
    f.error(rate ? "mean_interval" : "",
            rate ? "'rate_per_hour' and 'mean_interval' exclude each other" : fmt::format("'{}': no rate", f.what()),
            "'rate_per_hour' is of each matching component, 'mean_interval' of all of them together");
  }
  if (f.has("shape") && s.life.distribution != GapDistribution::weibull)
    f.error("shape", "only a weibull distribution takes 'shape'");
  for (const std::string_view key : {"lemons", "common", "repeat"}) {
    if (f.has(key) && !rate)
      f.error(key, fmt::format("'{}' needs 'rate_per_hour'", key), "it is a law of single components");
  }
  if (s.until && *s.until <= s.from) f.error("until", "'until' must be after 'from'");
}

void describe(config::Fields& f, FaultSpec& s) {
  if (f.reading() || !s.id.empty()) f.field("id", s.id);
  if (!f.reading() || !unknown_kind(f)) f.required("kind", s.kind);
  if (f.reading() || !s.target.empty()) f.field("target", s.target);
  maybe(f, "at", s.at, config::kNotNegative);
  for (const bool is_after : {true, false}) {  // nested objects in optionals
    const std::string_view key = is_after ? "after" : "random";
    if (!f.reading() && !(is_after ? s.after.has_value() : s.random.has_value())) continue;
    if (f.reading() && f.has(key)) {
      if (is_after) s.after.emplace();
      else s.random.emplace();
    }
    AfterEvent no_event;
    RandomTimes no_times;
    if (is_after) f.object(key, s.after ? *s.after : no_event);
    else f.object(key, s.random ? *s.random : no_times);
  }
  maybe(f, "duration", s.duration, config::kPositive);
  maybe(f, "repair", s.repair, config::kPositive);
  if (f.reading() || s.repair_spread != 0) f.field("repair_spread", s.repair_spread, {.min = 0, .max = 5});
  maybe(f, "factor", s.factor);
  maybe(f, "loss", s.loss, {.min = std::numeric_limits<double>::min(), .max = 0.999});
  maybe(f, "contained", s.contained, config::kRatio);
  maybe(f, "shutdown_after", s.shutdown_after, config::kPositive);
  maybe(f, "drain", s.drain, config::kPositive);
  maybe(f, "down", s.down, config::kPositive);
  maybe(f, "up", s.up, config::kPositive);
  maybe(f, "cycles", s.cycles, kFlapCycles);
  if (f.reading() || !s.then.empty()) f.list("then", s.then);
  if (!f.reading()) return;

  s.mark = f.mark();
  s.target_mark = f.mark("target");
  const std::size_t errors_before = f.diagnostics().list().size();
  check_trigger(f, s);
  // Without a valid kind, what it takes is unknown; its own error has been reported.
  const YAML::Node kind = f.has("kind") ? static_cast<const YAML::Node&>(f.node())["kind"] : YAML::Node();
  if (!kind.IsScalar() || kind.Scalar() != name_of(s.kind)) return;
  check_parameters(f, s);
  if (f.has("target") && info(s.kind).targets.empty() && s.kind != FaultKind::placebo) {
    f.error("target", fmt::format("{} takes no 'target'", name_of(s.kind)), "it strikes the whole fleet");
  }
  if (s.target.empty() && !info(s.kind).targets.empty() && f.diagnostics().list().size() == errors_before) {
    f.error("kind", fmt::format("{} needs 'target'", name_of(s.kind)));
  }
}

void finish_list(std::vector<FaultSpec>& specs, config::Diagnostics& diagnostics) {
  std::map<std::string, const FaultSpec*> by_id;
  for (const FaultSpec& s : specs) {
    if (s.id.empty()) continue;
    const auto [first, fresh] = by_id.emplace(s.id, &s);
    if (!fresh) {
      diagnostics.error(s.mark, fmt::format("fault id '{}' appears twice", s.id),
                        fmt::format("first at {}", first->second->mark.text()));
    }
  }
  for (FaultSpec& s : specs) {
    if (!s.id.empty()) continue;
    std::string id{name_of(s.kind)};
    for (int n = 2; by_id.contains(id); ++n) id = fmt::format("{}-{}", name_of(s.kind), n);
    s.id = id;
    by_id.emplace(id, &s);
  }
  for (const FaultSpec& s : specs) {
    if (!s.after || s.after->fault.empty()) continue;
    if (s.after->fault == s.id) {
      diagnostics.error(s.mark, fmt::format("fault '{}' waits for its own recovery", s.id));
    } else if (!by_id.contains(s.after->fault)) {
      std::vector<std::string> known;
      for (const auto& [id, spec] : by_id) known.push_back(id);
      const std::string suggestion = config::did_you_mean(s.after->fault, known);
      diagnostics.error(
          s.mark, fmt::format("unknown fault '{}' in 'after'", s.after->fault),
          fmt::format("known faults: {}{}{}", config::name_list(known), suggestion.empty() ? "" : " ", suggestion));
    }
  }
}

}  // namespace faultline::fault
