#include "core/workload/spec.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "core/config/fields.h"

namespace faultline::workload {
namespace {

// Requests per second. The bounds keep every gap between a nanosecond and a few days, which integer time can hold.
constexpr config::Range kRate{.min = 1e-6, .max = 1e8};
constexpr config::Range kCv{.min = 0.05, .max = 10};
constexpr config::Range kTokens{.min = 1, .max = 100'000'000};
constexpr double kArrivalsPerCycleMin = 1e-3;  // below it the search for the next burst would take a noticeable time

void check_onoff(config::Fields& f, const ArrivalsSpec& s) {
  const double per_cycle = s.rate_on * seconds(s.mean_on) + s.rate_off * seconds(s.mean_off);
  if (per_cycle < kArrivalsPerCycleMin) {
    f.error("rate_on",
            fmt::format("an on/off cycle must bring at least {} requests on average, this one brings {}",
                        kArrivalsPerCycleMin, per_cycle),
            "requests a cycle = rate_on * mean_on + rate_off * mean_off");
  }
}

}  // namespace

void describe(config::Fields& f, ArrivalsSpec& s) {
  f.field("kind", s.kind);
  switch (s.kind) {
    case ArrivalKind::poisson:
    case ArrivalKind::constant: f.field("rate", s.rate, kRate); break;
    case ArrivalKind::gamma:
      f.field("rate", s.rate, kRate);
      f.field("cv", s.cv, kCv);
      break;
    case ArrivalKind::weibull:
      f.field("rate", s.rate, kRate);
      if (f.reading() || !s.shape) f.field("cv", s.cv, kCv);
      if (f.reading() || s.shape) f.field("shape", s.shape, {.min = 0.25, .max = 30});
      if (f.reading() && f.has("cv") && f.has("shape")) {
        f.error("shape", "give 'cv' or 'shape' of the Weibull gaps, not both: each fixes the other");
      }
      break;
    case ArrivalKind::onoff:
      f.field("rate_on", s.rate_on, {.min = 0, .max = 1e8});
      f.field("rate_off", s.rate_off, {.min = 0, .max = 1e8});
      f.field("mean_on", s.mean_on, {.min = 1e3});
      f.field("mean_off", s.mean_off, {.min = 1e3});
      if (f.reading()) check_onoff(f, s);
      break;
    case ArrivalKind::diurnal:
      f.field("rate", s.rate, kRate);
      f.field("amplitude", s.amplitude, config::kRatio);
      f.field("period", s.period, {.min = 1e6});
      f.field("phase", s.phase, config::kNotNegative);
      break;
  }
}

void describe(config::Fields& f, LengthSpec& s) {
  f.field("kind", s.kind);
  switch (s.kind) {
    case LengthKind::fixed: f.field("tokens", s.tokens, kTokens); return;
    case LengthKind::uniform: break;
    case LengthKind::lognormal:
      f.field("mean", s.mean, kTokens);
      if (f.reading() || s.p50) f.field("p50", s.p50, kTokens);
      if (f.reading() || s.sigma) f.field("sigma", s.sigma, {.min = 0, .max = 5});
      if (f.reading() && s.p50.has_value() == s.sigma.has_value()) {
        f.error(s.p50 ? "sigma" : "kind", "a lognormal length needs 'mean' and one of 'p50' (its median) and 'sigma'");
      } else if (f.reading() && s.p50 && *s.p50 > s.mean) {
        f.error("p50", fmt::format("the median of a lognormal is never above its mean ({}), got {}", s.mean, *s.p50));
      }
      break;
    case LengthKind::exponential:
    case LengthKind::geometric: f.field("mean", s.mean, kTokens); break;
    case LengthKind::empirical: f.required("file", s.file); break;
  }
  f.field("min", s.min, kTokens);
  f.field("max", s.max, kTokens);
  if (f.reading() && s.min > s.max) {
    f.error(f.has("min") ? "min" : "max", fmt::format("min ({}) is above max ({})", s.min.v, s.max.v));
  }
}

void describe(config::Fields& f, LengthsSpec& s) {
  // `prompt` and `output` alone say that lengths are independent.
  if (f.reading() && !f.has("kind") && (f.has("prompt") || f.has("output"))) s.kind = LengthsKind::independent;
  f.field("kind", s.kind);
  if (s.kind == LengthsKind::independent) {
    f.object("prompt", s.prompt, true);
    f.object("output", s.output, true);
  } else if (s.kind == LengthsKind::trace) {
    f.required("file", s.file);
    f.field("format", s.format);
    if (f.reading() && s.format == TraceFormat::servegen) {
      f.error("format", "a ServeGen folder has no rows to draw from; use it as 'trace'");
    }
  }
}

void describe(config::Fields& f, PrefixesSpec& s) {
  f.field("count", s.count, {.min = 1, .max = 1e5});
  f.field("tokens", s.tokens, kTokens);
  f.field("zipf", s.zipf, {.min = 0, .max = 10});
  f.field("share", s.share, config::kRatio);
  f.field("block_tokens", s.block_tokens, {.min = 1, .max = 65'536});
  if (f.reading() && s.count * (s.tokens.v / s.block_tokens) > std::int64_t{1} << 31)
    f.error("tokens", "tokens: the prefixes have more than 2^31 blocks together");
}

void describe(config::Fields& f, TraceSpec& s) {
  f.required("path", s.path);
  f.field("format", s.format);
  f.field("time_scale", s.time_scale, {.min = 1e-6, .max = 1e6});
  f.field("loop", s.loop);
  f.field("zero_tokens", s.zero_tokens);
  f.field("tick", s.tick, {.min = 0, .max = 3600e9});
}

void describe(config::Fields& f, SloClass& s) {
  f.required("name", s.name);
  f.field("ttft", s.ttft, config::kPositive);
  f.field("tpot", s.tpot, config::kPositive);
  f.field("share", s.share, {.min = 0, .max = 1e9});
}

void describe(config::Fields& f, WorkloadSpec& s) {
  if (f.reading()) {
    if (f.has("trace")) s.trace.emplace();
    TraceSpec unused;
    f.object("trace", s.trace ? *s.trace : unused);
  } else if (s.trace) {
    f.write_object("trace", *s.trace);
  }
  if (f.reading() || !s.trace) {
    f.object("arrivals", s.arrivals);
    f.object("lengths", s.lengths);
    if (f.reading() ? f.has("prefixes") : s.prefixes.has_value()) {
      if (!s.prefixes) s.prefixes.emplace();
      f.object("prefixes", *s.prefixes);
    } else if (f.reading()) {
      f.raw("prefixes");
    }
  }
  f.field("requests", s.requests, {.min = 1, .max = 1e12});
  f.field("duration", s.duration, config::kPositive);
  f.field("rate_scale", s.rate_scale, {.min = 1e-4, .max = 1e4});
  f.field("prompt_max", s.prompt_max, kTokens);
  f.field("output_max", s.output_max, kTokens);
  f.list("slo", s.slo);
  if (!f.reading()) return;
  if (s.trace && s.prefixes)
    f.error("prefixes", "prefixes: only generated prompts take them; a trace has its own or none");
  if (!s.requests && !s.duration) {
    if (!s.trace) f.error("", "a generated workload needs an end: 'requests' or 'duration'");
    if (s.trace && s.trace->loop) f.error("trace", "a trace with 'loop: true' needs an end: 'requests' or 'duration'");
  }
  if (s.slo.empty() || s.slo.size() > 256) {
    f.error("slo", fmt::format("expected 1 to 256 latency classes, got {}", s.slo.size()));
  }
  double shares = 0;
  std::set<std::string> names;
  for (const auto& c : s.slo) {
    shares += c.share;
    if (!c.name.empty() && !names.insert(c.name).second)
      f.error("slo", fmt::format("class '{}' appears twice", c.name));
  }
  if (!s.slo.empty() && !(shares > 0)) f.error("slo", "the shares of the classes add up to 0");
}

}  // namespace faultline::workload
