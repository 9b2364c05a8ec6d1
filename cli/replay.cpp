// faultline replay: run fresh controllers on a recorded log; commands and digests must match exactly.
#include <fmt/format.h>

#include "cli/command.h"
#include "core/experiment/spec.h"
#include "core/experiment/replay.h"

namespace faultline::cli {
namespace {

std::string log_path(const std::string& given) { return given.ends_with(".flog") ? given : given + "/events.flog"; }

const Registration kReplay{{.order = 30,
                            .name = "replay",
                            .help = "Replay an event log through the controllers; commands and digests must match",
                            .setup = [](CLI::App& app) {
                              auto file = std::make_shared<std::string>();
                              app.add_option("log", *file, "events.flog, or the output folder of a run")->required();
                              return [file] {
                                const std::string data = must_read_file(log_path(*file));
                                const auto result = experiment::replay(data, read_file);
                                if (!result.matches) {
                                  fmt::print(stderr, "{}: differs at record {} ({:.9f} s, {}):\n{}", log_path(*file), result.records,
                                             seconds(result.at), result.who, result.difference);
                                  return 1;
                                }
                                fmt::print("{} records match: commands and digests are the same\n", result.records);
                                return 0;
                              };
                            }}};

}  // namespace
}  // namespace faultline::cli
