#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "cli/command.h"
#include "core/config/diagnostics.h"

namespace faultline::cli {

std::vector<Command>& registered_commands() {
  static std::vector<Command> commands;
  return commands;
}

Registration::Registration(Command command) { registered_commands().push_back(std::move(command)); }

namespace {

/// Help of a command that only holds others ("bench sim", "bench kernels").
std::string group_help(const std::string& group) {
  if (group == "bench") return "Measure this machine and this program";
  return group == "cluster" ? "Run experiments on live processes" : group;
}

int run(int argc, char** argv) {
  CLI::App app{"faultline: what a GPU, link or switch failure costs a fleet that serves large MoE models", "faultline"};
  app.set_version_flag("--version", FAULTLINE_VERSION);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every command");
  auto commands = registered_commands();
  std::sort(commands.begin(), commands.end(), [](const Command& a, const Command& b) { return a.order < b.order; });
  std::function<int()> action;
  for (const Command& command : commands) {
    CLI::App* parent = &app;
    std::string name = command.name;
    if (const auto space = name.find(' '); space != std::string::npos) {
      const std::string group = name.substr(0, space);
      name = name.substr(space + 1);
      const auto same = app.get_subcommands([&](const CLI::App* a) { return a->get_name() == group; });
      parent = same.empty() ? nullptr : same.front();
      if (parent == nullptr) parent = app.add_subcommand(group, group_help(group))->require_subcommand(1);
    }
    CLI::App* sub = parent->add_subcommand(name, command.help);
    const auto run_command = command.setup(*sub);
    sub->callback([&action, run_command] { action = run_command; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int status = app.exit(e);
    return status == 0 ? 0 : 2;
  }
  return action();
}

}  // namespace
}  // namespace faultline::cli

int main(int argc, char** argv) {
  try {
    return faultline::cli::run(argc, argv);
  } catch (const faultline::config::ConfigError& e) {
    std::fputs(e.what(), stderr);
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "faultline: error: {}\n", e.what());
    return 1;
  }
}
