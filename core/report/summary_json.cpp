#include "core/report/summary_json.h"

#include <fmt/format.h>

#include "core/metrics/fleets.h"
#include "core/report/cost_model.h"

namespace faultline::report {
namespace {

using Json = nlohmann::ordered_json;
using metrics::FaultImpact;

/// Division rounds once, so that whole seconds print whole.
double in_seconds(Duration d) { return static_cast<double>(d.v) / 1e9; }

template <class T>
Json or_null(const std::optional<T>& v) {
  return v ? Json(*v) : Json(nullptr);
}
Json seconds_or_null(std::optional<Duration> d) { return d ? Json(in_seconds(*d)) : Json(nullptr); }
Json seconds_or_null(Instant t) { return t == kNever ? Json(nullptr) : Json(static_cast<double>(t.ns) / 1e9); }
Json limit(Duration d) { return d == kForever ? Json(nullptr) : Json(in_seconds(d)); }

Json distribution(const metrics::Distribution& d) {
  const auto value = [&](Duration v) { return d.count > 0 ? Json(in_seconds(v)) : Json(nullptr); };
  return {{"mean", value(d.mean)}, {"p50", value(d.p50)}, {"p90", value(d.p90)},
          {"p99", value(d.p99)},   {"max", value(d.max)}, {"count", d.count}};
}

Json requests(const metrics::RequestCounts& n) {
  return {{"arrived", n.arrived},
          {"completed", n.completed},
          {"failed", n.failed},
          {"rejected", n.rejected},
          {"unfinished", n.unfinished},
          {"retried", n.retried},
          {"interrupted_but_completed", n.interrupted_but_completed},
          {"unaccounted", n.unaccounted},
          {"failed_by_cause", Json(n.failed_by_cause)},
          {"rejected_by_cause", Json(n.rejected_by_cause)}};
}

Json throughput(const metrics::Throughput& t) {
  return {{"duration_s", in_seconds(t.duration)},
          {"input_tokens", t.input_tokens},
          {"output_tokens", t.output_tokens},
          {"goodput_tokens", t.goodput_tokens},
          {"goodput_requests", t.goodput_requests},
          {"input_tokens_per_s", t.input_tokens_per_s},
          {"output_tokens_per_s", t.output_tokens_per_s},
          {"goodput_tokens_per_s", t.goodput_tokens_per_s},
          {"per_prefill_node", or_null(t.input_tokens_per_s_per_prefill_node)},
          {"per_decode_node", or_null(t.output_tokens_per_s_per_decode_node)}};
}

Json cost(const metrics::Cost& c) {
  return {{"gpus_serving", c.gpus_serving},
          {"gpus_spare", c.gpus_spare},
          {"gpus_counted", c.gpus_serving + c.gpus_spare},
          {"gpu_hours", c.gpu_hours},
          {"gpu_hours_per_1m_output_tokens", or_null(c.gpu_hours_per_1m_output_tokens)},
          {"currency", c.currency},
          {"gpu_price_per_hour", or_null(c.gpu_price_per_hour)},
          {"total", or_null(c.total)},
          {"per_1m_input_tokens", or_null(c.per_1m_input_tokens)},
          {"per_1m_output_tokens", or_null(c.per_1m_output_tokens)},
          {"per_1m_all_tokens", or_null(c.per_1m_all_tokens)},
          {"per_1m_goodput_tokens", or_null(c.per_1m_goodput_tokens)}};
}

Json phases(const FaultImpact& f) {
  Json out;
  for (const Phase& phase : phases_of(f)) out[phase.key] = seconds_or_null(phase.after);
  if (f.paired && !f.paired->not_restored_reason.empty()) {
    out["not_restored"] = f.paired->not_restored_reason;
  } else {
    out["not_restored"] = nullptr;
  }
  return out;
}

Json blast_radius(const Report& report, const FaultImpact& f) {
  const auto* p = f.paired ? &*f.paired : nullptr;
  const auto paired = [&](auto value) { return p ? Json(value(*p)) : Json(nullptr); };
  Json by_class = nullptr;
  if (p) {
    by_class = Json::object();
    for (std::size_t i = 0; i < p->goodput_loss_by_class.size(); ++i) {
      const auto& names = report.run->slo_class_names;
      by_class[i < names.size() ? names[i] : fmt::format("class-{}", i)] = p->goodput_loss_by_class[i];
    }
  }
  return {
      {"basis", p ? "paired" : "causal"},
      {"targeted", f.targeted},
      {"structural_gpus_max", f.structural_gpus_max},
      {"structural_gpu_s", f.structural.gpu_seconds()},
      {"capacity_loss_gpu_s", f.capacity_loss.gpu_seconds()},
      {"own_gpu_s", f.own.gpu_seconds()},
      {"collateral_gpu_s", f.collateral.gpu_seconds()},
      {"amplification", or_null(f.amplification)},
      {"amplification_reason", f.amplification ? Json(nullptr) : Json(f.amplification_reason)},
      {"active_s", in_seconds(f.active)},
      {"capacity_loss_per_fault_s", or_null(f.capacity_loss_per_fault_s)},
      {"instances_touched",
       {{"direct", f.instances_direct},
        {"indirect", paired([](const auto& c) { return c.instances_indirect.excess(); })},
        {"indirect_raw", paired([](const auto& c) { return c.instances_indirect.raw; })},
        {"indirect_placebo", p ? or_null(p->instances_indirect.placebo) : Json(nullptr)}}},
      {"requests_hit", f.requests_hit},
      {"requests_failed", p ? p->requests_failed : f.requests_hit_failed},
      {"requests_rejected", paired([](const auto& c) { return c.requests_rejected; })},
      {"requests_retried", p ? p->requests_retried : f.requests_hit_retried},
      {"interrupted_but_completed", f.interrupted_but_completed},
      {"requests_delayed", paired([](const auto& c) { return c.requests_delayed.excess(); })},
      {"requests_delayed_raw", paired([](const auto& c) { return c.requests_delayed.raw; })},
      {"requests_delayed_placebo", p ? or_null(p->requests_delayed.placebo) : Json(nullptr)},
      {"tokens_recomputed", p ? p->tokens_recomputed : f.hit_tokens_recomputed},
      {"tokens_lost", p ? p->tokens_lost : f.hit_tokens_lost},
      {"goodput_loss_tokens", paired([](const auto& c) { return c.goodput_loss_tokens; })},
      {"goodput_loss_tokens_by_class", std::move(by_class)},
      {"kv_bytes_lost", f.kv_bytes_lost},
      {"throughput_min_share", paired([](const auto& c) { return c.dip.share_min; })},
      {"throughput_below_s", paired([](const auto& c) { return in_seconds(c.dip.below); })},
  };
}

Json fault(const Report& report, const FaultImpact& f) {
  std::string recovery;
  for (const auto& m : f.members) {
    if (!m.recovery.empty() && recovery.find(m.recovery) == std::string::npos)
      recovery += (recovery.empty() ? "" : "; ") + m.recovery;
  }
  Json out{{"id", id_of(f)},
           {"kind", kind_of(f)},
           {"target", target_of(f)},
           {"at_s", seconds_or_null(f.at)},
           {"reverted_s", f.members.size() == 1 ? seconds_or_null(f.members[0].reverted) : Json(nullptr)},
           {"applied", f.applied()},
           {"not_applied_reason", f.applied() ? Json(nullptr) : Json(f.members[0].not_applied_reason)},
           {"recovery", recovery},
           {"blast_radius", blast_radius(report, f)},
           {"phases_s", phases(f)}};
  Json members = Json::array();
  for (const auto& m : f.members) {
    members.push_back({{"id", m.id},
                       {"kind", m.kind},
                       {"target", m.target},
                       {"at_s", seconds_or_null(m.at)},
                       {"reverted_s", seconds_or_null(m.reverted)},
                       {"requests_hit", m.requests_hit}});
  }
  out["members"] = std::move(members);
  out["cluster_reason"] = f.cluster_reason.empty() ? Json(nullptr) : Json(f.cluster_reason);
  return out;
}

/// Of several fleets that share hardware and spares; absent from the summary of a run with one.
Json fleets(const Report& report) {
  Json out = Json::array();
  for (const metrics::FleetFigures& f : metrics::fleet_figures(*report.run, report.options)) {
    const metrics::Summary& s = f.summary;
    std::int64_t met = 0;
    for (const metrics::SloClass& c : s.slo_classes) met += c.met;
    out.push_back(
        {{"name", f.name},
         {"model", f.model},
         {"gpus", s.gpus},
         {"spare_gpus", s.spare_gpus},
         {"instances", s.instances},
         {"requests", requests(s.requests)},
         {"attainment", s.requests.arrived > 0
                            ? Json(static_cast<double>(met) / static_cast<double>(s.requests.arrived))
                            : Json(nullptr)},
         {"latency",
          {{"ttft_s", distribution(s.ttft)}, {"tpot_s", distribution(s.tpot)}, {"e2e_s", distribution(s.latency)}}},
         {"throughput", throughput(s.throughput)},
         {"tokens_recomputed", s.tokens_recomputed},
         {"tokens_lost", s.tokens_lost},
         {"spare_nodes_taken", f.spare_nodes_taken},
         {"standbys_taken", f.standbys_taken}});
  }
  return out;
}

Json spares_taken(const Report& report) {
  Json out = Json::array();
  for (const metrics::SpareUse& u : metrics::spare_uses(*report.run)) {
    out.push_back({{"at_s", seconds_or_null(u.at)},
                   {"fleet", u.fleet},
                   {"instance", u.instance.v},
                   {"node", u.node < 0 ? Json(nullptr) : Json(u.node)}});
  }
  return out;
}

}  // namespace

nlohmann::ordered_json summary_json(const Report& report) {
  const metrics::Summary& s = report.summary;
  const metrics::Options& o = report.options;
  Json faults = Json::array(), classes = Json::array(), sources = Json::array();
  for (const FaultImpact& f : report.impacts.faults) faults.push_back(fault(report, f));
  for (const metrics::SloClass& c : s.slo_classes) {
    classes.push_back({{"name", c.name},
                       {"ttft_limit_s", limit(c.ttft_limit)},
                       {"tpot_limit_s", limit(c.tpot_limit)},
                       {"arrived", c.arrived},
                       {"completed", c.completed},
                       {"met", c.met},
                       {"attainment", c.arrived > 0 ? Json(static_cast<double>(c.met) / static_cast<double>(c.arrived))
                                                    : Json(nullptr)},
                       {"goodput_tokens", c.goodput_tokens},
                       {"goodput_tokens_per_s", c.goodput_tokens_per_s}});
  }
  for (const Source& source : report.sources) sources.push_back({{"what", source.what}, {"source", source.source}});
  Json out{
      {"schema_version", kSummarySchemaVersion},
      {"experiment", s.experiment},
      {"fleet",
       {{"gpus", s.gpus},
        {"spare_gpus", s.spare_gpus},
        {"instances", s.instances},
        {"prefill_nodes", s.prefill_nodes},
        {"decode_nodes", s.decode_nodes}}},
      {"requests", requests(s.requests)},
      {"latency",
       {{"ttft_s", distribution(s.ttft)}, {"tpot_s", distribution(s.tpot)}, {"e2e_s", distribution(s.latency)}}},
      {"throughput", throughput(s.throughput)},
      {"tokens_recomputed", s.tokens_recomputed},
      {"tokens_lost", s.tokens_lost},
      {"experts",
       {{"tokens_degraded", s.tokens_degraded}, {"rebalances", s.rebalances}, {"rebalance_bytes", s.rebalance_bytes}}},
      {"migration", {{"requests", s.requests_migrated}, {"gap_max_s", in_seconds(s.gap_max)}}},
      {"replication",
       {{"bytes", s.replica_bytes}, {"requests_resumed", s.replica_resumes}, {"tokens_again", s.replica_tokens_again}}},
      {"role_switches", s.role_switches},
      {"prefix_cache",
       {{"lookup_tokens", s.prefix_cache.asked},
        {"hit_tokens", s.prefix_cache.hit},
        {"evicted_tokens", s.prefix_cache.evicted},
        {"lost_tokens", s.prefix_cache.lost}}},
      {"slo_classes", std::move(classes)},
      {"cost", cost(s.cost)},
      {"faults", std::move(faults)},
      {"method",
       {{"paired_run", report.without != nullptr},
        {"placebo_run", report.placebo != nullptr},
        {"percentiles", "nearest rank"},
        {"recovery_window_s", in_seconds(o.window)},
        {"recovery_hold_s", in_seconds(o.hold)},
        {"recovery_share_percent", o.share_percent},
        {"delayed_percent", o.delayed_percent},
        {"differences_before_fault", report.impacts.differences_before_fault},
        {"notes", Json(report.impacts.notes)}}},
      {"simulator",
       {{"wall_s", s.simulator.wall_s},
        {"cpu_s", s.simulator.cpu_s},
        {"events", s.simulator.events},
        {"flows", s.simulator.flows},
        {"controller_steps", s.simulator.controller_steps},
        {"decode_steps", s.simulator.decode_steps},
        {"requests_per_cpu_s", s.requests_per_cpu_s},
        {"peak_rss_bytes", s.simulator.peak_rss_bytes},
        {"fidelity", s.simulator.fidelity},
        {"seed", s.seed},
        {"log_hash", fmt::format("{:016x}", s.simulator.log_hash)}}},
      {"cost_model", cost_model_json(report.run->cost_model)},
      {"sources", std::move(sources)},
      {"warnings", Json(s.warnings)},
      {"violations", Json(s.violations)}};
  if (!report.run->fleets.empty()) {
    out["fleets"] = fleets(report);
    out["spares_taken"] = spares_taken(report);
  }
  return out;
}

std::string summary_text(const Report& report) {
  return summary_json(report).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace faultline::report
