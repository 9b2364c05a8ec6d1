// faultline replay: run fresh controllers on recorded logs; commands and digests must match exactly. A live run has a
// log for each process; then what one received must be what another sent, too.
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/run_logs.h"
#include "core/experiment/delivery.h"
#include "core/experiment/replay.h"
#include "core/experiment/spec.h"
#include "core/record/codec.h"
#include "core/record/event_log.h"

namespace faultline::cli {
namespace {

/// The log up to its last whole record. Only a live log may end in the middle of one: its process was killed while it
/// wrote.
std::string_view whole_part(const StoredLog& log, bool& cut) {
  record::EventLogReader in(log.bytes);
  record::LogRecord r;
  try {
    while (in.next(r)) {
    }
  } catch (const record::CodecError&) {
    cut = true;
  }
  return std::string_view(log.bytes).substr(0, in.position());
}

int replay(const std::string& given) {
  const std::vector<StoredLog> logs = logs_of(given);
  const bool live = logs.size() > 1;
  std::uint64_t records = 0, cut_logs = 0;
  std::vector<std::string_view> whole;
  for (const StoredLog& log : logs) {
    bool cut = false;
    whole.push_back(live ? whole_part(log, cut) : std::string_view(log.bytes));
    cut_logs += cut;
    const auto result = experiment::replay(whole.back(), read_file);
    records += result.records;
    if (result.matches) continue;
    fmt::print(stderr, "{}: differs at record {} ({:.9f} s, {}):\n{}", log.path, result.records, seconds(result.at),
               result.who, result.difference);
    return 1;
  }
  if (!live) {
    fmt::print("{} records match: commands and digests are the same\n", records);
    return 0;
  }
  const auto delivery = experiment::check_delivery(whole);
  if (!delivery.difference.empty()) {
    fmt::print(stderr, "{}: {}", given, delivery.difference);
    return 1;
  }
  fmt::print("{} records of {} logs match: commands and digests are the same\n", records, logs.size());
  fmt::print("{} messages were received, each as it was sent, in order and once; {} were lost with their receivers\n",
             delivery.received, delivery.lost);
  if (cut_logs > 0)
    fmt::print("{} logs end in the middle of a record: their processes were killed while they wrote\n", cut_logs);
  return 0;
}

const Registration kReplay{
    {.order = 30,
     .name = "replay",
     .help = "Replay event logs through the controllers; commands and digests must match",
     .setup = [](CLI::App& app) {
       auto given = std::make_shared<std::string>();
       app.add_option("log", *given, "A .flog, or the output folder of a simulated or live run")->required();
       return [given] { return replay(*given); };
     }}};

}  // namespace
}  // namespace faultline::cli
