#include "core/fluid/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/report/cost_model.h"
#include "core/report/summary_json.h"
#include "core/report/text.h"

namespace faultline::fluid {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kFaultsListed = 64;  // one by one; more are summed up by kind

struct KindSum {
  std::int64_t count = 0, stopped = 0;
  double lost = 0, own = 0, hit = 0, failed = 0, late = 0, detect = 0, ready = 0;
};

std::map<std::string, KindSum> by_kind(const Report& r) {
  std::map<std::string, KindSum> sums;
  for (const FaultCost& c : r.with->costs) {
    KindSum& s = sums[std::string(name_of(r.deployment->faults[c.fault].kind))];
    ++s.count;
    s.lost += c.lost_gpu_s;
    s.own += c.own_gpu_s;
    s.hit += c.hit;
    s.failed += c.failed;
    s.late += c.late;
    if (c.ready_s >= 0) {
      ++s.stopped;
      s.detect += std::max(0.0, c.detect_s);
      s.ready += c.ready_s;
    }
  }
  return sums;
}

Json fault_json(const std::string& id, const std::string& kind, const std::string& target, const KindSum& s) {
  const auto mean = [&](double v) { return s.stopped > 0 ? Json(v / static_cast<double>(s.stopped)) : Json(nullptr); };
  return {{"id", id},
          {"kind", kind},
          {"target", target},
          {"applied", true},
          {"count", s.count},
          {"blast_radius",
           {{"basis", "fluid"},
            {"capacity_loss_gpu_s", s.lost},
            {"own_gpu_s", s.own},
            {"collateral_gpu_s", s.lost - s.own},
            {"requests_hit", s.hit},
            {"requests_failed", s.failed},
            {"requests_late", s.late}}},
          {"phases_s", {{"detect", mean(s.detect)}, {"ready", mean(s.ready)}}}};
}

Json role_json(const RoleCapacity& r) {
  return {{"requests_per_s_group", r.requests_per_s},
          {"batch", r.batch},
          {"step_s", r.step_s},
          {"gpus", r.gpus},
          {"limit", r.limit}};
}

std::string period_text(double s) {
  if (s >= 2 * 86'400) return fmt::format("{:.4g} days", s / 86'400);
  if (s >= 2 * 3'600) return fmt::format("{:.4g} h", s / 3'600);
  return fmt::format("{:.4g} s", s);
}

}  // namespace

FleetSize size_of(const experiment::ExperimentSpec& spec, const experiment::Deployment& d) {
  const auto n = static_cast<std::int64_t>(d.placement.instances.size());
  const auto& l = spec.fleet.layout;
  return {n * l.prefill, n * l.decode, n * l.mixed,
          static_cast<std::int64_t>(d.placement.spare_nodes.size() +
                                    d.placement.spare_instances.size() * (l.prefill + l.decode + l.mixed))};
}

Json summary_json(const Report& r) {
  const Result& x = *r.with;
  const Money money = money_of(r.prices, size_of(*r.spec, *r.deployment), x);
  Json faults = Json::array();
  if (x.costs.size() <= kFaultsListed) {
    for (const FaultCost& c : x.costs) {
      const auto& f = r.deployment->faults[c.fault];
      KindSum s{.count = 1,
                .stopped = c.ready_s >= 0 ? 1 : 0,
                .lost = c.lost_gpu_s,
                .own = c.own_gpu_s,
                .hit = c.hit,
                .failed = c.failed,
                .late = c.late,
                .detect = std::max(0.0, c.detect_s),
                .ready = std::max(0.0, c.ready_s)};
      Json row = fault_json(f.name, std::string(name_of(f.kind)), f.target, s);
      row["at_s"] = seconds(std::get<Instant>(f.trigger));
      faults.push_back(std::move(row));
    }
  } else {
    for (const auto& [kind, s] : by_kind(r))
      faults.push_back(fault_json(fmt::format("{} x {}", s.count, kind), kind, "", s));
  }
  Json down = Json::array();
  for (const double t : x.down_s) down.push_back(t);
  Json capacity = Json::object();
  if (r.capacity->prefill.gpus > 0) capacity["prefill"] = role_json(r.capacity->prefill);
  if (r.capacity->decode.gpus > 0) capacity["decode"] = role_json(r.capacity->decode);
  if (r.capacity->both.gpus > 0) capacity["both"] = role_json(r.capacity->both);
  const double d = x.duration_s > 0 ? x.duration_s : 1;
  Json out{{"schema_version", report::kSummarySchemaVersion},
           {"experiment", r.spec->name},
           {"fleet", {{"gpus", x.gpus}, {"spare_gpus", x.spare_gpus}, {"instances", x.instances}}},
           {"requests",
            {{"arrived", x.arrived},
             {"good", x.good},
             {"hit", x.hit},
             {"failed", x.failed},
             {"retried", x.retried},
             {"rejected", x.rejected},
             {"late", x.late}}},
           {"throughput",
            {{"duration_s", x.duration_s},
             {"input_tokens", x.input_tokens},
             {"output_tokens", x.output_tokens},
             {"goodput_tokens", x.good_tokens},
             {"input_tokens_per_s", x.input_tokens / d},
             {"output_tokens_per_s", x.output_tokens / d},
             {"goodput_tokens_per_s", x.good_tokens / d}}},
           {"tokens_recomputed", x.tokens_recomputed},
           {"tokens_lost", x.tokens_lost},
           {"availability", x.availability()},
           {"attainment", x.attainment()},
           {"all_instances_up", x.duration_s > 0 && !x.down_s.empty() ? x.down_s[0] / x.duration_s : 1.0},
           {"capacity",
            {{"healthy_requests_per_s", x.capacity_healthy},
             {"mean_requests_per_s", x.capacity_mean},
             {"min_requests_per_s", x.capacity_min},
             {"headroom_min", x.headroom_min},
             {"short_s", x.short_s},
             {"queue_s", x.queue_s},
             {"instances_down_s", down},
             {"lost_gpu_s", x.lost_gpu_s},
             {"own_gpu_s", x.own_gpu_s},
             {"of_group", capacity}}},
           {"spares",
            {{"mean", x.spares_mean},
             {"none_left_s", x.no_spare_s},
             {"waits", x.spare_waits},
             {"wait_mean_s", x.spare_wait_mean_s},
             {"failed", x.spare_failures},
             {"repair_queue_max", x.repair_queue_max}}},
           {"incidents", x.incidents},
           {"cost",
            {{"currency", r.prices.currency},
             {"per_hour", money.per_hour},
             {"total", money.total},
             {"credits", money.credits},
             {"per_1m_input_tokens", money.per_1m_input},
             {"per_1m_output_tokens", money.per_1m_output},
             {"per_1m_all_tokens", money.per_1m_all}}},
           {"faults", std::move(faults)},
           {"cost_model", report::cost_model_json(cost_model_of(*r.spec, *r.deployment, *r.capacity))},
           {"simulator", {{"fidelity", "fluid"}, {"seed", r.spec->seed}, {"events", x.events}}}};
  if (r.without != nullptr) {
    const Money clean = money_of(r.prices, size_of(*r.spec, *r.deployment), *r.without);
    out["without_faults"] = {{"good", r.without->good},
                             {"goodput_tokens", r.without->good_tokens},
                             {"per_1m_input_tokens", clean.per_1m_input},
                             {"per_1m_output_tokens", clean.per_1m_output},
                             {"per_1m_all_tokens", clean.per_1m_all}};
  }
  return out;
}

