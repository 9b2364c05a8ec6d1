// faultline faults fit: a rate profile from a site's own failure log.
#include <fmt/format.h>

#include <memory>
#include <sstream>

#include "cli/faults.h"
#include "core/fault/fit.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string log, out, name = "site", fleet;
  std::vector<std::string> causes;
  std::optional<std::int64_t> units;
  std::optional<double> from, until;
  std::int64_t bootstrap = 200;
};

fault::FaultKind kind_of(const std::string& assignment, std::string& cause) {
  const auto equals = assignment.rfind('=');
  const std::string name = equals == std::string::npos ? "" : assignment.substr(equals + 1);
  std::vector<std::string> known;
  for (const fault::KindInfo& k : fault::catalogue()) {
    known.emplace_back(name_of(k.kind));
    if (known.back() != name) continue;
    cause = assignment.substr(0, equals);
    return k.kind;
  }
  throw config::ConfigError(
      fmt::format("error: --cause '{}': expected a cause of the log and a kind, such as 'XID 79=gpu.failstop' {}\n",
                  assignment, config::did_you_mean(name, known)));
}

void print(const fault::FittedSource& s) {
  const fault::RateSource& r = s.source;
  const bool weibull = r.life.distribution == fault::GapDistribution::weibull;
  fmt::print("{}\n  kind        {}\n  failures    {} in {:.0f} unit-hours\n  rate        {:.3g} per hour and {}, {}\n",
             s.cause, name_of(r.kind), s.failures, s.exposure_h, r.rate_per_hour, name_of(r.per),
             weibull ? fmt::format("weibull of shape {:.2f}", r.life.shape) : "exponential");
  fmt::print(
      "  likelihood  exponential {:.1f}, weibull {:.1f} (shape {:.2f})\n  fit         distance {:.3f}, p = {:.2f}\n",
      s.exponential_log_likelihood, s.weibull_log_likelihood, s.weibull_shape, s.life_distance, s.life_p);
  if (r.repair) {
    fmt::print("  repair      mean {:.2f} h, spread {:.2f}{}\n", seconds(r.repair->mean) / 3600, r.repair->spread,
               s.repair_p ? fmt::format("; distance {:.3f}, p = {:.2f}", *s.repair_distance, *s.repair_p) : "");
  }
}

int run(const Options& o) {
  config::Diagnostics diagnostics;
  std::istringstream in(must_read_file(o.log));
  const auto log = fault::read_failure_log(in, o.log, diagnostics);
  diagnostics.throw_if_any();
  fault::FitOptions options;
  options.name = o.name;
  options.fleet = o.fleet;
  options.units = o.units;
  options.from_h = o.from;
  options.until_h = o.until;
  options.bootstrap = o.bootstrap;
  for (const std::string& assignment : o.causes) {
    std::string cause;
    const fault::FaultKind kind = kind_of(assignment, cause);
    options.kinds[cause] = kind;
  }
  fault::Fit fit = fault::fit_profile(log, o.log, options, diagnostics);
  diagnostics.throw_if_any();
  for (const fault::FittedSource& s : fit.sources) print(s);
  for (const std::string& warning : fit.warnings) fmt::print(stderr, "warning: {}\n", warning);
  YAML::Emitter emitter;
  config::print(emitter, fit.profile);
  const std::string yaml = std::string(emitter.c_str()) + "\n";
  if (o.out.empty()) fmt::print("\n{}", yaml);
  else write_file(o.out, yaml);
  if (!o.out.empty()) fmt::print("\nwritten     {}\n", o.out);
  return 0;
}

}  // namespace

std::function<int()> add_faults_fit(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("log", o->log, "Failure log (CSV with the columns unit, start, end, cause)")->required();
  app.add_option("--out", o->out, "Profile file to write (default: print it)");
  app.add_option("--name", o->name, "Name of the profile");
  app.add_option("--fleet", o->fleet, "What was observed, for the profile's borrowed_from");
  app.add_option("--units", o->units, "Units of the fleet, those that never failed included")
      ->check(CLI::PositiveNumber);
  app.add_option("--from", o->from, "Begin of the observation, hours on the log's axis");
  app.add_option("--until", o->until, "End of the observation, hours on the log's axis");
  app.add_option("--cause", o->causes, "What a cause of the log is: --cause 'XID 79=gpu.failstop' (repeatable)")
      ->allow_extra_args(false)
      ->take_all();
  app.add_option("--bootstrap", o->bootstrap, "Replicas behind each p-value")->check(CLI::Range(20, 100'000));
  return [o] { return run(*o); };
}

}  // namespace faultline::cli
