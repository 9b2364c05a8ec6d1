#include "cli/run_logs.h"

#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "core/record/codec.h"
#include "core/record/event_log.h"

namespace faultline::cli {

std::vector<StoredLog> logs_of(const std::string& given) {
  if (given.ends_with(".flog")) return {{given, must_read_file(given)}};
  std::vector<StoredLog> logs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(given + "/logs", error)) {
    if (entry.path().extension() == ".flog") logs.push_back({entry.path().string(), {}});
  }
  if (error || logs.empty()) return {{given + "/events.flog", must_read_file(given + "/events.flog")}};
  std::sort(logs.begin(), logs.end(), [](const StoredLog& a, const StoredLog& b) { return a.path < b.path; });
  for (StoredLog& log : logs) log.bytes = must_read_file(log.path);
  return logs;
}

std::optional<std::set<std::uint32_t>> instances_hit(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder + "/events.flog", error) && !std::filesystem::exists(folder + "/logs", error))
    return std::nullopt;
  std::set<std::uint32_t> hit;
  for (const StoredLog& log : logs_of(folder)) {
    record::EventLogReader in(log.bytes);
    record::LogRecord r;
    try {
      while (in.next(r)) {
        for (const control::Command& c : r.commands) {
          if (const auto* lost = std::get_if<control::NoteAttemptLost>(&c)) hit.insert(lost->instance.v);
          const auto* phase = std::get_if<control::NotePhase>(&c);
          if (phase != nullptr && phase->phase == control::Phase::detect && phase->instance.valid())
            hit.insert(phase->instance.v);
        }
      }
    } catch (const record::CodecError&) {  // its process was killed while it wrote
    }
  }
  return hit;
}

}  // namespace faultline::cli
