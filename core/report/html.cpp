#include "core/report/html.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/metrics/fleets.h"
#include "core/metrics/series.h"
#include "core/report/cost_model.h"
#include "core/report/style.h"
#include "core/report/svg.h"
#include "core/report/text.h"

namespace faultline::report {
namespace {

using metrics::FaultImpact;

constexpr std::size_t kPointsMost = 430;  // half of the chart's width in pixels

std::string e(std::string_view text) { return html_escape(text); }

std::string tile(std::string_view value, std::string_view label, bool bad = false) {
  return fmt::format("<div class=\"tile\"><b{}>{}</b><span>{}</span></div>\n", bad ? " class=\"bad\"" : "", e(value),
                     e(label));
}

class Table {
 public:
  explicit Table(const std::vector<std::string>& head, std::size_t left = 1) : left_(left) {
    if (!head.empty()) row(head, "th");
  }
  void row(const std::vector<std::string>& cells, const char* tag = "td") {
    out_ += "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      out_ += fmt::format("<{0}{1}>{2}</{0}>", tag, i < left_ ? "" : " class=\"n\"", e(cells[i]));
    }
    out_ += "</tr>\n";
  }
  std::string html() const { return "<div class=\"scroll\"><table>\n" + out_ + "</table></div>\n"; }

 private:
  std::size_t left_;
  std::string out_;
};

int bucket_for(const record::RunRecord& run) {
  const double span = run.end == kNever ? 0 : seconds(run.end - run.begin);
  return std::max(
      1, static_cast<int>(span / static_cast<double>(kPointsMost)) + (span > static_cast<double>(kPointsMost) ? 1 : 0));
}

std::vector<std::optional<double>> some(const std::vector<double>& v) { return {v.begin(), v.end()}; }

std::vector<std::optional<double>> averaged(const std::vector<double>& v, int bucket) {
  std::vector<std::optional<double>> out;
  const auto width = static_cast<std::size_t>(bucket);
  for (std::size_t i = 0; i < v.size(); i += width) {
    const std::size_t to = std::min(i + width, v.size());
    double sum = 0;
    for (std::size_t j = i; j < to; ++j) sum += v[j];
    out.emplace_back(sum / static_cast<double>(to - i));
  }
  return out;
}

std::string charts(const Report& report) {
  const record::RunRecord& run = *report.run;
  const int bucket = bucket_for(run);
  std::vector<TimeChart::Marker> markers;
  for (const FaultImpact& f : report.impacts.faults) {
    for (const auto& m : f.members) {
      if (m.applied) markers.push_back({seconds(m.at - run.begin), m.id});
    }
  }
  const auto chart = [&](std::string title, std::string unit) {
    TimeChart c;
    c.title = std::move(title);
    c.unit = std::move(unit);
    c.bucket_s = bucket;
    c.markers = markers;
    return c;
  };
  std::string out;
  if (!run.throughput.empty()) {
    TimeChart c = chart("Output throughput", "tokens/s");
    if (report.without)
      c.lines.push_back({"without the fault", "paired", some(metrics::output_rate(*report.without, bucket))});
    c.lines.push_back({"this run", "run", some(metrics::output_rate(run, bucket))});
    c.shade_missing = report.without != nullptr;
    out += time_chart_svg(c);
  }
  if (!run.capacity.empty()) {
    const metrics::GpusLost lost = metrics::gpus_lost(run);
    TimeChart c = chart("GPUs lost", fmt::format("of {}", with_commas(run.gpus)));
    c.stacked.push_back({"own: failed or cut off", "own", averaged(lost.own, bucket)});
    c.stacked.push_back({"collateral: healthy, idle or slowed", "collateral", averaged(lost.collateral, bucket)});
    out += time_chart_svg(c);
  }
  if (report.summary.ttft.count > 0) {
    const int wide = std::max(bucket, std::max(1, static_cast<int>(seconds(report.summary.throughput.duration) / 100)));
    TimeChart c = chart("Time to first token", fmt::format("s, median of the requests that arrived in {} s", wide));
    c.bucket_s = wide;
    if (report.without)
      c.lines.push_back({"without the fault", "paired", metrics::ttft_over_time(*report.without, wide)});
    c.lines.push_back({"this run", "run", metrics::ttft_over_time(run, wide)});
    out += time_chart_svg(c);
  }
  return out;
}

