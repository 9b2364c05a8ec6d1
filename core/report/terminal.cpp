#include "core/report/terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/metrics/fleets.h"
#include "core/metrics/series.h"
#include "core/report/cost_model.h"
#include "core/report/text.h"

namespace faultline::report {
namespace {

using metrics::FaultImpact;

constexpr std::size_t kLabel = 12;  // width of the left column
constexpr int kChartRows = 5;

class Page {
 public:
  explicit Page(const TerminalOptions& options)
      : columns_(static_cast<std::size_t>(std::max(options.columns, 60))), colour_(options.colour) {}

  std::string bold(std::string_view s) const { return paint("1", s); }
  std::string dim(std::string_view s) const { return paint("2", s); }
  std::string red(std::string_view s) const { return paint("31", s); }
  std::size_t columns() const { return columns_; }

  void blank() { out_ += '\n'; }
  void raw(const std::string& line) { out_ += line + '\n'; }
  void rule(std::string_view title) {
    const std::string text = fit(title, std::min(width_of(title), columns_ - 4));
    std::string line = "── ";
    line += bold(text) + " ";
    for (std::size_t i = width_of(text) + 4; i < columns_; ++i) line += "─";
    raw(line);
  }
  /// A label and a text that goes on under itself.
  void row(std::string_view label, const std::string& text, bool alarming = false) {
    bool first = true;
    for (const std::string& line : wrapped(text, columns_ - kLabel)) {
      raw(dim(fit(first ? label : "", kLabel)) + (alarming ? red(line) : line));
      first = false;
    }
  }
  std::string text() && { return std::move(out_); }

