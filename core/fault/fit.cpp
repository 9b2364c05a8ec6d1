#include "core/fault/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "core/base/assert.h"
#include "core/base/math.h"
#include "core/stats/sample.h"

namespace faultline::fault {
namespace {

/// Lives and repairs of the units that fail of one cause.
struct Data {
  std::vector<double> lives, repairs;
  std::vector<bool> complete;
  std::vector<std::vector<Outage>> units;  // each sorted
  std::int64_t failures = 0;
  double exposure = 0;
};

double log_of(double x) { return stable::log(std::max(x, 1e-9)); }  // a gap below 4 us is a rounding of the log's clock

Data lives_of(const std::vector<Outage>& rows, std::int64_t units, double from, double until) {
  std::map<std::string, std::vector<Outage>> by_unit;
  for (const Outage& o : rows) by_unit[o.unit].push_back(o);
  Data d;
  const auto add = [&](double life, bool complete) {
    if (life <= 0 && !complete) return;
    d.lives.push_back(std::max(life, 1e-9));
    d.complete.push_back(complete);
    d.exposure += std::max(life, 0.0);
    d.failures += complete ? 1 : 0;
  };
  for (auto& [unit, outages] : by_unit) {
    std::sort(outages.begin(), outages.end(), [](const Outage& a, const Outage& b) { return a.start_h < b.start_h; });
    double up = from;
    bool gone = false;
    for (const Outage& o : outages) {
      if (o.start_h < up) continue;  // reported while it was down already
      add(o.start_h - up, true);
      if (!o.end_h) {
        gone = true;
        break;
      }
      d.repairs.push_back(std::max(*o.end_h - o.start_h, 1e-9));
      up = *o.end_h;
    }
    if (!gone) add(until - up, false);
    d.units.push_back(outages);
  }
  for (auto u = static_cast<std::int64_t>(by_unit.size()); u < units; ++u) add(until - from, false);
  return d;
}

struct LognormalFit {
  double mu = 0, sigma = 0;
};
LognormalFit fit_lognormal(const std::vector<double>& values) {
  stats::Moments m;
  for (const double v : values) m.add(log_of(v));
  // Maximum likelihood divides by n.
  const double n = static_cast<double>(m.count());
  return {m.mean(), m.count() < 2 ? 0 : std::sqrt(m.variance() * (n - 1) / n)};
}

double normal_cdf(double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; }

double lognormal_distance(std::vector<double> values, const LognormalFit& fit) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double distance = 0;
  for (std::size_t k = 0; k < values.size(); ++k) {
    const double f = normal_cdf((log_of(values[k]) - fit.mu) / fit.sigma);
    distance = std::max({distance, f - static_cast<double>(k) / n, static_cast<double>(k + 1) / n - f});
  }
  return distance;
}

/// One more history of the fleet, drawn from the fitted laws over the same window.
void redraw(const Data& data, std::int64_t units, double window, const WeibullFit& life, const LognormalFit& repair,
            Random& random, std::vector<double>& lives, std::vector<bool>& complete) {
  lives.clear();
  complete.clear();
  const std::int64_t population = std::max<std::int64_t>(units, static_cast<std::int64_t>(data.units.size()));
  for (std::int64_t u = 0; u < population; ++u) {
    for (double t = 0; t < window;) {
      const double x = random.weibull(life.shape, life.scale_h);
      const bool fails = t + x < window;
      lives.push_back(fails ? x : window - t);
      complete.push_back(fails);
      if (!fails) break;
      if (data.repairs.empty()) break;  // what fails stays down
      t += x + random.lognormal(repair.mu, repair.sigma);
    }
  }
}

std::vector<Covers> covers_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::gpu_ecc: return {Covers::hbm};
    case FaultKind::gpu_hang: return {Covers::gpu_hang};
    case FaultKind::gpu_slow: return {Covers::gpu_slow};
    case FaultKind::gpu_sdc: return {Covers::sdc};
    case FaultKind::xgmi_down: return {Covers::xgmi};
    case FaultKind::nic_down: return {Covers::nic};
    case FaultKind::link_down: return {Covers::link};
    case FaultKind::switch_down: return {Covers::switch_};
    case FaultKind::node_crash: return {Covers::node};
    case FaultKind::rack_power: return {Covers::power};
    case FaultKind::process_crash: return {Covers::software};
    default: return {Covers::gpu};
  }
}

}  // namespace

bool is_outcome_label(const std::string& cause) {
  static const std::set<std::string> labels{"timeout",   "nccl_timeout",  "rccl_timeout",  "watchdog",  "failed",
                                            "node_fail", "unreachable",   "job_failed",    "cancelled", "canceled",
                                            "preempted", "out_of_memory", "oom",           "error",     "exit",
                                            "unknown",   "not_ready",     "hang_detected", "requeue",   "off_the_bus"};
  std::string low;
  for (const char c : cause)
    low += c == ' ' || c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return labels.contains(low);
}