std::string header(const Report& report) {
  const metrics::Summary& s = report.summary;
  const metrics::RequestCounts& n = s.requests;
  std::string out = fmt::format("<header>\n<h1>{}</h1>\n", e(s.experiment.empty() ? "run" : s.experiment));
  out += fmt::format(
      "<p class=\"soft\">{} instances on {} GPUs{} · {} prefill and {} decode nodes · {} simulated · seed {} · "
      "fidelity {}</p>\n",
      s.instances, with_commas(s.gpus), s.spare_gpus > 0 ? fmt::format(" and {} spare ones", s.spare_gpus) : "",
      s.prefill_nodes, s.decode_nodes, time_text(s.throughput.duration), s.seed, e(s.simulator.fidelity));
  out += "<div class=\"tiles\">\n";
  out += tile(with_commas(n.completed), fmt::format("requests completed, of {}", with_commas(n.arrived)));
  out += tile(with_commas(n.failed), "failed", n.failed > 0);
  out += tile(with_commas(n.interrupted_but_completed), "interrupted but completed");
  out += tile(number(s.throughput.goodput_tokens_per_s),
              fmt::format("tokens/s within SLO, of {}", number(s.throughput.output_tokens_per_s)));
  out += tile(s.ttft.count > 0 ? time_text(s.ttft.p99) : "–", "TTFT, 99th percentile");
  out += tile(s.tpot.count > 0 ? time_text(s.tpot.p99) : "–", "TPOT, 99th percentile");
  if (s.cost.per_1m_output_tokens) {
    out += tile(fmt::format("{} {}", number(*s.cost.per_1m_output_tokens), s.cost.currency),
                "per 1M output tokens, all GPUs counted");
  }
  return out + "</div>\n</header>\n";
}

std::string fault_section(const Report& report, const FaultImpact& f) {
  const std::string target = target_of(f);
  std::string out = fmt::format("<section>\n<h2>Fault {}: {}{}{}</h2>\n", e(id_of(f)), e(kind_of(f)),
                                target.empty() ? "" : " on ", e(target));
  if (!f.applied())
    return out + fmt::format("<p class=\"bad\">Not applied: {}</p>\n</section>\n", e(f.members[0].not_applied_reason));
  std::string when;
  for (const auto& m : f.members) {
    when += fmt::format("{}{}at {}, {}", when.empty() ? "" : "; ", f.members.size() > 1 ? m.id + " " : "",
                        time_text(m.at - report.run->begin),
                        m.reverted == kNever ? "to the end of the run" : "for " + time_text(m.reverted - m.at));
    if (!m.recovery.empty()) when += "; recovery: " + m.recovery;
  }
  out += fmt::format("<p>{}.</p>\n", e(when));
  if (!f.cluster_reason.empty())
    out += fmt::format("<p class=\"soft\">Reported as one: {}.</p>\n", e(f.cluster_reason));

  const auto* p = f.paired ? &*f.paired : nullptr;
  out += "<div class=\"tiles\">\n";
  out += tile(number(f.capacity_loss.gpu_seconds()) + " GPU-s", "capacity lost");
  out += tile(f.amplification ? number(*f.amplification) + " times" : "–",
              f.amplification ? "what the failed GPUs alone lost" : "amplification: " + f.amplification_reason);
  out += tile(with_commas(p ? p->requests_failed : f.requests_hit_failed), "requests failed by it",
              (p ? p->requests_failed : f.requests_hit_failed) > 0);
  if (p) {
    out += tile(p->t95 ? time_text(p->t95) : "not back",
                fmt::format("to {} % of the throughput", report.options.share_percent), !p->t95);
    out += tile(p->restore ? time_text(p->restore) : "not restored", "to full service", !p->restore);
  }
  out += "</div>\n";
  if (p && !p->not_restored_reason.empty())
    out += fmt::format("<p class=\"bad\">Not restored: {}.</p>\n", e(p->not_restored_reason));

  std::vector<BarRow> rows;
  for (const Phase& phase : by_time(phases_of(f))) {
    if (!phase.after) continue;
    const bool never_fell = std::string_view(phase.key) == "t95" && phase.after->v == 0;
    rows.push_back({phase.service ? fmt::format("service {}", phase.label) : phase.label,
                    never_fell ? "never below" : time_text(phase.after), seconds(*phase.after),
                    phase.service ? "run" : "paired"});
  }
  out += bar_rows_svg("Recovery, from the fault on", rows);

  Table t({"Blast radius", "", ""}, 1);
  const auto beside = [](std::optional<std::int64_t> placebo) {
    return placebo ? fmt::format("placebo {}", with_commas(*placebo)) : std::string("no placebo run");
  };
  t.row({"Components disabled directly", with_commas(f.targeted), ""});
  t.row({"GPUs that could compute nothing, at most", with_commas(f.structural_gpus_max),
         number(f.structural.gpu_seconds()) + " GPU-s"});
  t.row({"Capacity lost: own GPUs", number(f.own.gpu_seconds()) + " GPU-s", ""});
  t.row({"Capacity lost: collateral", number(f.collateral.gpu_seconds()) + " GPU-s", ""});
  if (f.capacity_loss_per_fault_s)
    t.row({"Capacity lost per second of fault", number(*f.capacity_loss_per_fault_s) + " GPUs",
           "in force for " + time_text(f.active)});
  t.row({"Instances hit directly", with_commas(f.instances_direct), ""});
  if (p)
    t.row({"Instances that took rerouted load", with_commas(p->instances_indirect.excess()),
           beside(p->instances_indirect.placebo)});
  t.row({"Requests hit", with_commas(f.requests_hit), ""});
  t.row({"Requests retried", with_commas(p ? p->requests_retried : f.requests_hit_retried), ""});
  t.row({"Requests interrupted but completed", with_commas(f.interrupted_but_completed), ""});
  if (p) {
    t.row({"Requests rejected", with_commas(p->requests_rejected), ""});
    t.row({fmt::format("Requests delayed (over {} % or out of SLO)", report.options.delayed_percent),
           with_commas(p->requests_delayed.excess()), beside(p->requests_delayed.placebo)});
  }
  t.row({"Tokens computed again", with_commas(p ? p->tokens_recomputed : f.hit_tokens_recomputed), ""});
  t.row({"Tokens generated, never delivered", with_commas(p ? p->tokens_lost : f.hit_tokens_lost), ""});
  if (p) {
    t.row({"Tokens within SLO, fewer than without the fault", with_commas(p->goodput_loss_tokens), ""});
    if (p->dip.share_min < 1) {
      t.row({"Lowest throughput, share of the run without the fault", percent(p->dip.share_min),
             "at " + time_text(p->dip.at - report.run->begin)});
    }
  }
  t.row({"KV cache gone", bytes_text(f.kv_bytes_lost), ""});
  return out + t.html() + "</section>\n";
}