 private:
  std::string paint(std::string_view code, std::string_view s) const {
    return colour_ ? fmt::format("\033[{}m{}\033[0m", code, s) : std::string(s);
  }
  std::size_t columns_;
  bool colour_;
  std::string out_;
};

std::string plural(std::int64_t n, std::string_view one) {
  return fmt::format("{} {}{}", with_commas(n), one, n == 1 ? "" : "s");
}

void head(Page& page, const Report& report) {
  const metrics::Summary& s = report.summary;
  page.rule(printable(s.experiment.empty() ? "run" : s.experiment));
  page.row("fleet", fmt::format("{} on {} GPUs{}, {} prefill and {} decode nodes · {} · seed {}",
                                plural(s.instances, "instance"), with_commas(s.gpus),
                                s.spare_gpus > 0 ? fmt::format(" + {} spare", s.spare_gpus) : "", s.prefill_nodes,
                                s.decode_nodes, time_text(s.throughput.duration), s.seed));
  const metrics::RequestCounts& n = s.requests;
  std::string counts = fmt::format("{} arrived · {} completed · {} failed · {} rejected", with_commas(n.arrived),
                                   with_commas(n.completed), with_commas(n.failed), with_commas(n.rejected));
  if (n.unfinished > 0) counts += fmt::format(" · {} unfinished", with_commas(n.unfinished));
  if (n.retried > 0) {
    counts += fmt::format(" · {} retried, of these {} completed", with_commas(n.retried),
                          with_commas(n.interrupted_but_completed));
  }
  page.row("requests", counts);
  for (const auto* causes : {&n.failed_by_cause, &n.rejected_by_cause}) {
    if (causes->empty()) continue;
    std::string text = causes == &n.failed_by_cause ? "failed by cause:" : "rejected by cause:";
    for (const auto& [cause, count] : *causes) text += fmt::format(" {} {}", cause, with_commas(count));
    page.row("", text);
  }
  if (s.requests_migrated > 0) {
    page.row("", fmt::format("{} went on elsewhere with the tokens they had, after a gap of at most {}",
                             with_commas(s.requests_migrated), time_text(s.gap_max)));
  }
  if (s.replica_bytes > 0) {
    page.row("copies",
             fmt::format("{:.1f} GB of KV to neighbours; {} requests went on from there and made {} tokens again",
                         static_cast<double>(s.replica_bytes) / 1e9, with_commas(s.replica_resumes),
                         with_commas(s.replica_tokens_again)));
  }
  if (s.prefix_cache.asked > 0) {
    const auto& c = s.prefix_cache;
    page.row("prefixes", fmt::format("{} of the prompt tokens were cached · {} evicted · {} lost with their ranks",
                                     percent(static_cast<double>(c.hit) / static_cast<double>(c.asked)),
                                     with_commas(c.evicted), with_commas(c.lost)));
  }
  if (s.role_switches > 0)
    page.row("roles", fmt::format("{} switches of a group's role", with_commas(s.role_switches)));
  if (s.tokens_degraded > 0)
    page.row("quality", fmt::format("{} output tokens while some expert had no copy", with_commas(s.tokens_degraded)));
  if (s.rebalances > 0) {
    page.row("experts", fmt::format("{} rebalancings moved {:.1f} GB", with_commas(s.rebalances),
                                    static_cast<double>(s.rebalance_bytes) / 1e9));
  }
  const metrics::Throughput& t = s.throughput;
  page.row("tokens/s", fmt::format("{} in · {} out · {} within SLO ({})", number(t.input_tokens_per_s),
                                   number(t.output_tokens_per_s), number(t.goodput_tokens_per_s),
                                   t.output_tokens > 0 ? percent(static_cast<double>(t.goodput_tokens) /
                                                                 static_cast<double>(t.output_tokens))
                                                       : "–"));
  page.raw(page.dim(fit("latency", kLabel)) +
           page.dim(fit("mean", 11, true) + fit("p50", 11, true) + fit("p90", 11, true) + fit("p99", 11, true)));
  for (const auto& [label, d] : {std::pair{"  TTFT", &s.ttft}, {"  TPOT", &s.tpot}, {"  total", &s.latency}}) {
    std::string line = page.dim(fit(label, kLabel));
    for (const Duration v : {d->mean, d->p50, d->p90, d->p99}) {
      line += fit(d->count > 0 ? time_text(v) : "–", 11, true);
    }
    page.raw(line);
  }
  const metrics::Cost& c = s.cost;
  if (c.total && c.per_1m_output_tokens && c.per_1m_all_tokens) {
    page.row("cost", fmt::format("{} {} per 1M output tokens, {} per 1M input and output ({} GPUs, {} {} per GPU-hour)",
                                 number(*c.per_1m_output_tokens), printable(c.currency), number(*c.per_1m_all_tokens),
                                 with_commas(c.gpus_serving + c.gpus_spare), number(*c.gpu_price_per_hour),
                                 printable(c.currency)));
  }
}

/// Each of several fleets, and who took the spares.
void fleets(Page& page, const Report& report) {
  for (const metrics::FleetFigures& f : metrics::fleet_figures(*report.run, report.options)) {
    const metrics::Summary& s = f.summary;
    page.blank();
    page.row(printable(f.name),
             fmt::format("{} · {} on {} GPUs{} · {} arrived · {} completed · {} failed · {} rejected",
                         printable(f.model), plural(s.instances, "instance"), with_commas(s.gpus),
                         s.spare_gpus > 0 ? fmt::format(" + {} spare", s.spare_gpus) : "",
                         with_commas(s.requests.arrived), with_commas(s.requests.completed),
                         with_commas(s.requests.failed), with_commas(s.requests.rejected)));
    const metrics::Throughput& t = s.throughput;
    const double within = static_cast<double>(t.goodput_requests) / static_cast<double>(s.requests.arrived);
    page.row("", fmt::format("{} tokens/s out · {} of requests within SLO · TTFT p99 {} · TPOT p99 {}",
                             number(t.output_tokens_per_s), s.requests.arrived > 0 ? percent(within) : "–",
                             s.ttft.count > 0 ? time_text(s.ttft.p99) : "–",
                             s.tpot.count > 0 ? time_text(s.tpot.p99) : "–"));
    if (f.spare_nodes_taken + f.standbys_taken > 0)
      page.row("", fmt::format("took {} and {}", plural(f.spare_nodes_taken, "spare node"),
                               plural(f.standbys_taken, "spare instance")));
  }
  const auto uses = metrics::spare_uses(*report.run);
  if (!uses.empty()) page.blank();
  for (const metrics::SpareUse& u : uses) {
    page.row("spare", fmt::format("{}: {} for inst-{} of {}", time_text(u.at - report.run->begin),
                                  u.node < 0 ? "a spare instance" : fmt::format("node-{}", u.node), u.instance.v,
                                  printable(u.fleet)));
  }
}

std::string radius_text(const FaultImpact& f) {
  std::string text = fmt::format("{} GPU-s of capacity ({} own, {} collateral", number(f.capacity_loss.gpu_seconds()),
                                 number(f.own.gpu_seconds()), number(f.collateral.gpu_seconds()));
  text += f.amplification ? fmt::format("; amplification {})", number(*f.amplification)) : ")";
  if (f.structural_gpus_max > 0) {
    text += fmt::format(" · at most {} idle at once", plural(f.structural_gpus_max, "GPU"));
  }
  if (!f.amplification) text += " · amplification: none, as " + f.amplification_reason;
  if (f.capacity_loss_per_fault_s)
    text += fmt::format(" · {} GPU-s per second of fault", number(*f.capacity_loss_per_fault_s));
  return text;
}

std::string requests_text(const FaultImpact& f) {
  if (!f.paired) {
    return fmt::format("{} hit: {} failed, {} retried, of these {} completed (no paired run: delays unknown)",
                       with_commas(f.requests_hit), with_commas(f.requests_hit_failed),
                       with_commas(f.requests_hit_retried), with_commas(f.interrupted_but_completed));
  }
  const metrics::Counterfactual& p = *f.paired;
  std::string text =
      fmt::format("{} hit · {} failed · {} rejected · {} retried · {} interrupted but completed · {} delayed",
                  with_commas(f.requests_hit), with_commas(p.requests_failed), with_commas(p.requests_rejected),
                  with_commas(p.requests_retried), with_commas(f.interrupted_but_completed),
                  with_commas(p.requests_delayed.excess()));
  text += p.requests_delayed.placebo ? fmt::format(" (placebo: {})", with_commas(*p.requests_delayed.placebo))
                                     : " (no placebo run)";
  return text;
}

std::string instances_text(const FaultImpact& f) {
  std::string text = fmt::format("{} hit directly", with_commas(f.instances_direct));
  if (f.paired) {
    text += fmt::format(" · {} took rerouted load", with_commas(f.paired->instances_indirect.excess()));
    if (f.paired->instances_indirect.placebo)
      text += fmt::format(" (placebo: {})", *f.paired->instances_indirect.placebo);
  }
  return text;
}

std::string tokens_text(const FaultImpact& f) {
  std::string text = fmt::format("{} recomputed · {} generated but never delivered",
                                 with_commas(f.paired ? f.paired->tokens_recomputed : f.hit_tokens_recomputed),
                                 with_commas(f.paired ? f.paired->tokens_lost : f.hit_tokens_lost));
  if (f.paired) text += fmt::format(" · {} fewer within SLO", with_commas(f.paired->goodput_loss_tokens));
  return text + fmt::format(" · {} of KV cache gone", bytes_text(f.kv_bytes_lost));
}

void timeline(Page& page, const FaultImpact& f) {
  Duration last{1};
  for (const Phase& p : phases_of(f)) {
    if (p.after) last = std::max(last, *p.after);
  }
  const std::size_t width = page.columns() - kLabel - 12 - 14;
  const auto phases = by_time(phases_of(f));
  for (const bool service : {false, true}) {
    bool first = true;
    for (const Phase& p : phases) {
      if (!p.after || p.service != service) continue;
      const bool never_fell = service && std::string_view(p.key) == "t95" && p.after->v == 0;
      page.raw(page.dim(fit(!first    ? ""
                            : service ? "service"
                                      : "phases",
                            kLabel)) +
               fit(p.label, 12) + fit(never_fell ? "never below" : time_text(p.after), 12, true) + "  " +
               bar(seconds(*p.after) / seconds(last), width));
      first = false;
    }
    if (first && !service) page.row("phases", "nobody noticed anything");
  }
  if (f.paired && !f.paired->not_restored_reason.empty()) {
    page.row("",
             fmt::format("{}: {}", f.paired->t95 ? "not restored" : "throughput not back, not restored",
                         f.paired->not_restored_reason),
             true);
  }
}

/// Output tokens per second around the fault, the paired run's as a shade above.
void throughput_chart(Page& page, const Report& report, const FaultImpact* f) {
  const auto here = metrics::output_bins(*report.run);
  if (here.empty()) return;
  const auto there = report.without ? metrics::output_bins(*report.without) : std::vector<std::int64_t>{};
  std::int64_t from = 0, to = static_cast<std::int64_t>(here.size());
  if (f && f->applied()) {  // a fault in a long run: look at its surroundings
    const auto at = (f->at - report.run->begin).v / 1'000'000'000;
    std::int64_t back = to - at;
    if (f->paired && f->paired->restore) back = f->paired->restore->v / 1'000'000'000 + 1;
    const std::int64_t span = std::max<std::int64_t>(120, back * 3 / 2 + back / 2);
    if (span < to) {
      from = std::max<std::int64_t>(0, at - span / 4);
      to = std::min(to, from + span);
    }
  }
  const auto width = static_cast<std::int64_t>(page.columns() - kLabel);
  const std::int64_t bucket = std::max<std::int64_t>(1, (to - from + width - 1) / width);
  const auto rate = [&](const std::vector<std::int64_t>& bins, std::int64_t i) {
    std::int64_t sum = 0, n = 0;
    for (std::int64_t j = i; j < std::min(i + bucket, to); ++j, ++n) {
      if (j < static_cast<std::int64_t>(bins.size())) sum += bins[static_cast<std::size_t>(j)];
    }
    return static_cast<double>(sum) / static_cast<double>(n);
  };
  std::vector<double> values, reference;
  for (std::int64_t i = from; i < to; i += bucket) {
    values.push_back(rate(here, i));
    reference.push_back(rate(there, i));
  }
  double top = 0;
  for (const auto* v : {&values, &reference}) top = std::max(top, *std::max_element(v->begin(), v->end()));
  const auto rows = bar_chart(values, reference, top, kChartRows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string label = i == 0 ? number(top) + " tok/s" : i + 1 == rows.size() ? "0" : i == 1 ? "out" : "";
    page.raw(page.dim(fit(label, kLabel)) + rows[i]);
  }
  const std::string left = time_text(Duration{from * 1'000'000'000}), right = time_text(Duration{to * 1'000'000'000});
  std::vector<std::string> axis(values.size(), " ");
  const auto put = [&](std::size_t at, std::string_view text) {
    for (std::size_t i = 0; i < text.size() && at + i < axis.size(); ++i) axis[at + i] = std::string(1, text[i]);
  };
  put(0, left);
  if (values.size() > left.size() + right.size() + 2) put(values.size() - right.size(), right);
  if (f && f->applied()) {
    const auto at = static_cast<std::size_t>(
        std::max<std::int64_t>(0, (f->at - report.run->begin).v / 1'000'000'000 - from) / bucket);
    if (at < axis.size()) axis[at] = "▲";
  }
  std::string line;
  for (const auto& cell : axis) line += cell;
  while (!line.empty() && line.back() == ' ') line.pop_back();
  page.raw(std::string(kLabel, ' ') + line);
  if (report.without) page.row("", "█ this run · ░ missing against the run without it · ▲ fault");
}

void fault(Page& page, const Report& report, const FaultImpact& f) {
  page.blank();
  const std::string target = target_of(f);
  page.rule(printable(fmt::format("fault {}: {}{}{}", id_of(f), kind_of(f), target.empty() ? "" : " on ", target)));
  if (!f.applied()) {
    page.row("", "not applied: " + printable(f.members[0].not_applied_reason), true);
    return;
  }
  std::string when = fmt::format("at {}", time_text(f.at - report.run->begin));
  if (f.members.size() == 1) {
    when += f.members[0].reverted == kNever ? ", to the end of the run"
                                            : fmt::format(", for {}", time_text(f.members[0].reverted - f.at));
  }
  page.row("when", when);
  for (const auto& m : f.members) {
    if (f.members.size() > 1) {
      page.row("", printable(
                       fmt::format("{}: {}{}{} at {}{}", m.id, m.kind, m.target.empty() ? "" : " on ", m.target,
                                   time_text(m.at - report.run->begin),
                                   m.reverted == kNever ? "" : fmt::format(", for {}", time_text(m.reverted - m.at)))));
    }
    if (!m.recovery.empty()) page.row("recovery", printable(m.recovery));
  }
  if (!f.cluster_reason.empty()) page.row("", "reported as one: " + f.cluster_reason);
  page.row("radius", radius_text(f));
  page.row("instances", instances_text(f));
  page.row("requests", requests_text(f));
  page.row("tokens", tokens_text(f));
  timeline(page, f);
  throughput_chart(page, report, &f);
}

}  // namespace

std::string terminal_text(const Report& report, const TerminalOptions& options) {
  Page page(options);
  head(page, report);
  fleets(page, report);
  if (report.impacts.faults.empty()) throughput_chart(page, report, nullptr);
  for (const FaultImpact& f : report.impacts.faults) fault(page, report, f);
  const auto list = [&](const std::vector<std::string>& lines, std::string_view label, bool alarming) {
    for (const std::string& line : lines) page.row(label, printable(line), alarming);
  };
  if (!report.summary.warnings.empty() || !report.summary.violations.empty() || !report.impacts.notes.empty())
    page.blank();
  list(report.impacts.notes, "note", false);
  list(report.summary.warnings, "warning", false);
  list(report.summary.violations, "BROKEN", true);
  if (const auto& use = report.run->cost_model; !use.extrapolated.empty()) {
    page.blank();
    page.row("prices", printable(cost_model_text(cost_model_json(use))));
  }
  const auto& sim = report.summary.simulator;
  page.blank();
  if (sim.fidelity == "live") {
    page.row("observed",
             fmt::format("on live processes: {} wall, {} CPU of all of them · {} records in their logs",
                         time_text(duration_from_seconds(sim.wall_s)), time_text(duration_from_seconds(sim.cpu_s)),
                         with_commas(static_cast<std::int64_t>(sim.events))));
    return std::move(page).text();
  }
  page.row(
      "simulator",
      fmt::format("{} wall, {} CPU · {} events · {} flows · {} requests per CPU-second · {} · log {:016x}",
                  time_text(duration_from_seconds(sim.wall_s)), time_text(duration_from_seconds(sim.cpu_s)),
                  with_commas(static_cast<std::int64_t>(sim.events)), with_commas(static_cast<std::int64_t>(sim.flows)),
                  number(report.summary.requests_per_cpu_s), printable(sim.fidelity), sim.log_hash));
  return std::move(page).text();
}

}  // namespace faultline::report
