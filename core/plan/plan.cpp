#include "core/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::plan {

void describe(config::Fields& f, PlanSpec& s) {
  f.required("name", s.name);
  f.required("experiment", s.experiment);
  f.field("target", s.target, {.min = 0.5, .max = 0.999999});
  f.list("profiles", s.profiles);
  f.list("decode_widths", s.decode_widths);
  f.list("prefill_widths", s.prefill_widths);
  f.field("period", s.period, config::kPositive);
  f.field("seeds", s.seeds, {.min = 1, .max = 10'000});
  f.field("spares_max", s.spares_max, {.min = 0, .max = 10'000});
  f.field("verify", s.verify, {.min = 0, .max = 100});
  f.field("within_slo", s.within_slo, {.min = 0.5, .max = 0.9999});
  if (!f.reading()) return;
  if (s.profiles.empty()) f.error("profiles", "profiles: at least one is needed");
  for (const auto* widths : {&s.decode_widths, &s.prefill_widths}) {
    for (const std::int64_t w : *widths) {
      if (w < 1 || w > 1024)
        f.error(widths == &s.decode_widths ? "decode_widths" : "prefill_widths",
                fmt::format("a width of {} GPUs: expected 1 to 1024", w));
    }
  }
}

PlanSpec load_plan(const std::string& text, const std::string& file) {
  config::Diagnostics diagnostics;
  config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  PlanSpec plan;
  const YAML::Node& root = document.root();
  if (root.IsMap() && root["topology"].IsDefined()) {
    plan.experiment = file;
    plan.name = root["name"].IsScalar() ? root["name"].Scalar() : file;
  } else {
    config::read(document, root, "", plan, diagnostics);
    const auto slash = file.rfind('/');
    if (!plan.experiment.starts_with('/') && slash != std::string::npos)
      plan.experiment = file.substr(0, slash + 1) + plan.experiment;
  }
  diagnostics.throw_if_any();
  return plan;
}

std::string Shape::text() const {
  if (layout.mixed > 0) return fmt::format("{}, EP{}", layout.text(), decode_width);
  return fmt::format("{}, prefill EP{}, decode EP{}", layout.text(), prefill_width, decode_width);
}

namespace {

void set_width(model::ParallelPlan& p, std::int64_t width) {
  p.tp = 1;
  p.dp = p.ep = width;
}

/// One instance of a shape, without faults: what it can serve, or why it cannot run.
ShapeChoice price(const experiment::ExperimentSpec& base, const Shape& shape, const fluid::Load& load,
                  fluid::Capacity* capacity = nullptr) {
  ShapeChoice choice{shape, 0, 1, {}};
  experiment::ExperimentSpec spec = base;
  spec.faults.clear();
  spec.autoscaler.enabled = false;
  spec.recovery.policy = control::RecoveryAction::restart;
  spec.fleet.instances = 1;
  spec.fleet.spare_nodes = spec.fleet.spare_instances = 0;
  spec.fleet.layout = shape.layout;
  set_width(spec.fleet.prefill, shape.prefill_width);
  set_width(spec.fleet.decode, shape.decode_width);
  set_width(spec.fleet.both, shape.decode_width);
  spec.topology.nodes = shape.layout.prefill + shape.layout.decode + shape.layout.mixed;
  try {
    const auto deployment = experiment::deploy(spec);
    const fluid::Capacity c = fluid::capacity_of(spec, *deployment, load);
    choice.requests_per_s = c.instance_requests_per_s;
    if (capacity) *capacity = c;
    if (choice.requests_per_s <= 0) {
      choice.refusal = c.both.gpus > 0                ? c.both.limit
                       : c.decode.requests_per_s <= 0 ? "decode: " + c.decode.limit
                                                      : "prefill: " + c.prefill.limit;
    }
    if (capacity)
      capacity->prefill.pricer = capacity->decode.pricer = capacity->both.pricer = nullptr;  // the deployment's
  } catch (const config::ConfigError& e) {
    std::string reason = e.what();
    if (const auto at = reason.find("error: "); at != std::string::npos) reason = reason.substr(at + 7);
    choice.refusal = reason.substr(0, reason.find('\n'));
  }
  return choice;
}

}  // namespace

std::vector<ShapeChoice> shapes_of(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                   const fluid::Load& load) {
  std::vector<ShapeChoice> out;
  const auto gpus = static_cast<std::int64_t>(base.topology.node.gpus);
  const auto nodes_of = [&](std::int64_t width) {
    return static_cast<std::uint32_t>(std::max<std::int64_t>(1, (width + gpus - 1) / gpus));
  };
  for (const std::int64_t decode : plan.decode_widths) {
    if (base.fleet.layout.mixed > 0) {
      out.push_back(price(base, {{0, 0, nodes_of(decode)}, decode, decode}, load));
      continue;
    }
    for (const std::int64_t prefill : plan.prefill_widths) {
      const std::uint32_t p = nodes_of(prefill), d = nodes_of(decode);
      fluid::Capacity one;
      const ShapeChoice smallest = price(base, {{p, d, 0}, prefill, decode}, load, &one);
      if (!smallest.refusal.empty()) {
        out.push_back(smallest);
        continue;
      }
      // Requests per second of all the nodes of one group of each; small groups share a node.
      const double prefill_rate =
          one.prefill.requests_per_s * static_cast<double>(std::max<std::int64_t>(1, p * gpus / prefill));
      const double decode_rate =
          one.decode.requests_per_s * static_cast<double>(std::max<std::int64_t>(1, d * gpus / decode));
      std::vector<std::pair<std::uint32_t, std::uint32_t>> splits;
      for (std::uint32_t k = 1; k <= 2; ++k) {  // one decode group, two: finer splits
        const double want = decode_rate * k / prefill_rate;
        const auto whole = static_cast<double>(static_cast<std::int64_t>(want));
        // The closed form knows neither the tail of the prompts nor that a prefill group's ranks wait for each other:
        // step runs hold little more than half of it (core/plan/calibrate.h), so more prefill is tried, too.
        const auto more = static_cast<double>(static_cast<std::int64_t>(want / 0.6)) + 1;
        for (const double n : {std::max(1.0, whole), whole + 1, more}) {
          const std::pair split{static_cast<std::uint32_t>(n) * p, k * d};
          if (n <= 64 && std::find(splits.begin(), splits.end(), split) == splits.end()) splits.push_back(split);
        }
        if (prefill_rate > 2 * decode_rate &&
            k == 1) {  // prefill is so quick that one node feeds several decode groups
          const auto many = static_cast<std::uint32_t>(std::min(16.0, prefill_rate / decode_rate));
          splits.emplace_back(p, many * d);
        }
      }
      for (const auto& [a, b] : splits) out.push_back(price(base, {{a, b, 0}, prefill, decode}, load));
    }
  }
  return out;
}

experiment::ExperimentSpec experiment_of(const PlanSpec& plan, const experiment::ExperimentSpec& base,
                                         const Fleet& fleet, const fault::RateProfile& profile) {
  experiment::ExperimentSpec spec = base;
  spec.name = plan.name;
  spec.question = spec.answer = "";
  spec.fidelity = experiment::Fidelity::fluid;
  spec.autoscaler.enabled = false;
  spec.fleet.instances = static_cast<std::uint32_t>(fleet.instances);
  spec.fleet.layout = fleet.shape.layout;
  set_width(spec.fleet.prefill, fleet.shape.prefill_width);
  set_width(spec.fleet.decode, fleet.shape.decode_width);
  set_width(spec.fleet.both, fleet.shape.decode_width);
  spec.fleet.spare_nodes = spec.fleet.spare_instances = 0;
  const std::int64_t per_instance = fleet.shape.layout.prefill + fleet.shape.layout.decode + fleet.shape.layout.mixed;
  std::int64_t nodes = fleet.instances * per_instance;
  if (base.recovery.policy == control::RecoveryAction::spare_instance) {
    spec.fleet.spare_instances = static_cast<std::uint32_t>(fleet.spares);
    nodes += fleet.spares * per_instance;
    if (fleet.spares == 0) spec.recovery.policy = control::RecoveryAction::restart;
  } else {
    spec.fleet.spare_nodes = static_cast<std::uint32_t>(fleet.spares);
    nodes += fleet.spares;
    if (fleet.spares > 0 && base.recovery.policy == control::RecoveryAction::restart)
      spec.recovery.policy = control::RecoveryAction::spare_node;
  }
  spec.topology.nodes = static_cast<std::uint32_t>(nodes);
  spec.workload.requests.reset();
  spec.workload.duration = plan.period;
  spec.end.reset();
  spec.faults = fault::specs_of(profile);
  return spec;
}

std::vector<Change> changes() {
  return {{.name = "rates x 0.5", .rates = 0.5},       {.name = "rates x 2", .rates = 2},
          {.name = "load x 0.8", .load = 0.8},         {.name = "load x 1.25", .load = 1.25},
          {.name = "restart x 0.2", .restart = 0.2},   {.name = "repair x 0.25", .repair = 0.25},
          {.name = "repair x 4", .repair = 4},         {.name = "TPOT limit x 0.8", .tpot = 0.8},
          {.name = "TPOT limit x 1.25", .tpot = 1.25}, {.name = "target 0.99", .target = 0.99},
          {.name = "target 0.9999", .target = 0.9999}};
}

void apply(const Change& c, PlanSpec& plan, experiment::ExperimentSpec& base, fault::RateProfile& profile) {
  const auto scale = [](Duration d, double k) { return d == kForever ? d : duration_from_seconds(seconds(d) * k); };
  for (fault::RateSource& s : profile.sources) {
    s.rate_per_hour *= c.rates;
    if (s.repair) s.repair->mean = scale(s.repair->mean, c.repair);
  }
  base.workload.rate_scale *= c.load;
  if (c.restart != 1) {
    for (Duration* d : {&base.engine.restart_process, &base.engine.restart_weights, &base.engine.restart_compile,
                        &base.engine.restart_graph_capture, &base.engine.restart_warmup}) {
      *d = scale(*d, c.restart);
    }
  }
  if (c.tpot != 1) {
    for (auto& s : base.workload.slo) {
      if (s.tpot != kForever) s.tpot = scale(s.tpot, c.tpot);
    }
  }
  if (c.target > 0) plan.target = c.target;
}

}  // namespace faultline::plan
