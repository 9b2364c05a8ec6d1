// A recorded request trace in memory, and the readers that make one. Formats, units and quirks: see each reader's
// source. A bad row is an error with file, line and column; no row is left out but those that TraceSpec::zero_tokens
// says, which are counted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/document.h"
#include "core/workload/spec.h"

namespace faultline::workload {

struct TraceRow {
  Instant at{};                          // since the trace began
  std::uint32_t prompt = 0, output = 0;  // tokens, at least 1
  std::uint32_t session = 0xffffffff;    // kNoSession
  std::uint32_t block_count = 0;         // prefix blocks of this row …
  std::uint64_t first_block = 0;         // … from here on in Trace::blocks
  std::uint8_t slo_class = 0;            // index into Trace::classes
};

struct TraceClass {
  std::string name{};
  int line = 0, column = 0;  // where it is first used
};

/// How rows were treated.
struct TraceCounts {
  std::int64_t rows = 0;          // rows of the file
  std::int64_t zero_tokens = 0;   // rows of 0 prompt or 0 output tokens, whatever was done with them
  std::int64_t skipped = 0;       // of these, left out
  std::int64_t out_of_order = 0;  // rows earlier than the row before them; the trace is sorted by time (stable)
};

struct Trace {
  std::string file{};
  TraceFormat format = TraceFormat::csv;
  std::vector<TraceRow> rows{};  // sorted by time
  std::vector<std::uint32_t> blocks{};
  std::uint32_t prefix_block_tokens = 0;  // 0: no prefix blocks known
  std::vector<TraceClass> classes{};      // empty: the trace names none
  std::uint32_t session_count = 0;
  TraceCounts counts{};
};

/// The trace that `spec` names (any format but servegen). Null after errors; a trace without rows is an error.
std::optional<Trace> read_trace(const TraceSpec& spec, const config::FileReader& reader,
                                config::Diagnostics& diagnostics);
/// The same from a text in memory (unpacked); spec.path names it in messages.
std::optional<Trace> parse_trace(std::string_view text, const TraceSpec& spec, config::Diagnostics& diagnostics);

/// The format by the first line that is not blank; nullopt if it is none of ours.
std::optional<TraceFormat> detect_format(std::string_view text);

}  // namespace faultline::workload