std::string requests_section(const Report& report) {
  const metrics::Summary& s = report.summary;
  const metrics::RequestCounts& n = s.requests;
  const metrics::RequestCounts* w = nullptr;
  metrics::Summary without;
  if (report.without) {
    without = metrics::summarise(*report.without, report.options);
    w = &without.requests;
  }
  std::string out = "<section>\n<h2>Requests</h2>\n";
  std::vector<std::string> head{"Outcome", "this run"};
  if (w) head.push_back("without the fault");
  Table t(head);
  const auto row = [&](const char* label, std::int64_t metrics::RequestCounts::*field) {
    std::vector<std::string> cells{label, with_commas(n.*field)};
    if (w) cells.push_back(with_commas(w->*field));
    t.row(cells);
  };
  row("arrived", &metrics::RequestCounts::arrived);
  row("completed", &metrics::RequestCounts::completed);
  row("failed", &metrics::RequestCounts::failed);
  row("rejected", &metrics::RequestCounts::rejected);
  row("unfinished at the end", &metrics::RequestCounts::unfinished);
  row("retried", &metrics::RequestCounts::retried);
  row("interrupted but completed", &metrics::RequestCounts::interrupted_but_completed);
  row("unaccounted", &metrics::RequestCounts::unaccounted);
  using Causes = std::map<std::string, std::int64_t>;
  const auto causes = [&](const char* label, Causes metrics::RequestCounts::*field) {
    Causes both = n.*field;
    if (w) {
      for (const auto& [cause, count] : w->*field) both.try_emplace(cause, 0);
    }
    for (const auto& [cause, count] : both) {
      std::vector<std::string> cells{label + cause, with_commas(count)};
      if (w) cells.push_back(with_commas((w->*field).contains(cause) ? (w->*field).at(cause) : 0));
      t.row(cells);
    }
  };
  causes("failed: ", &metrics::RequestCounts::failed_by_cause);
  causes("rejected: ", &metrics::RequestCounts::rejected_by_cause);
  out += t.html();

  Table latency({"Latency", "mean", "p50", "p90", "p99", "max"});
  const auto latency_row = [&](const std::string& label, const metrics::Distribution& d) {
    if (d.count > 0)
      latency.row({label, time_text(d.mean), time_text(d.p50), time_text(d.p90), time_text(d.p99), time_text(d.max)});
  };
  latency_row("TTFT", s.ttft);
  if (w) latency_row("TTFT without the fault", without.ttft);
  latency_row("TPOT", s.tpot);
  if (w) latency_row("TPOT without the fault", without.tpot);
  latency_row("arrival to last token", s.latency);
  if (w) latency_row("arrival to last token without the fault", without.latency);
  out += latency.html();

  Table slo({"SLO class", "TTFT limit", "TPOT limit", "arrived", "within SLO", "goodput tokens/s"});
  const auto limit = [](Duration d) { return d == kForever ? std::string("none") : time_text(d); };
  for (const auto& c : s.slo_classes) {
    slo.row({c.name, limit(c.ttft_limit), limit(c.tpot_limit), with_commas(c.arrived),
             c.arrived > 0 ? percent(static_cast<double>(c.met) / static_cast<double>(c.arrived)) : "–",
             number(c.goodput_tokens_per_s)});
  }
  if (!s.slo_classes.empty()) out += slo.html();
  return out + "</section>\n";
}

