// Our own trace format: a header, then one request a row.
//   arrival_s      seconds since the run began, 0 or more
//   input_tokens, output_tokens
//   slo_class      optional: the name of a class of the experiment
//   session        optional: any word; equal words are one conversation, an empty one is none
#include <algorithm>
#include <map>

#include "core/workload/arrival.h"
#include "core/workload/readers.h"

namespace faultline::workload {

void read_own_csv(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace) {
  Table table(text, errors);
  const auto columns =
      table.columns({{"arrival_s"}, {"input_tokens"}, {"output_tokens"}, {"slo_class", true}, {"session", true}});
  if (!columns) return;
  const int at_column = (*columns)[0], prompt_column = (*columns)[1], output_column = (*columns)[2];
  const int class_column = (*columns)[3], session_column = (*columns)[4];
  Sessions sessions;
  std::map<std::string, std::uint8_t, std::less<>> classes;
  while (table.next_row()) {
    ++trace.counts.rows;
    const auto at = table.seconds(at_column);
    const auto prompt = table.tokens(prompt_column, 0);
    const auto output = table.tokens(output_column, 0);
    if (!at || !prompt || !output) continue;
    TraceRow row{.at = Instant{at->v}, .prompt = *prompt, .output = *output};
    if (class_column >= 0) {
      const std::string_view name = table.text(class_column);
      auto found = classes.find(name);
      if (found == classes.end()) {
        if (name.empty()) {
          table.error(class_column, "expected the name of a class, got nothing");
          continue;
        }
        if (classes.size() == 256) {
          table.error(class_column, "more than 256 classes");
          continue;
        }
        found = classes.emplace(name, static_cast<std::uint8_t>(classes.size())).first;
        trace.classes.push_back({std::string(name), table.line(), table.column_of(class_column)});
      }
      row.slo_class = found->second;
    }
    row.session = sessions.of(table, session_column);
    take_row(spec, row, table, prompt_column, output_column, trace);
  }
  trace.session_count = sessions.count();
}

}  // namespace faultline::workload
