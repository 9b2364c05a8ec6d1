#include "core/workload/trace.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/workload/gzip.h"
#include "core/workload/readers.h"

namespace faultline::workload {

std::optional<TraceFormat> detect_format(std::string_view text) {
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && line.find_first_not_of(" \t") == std::string_view::npos) {
  }
  if (line.starts_with("{")) return TraceFormat::mooncake;
  if (line.find("ContextTokens") != std::string_view::npos) return TraceFormat::azure;
  if (line.find("Request tokens") != std::string_view::npos) return TraceFormat::burstgpt;
  if (line.find("arrival_s") != std::string_view::npos) return TraceFormat::csv;
  return std::nullopt;
}

ZeroCheck check_zero_tokens(const TraceSpec& spec, TraceRow& row, TraceCounts& counts) {
  if (row.prompt > 0 && row.output > 0) return ZeroCheck::keep;
  ++counts.zero_tokens;
  if (spec.zero_tokens == ZeroTokens::error) return ZeroCheck::error;
  if (spec.zero_tokens == ZeroTokens::skip) {
    ++counts.skipped;
    return ZeroCheck::skip;
  }
  row.prompt = std::max(row.prompt, 1U);
  row.output = std::max(row.output, 1U);
  return ZeroCheck::keep;
}

void take_row(const TraceSpec& spec, TraceRow row, Table& table, int prompt_column, int output_column, Trace& trace) {
  const int empty_column = row.prompt == 0 ? prompt_column : output_column;
  const ZeroCheck zero = check_zero_tokens(spec, row, trace.counts);
  if (zero == ZeroCheck::error) table.error(empty_column, "0 tokens, which zero_tokens refuses");
  if (zero == ZeroCheck::keep) trace.rows.push_back(row);
}

std::uint32_t Sessions::of(const Table& table, int column) {
  if (column < 0 || table.text(column).empty()) return kNoSession;
  const auto found = numbers_.find(table.text(column));
  return found != numbers_.end() ? found->second : numbers_.emplace(table.text(column), count()).first->second;
}

namespace {

void sort_rows(Trace& trace) {
  auto& rows = trace.rows;
  for (std::size_t i = 1; i < rows.size(); ++i) trace.counts.out_of_order += rows[i].at < rows[i - 1].at;
  if (trace.counts.out_of_order == 0) return;
  std::stable_sort(rows.begin(), rows.end(), [](const TraceRow& a, const TraceRow& b) { return a.at < b.at; });
}

/// Recordings whose clock began long before the first request begin at their first request; our own format means
/// seconds of the run.
void rebase(Trace& trace) {
  if (trace.format == TraceFormat::csv) return;
  const Instant first = trace.rows.front().at;
  for (TraceRow& row : trace.rows) row.at = Instant{(row.at - first).v};
}

/// Requests of one stamp of a coarse clock, evenly over its tick in file order: k-th of n at stamp + tick * k / n.
void spread_ticks(std::vector<TraceRow>& rows, Duration tick) {
  for (std::size_t begin = 0; begin < rows.size();) {
    std::size_t end = begin + 1;
    while (end < rows.size() && rows[end].at == rows[begin].at) ++end;
    Duration width = tick;
    if (end < rows.size()) width = std::min(width, rows[end].at - rows[begin].at);
    const auto n = static_cast<double>(end - begin);
    for (std::size_t i = begin; i < end; ++i) {
      rows[i].at =
          rows[i].at +
          Duration{static_cast<std::int64_t>(static_cast<double>(width.v) * static_cast<double>(i - begin) / n)};
    }
    begin = end;
  }
}

}  // namespace

std::optional<Trace> parse_trace(std::string_view text, const TraceSpec& spec, config::Diagnostics& diagnostics) {
  RowErrors errors(spec.path, diagnostics);
  Trace trace{.file = spec.path, .format = spec.format};
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    errors.whole_file("the file is empty");
    return std::nullopt;
  }
  if (spec.format == TraceFormat::detect) {
    const auto format = detect_format(text);
    if (!format) {
      errors.at(
          1, 1, "not a trace format that is known",
          "known: azure (TIMESTAMP,ContextTokens,GeneratedTokens), mooncake (JSON lines), burstgpt (Timestamp,Model,"
          "Request tokens,…), csv (arrival_s,input_tokens,output_tokens), servegen (a folder)");
      return std::nullopt;
    }
    trace.format = *format;
  }
  switch (trace.format) {
    case TraceFormat::azure: read_azure(text, spec, errors, trace); break;
    case TraceFormat::csv: read_own_csv(text, spec, errors, trace); break;
    case TraceFormat::burstgpt: read_burstgpt(text, spec, errors, trace); break;
    case TraceFormat::mooncake: read_mooncake(text, spec, errors, trace); break;
    case TraceFormat::servegen:
    case TraceFormat::detect: errors.whole_file("a ServeGen trace is a folder, not a file"); break;
  }
  if (errors.count() == 0 && trace.rows.empty()) errors.whole_file("the trace has no requests");
  if (errors.count() > 0) return std::nullopt;
  sort_rows(trace);
  rebase(trace);
  if (trace.format == TraceFormat::mooncake && spec.tick.v > 0) spread_ticks(trace.rows, spec.tick);
  return trace;
}

std::optional<Trace> read_trace(const TraceSpec& spec, const config::FileReader& reader,
                                config::Diagnostics& diagnostics) {
  const auto text = read_unpacked(spec.path, reader, diagnostics);
  if (!text) return std::nullopt;
  return parse_trace(*text, spec, diagnostics);
}

}  // namespace faultline::workload
