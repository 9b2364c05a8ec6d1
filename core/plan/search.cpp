// The cheapest number of instances and spares of one shape, and what is said about those that lost.
#include <fmt/format.h>

#include <algorithm>

#include "core/plan/plan.h"

namespace faultline::plan {
namespace {

constexpr std::int64_t kEvaluationsMax = 60;
constexpr double kMonth = 365.25 / 12 * 86'400;

double price_of(const fluid::Prices& prices, const experiment::ExperimentSpec& base, const Fleet& f) {
  const std::int64_t per_instance = f.nodes() / f.instances;
  const bool instances = base.recovery.policy == control::RecoveryAction::spare_instance;
  return fluid::money_of(prices, {.mixed_nodes = f.nodes(), .spare_nodes = f.spares * (instances ? per_instance : 1)},
                         fluid::Result{})
      .per_hour;
}

Evaluated evaluate(const PlanSpec& plan, const experiment::ExperimentSpec& base, const Fleet& fleet,
                   const fault::RateProfile& profile, const fluid::Prices& prices, const fluid::Load& load,
                   double factor) {
  Evaluated e;
  e.fleet = fleet;
  experiment::ExperimentSpec spec = experiment_of(plan, base, fleet, profile);
  spec.fluid.capacity_factor *= factor;
  std::unique_ptr<experiment::Deployment> d;
  fluid::Capacity capacity;
  const auto n = static_cast<double>(plan.seeds);
  for (std::int64_t s = 0; s < plan.seeds; ++s) {
    spec.seed = base.seed + static_cast<std::uint64_t>(s);
    if (!d) {
      d = experiment::deploy(spec);
      config::Diagnostics diagnostics;
      fluid::check(spec, *d, nullptr, diagnostics);
      diagnostics.throw_if_any();
      capacity = fluid::capacity_of(spec, *d, load);
    } else {
      experiment::reseed(*d, spec);
    }
    fluid::Options options;
    options.duration = plan.period;
    options.repair_crews = spec.fluid.repair_crews;
    const fluid::Result with = fluid::simulate(spec, *d, capacity, options);
    options.with_faults = false;
    const fluid::Result without = fluid::simulate(spec, *d, capacity, options);
    const auto& l = fleet.shape.layout;
    const std::int64_t spare_nodes =
        fleet.spares * (spec.fleet.spare_instances > 0 ? fleet.nodes() / fleet.instances : 1);
    const fluid::FleetSize size{fleet.instances * l.prefill, fleet.instances * l.decode, fleet.instances * l.mixed,
                                spare_nodes};
    const fluid::Money money = fluid::money_of(prices, size, with), clean = fluid::money_of(prices, size, without);
    const double months = with.duration_s / kMonth;
    e.availability += with.availability() / n;
    e.attainment += with.attainment() / n;
    e.failed_per_month += with.failed / months / n;
    e.hit_per_month += with.hit / months / n;
    e.late_per_month += with.late / months / n;
    e.lost_gpu_h_per_month += with.lost_gpu_s / 3600 / months / n;
    e.per_hour += money.total / (with.duration_s / 3600) / n;
    e.input_1m += money.per_1m_input / n;
    e.output_1m += money.per_1m_output / n;
    e.input_1m_clean += clean.per_1m_input / n;
    e.output_1m_clean += clean.per_1m_output / n;
  }
  return e;
}

}  // namespace

Search search(const PlanSpec& plan, const experiment::ExperimentSpec& base, const ShapeChoice& choice,
              const fault::RateProfile& profile, const fluid::Prices& prices, const fluid::Load& load,
              std::int64_t at_least) {
  Search out;
  if (!choice.refusal.empty()) {
    out.refusal = choice.refusal;
    return out;
  }
  const double peak = load.rate * (1 + load.amplitude);
  const auto needed = static_cast<std::int64_t>(std::max(1.0, peak / choice.requests_per_s));
  Fleet fleet;
  fleet.shape = choice.shape;
  fleet.needed = static_cast<double>(needed) * choice.requests_per_s + 1e-9 < peak ? needed + 1 : needed;
  struct Point {
    std::int64_t extra, spares;
    double price;
  };
  std::vector<Point> points;
  const std::int64_t most = at_least + std::max<std::int64_t>(3, fleet.needed / 2);
  for (std::int64_t extra = at_least; extra <= most; ++extra) {
    for (std::int64_t spares = 0; spares <= plan.spares_max; spares += spares < 4 ? 1 : spares < 8 ? 2 : 4) {
      Fleet f = fleet;
      f.instances = fleet.needed + extra;
      f.spares = spares;
      points.push_back({extra, spares, price_of(prices, base, f)});
    }
  }
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.price < b.price; });
  std::vector<Point> failed;
  for (const Point& p : points) {
    if (std::any_of(failed.begin(), failed.end(),
                    [&](const Point& q) { return p.extra <= q.extra && p.spares <= q.spares; }))
      continue;
    if (++out.evaluations > kEvaluationsMax) break;
    fleet.instances = fleet.needed + p.extra;
    fleet.spares = p.spares;
    const Evaluated e = evaluate(plan, base, fleet, profile, prices, load, choice.factor);
    if (out.evaluations == 1 || e.held() > out.nearest.held()) out.nearest = e;
    if (e.held() >= plan.target) {
      out.best = e;
      return out;
    }
    failed.push_back(p);
  }
  out.refusal = fmt::format(
      "the target of {:.4g} % is not held with up to {} instances of headroom and {} spares: {:.4g} % at best",
      100 * plan.target, most, plan.spares_max, 100 * out.nearest.held());
  return out;
}

