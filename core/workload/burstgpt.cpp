// BurstGPT (github.com/HPMLL/BurstGPT, Wang et al., arXiv 2401.17644): a day-long log of ChatGPT and GPT-4 use.
// Timestamp: seconds; Total tokens = Request tokens + Response tokens, which is checked. A row of 0 response tokens is
// a request that failed at the time (the authors' "without_fails" files leave them out: zero_tokens: skip). The later
// release adds `Session ID` and `Elapsed time`, which stand between Timestamp and Model.
#include <fmt/format.h>

#include "core/workload/arrival.h"
#include "core/workload/readers.h"

namespace faultline::workload {

void read_burstgpt(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace) {
  Table table(text, errors);
  const auto columns = table.columns({{"Timestamp"},
                                      {"Model"},
                                      {"Request tokens"},
                                      {"Response tokens"},
                                      {"Total tokens"},
                                      {"Log Type"},
                                      {"Session ID", true},
                                      {"Elapsed time", true}});
  if (!columns) return;
  const int at_column = (*columns)[0], prompt_column = (*columns)[2], output_column = (*columns)[3];
  const int total_column = (*columns)[4], session_column = (*columns)[6];
  Sessions sessions;
  while (table.next_row()) {
    ++trace.counts.rows;
    const auto at = table.seconds(at_column);
    const auto prompt = table.tokens(prompt_column, 0);
    const auto output = table.tokens(output_column, 0);
    const auto total = table.tokens(total_column, 0);
    if (!at || !prompt || !output || !total) continue;
    if (*total != *prompt + *output) {
      table.error(total_column,
                  fmt::format("expected {} + {} = {}, got {}", *prompt, *output, *prompt + *output, *total));
      continue;
    }
    TraceRow row{.at = Instant{at->v}, .prompt = *prompt, .output = *output};
    row.session = sessions.of(table, session_column);
    take_row(spec, row, table, prompt_column, output_column, trace);
  }
  trace.session_count = sessions.count();
}

}  // namespace faultline::workload
