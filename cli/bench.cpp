#include "cli/bench.h"

#include <algorithm>
#include <map>
#include <memory>

namespace faultline::cli {

std::vector<Command>& registered_benches() {
  static std::vector<Command> benches;
  return benches;
}

BenchRegistration::BenchRegistration(Command command) { registered_benches().push_back(std::move(command)); }

namespace {

const Registration kBench{{.order = 80, .name = "bench", .help = "Measure this machine", .setup = [](CLI::App& app) -> std::function<int()> {
  app.require_subcommand(1);
  auto actions = std::make_shared<std::map<std::string, std::function<int()>>>();
  auto benches = registered_benches();
  std::sort(benches.begin(), benches.end(), [](const Command& a, const Command& b) { return a.order < b.order; });
  for (const Command& bench : benches) (*actions)[bench.name] = bench.setup(*app.add_subcommand(bench.name, bench.help));
  return [actions, &app] { return actions->at(app.get_subcommands().front()->get_name())(); };
}}};

}  // namespace
}  // namespace faultline::cli