std::string why_it_lost(const Evaluated& best, const ShapeChoice& best_shape, const Evaluated& other,
                        const ShapeChoice& other_shape) {
  std::vector<std::string> reasons;
  const auto per_node = [](const ShapeChoice& s) {
    const auto& l = s.shape.layout;
    return s.requests_per_s / static_cast<double>(l.prefill + l.decode + l.mixed);
  };
  const double a = per_node(best_shape), b = per_node(other_shape);
  if (b < 0.98 * a) reasons.push_back(fmt::format("serves {:.3g} requests/s a node against {:.3g}", b, a));
  const auto size = [](const Evaluated& e) { return e.fleet.nodes() / e.fleet.instances; };
  const std::int64_t head_a = (best.fleet.instances - best.fleet.needed) * size(best),
                     head_b = (other.fleet.instances - other.fleet.needed) * size(other);
  if (head_b > head_a)
    reasons.push_back(fmt::format("{} nodes of headroom in instances of {} against {} in instances of {}", head_b,
                                  size(other), head_a, size(best)));
  if (other.fleet.spares > best.fleet.spares)
    reasons.push_back(fmt::format("{} spares against {}", other.fleet.spares, best.fleet.spares));
  const std::int64_t base_a = best.fleet.needed * size(best), base_b = other.fleet.needed * size(other);
  if (base_b > base_a && reasons.empty())
    reasons.push_back(fmt::format("the load needs {} nodes in whole instances against {}", base_b, base_a));
  if (reasons.empty()) return other.per_hour > best.per_hour ? "credits for failed requests" : "the same price";
  std::string out = reasons[0];
  for (std::size_t k = 1; k < reasons.size(); ++k) out += "; " + reasons[k];
  return out;
}

nlohmann::ordered_json to_json(const Evaluated& e) {
  const auto& s = e.fleet.shape;
  return {{"shape", s.text()},
          {"layout", s.layout.text()},
          {"prefill_width", s.prefill_width},
          {"decode_width", s.decode_width},
          {"instances", e.fleet.instances},
          {"needed", e.fleet.needed},
          {"spares", e.fleet.spares},
          {"nodes", e.fleet.nodes()},
          {"availability", e.availability},
          {"attainment", e.attainment},
          {"failed_per_month", e.failed_per_month},
          {"hit_per_month", e.hit_per_month},
          {"late_per_month", e.late_per_month},
          {"lost_gpu_h_per_month", e.lost_gpu_h_per_month},
          {"per_hour", e.per_hour},
          {"per_1m_input", e.input_1m},
          {"per_1m_output", e.output_1m},
          {"per_1m_input_without_failures", e.input_1m_clean},
          {"per_1m_output_without_failures", e.output_1m_clean}};
}

Evaluated evaluated_from(const nlohmann::json& j) {
  Evaluated e;
  e.fleet.shape.layout = *experiment::InstanceLayout::parse(j.at("layout").get<std::string>());
  e.fleet.shape.prefill_width = j.at("prefill_width");
  e.fleet.shape.decode_width = j.at("decode_width");
  e.fleet.instances = j.at("instances");
  e.fleet.needed = j.at("needed");
  e.fleet.spares = j.at("spares");
  e.availability = j.at("availability");
  e.attainment = j.at("attainment");
  e.failed_per_month = j.at("failed_per_month");
  e.hit_per_month = j.at("hit_per_month");
  e.late_per_month = j.at("late_per_month");
  e.lost_gpu_h_per_month = j.at("lost_gpu_h_per_month");
  e.per_hour = j.at("per_hour");
  e.input_1m = j.at("per_1m_input");
  e.output_1m = j.at("per_1m_output");
  e.input_1m_clean = j.at("per_1m_input_without_failures");
  e.output_1m_clean = j.at("per_1m_output_without_failures");
  return e;
}

nlohmann::ordered_json to_json(const Search& s) {
  nlohmann::ordered_json out{{"evaluations", s.evaluations}, {"refusal", s.refusal}};
  out["best"] = s.best ? to_json(*s.best) : nlohmann::ordered_json(nullptr);
  return out;
}

Search search_from(const nlohmann::json& j) {
  Search s;
  s.evaluations = j.at("evaluations");
  s.refusal = j.at("refusal");
  if (!j.at("best").is_null()) s.best = evaluated_from(j.at("best"));
  return s;
}

}  // namespace faultline::plan
