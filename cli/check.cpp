// faultline check: read an experiment and everything it names, and say what is wrong; or print it with every default.
#include <fmt/format.h>

#include "cli/experiment_files.h"
#include "core/experiment/deployment.h"
#include "core/experiment/fleets.h"

namespace faultline::cli {
namespace {

const Registration kCheck{{.order = 20,
                           .name = "check",
                           .help = "Check an experiment; --resolved prints it with every default",
                           .setup = [](CLI::App& app) {
                             auto o = std::make_shared<ExperimentOptions>();
                             auto resolved = std::make_shared<bool>(false);
                             add_experiment_options(app, *o);
                             app.add_flag("--resolved", *resolved, "Print the complete experiment");
                             return [o, resolved] {
                               const LoadedExperiment loaded = load_experiment(*o);
                               const auto deployment = experiment::deploy(loaded.spec);
                               config::Diagnostics diagnostics;
                               experiment::make_arrivals(loaded.spec, read_text, diagnostics);
                               diagnostics.throw_if_any();
                               if (*resolved) {
                                 fmt::print("{}", experiment::resolved(loaded.spec));
                               } else {
                                 fmt::print("{}: well: {} instances, {} faults\n", o->file,
                                            deployment->placement.instances.size(), deployment->faults.size());
                               }
                               return 0;
                             };
                           }}};

}  // namespace
}  // namespace faultline::cli
