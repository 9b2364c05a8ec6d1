// The report of faultline plan.
#include <fmt/format.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/plan.h"
#include "core/report/cost_model.h"

namespace faultline::cli {

using nlohmann::ordered_json;
using plan::Evaluated;

std::string fleet_text(const Evaluated& e) {
  const auto& f = e.fleet;
  return fmt::format("{} x {}{}", f.instances, f.shape.text(),
                     f.spares > 0 ? fmt::format(", {} spare{}", f.spares, f.spares == 1 ? "" : "s") : ", no spares");
}

bool Planner::same_winner() const {
  for (std::size_t p = 0; p < profiles_.size(); ++p) {
    const PlanOutcome& o = outcomes_[p];
    if (!o.best || !outcomes_[0].best) return false;
    if (fleet_text(*o.searches[*o.best].best) != fleet_text(*outcomes_[0].searches[*outcomes_[0].best].best))
      return false;
  }
  return true;
}

void Planner::print_profile(std::size_t p) const {
  const PlanOutcome& o = outcomes_[p];
  fmt::print("\n{}  ({})\n", profiles_[p].name, profiles_[p].borrowed_from);
  for (const std::string& r : o.refuted) fmt::print("  refuted     {}\n", r);
  if (!o.best) {
    fmt::print("  no fleet of these shapes holds the target\n");
    for (std::size_t s = 0; s < o.searches.size(); ++s)
      fmt::print("    {:<34} {}\n", o.shapes[s].shape.text(), o.searches[s].refusal);
    return;
  }
  const Evaluated& b = *o.searches[*o.best].best;
  const std::int64_t size = b.fleet.nodes() / b.fleet.instances;
  fmt::print("  {:<11} {}\n", same_winner() ? "fleet" : "cheapest", fleet_text(b));
  fmt::print("  size        {} serving nodes: {} instances for the load, {} of headroom ({} nodes)\n", b.fleet.nodes(),
             b.fleet.needed, b.fleet.instances - b.fleet.needed, (b.fleet.instances - b.fleet.needed) * size);
  const plan::ShapeChoice& shape = o.shapes[*o.best];
  fmt::print("  capacity    {:.4g} requests/s an instance{}\n", shape.requests_per_s,
             o_.no_verify ? ", by closed forms alone"
                          : fmt::format(" in step runs, {:.0f} % of what closed forms give", 100 * shape.factor));
  fmt::print(
      "  price       {:.4g} {} an hour; 1M input tokens {:.4g}, 1M output tokens {:.4g}; without failures {:.4g} and "
      "{:.4g}\n",
      b.per_hour, prices_.currency, b.input_1m, b.output_1m, b.input_1m_clean, b.output_1m_clean);
  fmt::print(
      "  holds       {:.4f} % of the time with capacity, failures leave {:.4f} % of the requests; a month: {:.0f} hit, "
      "{:.0f} late, {:.0f} failed, {:.1f} GPU-h lost\n",
      100 * b.availability, 100 * b.attainment, b.hit_per_month, b.late_per_month, b.failed_per_month,
      b.lost_gpu_h_per_month);
  fmt::print("  prices      {}\n", report::cost_model_text(o.cost_model));
  const bool confirmed =
      std::any_of(o.confirmed.begin(), o.confirmed.end(), [&](const auto& v) { return v.first == *o.best; });
  if (!confirmed && plan_.verify > 0 && !o_.no_verify)
    fmt::print("  unconfirmed no step run has confirmed this fleet\n");
  for (const auto& [s, v] : o.confirmed) {
    fmt::print(
        "  step run    {} on {:.0f} GPUs at the peak load: {:.2f} % within the SLO; a dead decode GPU: {}, {:.0f} "
        "requests interrupted\n",
        o.shapes[s].shape.text(), v.gpus, 100 * v.attainment,
        v.ready_s >= 0 ? fmt::format("ready after {:.0f} s", v.ready_s) : "not ready within 210 s", v.interrupted);
  }
  std::vector<std::size_t> order;
  for (std::size_t s = 0; s < o.searches.size(); ++s) {
    if (s != *o.best) order.push_back(s);
  }
  const auto cost = [&](std::size_t s) { return o.searches[s].best ? o.searches[s].best->per_hour : 1e300; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t c) { return cost(a) < cost(c); });
  fmt::print("  others\n");
  for (const std::size_t s : order) {
    const auto& e = o.searches[s].best;
    if (!e) fmt::print("    {:<52} {}\n", o.shapes[s].shape.text(), o.searches[s].refusal);
    else
      fmt::print("    {:<52} {:>+6.1f} %  {}\n", fleet_text(*e), 100 * (e->per_hour / b.per_hour - 1),
                 plan::why_it_lost(b, shape, *e, o.shapes[s]));
  }
}

