// A command of the faultline binary. Each cli/<name>.cpp defines one and registers it at namespace scope:
//
//   const Registration kTopology{{.order = 40, .name = "topology", .help = "Analyse a topology", .setup = [](CLI::App&
//   app) {
//     auto options = std::make_shared<Options>();
//     app.add_option("file", options->file)->required();
//     return [options] { return run(*options); };            // the exit status
//   }}};
//
// Exit statuses: 0 well, 1 the run failed or a check did not hold, 2 the user's input is wrong, 130 interrupted.
// A command throws config::ConfigError for bad input; main prints it and returns 2.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config/document.h"

namespace faultline::cli {

struct Command {
  int order = 0;     // place in the help text
  std::string name;  // "run", or "bench sim" for a command within a group
  std::string help;
  std::function<std::function<int()>(CLI::App&)> setup;
};

class Registration {
 public:
  explicit Registration(Command command);
};

std::vector<Command>& registered_commands();

/// The text of a file; nullopt when it cannot be read. Files named *.gz are unpacked.
std::optional<std::string> read_file(const std::string& path);
/// As read_file, but a missing or unreadable file is a ConfigError naming it and similar files beside it.
std::string must_read_file(const std::string& path);
/// Writes beside the target and renames, so that a full disk or a crash never leaves half a file.
/// Throws std::runtime_error with the path and the system's reason.
void write_file(const std::string& path, std::string_view content);

/// For options that take a whole number from 0: the argument parser reads "-1", and what is too large, as some other
/// number. The largest is that of a YAML file.
CLI::Validator whole_number();

}  // namespace faultline::cli
