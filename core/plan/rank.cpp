#include "core/plan/rank.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <functional>

#include "core/base/random.h"
#include "core/experiment/candidates.h"
#include "core/fluid/report.h"
#include "core/stats/sample.h"

namespace faultline::plan {
namespace {

constexpr double kMonthHours = 365.25 / 12 * 24;
constexpr std::size_t kNamedMax = 64;  // shared components shown one by one; more are one row

/// What single strikes cost, over a sample.
struct Impact {
  stats::Moments goodput, failed, lost, money;
};

constexpr Duration kTail{std::int64_t{4} * 3600 * 1'000'000'000};  // after the repair: queues drain, instances restart

/// One strike on `component` some hours into a day, at the load of that hour.
void strike(const experiment::ExperimentSpec& spec, experiment::Deployment& d, const fluid::Capacity& capacity,
            const fluid::Prices& prices, const fault::RateSource& source, ComponentId component,
            const std::string& name, std::uint64_t sample, const RankOptions& options, Impact& impact) {
  Random random(spec.seed, "rank/" + source.id, sample);
  fault::ScheduledFault f;
  f.id = FaultId{0};
  f.name = source.id;
  f.kind = source.kind;
  f.target = name;
  f.component = component;
  f.factor = source.factor.value_or(1);
  f.process_only = source.contained && random.chance(*source.contained);
  const double hour = options.state ? 0.1 : 24 * random.uniform();
  f.trigger = Instant{static_cast<std::int64_t>(hour * 3600e9)};
  Random repair(spec.seed, "rank/repair/" + source.id, sample);
  f.length = source.repair ? fault::draw_repair(repair, *source.repair) : kForever;
  const Duration most{std::int64_t{14} * 86'400 * 1'000'000'000};
  const Duration length = std::min(most, f.length == kForever ? Duration{0} : f.length);
  d.faults = {f};
  fluid::Options run;
  run.duration = Duration{std::get<Instant>(f.trigger).ns} + length + kTail;
  run.state = options.state;
  const fluid::Result with = fluid::simulate(spec, d, capacity, run);
  d.faults.clear();
  const fluid::Result without = fluid::simulate(spec, d, capacity, run);
  impact.goodput.add(without.good_tokens - with.good_tokens);
  impact.failed.add(with.failed + with.late - without.failed - without.late);
  impact.lost.add(with.lost_gpu_s / 3600);
  const fluid::FleetSize size = fluid::size_of(spec, d);
  const double gpus = static_cast<double>(size.serving() + size.spare_nodes) * spec.topology.node.gpus;
  const double gpu_hour = gpus > 0 ? fluid::money_of(prices, size, fluid::Result{}).per_hour / gpus : 0;
  impact.money.add(with.lost_gpu_s / 3600 * gpu_hour +
                   (with.failed + with.late - without.failed - without.late) * prices.credit_per_failed_request);
}

struct Prepared {
  experiment::ExperimentSpec spec;
  std::unique_ptr<experiment::Deployment> d;
  fluid::Capacity capacity;
};

Prepared prepare(experiment::ExperimentSpec spec, const fluid::Load& load) {
  Prepared p;
  spec.fidelity = experiment::Fidelity::fluid;
  spec.faults.clear();
  spec.autoscaler.enabled = false;
  p.spec = std::move(spec);
  p.d = experiment::deploy(p.spec);
  p.capacity = fluid::capacity_of(p.spec, *p.d, load);
  return p;
}

/// The components of one row, by name.
struct Class {
  std::string label;
  std::vector<std::string> names;
};

std::vector<Class> classes_of(const fault::Candidates& candidates, fault::TargetKind per) {
  std::vector<std::string> names = candidates.names(per);
  const bool shared =
      per == fault::TargetKind::switch_ || per == fault::TargetKind::rack || per == fault::TargetKind::power;
  std::vector<Class> out;
  if (shared && names.size() <= kNamedMax) {
    for (const std::string& n : names) out.push_back({n, {n}});
  } else if (!names.empty()) {
    out.push_back({fmt::format("each of {} {}s", names.size(), name_of(per)), std::move(names)});
  }
  return out;
}

Impact impact_of(Prepared& p, const fluid::Prices& prices, const fault::RateSource& source,
                 const std::vector<std::string>& names, const RankOptions& options) {
  Impact impact;
  const fault::Candidates candidates = experiment::candidates_of(p.d->topology, p.d->placement, p.spec.risk);
  for (std::int64_t k = 0; k < options.samples; ++k) {
    Random random(p.spec.seed, "rank/pick/" + source.id, static_cast<std::uint64_t>(k));
    const std::string& name = names[random.below(names.size())];
    if (const auto component = candidates.resolve(name))
      strike(p.spec, *p.d, p.capacity, prices, source, *component, name, static_cast<std::uint64_t>(k), options,
             impact);
  }
  return impact;
}

Interval monthly(const stats::Moments& m, double events, const Interval& rate) {
  const double half = m.half_width(2.2);  // about Student's t at the usual dozen strikes
  return {events * m.mean(), events * rate.low * std::max(0.0, m.mean() - half),
          events * rate.high * (m.mean() + half)};
}

struct Remedy {
  std::string name;
  std::function<bool(experiment::ExperimentSpec&)> apply;  // false: it is so already
  double per_month = 0;
};

std::vector<Remedy> remedies(const experiment::ExperimentSpec& base, const fluid::Prices& prices) {
  const auto nodes = static_cast<std::int64_t>(base.fleet.instances) *
                     (base.fleet.layout.prefill + base.fleet.layout.decode + base.fleet.layout.mixed);
  const double node = fluid::next_node_hour(prices, nodes) * kMonthHours;
  const double per_instance = static_cast<double>(nodes) / base.fleet.instances;
  return {{"fleet.restart_unit: ep_group",
           [](experiment::ExperimentSpec& s) {
             if (s.fleet.restart_unit != control::RestartUnit::instance &&
                 s.fleet.restart_unit != control::RestartUnit::role)
               return false;
             s.fleet.restart_unit = control::RestartUnit::ep_group;
             return true;
           },
           0},
          {"topology.node.nic_failover",
           [](experiment::ExperimentSpec& s) {
             if (s.topology.node.nic_failover) return false;
             return s.topology.node.nic_failover = true;
           },
           0},
          {"engine: load weights five times as fast",
           [](experiment::ExperimentSpec& s) {
             s.engine.restart_weights = s.engine.restart_weights / 5;
             return s.engine.restart_weights > Duration{0};
           },
           0},
          {"engine.collective_timeout: 10 s",
           [](experiment::ExperimentSpec& s) {
             if (s.engine.collective_timeout <= Duration{10'000'000'000}) return false;
             s.engine.collective_timeout = Duration{10'000'000'000};
             return true;
           },
           0},
          {"one spare node more",
           [](experiment::ExperimentSpec& s) {
             if (s.recovery.policy == control::RecoveryAction::spare_instance) return false;
             s.recovery.policy = control::RecoveryAction::spare_node;
             ++s.fleet.spare_nodes;
             ++s.topology.nodes;
             return true;
           },
           node * prices.idle_spare_share},
          {"one instance more",
           [](experiment::ExperimentSpec& s) {
             ++s.fleet.instances;
             s.topology.nodes += s.fleet.layout.prefill + s.fleet.layout.decode + s.fleet.layout.mixed;
             return true;
           },
           node * per_instance}};
}

}  // namespace

Interval rate_interval(double events) {
  const double n = events > 0 ? events : 3;
  const boost::math::chi_squared low(2 * n), high(2 * n + 2);
  return {1, boost::math::quantile(low, 0.025) / 2 / n, boost::math::quantile(high, 0.975) / 2 / n};
}

std::vector<RankRow> rank(const experiment::ExperimentSpec& base, const fault::RateProfile& profile,
                          const fluid::Prices& prices, const fluid::Load& load, const RankOptions& options,
                          std::vector<std::string>& skipped) {
  Prepared plain = prepare(base, load);
  const fault::Candidates candidates = experiment::candidates_of(plain.d->topology, plain.d->placement, base.risk);
  std::vector<RankRow> rows;
  std::vector<std::pair<const fault::RateSource*, std::vector<std::string>>> struck;
  for (const fault::RateSource& source : profile.sources) {
    for (Class& c : classes_of(candidates, source.per)) {
      fault::ScheduledFault probe;
      probe.kind = source.kind;
      probe.component = *candidates.resolve(c.names.front());
      probe.trigger = Instant{0};
      plain.d->faults = {probe};
      config::Diagnostics diagnostics;
      experiment::ExperimentSpec timed = plain.spec;
      timed.end = Duration{1};
      fluid::check(timed, *plain.d, nullptr, diagnostics);
      plain.d->faults.clear();
      if (!diagnostics.ok()) {
        skipped.push_back(fmt::format("{}/{}: {}", profile.name, source.id, diagnostics.list().front().message));
        break;
      }
      const Impact impact = impact_of(plain, prices, source, c.names, options);
      RankRow row;
      row.source = source.id;
      row.kind = name_of(source.kind);
      row.per = name_of(source.per);
      row.component = c.label;
      row.count = static_cast<std::int64_t>(c.names.size());
      row.events_per_month = source.rate_per_hour * kMonthHours * static_cast<double>(c.names.size());
      const Interval rate = rate_interval(source.events.value_or(0));
      row.goodput_tokens = monthly(impact.goodput, row.events_per_month, rate);
      row.failed = monthly(impact.failed, row.events_per_month, rate);
      row.lost_gpu_h = monthly(impact.lost, row.events_per_month, rate);
      row.money = monthly(impact.money, row.events_per_month, rate);
      rows.push_back(std::move(row));
      struck.emplace_back(&source, std::move(c.names));
    }
  }
  // The same strikes on the fleet with one thing changed; a row that costs nothing needs no fix.
  for (const Remedy& remedy : remedies(base, prices)) {
    experiment::ExperimentSpec changed = base;
    if (!remedy.apply(changed)) continue;
    Prepared with;
    try {
      with = prepare(changed, load);
    } catch (const config::ConfigError&) {
      continue;  // it does not go with this fleet
    }
    for (std::size_t k = 0; k < rows.size(); ++k) {
      if (rows[k].money.mean <= 0) continue;
      const Impact impact = impact_of(with, prices, *struck[k].first, struck[k].second, options);
      const double saves = rows[k].money.mean - rows[k].events_per_month * impact.money.mean();
      if (saves > remedy.per_month && saves > 0.02 * rows[k].money.mean)
        rows[k].fixes.push_back({remedy.name, remedy.per_month, saves});
    }
  }
  for (RankRow& row : rows) {
    std::stable_sort(row.fixes.begin(), row.fixes.end(),
                     [](const Fix& a, const Fix& b) { return a.saves - a.per_month > b.saves - b.per_month; });
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const RankRow& a, const RankRow& b) { return a.money.mean > b.money.mean; });
  return rows;
}

nlohmann::ordered_json to_json(const RankRow& r) {
  const auto interval = [](const Interval& i) {
    return nlohmann::ordered_json{{"mean", i.mean}, {"low", i.low}, {"high", i.high}};
  };
  nlohmann::ordered_json out{{"source", r.source},
                             {"kind", r.kind},
                             {"per", r.per},
                             {"component", r.component},
                             {"count", r.count},
                             {"events_per_month", r.events_per_month},
                             {"goodput_tokens_per_month", interval(r.goodput_tokens)},
                             {"failed_or_late_per_month", interval(r.failed)},
                             {"lost_gpu_h_per_month", interval(r.lost_gpu_h)},
                             {"money_per_month", interval(r.money)},
                             {"fixes", nlohmann::ordered_json::array()}};
  for (const Fix& f : r.fixes)
    out["fixes"].push_back({{"fix", f.name}, {"costs_per_month", f.per_month}, {"saves_per_month", f.saves}});
  return out;
}

}  // namespace faultline::plan
