// The trace summary as text and as JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/workload/summary.h"

namespace faultline::workload {
namespace {

/// 1234567 as "1,234,567".
std::string grouped(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > (value < 0 ? 1 : 0); i -= 3) {
    digits.insert(static_cast<std::size_t>(i), ",");
  }
  return digits;
}

std::string row(std::string_view name, const std::string& value) { return fmt::format("  {:<18} {}\n", name, value); }

std::string length_row(std::string_view name, const LengthSummary& s) {
  return fmt::format("  {:<18} {:>9.1f} {:>9.0f} {:>9.0f} {:>9.0f} {:>9}\n", name, s.mean, s.p50, s.p90, s.p99,
                     grouped(s.max));
}

nlohmann::ordered_json json_of(const LengthSummary& s) {
  return {{"mean", s.mean}, {"p50", s.p50}, {"p90", s.p90}, {"p99", s.p99}, {"max", s.max}, {"total", s.total}};
}

std::string_view name_of(TraceFormat format) {
  return enum_names(static_cast<const TraceFormat*>(nullptr))[static_cast<std::size_t>(format)];
}

}  // namespace

std::string to_text(const TraceSummary& s) {
  const ArrivalSummary& a = s.arrivals;
  const std::string path = s.path.size() <= 66 ? s.path : "…" + s.path.substr(s.path.size() - 65);
  std::string out = fmt::format("{} ({})\n", path, name_of(s.format));
  if (s.clients) {
    out += row("clients",
               fmt::format("{}, up to {} windows each", grouped(s.clients->clients), grouped(s.clients->windows)));
    out += row("recorded rate", fmt::format("{:.2f} requests/s (lowest window {:.2f}, highest {:.2f})",
                                            s.clients->rate_mean, s.clients->rate_min, s.clients->rate_max));
    out += row("requests", grouped(a.requests) + " drawn");
    if (s.counts.zero_tokens > 0)
      out += row("zero tokens", grouped(s.counts.zero_tokens) + " values of the length tables");
  } else {
    out += row("rows", grouped(s.counts.rows));
    out += row("requests", grouped(a.requests));
    if (s.counts.zero_tokens > 0) {
      out += row("zero-token rows",
                 fmt::format("{}, of which {} left out{}", grouped(s.counts.zero_tokens), grouped(s.counts.skipped),
                             s.counts.skipped == 0 ? " (the others count as 1 token)" : ""));
    }
    if (s.counts.out_of_order > 0)
      out += row("out of order", grouped(s.counts.out_of_order) + " rows (sorted by time)");
    if (s.sessions > 0) out += row("sessions", grouped(s.sessions));
    if (s.classes > 0) out += row("latency classes", grouped(s.classes));
  }
  out += row("span", fmt::format("{:.3f} s", seconds(a.last - a.first)));
  out += row("mean rate", fmt::format("{:.3f} requests/s{}", a.mean_rate,
                                      a.peak_rate > 0 ? fmt::format(" (fullest minute {:.2f})", a.peak_rate) : ""));
  out += row("burstiness", fmt::format("CV of gaps {:.2f} (Poisson: 1)", a.gap_cv));
  out += fmt::format("\n  {:<18} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "tokens", "mean", "p50", "p90", "p99", "max");
  out += length_row("prompt", a.prompt);
  out += length_row("output", a.output);
  if (a.blocks > 0) {
    out += fmt::format(
        "\n  {:<18} {} blocks, {} distinct; a cache that never forgets\n  {:<18} would hit {:.1f}% of them\n",
        "shared prefixes", grouped(a.blocks), grouped(a.blocks_distinct), "", 100 * a.hit_share());
  }
  return out;
}

std::string to_json(const TraceSummary& s) {
  const ArrivalSummary& a = s.arrivals;
  nlohmann::ordered_json json{{"path", s.path},
                              {"format", name_of(s.format)},
                              {"rows", s.counts.rows},
                              {"requests", a.requests},
                              {"zero_token_rows", s.counts.zero_tokens},
                              {"skipped_rows", s.counts.skipped},
                              {"out_of_order_rows", s.counts.out_of_order},
                              {"sessions", s.sessions},
                              {"classes", s.classes},
                              {"first_s", seconds(a.first)},
                              {"span_s", seconds(a.last - a.first)},
                              {"mean_rate", a.mean_rate},
                              {"peak_rate", a.peak_rate},
                              {"gap_cv", a.gap_cv},
                              {"prompt_tokens", json_of(a.prompt)},
                              {"output_tokens", json_of(a.output)}};
  if (a.blocks > 0) {
    json["prefix"] = {
        {"blocks", a.blocks}, {"distinct", a.blocks_distinct}, {"hits", a.blocks_hit}, {"hit_share", a.hit_share()}};
  }
  if (s.clients) {
    json["clients"] = {{"count", s.clients->clients},
                       {"windows", s.clients->windows},
                       {"rate_mean", s.clients->rate_mean},
                       {"rate_max", s.clients->rate_max},
                       {"rate_min", s.clients->rate_min}};
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace faultline::workload
