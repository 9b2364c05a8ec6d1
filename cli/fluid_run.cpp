#include "cli/fluid_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "cli/profiles.h"
#include "core/fluid/compare.h"
#include "core/report/summary_json.h"
#include "sim/driver/replicas.h"
#include "sim/driver/simulate.h"

namespace faultline::cli {

fluid::Options FluidModel::options() const {
  fluid::Options o;
  o.duration = *fluid::duration_of(spec);
  o.repair_crews = spec.fluid.repair_crews;
  o.state = state ? &*state : nullptr;
  o.measured = measured.empty() ? nullptr : &measured;
  return o;
}

std::unique_ptr<FluidModel> make_fluid(const experiment::ExperimentSpec& spec, const FluidInputs& inputs) {
  auto m = std::make_unique<FluidModel>();
  m->spec = spec;
  m->deployment = experiment::deploy(m->spec);
  if (spec.fluid.effects == experiment::FluidEffects::step)
    m->measured = measure_effects(m->spec, *m->deployment, inputs);
  config::Diagnostics diagnostics;
  fluid::check(m->spec, *m->deployment, m->measured.empty() ? nullptr : &m->measured, diagnostics);
  diagnostics.throw_if_any();
  m->capacity = fluid::capacity_of(m->spec, *m->deployment, fluid::load_of(m->spec, read_text));
  m->prices = load_prices(inputs.prices, spec);
  if (!inputs.state.empty()) m->state = fluid::load_state(must_read_file(inputs.state), inputs.state, *m->deployment);
  return m;
}

nlohmann::ordered_json fluid_summary(const FluidModel& m) {
  fluid::Options options = m.options();
  const fluid::Result with = fluid::simulate(m.spec, *m.deployment, m.capacity, options);
  options.with_faults = false;
  const fluid::Result without = fluid::simulate(m.spec, *m.deployment, m.capacity, options);
  return fluid::summary_json({&m.spec, m.deployment.get(), &m.capacity, &with, &without, m.prices});
}

namespace {

/// The same experiment at step fidelity, with and without its faults.
metrics::Summary step_summary(const FluidModel& m, metrics::Impacts& impacts) {
  sim::Replicas others(m.spec, *m.deployment, read_text, {{.with_faults = false}, {.with_faults = true}});
  const auto runs = others.collect();
  metrics::Options options;
  options.gpu_price_per_hour = m.spec.cost.gpu_hour;
  impacts = metrics::compare(runs[1], &runs[0], nullptr, options);
  return metrics::summarise(runs[1], options);
}

}  // namespace

int run_fluid(const RunOptions& options, const experiment::ExperimentSpec& spec) {
  FluidInputs inputs;
  inputs.prices = options.prices;
  inputs.state = options.state;
  inputs.quiet = options.quiet;
  const auto model = make_fluid(spec, inputs);
  const std::string out = options.out.empty() ? "out/" + spec.name : options.out;
  make_folder(out);
  write_file(out + "/experiment.yaml", experiment::resolved(spec));
  catch_interrupts();
  fluid::Options o = model->options();
  const bool tty = isatty(STDERR_FILENO) != 0 && !options.quiet;
  o.progress = [&](double share) {
    if (tty) fmt::print(stderr, "\r{:5.1f} % ", 100 * share);
    return !interrupted.load();
  };
  const fluid::Result with = fluid::simulate(model->spec, *model->deployment, model->capacity, o);
  if (tty) fmt::print(stderr, "\r{:10}\r", "");
  o.with_faults = false;
  o.progress = nullptr;
  o.duration = duration_from_seconds(with.duration_s);
  const fluid::Result without = fluid::simulate(model->spec, *model->deployment, model->capacity, o);
  const fluid::Report report{&model->spec, model->deployment.get(), &model->capacity, &with, &without, model->prices};
  nlohmann::ordered_json summary = fluid::summary_json(report);
  std::string text = fluid::summary_text(report);
  if (options.check_fidelity && !interrupted) {
    metrics::Impacts impacts;
    const metrics::Summary step = step_summary(*model, impacts);
    const auto rows = fluid::compare(with, without, step, impacts);
    summary["against_step"] = fluid::comparison_json(rows);
    text += "\n" + fluid::comparison_text(rows);
  }
  write_file(out + "/summary.json", summary.dump(2) + "\n");
  if (options.json) fmt::print("{}\n", summary.dump(2));
  else if (options.report && !options.quiet)
    fmt::print("{}\nwritten     {}/\n            summary.json experiment.yaml\n", text, out);
  if (interrupted)
    fmt::print(stderr, "interrupted: what was simulated up to {:.1f} days is reported\n", with.duration_s / 86'400);
  return interrupted ? 130 : 0;
}

}  // namespace faultline::cli
