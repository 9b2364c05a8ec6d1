// The readers behind read_trace(), one a source file. Each fills rows in file order; parse_trace() sorts and checks
// after.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/workload/table.h"
#include "core/workload/trace.h"

namespace faultline::workload {

/// Azure LLM inference traces of 2023 and 2024: TIMESTAMP,ContextTokens,GeneratedTokens.
void read_azure(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace);
/// Our own: arrival_s,input_tokens,output_tokens[,slo_class][,session].
void read_own_csv(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace);
/// BurstGPT: Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type.
void read_burstgpt(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace);
/// Mooncake: one JSON object a line.
void read_mooncake(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace);

/// Applies spec.zero_tokens to a row whose recorded lengths are `row.prompt` and `row.output`, and counts it. On
/// `error` the caller reports the row.
enum class ZeroCheck { keep, skip, error };
ZeroCheck check_zero_tokens(const TraceSpec& spec, TraceRow& row, TraceCounts& counts);
/// What each table does at the end of a row: the row goes into the trace, is left out or is an error at the column
/// whose length is 0, as spec.zero_tokens says.
void take_row(const TraceSpec& spec, TraceRow row, Table& table, int prompt_column, int output_column, Trace& trace);

/// Conversations by the word that a column gives them, numbered in order of appearance.
class Sessions {
 public:
  /// kNoSession for a row without a word, or a table without the column (-1).
  std::uint32_t of(const Table& table, int column);
  std::uint32_t count() const { return static_cast<std::uint32_t>(numbers_.size()); }

 private:
  std::map<std::string, std::uint32_t, std::less<>> numbers_;
};

/// "YYYY-MM-DD HH:MM:SS" with an optional fraction (at most 9 digits) and an optional zone ("+HH:MM", "Z"; none is
/// UTC): ns since 1970 in UTC. nullopt where it has another form or there is no such day. Years 1970 to 2199.
std::optional<std::int64_t> parse_timestamp(std::string_view text);

}  // namespace faultline::workload
