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

/// What CLI11 reports as a missing subcommand: a word that is none, at the top or in a group. Empty: nothing of the
/// kind.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const auto subcommands = at->get_subcommands([](const CLI::App*) { return true; });
    if (subcommands.empty() || argv[i][0] == '-') return {};
    const auto same = std::find_if(subcommands.begin(), subcommands.end(),
                                   [&](const CLI::App* a) { return a->get_name() == argv[i]; });
    if (same == subcommands.end()) {
      std::vector<std::string> names;
      for (const CLI::App* a : subcommands) names.push_back(a->get_name());
      const std::string nearest = config::did_you_mean(argv[i], names);
      return fmt::format("unknown command '{}'{}\n  commands: {}\n", argv[i], nearest.empty() ? "" : " " + nearest,
                         config::name_list(names, names.size()));
    }
    at = *same;
  }
  return {};
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
  if (const std::string unknown = unknown_command(app, argc, argv); !unknown.empty()) {
    fmt::print(stderr, "faultline: error: {}", unknown);
    return 2;
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
