// The event log of one incarnation of one controller, as a file. Every record is with the operating system before the
// commands leave: a process that is killed leaves a log that says all that it did.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "backend/transport/fd.h"
#include "core/record/event_log.h"

namespace faultline::live {

inline std::string log_name(Address who, std::uint32_t incarnation) {
  constexpr const char* kRoles[] = {"client", "router", "fleet", "instance", "node"};
  return fmt::format("{}-{}.{}.flog", kRoles[static_cast<std::size_t>(who.role)], who.index, incarnation);
}

class LogFile {
 public:
  /// Throws std::runtime_error with the system's reason, also later when the disk is full.
  LogFile(const std::string& path, std::string_view experiment)
      : path_(path),
        file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)),
        writer_(experiment, [this](std::string_view bytes) { write(bytes); }) {
    if (!file_) fail();
    writer_.finish();
  }
  void append(Instant at, Address who, std::uint32_t incarnation, const control::Event& event,
              std::span<const control::Command> commands, std::uint64_t digest) {
    writer_.append(at, who, incarnation, event, commands, digest);
    writer_.finish();
  }

 private:
  [[noreturn]] void fail() const {
    throw std::runtime_error(fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
  }
  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail();
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  std::string path_;
  transport::Fd file_;
  record::EventLogWriter writer_;
};

}  // namespace faultline::live