WeibullFit fit_weibull(const std::vector<double>& lives, const std::vector<bool>& complete) {
  double d = 0, log_sum = 0;
  for (std::size_t k = 0; k < lives.size(); ++k) {
    if (!complete[k]) continue;
    ++d;
    log_sum += log_of(lives[k]);
  }
  FAULTLINE_ASSERT(d > 0, "no failure among {} lives", lives.size());
  const double longest = *std::max_element(lives.begin(), lives.end());
  // The profile likelihood's derivative in the shape falls from + to -: bisection.
  const auto sums = [&](double shape, double& s, double& s_log) {
    s = s_log = 0;
    for (const double t : lives) {
      const double p = stable::exp(shape * log_of(t / longest));
      s += p;
      s_log += p * log_of(t / longest);
    }
  };
  const double mean_log = log_sum / d - log_of(longest);
  double low = 0.02, high = 50, s = 0, s_log = 0;
  for (int k = 0; k < 80; ++k) {
    const double shape = std::sqrt(low * high);
    sums(shape, s, s_log);
    (1 / shape + mean_log - s_log / s > 0 ? low : high) = shape;
  }
  WeibullFit fit;
  fit.shape = std::sqrt(low * high);
  sums(fit.shape, s, s_log);
  fit.scale_h = longest * stable::exp(log_of(s / d) / fit.shape);
  fit.log_likelihood = d * (log_of(fit.shape) - fit.shape * log_of(fit.scale_h)) + (fit.shape - 1) * log_sum - d;
  return fit;
}

double kaplan_meier_distance(const std::vector<double>& lives, const std::vector<bool>& complete, double shape,
                             double scale) {
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), 0U);
  // At one age failures come before the end of the observation.
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return lives[a] != lives[b] ? lives[a] < lives[b] : complete[a] > complete[b];
  });
  double survival = 1, distance = 0;
  auto at_risk = static_cast<double>(lives.size());
  for (const std::size_t k : order) {
    if (complete[k]) {
      const double law = stable::exp(-stable::pow(lives[k] / scale, shape));
      distance = std::max(distance, std::abs(survival - law));
      survival *= 1 - 1 / at_risk;
      distance = std::max(distance, std::abs(survival - law));
    }
    --at_risk;
  }
  return distance;
}