/// What each changed assumption makes of the cheapest fleet, against the plain search under the same profile; both
/// before checks by step runs.
std::vector<std::pair<std::string, std::string>> Planner::sensitivity() const {
  std::vector<std::pair<std::string, std::string>> out;
  PlanOutcome plain = outcomes_[profiles_.size() / 2];
  const auto best_of = [](const PlanOutcome& o) -> const Evaluated* {
    const auto s = cheapest(o);
    return s ? &*o.searches[*s].best : nullptr;
  };
  const Evaluated* was = best_of(plain);
  for (std::size_t k = profiles_.size(); k < settings_.size(); ++k) {
    const Evaluated* e = best_of(outcomes_[k]);
    std::string text;
    if (e == nullptr) text = "no fleet holds the target";
    else if (was == nullptr) text = fleet_text(*e);
    else {
      text = fmt::format("{:<52} {:>+6.1f} %{}", fleet_text(*e), 100 * (e->per_hour / was->per_hour - 1),
                         e->fleet.shape.text() != was->fleet.shape.text() ? "  another shape"
                         : fleet_text(*e) == fleet_text(*was)             ? "  the same"
                                                                          : "");
    }
    out.emplace_back(changes_[settings_[k].change].name, std::move(text));
  }
  return out;
}

void Planner::print() const {
  fmt::print("── plan {} ── {} on {}, {:.4g} requests/s (peak {:.4g}), {:.0f} in / {:.0f} out, target {:.4g} %\n",
             plan_.name, base_.model.name, base_.device.name, load_.rate, load_.rate * (1 + load_.amplitude),
             load_.prompt_mean, load_.output_mean, 100 * plan_.target);
  for (std::size_t p = 0; p < profiles_.size(); ++p) print_profile(p);
  if (const auto rows = sensitivity(); !rows.empty()) {
    fmt::print("\nwhat changes the answer (under {})\n", profiles_[profiles_.size() / 2].name);
    for (const auto& [name, text] : rows) fmt::print("  {:<18} {}\n", name, text);
  }
  if (profiles_.size() < 2) return;
  fmt::print("\n{}\n", same_winner()
                           ? "The same fleet is the cheapest under every profile."
                           : "The cheapest fleet depends on the rate profile: there is no single winner. Measure "
                             "your own rates (faultline faults fit).");
}

std::string Planner::print_json() const {
  ordered_json out{{"plan", plan_.name},          {"target", plan_.target},       {"within_slo", plan_.within_slo},
                   {"rate", load_.rate},          {"currency", prices_.currency}, {"profiles", ordered_json::array()},
                   {"same_winner", same_winner()}};
  for (std::size_t p = 0; p < profiles_.size(); ++p) {
    const PlanOutcome& o = outcomes_[p];
    ordered_json row{{"profile", profiles_[p].name},
                     {"shapes", ordered_json::array()},
                     {"refuted", o.refuted},
                     {"verified", ordered_json::array()}};
    row["cheapest"] = o.best ? plan::to_json(*o.searches[*o.best].best) : ordered_json(nullptr);
    row["cost_model"] = o.cost_model;
    for (std::size_t s = 0; s < o.shapes.size(); ++s) {
      ordered_json shape = plan::to_json(o.searches[s]);
      shape["shape"] = o.shapes[s].shape.text();
      shape["requests_per_s"] = o.shapes[s].requests_per_s;
      shape["capacity_factor"] = o.shapes[s].factor;
      row["shapes"].push_back(std::move(shape));
    }
    for (const auto& [s, v] : o.confirmed)
      row["verified"].push_back({{"shape", o.shapes[s].shape.text()},
                                 {"attainment", v.attainment},
                                 {"ready_s", v.ready_s},
                                 {"interrupted", v.interrupted}});
    out["profiles"].push_back(std::move(row));
  }
  if (same_winner()) out["winner"] = out["profiles"][0]["cheapest"];
  for (const auto& [name, text] : sensitivity()) out["sensitivity"].push_back({{"change", name}, {"cheapest", text}});
  return out.dump(2);
}

}  // namespace faultline::cli
