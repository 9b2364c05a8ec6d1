// The readers behind read_trace(), one a source file. Each fills rows in file order; parse_trace() sorts and checks
// after.
#pragma once

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

/// "YYYY-MM-DD HH:MM:SS" with an optional fraction (at most 9 digits) and an optional zone ("+HH:MM", "Z"; none is
/// UTC): ns since 1970 in UTC. nullopt where it has another form or there is no such day. Years 1970 to 2199.
std::optional<std::int64_t> parse_timestamp(std::string_view text);

}  // namespace faultline::workload
