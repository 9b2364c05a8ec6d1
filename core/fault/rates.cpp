#include "core/fault/rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace faultline::fault {
namespace {

/// As in spec.cpp: printed only where there is a value.
template <class T>
void maybe(config::Fields& f, std::string_view key, std::optional<T>& value, config::Range range = {}) {
  if (f.reading() || value) f.field(key, value, range);
}

std::string_view text(Covers c) { return enum_names(&c)[static_cast<std::size_t>(c)]; }

void check_parameters(config::Fields& f, const RateSource& s) {
  const Parameters takes = info(s.kind).parameters;
  const auto check = [&](std::string_view key, bool wanted, bool given) {
    if (wanted != given)
      f.error(given ? key : "kind", fmt::format("{} {} '{}'", name_of(s.kind), wanted ? "needs" : "takes no", key));
  };
  check("factor", takes == Parameters::slowdown || takes == Parameters::share, s.factor.has_value());
  check("loss", takes == Parameters::loss, s.loss.has_value());
  check("contained", takes == Parameters::contained, s.contained.has_value());
  if (takes == Parameters::flap || takes == Parameters::cooling || takes == Parameters::drain) {
    f.error("kind", fmt::format("{} has no place in a rate profile", name_of(s.kind)),
            "write it as a fault of the experiment");
  }
  if (s.repair && !info(s.kind).takes_duration) f.error("repair", fmt::format("{} takes no 'repair'", name_of(s.kind)));
}

}  // namespace

void describe(config::Fields& f, RateSource& s) {
  f.required("id", s.id);
  f.required("kind", s.kind);
  f.required("per", s.per);
  f.required("rate_per_hour", s.rate_per_hour, {.min = std::numeric_limits<double>::min(), .max = 1});
  f.list("includes", s.includes, true);
  f.field("distribution", s.life.distribution);
  if (f.reading() || s.life.distribution == GapDistribution::weibull)
    f.field("shape", s.life.shape, {.min = 0.1, .max = 20});
  if (f.reading() ? f.has("repair") : s.repair.has_value()) {
    if (!s.repair) s.repair.emplace();
    f.object("repair", *s.repair);
  }
  maybe(f, "factor", s.factor);
  maybe(f, "loss", s.loss, {.min = 0, .max = 0.999});
  maybe(f, "contained", s.contained, config::kRatio);
  if (f.reading() || s.lemons.share != 0) f.object("lemons", s.lemons);
  if (f.reading() || s.common.share != 0) f.object("common", s.common);
  if (f.reading() || !s.then.empty()) f.list("then", s.then);
  if (f.reading() || s.repeat.probability != 0) f.object("repeat", s.repeat);
  maybe(f, "events", s.events, {.min = 1});
  maybe(f, "exposure_hours", s.exposure_hours, config::kPositive);
  f.required("evidence", s.evidence);
  f.required("source", s.source);
  if (!f.reading() || !f.has("kind") || !f.has("per") || !f.has("rate_per_hour")) return;
  const auto targets = info(s.kind).targets;
  if (std::find(targets.begin(), targets.end(), s.per) == targets.end()) {
    f.error("per", fmt::format("{} does not target a {}", name_of(s.kind), name_of(s.per)));
  }
  check_parameters(f, s);
  if (f.has("shape") && s.life.distribution != GapDistribution::weibull)
    f.error("shape", "only a weibull distribution takes 'shape'");
  if (f.has("includes") && s.includes.empty()) f.error("includes", "a source includes at least one cause");
  if (s.events.has_value() != s.exposure_hours.has_value()) {
    f.error(s.events ? "events" : "exposure_hours", "'events' and 'exposure_hours' come together");
  } else if (s.events) {
    const double computed = *s.events / *s.exposure_hours;
    if (s.rate_per_hour < 0.98 * computed || s.rate_per_hour > 1.02 * computed) {
      f.error("rate_per_hour", fmt::format("events / exposure_hours is {:.3g}, not {:.3g}", computed, s.rate_per_hour));
    }
  }
}

void describe(config::Fields& f, RateProfile& s) {
  f.required("name", s.name);
  f.field("description", s.description);
  f.required("borrowed_from", s.borrowed_from);
  f.list("sources", s.sources, true);
  if (!f.reading()) return;
  std::set<std::string> ids;
  std::map<Covers, std::string> first;
  for (const RateSource& source : s.sources) {
    if (!ids.insert(source.id).second) f.error("sources", fmt::format("source '{}' appears twice", source.id));
    for (const Covers c : source.includes) {
      const auto [it, fresh] = first.emplace(c, source.id);
      if (fresh || it->second == source.id) continue;
      f.error("sources",
              fmt::format("'{}' and '{}' both include {}: their rates cannot be added", it->second, source.id, text(c)),
              "a fleet-wide count already contains its NICs and switches");
    }
  }
}

RateProfile load_profile(const std::string& text, const std::string& file) {
  config::Diagnostics diagnostics;
  const config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  RateProfile profile;
  config::read(document, document.root(), "", profile, diagnostics);
  diagnostics.throw_if_any();
  return profile;
}

std::vector<std::string> overlaps(const std::vector<RateProfile>& profiles) {
  std::vector<std::string> out;
  for (std::size_t a = 0; a < profiles.size(); ++a) {
    for (std::size_t b = a + 1; b < profiles.size(); ++b) {
      for (const RateSource& x : profiles[a].sources) {
        for (const RateSource& y : profiles[b].sources) {
          for (const Covers c : x.includes) {
            if (std::find(y.includes.begin(), y.includes.end(), c) == y.includes.end()) continue;
            out.push_back(fmt::format("{}/{} and {}/{} both include {}", profiles[a].name, x.id, profiles[b].name, y.id,
                                      text(c)));
          }
        }
      }
    }
  }
  return out;
}

std::vector<Covers> not_covered(const RateProfile& profile) {
  std::vector<Covers> out;
  for (std::size_t c = 0; c < kCoversCount; ++c) {
    const auto cause = static_cast<Covers>(c);
    const bool there = std::any_of(profile.sources.begin(), profile.sources.end(), [&](const RateSource& s) {
      return std::find(s.includes.begin(), s.includes.end(), cause) != s.includes.end();
    });
    if (!there) out.push_back(cause);
  }
  return out;
}

double rate_per_hour(const RateProfile& profile, TargetKind per) {
  double sum = 0;
  for (const RateSource& s : profile.sources) sum += s.per == per ? s.rate_per_hour : 0;
  return sum;
}

std::vector<FaultSpec> specs_of(const RateProfile& profile, double acceleration) {
  std::vector<FaultSpec> out;
  for (const RateSource& s : profile.sources) {
    FaultSpec f;
    f.id = profile.name + "/" + s.id;
    f.kind = s.kind;
    f.target = "*";
    f.random.emplace();
    f.random->rate_per_hour = s.rate_per_hour * acceleration;
    f.random->per = s.per;
    f.random->life = s.life;
    f.random->lemons = s.lemons;
    f.random->common = s.common;
    f.random->repeat = s.repeat;
    // The wait for a repeat is time between failures, too.
    f.random->repeat.within.v = static_cast<std::int64_t>(static_cast<double>(s.repeat.within.v) / acceleration);
    if (s.repair) {
      f.repair = s.repair->mean;
      f.repair_spread = s.repair->spread;
    }
    f.factor = s.factor;
    f.loss = s.loss;
    f.contained = s.contained;
    f.then = s.then;
    out.push_back(std::move(f));
  }
  return out;
}

}  // namespace faultline::fault
