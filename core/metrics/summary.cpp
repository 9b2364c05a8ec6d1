#include "core/metrics/summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/metrics/request.h"

namespace faultline::metrics {
namespace {

using record::Outcome;
using record::RequestRecord;
using record::RunRecord;

constexpr std::size_t kViolationsListed = 5;

/// Why a record does not bear out its outcome, or "".
std::string contradiction(const RequestRecord& r) {
  const bool ended = r.end != kNever;
  if (ended && r.end < r.arrival) return "ends before it arrives";
  if (r.first_token != kNever && r.first_token < r.arrival) return "has its first token before it arrives";
  if (r.output_delivered < 0 || r.output_delivered > r.output_tokens)
    return "delivered a number of tokens outside what was asked for";
  switch (r.outcome) {
    case Outcome::completed:
      if (!ended) return "completed without an end";
      if (r.output_delivered != r.output_tokens) return "completed with tokens missing";
      if (r.output_tokens > 0 && (r.first_token == kNever || r.first_token > r.end))
        return "completed without a first token in time";
      if (r.cause != Cause::none) return "completed with a cause of failure";
      return {};
    case Outcome::failed:
      if (!ended) return "failed without an end";
      return r.cause == Cause::none ? "failed without a cause" : "";
    case Outcome::rejected:
      if (!ended) return "rejected without an end";
      if (r.output_delivered != 0) return "rejected after tokens were delivered";
      return r.cause == Cause::none ? "rejected without a cause" : "";
    case Outcome::unfinished: return ended ? "unfinished with an end" : "";
  }
  return "has an unknown outcome";
}

void note(std::vector<std::string>& violations, std::int64_t& unaccounted, std::size_t id, const std::string& what) {
  ++unaccounted;
  if (violations.size() < kViolationsListed) violations.push_back(fmt::format("request {} {}", id, what));
}

std::optional<double> ratio(double part, double whole) {
  if (!(whole > 0)) return std::nullopt;
  return part / whole;
}

Cost cost_of(const RunRecord& run, const Throughput& t, const Options& options) {
  Cost c;
  c.gpus_serving = run.gpus;
  c.gpus_spare = run.spare_gpus;
  c.currency = options.currency;
  c.gpu_hours = static_cast<double>(c.gpus_serving + c.gpus_spare) * seconds(t.duration) / 3600;
  const double output = static_cast<double>(t.output_tokens) * 1e-6, input = static_cast<double>(t.input_tokens) * 1e-6;
  c.gpu_hours_per_1m_output_tokens = ratio(c.gpu_hours, output);
  if (!options.gpu_price_per_hour) return c;
  c.gpu_price_per_hour = options.gpu_price_per_hour;
  c.total = c.gpu_hours * *options.gpu_price_per_hour;
  c.per_1m_input_tokens = ratio(*c.total, input);
  c.per_1m_output_tokens = ratio(*c.total, output);
  c.per_1m_all_tokens = ratio(*c.total, input + output);
  c.per_1m_goodput_tokens = ratio(*c.total, static_cast<double>(t.goodput_tokens) * 1e-6);
  return c;
}

}  // namespace

Summary summarise(const RunRecord& run, const Options& options) {
  Summary s;
  s.experiment = run.experiment;
  s.seed = run.seed;
  s.gpus = run.gpus;
  s.spare_gpus = run.spare_gpus;
  s.instances = run.instances;
  s.prefill_nodes = run.prefill_nodes;
  s.decode_nodes = run.decode_nodes;
  s.simulator = run.stats;
  s.warnings = run.warnings;
  s.tokens_degraded = run.tokens_degraded;
  s.rebalances = run.rebalances;
  s.rebalance_bytes = run.rebalance_bytes;
  s.replica_bytes = run.replica_bytes;
  s.replica_resumes = run.replica_resumes;
  s.replica_tokens_again = run.replica_tokens_again;
  s.role_switches = run.role_switches;
  s.prefix_cache = run.prefix_cache;

  std::size_t classes = std::max({run.slo_class_names.size(), run.slo_ttft.size(), run.slo_tpot.size()});
  for (const RequestRecord& r : run.requests) classes = std::max<std::size_t>(classes, r.slo_class + 1u);
  s.slo_classes.resize(classes);
  for (std::size_t i = 0; i < classes; ++i) {
    s.slo_classes[i].name = i < run.slo_class_names.size() ? run.slo_class_names[i] : fmt::format("class-{}", i);
    if (i < run.slo_ttft.size()) s.slo_classes[i].ttft_limit = run.slo_ttft[i];
    if (i < run.slo_tpot.size()) s.slo_classes[i].tpot_limit = run.slo_tpot[i];
  }

  RequestCounts& n = s.requests;
  Throughput& t = s.throughput;
  std::int64_t unfinished_tokens = 0;  // that they may yet get
  std::vector<std::int64_t> ttfts, tpots, latencies;
  ttfts.reserve(run.requests.size());
  tpots.reserve(run.requests.size());
  latencies.reserve(run.requests.size());
  for (std::size_t id = 0; id < run.requests.size(); ++id) {
    const RequestRecord& r = run.requests[id];
    if (r.arrival == kNever) continue;  // never offered: the run ended before
    ++n.arrived;
    SloClass& slo = s.slo_classes[r.slo_class];
    ++slo.arrived;
    if (const std::string why = contradiction(r); !why.empty()) {
      note(s.violations, n.unaccounted, id, why);
      continue;
    }
    t.output_tokens += r.output_delivered;
    s.tokens_recomputed += r.tokens_recomputed;
    s.tokens_lost += r.tokens_lost;
    s.requests_migrated += r.migrations > 0;
    s.gap_max = std::max(s.gap_max, r.gap);
    if (r.interrupted()) ++n.retried;
    switch (r.outcome) {
      case Outcome::completed:
        ++n.completed;
        ++slo.completed;
        if (r.interrupted()) ++n.interrupted_but_completed;
        t.input_tokens += r.prompt_tokens;
        if (const auto v = ttft(r)) ttfts.push_back(v->v);
        if (const auto v = tpot(r)) tpots.push_back(v->v);
        latencies.push_back(latency(r)->v);
        if (met_slo(run, r)) {
          ++slo.met;
          slo.goodput_tokens += r.output_delivered;
          t.goodput_tokens += r.output_delivered;
          ++t.goodput_requests;
        }
        break;
      case Outcome::failed:
        ++n.failed;
        ++n.failed_by_cause[std::string(name_of(r.cause))];
        break;
      case Outcome::rejected:
        ++n.rejected;
        ++n.rejected_by_cause[std::string(name_of(r.cause))];
        break;
      case Outcome::unfinished:
        ++n.unfinished;
        unfinished_tokens += r.output_tokens - r.output_delivered;
        break;
    }
  }
  if (n.unaccounted > static_cast<std::int64_t>(s.violations.size())) {
    s.violations.push_back(fmt::format("… {} requests unaccounted in all", n.unaccounted));
  }
  if (!run.throughput.empty() && n.unaccounted == 0) {
    // Tokens that were generated twice, never delivered or belong to a request that goes on may be in the series or
    // not; without any of these the two must be equal.
    std::int64_t binned = 0;
    for (const auto& bin : run.throughput) binned += bin.output_tokens;
    const std::int64_t most = t.output_tokens + s.tokens_recomputed + s.tokens_lost + unfinished_tokens;
    if (binned < t.output_tokens || binned > most) {
      s.violations.push_back(fmt::format("{} output tokens over time, but {} delivered to requests{}", binned,
                                         t.output_tokens,
                                         most > t.output_tokens ? fmt::format(" and at most {} generated", most) : ""));
    }
  }

  s.ttft = distribution_of(std::move(ttfts));
  s.tpot = distribution_of(std::move(tpots));
  s.latency = distribution_of(std::move(latencies));

  t.duration = run.end == kNever ? Duration{0} : run.end - run.begin;
  const double span = seconds(t.duration);
  t.input_tokens_per_s = ratio(static_cast<double>(t.input_tokens), span).value_or(0);
  t.output_tokens_per_s = ratio(static_cast<double>(t.output_tokens), span).value_or(0);
  t.goodput_tokens_per_s = ratio(static_cast<double>(t.goodput_tokens), span).value_or(0);
  t.input_tokens_per_s_per_prefill_node = ratio(t.input_tokens_per_s, run.prefill_nodes);
  t.output_tokens_per_s_per_decode_node = ratio(t.output_tokens_per_s, run.decode_nodes);
  for (SloClass& slo : s.slo_classes) {
    slo.goodput_tokens_per_s = ratio(static_cast<double>(slo.goodput_tokens), span).value_or(0);
  }
  s.cost = cost_of(run, t, options);
  s.requests_per_cpu_s = ratio(static_cast<double>(n.arrived), run.stats.cpu_s).value_or(0);
  return s;
}

}  // namespace faultline::metrics
