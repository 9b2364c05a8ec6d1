// `faultline bench NAME`: measurements of this machine. Each cli/bench_<name>.cpp registers one, as commands do:
//
//   const BenchRegistration kTransport{{.order = 20, .name = "transport", .help = "…", .setup = [](CLI::App& app) { … }}};
#pragma once

#include "cli/command.h"

namespace faultline::cli {

class BenchRegistration {
 public:
  explicit BenchRegistration(Command command);
};

std::vector<Command>& registered_benches();

}  // namespace faultline::cli