/// Each of several fleets, and who took the spares; "" where the run has one.
std::string fleets_section(const Report& report) {
  const auto all = metrics::fleet_figures(*report.run, report.options);
  if (all.empty()) return {};
  std::string out = "<section>\n<h2>Fleets</h2>\n";
  Table t({"Fleet", "model", "instances", "GPUs", "arrived", "failed", "rejected", "within SLO", "output tokens/s",
           "TTFT p99", "TPOT p99", "spare nodes taken", "spare instances taken"});
  for (const metrics::FleetFigures& f : all) {
    const metrics::Summary& s = f.summary;
    const auto& n = s.requests;
    t.row({f.name, f.model, with_commas(s.instances), with_commas(s.gpus), with_commas(n.arrived),
           with_commas(n.failed), with_commas(n.rejected),
           n.arrived > 0 ? percent(static_cast<double>(s.throughput.goodput_requests) / static_cast<double>(n.arrived))
                         : "–",
           number(s.throughput.output_tokens_per_s), s.ttft.count > 0 ? time_text(s.ttft.p99) : "–",
           s.tpot.count > 0 ? time_text(s.tpot.p99) : "–", with_commas(f.spare_nodes_taken),
           with_commas(f.standbys_taken)});
  }
  out += t.html();
  Table spares({"Spare taken", "at", "for", "of"});
  const auto uses = metrics::spare_uses(*report.run);
  for (const metrics::SpareUse& u : uses) {
    spares.row({u.node < 0 ? "a spare instance" : fmt::format("node-{}", u.node), time_text(u.at - report.run->begin),
                fmt::format("inst-{}", u.instance.v), u.fleet});
  }
  if (!uses.empty()) out += spares.html();
  return out + "</section>\n";
}

std::string cost_section(const metrics::Summary& s) {
  const metrics::Cost& c = s.cost;
  std::string out = "<section>\n<h2>Throughput and cost</h2>\n";
  Table t({"Tokens", "in all", "per second", "cost per 1M"});
  const auto price = [&](const std::optional<double>& v) {
    return v ? fmt::format("{} {}", number(*v), c.currency) : std::string("–");
  };
  t.row({"input, of completed requests", with_commas(s.throughput.input_tokens),
         number(s.throughput.input_tokens_per_s), price(c.per_1m_input_tokens)});
  t.row({"output, delivered", with_commas(s.throughput.output_tokens), number(s.throughput.output_tokens_per_s),
         price(c.per_1m_output_tokens)});
  t.row({"input and output", with_commas(s.throughput.input_tokens + s.throughput.output_tokens),
         number(s.throughput.input_tokens_per_s + s.throughput.output_tokens_per_s), price(c.per_1m_all_tokens)});
  t.row({"output within SLO", with_commas(s.throughput.goodput_tokens), number(s.throughput.goodput_tokens_per_s),
         price(c.per_1m_goodput_tokens)});
  out += t.html();
  std::string note = fmt::format("All costs are of this one run: {} serving and {} spare GPUs for {}, {} GPU-hours",
                                 with_commas(c.gpus_serving), with_commas(c.gpus_spare),
                                 time_text(s.throughput.duration), number(c.gpu_hours));
  note += c.gpu_price_per_hour
              ? fmt::format(" at {} {} each, divided by the tokens named.", number(*c.gpu_price_per_hour), c.currency)
              : std::string("; no GPU price was given.");
  return out + fmt::format("<p class=\"soft\">{}</p>\n</section>\n", e(note));
}