Fit fit_profile(const std::vector<Outage>& log, const std::string& file, const FitOptions& o,
                config::Diagnostics& diagnostics) {
  Fit fit;
  const config::Mark mark{file, 0, 0};
  std::map<std::string, std::vector<Outage>> by_cause;
  std::set<std::string> units;
  double first = std::numeric_limits<double>::infinity(), last = -first;
  std::size_t labels = 0;
  for (const Outage& row : log) {
    by_cause[row.cause].push_back(row);
    units.insert(row.unit);
    first = std::min(first, row.start_h);
    last = std::max({last, row.start_h, row.end_h.value_or(row.start_h)});
    labels += is_outcome_label(row.cause) ? 1 : 0;
  }
  if (log.size() < 2) {
    diagnostics.error(mark, fmt::format("{} failures are too few to fit a rate", log.size()));
    return fit;
  }
  const double from = o.from_h.value_or(first), until = o.until_h.value_or(last);
  if (!(from <= first && last <= until && from < until)) {
    diagnostics.error(mark, "the observation does not contain the log's times",
                      "set --from and --until to what was observed");
    return fit;
  }
  const auto population = static_cast<std::int64_t>(units.size());
  if (o.units && *o.units < population) {
    diagnostics.error(mark, fmt::format("{} units fail, but the fleet has {}", population, *o.units));
    return fit;
  }
  if (!o.units) {
    fit.warnings.push_back(fmt::format(
        "units that never failed are not in the log: with the {} that did, rates are too high; state --units",
        population));
  }
  if (!o.from_h || !o.until_h) {
    fit.warnings.push_back(
        "the observation is taken from the first to the last time in the log; state --from and --until");
  }
  if (labels == log.size()) {
    fit.warnings.push_back(
        "all causes are outcome labels (how work ended), not causes: what broke is not known, and the same failure may "
        "be counted once a job");
  } else if (labels > 0) {
    fit.warnings.push_back(fmt::format("{} of {} rows have an outcome label instead of a cause", labels, log.size()));
  }
  fit.profile.name = o.name;
  fit.profile.description =
      fmt::format("Fitted to {}: {} outages of {} units in {:.0f} h", file, log.size(), population, until - from);
  fit.profile.borrowed_from = o.fleet.empty() ? "fitted to this site's own failure log" : o.fleet;

  std::set<Covers> covered;
  for (const auto& [cause, rows] : by_cause) {
    FittedSource s;
    s.cause = cause;
    std::optional<FaultKind> kind;
    if (const auto it = o.kinds.find(cause); it != o.kinds.end()) kind = it->second;
    std::vector<std::string> known;
    for (const KindInfo& k : catalogue()) {
      known.emplace_back(name_of(k.kind));
      if (!kind && name_of(k.kind) == cause) kind = k.kind;
    }
    if (!kind && is_outcome_label(cause)) kind = FaultKind::process_crash;  // something ended; nothing says what broke
    if (!kind) {
      diagnostics.error(mark, fmt::format("unknown cause '{}'", cause),
                        fmt::format("say what it is: --cause '{}=KIND' {}", cause, config::did_you_mean(cause, known)));
      continue;
    }
    if (info(*kind).targets.empty() || (info(*kind).parameters != Parameters::none && *kind != FaultKind::gpu_ecc)) {
      diagnostics.error(mark, fmt::format("cause '{}': {} has no place in a rate profile", cause, name_of(*kind)));
      continue;
    }
    const std::int64_t all = o.units.value_or(population);
    const Data data = lives_of(rows, all, from, until);
    if (data.failures < 2) {
      fit.warnings.push_back(fmt::format("cause '{}' has {} failure: left out", cause, data.failures));
      continue;
    }
    s.failures = data.failures;
    s.exposure_h = data.exposure;
    const double n = static_cast<double>(s.failures), rate = n / s.exposure_h;
    s.exponential_log_likelihood = n * log_of(rate) - n;
    const WeibullFit weibull = fit_weibull(data.lives, data.complete);
    s.weibull_log_likelihood = weibull.log_likelihood;
    s.weibull_shape = weibull.shape;
    // Akaike: one more parameter must gain more than one unit of log-likelihood.
    const bool is_weibull = s.weibull_log_likelihood - 1 > s.exponential_log_likelihood;
    const WeibullFit kept = is_weibull ? weibull : WeibullFit{1, 1 / rate, s.exponential_log_likelihood};
    const LognormalFit repair = data.repairs.empty() ? LognormalFit{} : fit_lognormal(data.repairs);

    s.life_distance = kaplan_meier_distance(data.lives, data.complete, kept.shape, kept.scale_h);
    std::int64_t farther = 0, repair_farther = 0;
    const bool test_repairs = data.repairs.size() >= 5 && repair.sigma > 0;
    if (test_repairs) s.repair_distance = lognormal_distance(data.repairs, repair);
    std::vector<double> lives;
    std::vector<bool> complete;
    for (std::int64_t b = 0; b < o.bootstrap; ++b) {
      Random random(o.seed, "fit/" + cause, static_cast<std::uint64_t>(b));
      redraw(data, all, until - from, kept, repair, random, lives, complete);
      const auto d = static_cast<double>(std::count(complete.begin(), complete.end(), true));
      if (d < 1) continue;
      const double exposure = std::accumulate(lives.begin(), lives.end(), 0.0);
      const WeibullFit again = is_weibull ? fit_weibull(lives, complete) : WeibullFit{1, exposure / d, 0};
      farther += kaplan_meier_distance(lives, complete, again.shape, again.scale_h) >= s.life_distance ? 1 : 0;
      if (!test_repairs) continue;
      std::vector<double> repairs(data.repairs.size());
      for (double& r : repairs) r = random.lognormal(repair.mu, repair.sigma);
      repair_farther += lognormal_distance(repairs, fit_lognormal(repairs)) >= *s.repair_distance ? 1 : 0;
    }
    const auto p = [&](std::int64_t count) {
      return static_cast<double>(count + 1) / static_cast<double>(o.bootstrap + 1);
    };
    s.life_p = p(farther);
    if (test_repairs) s.repair_p = p(repair_farther);

    RateSource& source = s.source;
    source.id = cause;
    std::replace(source.id.begin(), source.id.end(), ' ', '-');
    source.kind = *kind;
    source.per = info(*kind).targets.front();
    source.includes = covers_of(*kind);
    for (const Covers c : source.includes) {
      if (!covered.insert(c).second) {
        fit.warnings.push_back(
            fmt::format("cause '{}' counts '{}' as another one does: join their rows, or say what it is with --cause",
                        cause, enum_names(&c)[static_cast<std::size_t>(c)]));
      }
    }
    if (is_weibull) {
      source.life = {GapDistribution::weibull, std::clamp(weibull.shape, 0.1, 20.0)};
      source.rate_per_hour = 1 / (weibull.scale_h * stable::exp(stable::lgamma(1 + 1 / weibull.shape)));
    } else {
      source.rate_per_hour = rate;
      source.events = n;
      source.exposure_hours = s.exposure_h;
    }
    if (!data.repairs.empty() && info(*kind).takes_duration) {
      source.repair = RepairLaw{duration_from_seconds(3600 * stable::exp(repair.mu + repair.sigma * repair.sigma / 2)),
                                std::min(repair.sigma, 5.0)};
    }
    if (*kind == FaultKind::gpu_ecc) source.contained = 0;  // the log does not say; nothing contained is the worse case
    source.evidence = Evidence::fitted;
    source.source =
        fmt::format("{} failures in {:.0f} unit-hours of {}; Kolmogorov-Smirnov distance {:.3f}, p = {:.2f}",
                    s.failures, s.exposure_h, file, s.life_distance, s.life_p);
    if (s.life_p < 0.05) {
      fit.warnings.push_back(fmt::format(
          "cause '{}': neither law of life fits (p = {:.3f}); units may be unequal or share a risk", cause, s.life_p));
    }
    fit.profile.sources.push_back(source);
    fit.sources.push_back(std::move(s));
  }
  return fit;
}

}  // namespace faultline::fault
