// EventLog: what every controller was told and what it commanded, in the order in which it happened, with the digest of
// its state after each step. Replaying it through fresh controllers must give the same commands and digests.
//
// File: "FAULTLN3", then the resolved experiment (length, YAML), then records. A record: size, time since the record
// before (ns), controller (role, index, incarnation), event, number of commands, commands, digest (8 bytes).
// The hash of a log is chained over its records' bytes and does not cover the header.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/control/messages.h"

namespace faultline::record {

struct LogRecord {
  Instant at;
  Address who;
  std::uint32_t incarnation = 0;
  control::Event event;
  control::Commands commands;
  std::uint64_t digest = 0;
};

class EventLogWriter {
 public:
  /// `sink` receives the bytes in pieces of about 1 MiB, in order; empty = hash only.
  EventLogWriter(std::string_view resolved_experiment, std::function<void(std::string_view)> sink);
  void append(Instant at, Address who, std::uint32_t incarnation, const control::Event& event,
              std::span<const control::Command> commands, std::uint64_t digest);
  /// Hands the rest to the sink.
  void finish();
  std::uint64_t hash() const { return hash_; }
  std::uint64_t records() const { return records_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::function<void(std::string_view)> sink_;
  std::string buffer_, record_;
  Instant last_{0};
  std::uint64_t hash_ = 0x6661756c746c6e31ULL, records_ = 0, bytes_ = 0;
};

class EventLogReader {
 public:
  /// Throws CodecError when `data` is not a log of a known version.
  explicit EventLogReader(std::string_view data);
  const std::string& experiment() const { return experiment_; }
  /// False at the end. Throws CodecError at a damaged or cut record; position() tells where it began.
  bool next(LogRecord& record);
  std::size_t position() const { return at_; }

 private:
  std::string_view data_;
  std::string experiment_;
  std::size_t at_ = 0;
  Instant last_{0};
};

/// One line for people: "[12.345678 s] instance 3: StepReport …" with every field.
std::string describe_event(const control::Event& event);
std::string describe_command(const control::Command& command);

}  // namespace faultline::record