std::string list_section(const char* title, const std::vector<std::string>& lines, const char* style = "") {
  if (lines.empty()) return {};
  std::string out = fmt::format("<section>\n<h2>{}</h2>\n<ul{}>\n", title, style);
  for (const auto& line : lines) out += fmt::format("<li>{}</li>\n", e(line));
  return out + "</ul>\n</section>\n";
}

std::string sources_section(const Report& report) {
  std::string out;
  const record::CostModelUse& use = report.run->cost_model;
  if (!use.name.empty()) {
    out += fmt::format("<section>\n<h2>Cost model</h2>\n<p>{}</p>\n", e(cost_model_text(cost_model_json(use))));
    if (!use.hash.empty()) out += fmt::format("<p class=\"soft\">Content of the calibration: {}</p>\n", e(use.hash));
    if (!use.extrapolated.empty()) {
      Table t({"Extrapolated operation", "share of the step time", "why"}, 3);
      for (const auto& x : use.extrapolated) t.row({x.op, percent(x.share), x.why});
      out += t.html();
    }
    out += "</section>\n";
  }
  if (!report.sources.empty()) {
    Table t({"Figure", "Source"}, 2);
    for (const Source& s : report.sources) t.row({s.what, s.source});
    out += "<section>\n<h2>Where the prices come from</h2>\n" + t.html() + "</section>\n";
  }
  if (!report.experiment_yaml.empty()) {
    out += fmt::format(
        "<section>\n<h2>Experiment</h2>\n<details>\n<summary>Every setting, with its "
        "default</summary>\n<pre>{}</pre>\n</details>\n</section>\n",
        e(report.experiment_yaml));
  }
  return out;
}

std::string footer(const metrics::Summary& s) {
  if (s.simulator.fidelity == "live") {
    return fmt::format(
        "<footer class=\"soft\">\n<p>Observed on live processes in {} ({} of CPU time of all of them): {} records in "
        "their logs. Percentiles are nearest-rank; docs/metrics.md defines every figure.</p>\n</footer>\n",
        time_text(duration_from_seconds(s.simulator.wall_s)), time_text(duration_from_seconds(s.simulator.cpu_s)),
        with_commas(static_cast<std::int64_t>(s.simulator.events)));
  }
  return fmt::format(
      "<footer class=\"soft\">\n<p>Simulated in {} of CPU time ({} wall): {} events, {} flows, {} requests per "
      "CPU-second. "
      "Log {:016x}. Percentiles are nearest-rank; docs/metrics.md defines every figure.</p>\n</footer>\n",
      time_text(duration_from_seconds(s.simulator.cpu_s)), time_text(duration_from_seconds(s.simulator.wall_s)),
      with_commas(static_cast<std::int64_t>(s.simulator.events)),
      with_commas(static_cast<std::int64_t>(s.simulator.flows)), number(s.requests_per_cpu_s), s.simulator.log_hash);
}

}  // namespace

std::string html_page(const std::string& title, const std::string& sections) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; style-src "
      "&#39;unsafe-inline&#39;\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n{}</body>\n</html>\n",
      e(title), kStyle, sections);
}

std::string html_text(const Report& report, const std::string& extra_sections) {
  std::string body = header(report);
  body += list_section("Conservation does not hold", report.summary.violations, " class=\"bad\"");
  body += charts(report);
  for (const FaultImpact& f : report.impacts.faults) body += fault_section(report, f);
  body += extra_sections;
  body += requests_section(report);
  body += fleets_section(report);
  body += cost_section(report.summary);
  body += list_section("Warnings", report.summary.warnings);
  body += list_section("Notes", report.impacts.notes);
  body += sources_section(report);
  body += footer(report.summary);
  return html_page((report.summary.experiment.empty() ? "run" : report.summary.experiment) + " · faultline", body);
}

}  // namespace faultline::report