std::string summary_text(const Report& r) {
  const Result& x = *r.with;
  const Money money = money_of(r.prices, size_of(*r.spec, *r.deployment), x);
  std::string out = fmt::format("── {} ── fluid fidelity\n", r.spec->name);
  const auto row = [&](const char* label, const std::string& text) { out += fmt::format("{:<12}{}\n", label, text); };
  const auto n = [](double v) { return report::with_commas(static_cast<std::int64_t>(v + 0.5)); };
  row("fleet", fmt::format("{} instances on {} GPUs{}, {} · seed {}", report::with_commas(x.instances),
                           report::with_commas(x.gpus),
                           x.spare_gpus > 0 ? fmt::format(" + {} spare", report::with_commas(x.spare_gpus)) : "",
                           period_text(x.duration_s), r.spec->seed));
  row("capacity", fmt::format("{:.4g} requests/s within the SLO when healthy ({:.4g} a {} instance), {:.4g} on "
                              "average, {:.4g} at the lowest; load {:.4g}",
                              x.capacity_healthy, r.capacity->instance_requests_per_s, r.spec->fleet.layout.text(),
                              x.capacity_mean, x.capacity_min, r.capacity->load.rate));
  row("requests", fmt::format("{} arrived · {} within the SLO ({:.4f} %) · {} hit · {} late · {} failed", n(x.arrived),
                              n(x.good), 100 * x.attainment(), n(x.hit), n(x.late), n(x.failed)));
  row("available",
      fmt::format("{:.4f} % of the time with capacity for the load; {} short of it, {} with a queue beyond the SLO",
                  100 * x.availability(), period_text(x.short_s), period_text(x.queue_s)));
  row("lost",
      fmt::format("{} GPU-h, of these {} the failed GPUs' own; {} incidents of {} faults", n(x.lost_gpu_s / 3600),
                  n(x.own_gpu_s / 3600), report::with_commas(x.incidents), report::with_commas(x.faults)));
  if (x.spare_gpus > 0 || x.spare_waits > 0) {
    row("spares", fmt::format("{:.2f} ready on average; none for {}; {} waits, {} each; {} failed idle", x.spares_mean,
                              period_text(x.no_spare_s), report::with_commas(x.spare_waits),
                              period_text(x.spare_wait_mean_s), report::with_commas(x.spare_failures)));
  }
  row("cost", fmt::format("{:.4g} {} an hour; {:.4g} per 1M input and {:.4g} per 1M output tokens within the SLO",
                          money.per_hour, r.prices.currency, money.per_1m_input, money.per_1m_output));
  if (r.without != nullptr) {
    const Money clean = money_of(r.prices, size_of(*r.spec, *r.deployment), *r.without);
    row("", fmt::format("{:.4g} and {:.4g} without failures", clean.per_1m_input, clean.per_1m_output));
  }
  row("prices", report::cost_model_text(report::cost_model_json(cost_model_of(*r.spec, *r.deployment, *r.capacity))));
  const auto kinds = by_kind(r);
  if (!kinds.empty()) {
    out += fmt::format("\n{:<14} {:>8} {:>12} {:>10} {:>10} {:>9} {:>9}\n", "fault", "events", "GPU-h lost", "hit",
                       "late", "detect s", "ready s");
    for (const auto& [kind, s] : kinds) {
      const double m = s.stopped > 0 ? static_cast<double>(s.stopped) : 1;
      out += fmt::format("{:<14} {:>8} {:>12.2f} {:>10} {:>10} {:>9} {:>9}\n", kind, s.count, s.lost / 3600, n(s.hit),
                         n(s.late), s.stopped > 0 ? fmt::format("{:.2f}", s.detect / m) : "–",
                         s.stopped > 0 ? fmt::format("{:.1f}", s.ready / m) : "–");
    }
  }
  return out;
}

}  // namespace faultline::fluid
