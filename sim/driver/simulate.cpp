#include "sim/driver/simulate.h"

#include <sys/resource.h>
#include <time.h>

#include "core/experiment/fleets.h"
#include "sim/driver/world.h"

namespace faultline::sim {
namespace {

double clock_seconds(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

record::RunRecord simulate(const experiment::ExperimentSpec& spec, const experiment::Deployment& d,
                           const config::FileReader& reader, const SimulateOptions& options) {
  const double wall = clock_seconds(CLOCK_MONOTONIC), cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
  config::Diagnostics diagnostics;
  const auto arrivals = experiment::make_arrivals(spec, reader, diagnostics);
  diagnostics.throw_if_any();

  record::RunRecord run = d.describe_run(spec);
  WorldSetup setup;
  setup.topology = &d.topology;
  setup.placement = &d.placement;
  setup.instances = d.instances;
  setup.fleet = d.fleet;
  setup.router = d.router;
  setup.agent = d.agent;
  for (std::size_t k = 0; k < experiment::fleet_count(spec); ++k) {
    auto& shapes = setup.fleets.emplace_back();
    for (const auto* role : k == 0 ? d.group_roles : d.further[k - 1].group_roles) {
      shapes.push_back({role->pricer.get(), static_cast<std::uint32_t>(role->plan.tp),
                        static_cast<std::uint32_t>(experiment::model_of(spec, k).layers), role->experts.get(),
                        role->price});
    }
  }
  setup.fleet_of = d.fleet_of;
  setup.timing = spec.timing;
  setup.retransmission_budget = spec.network.retransmission_budget();
  setup.elastic = spec.recovery.elastic;
  setup.router_restart = spec.router_restart;
  if (options.with_faults) setup.faults = d.faults;
  setup.background = d.background;
  if (options.placebo) {
    for (auto& f : setup.faults) {
      f.kind = fault::FaultKind::placebo;
      f.length = kForever;
    }
  }
  setup.arrivals = arrivals.get();
  setup.seed = spec.seed;
  if (spec.end) setup.end_limit = Instant{spec.end->v};
  setup.log = options.log;
  setup.truth = options.truth;
  setup.check_every_step = options.check_every_step;
  setup.progress = options.progress;
  World world(std::move(setup), run);
  if (options.with_faults && !options.placebo) {
    fault::check_supported(d.faults, world, diagnostics);
    diagnostics.throw_if_any();
  }
  world.run();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  run.stats.wall_s = clock_seconds(CLOCK_MONOTONIC) - wall;
  run.stats.cpu_s = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  run.stats.peak_rss_bytes = usage.ru_maxrss * 1024;
  return run;
}

}  // namespace faultline::sim
