#include "core/experiment/deployment.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/calibration/fitted_cost.h"
#include "core/control/ships.h"
#include "core/experiment/candidates.h"
#include "core/experiment/fleets.h"
#include "core/model/roofline.h"

namespace faultline::experiment {
namespace {

using control::GroupRole;

std::unique_ptr<Deployment::Role> make_role(const ExperimentSpec& spec, const char* name,
                                            const model::ParallelPlan& plan, std::uint32_t nodes,
                                            config::Diagnostics& diagnostics) {
  auto role = std::make_unique<Deployment::Role>();
  role->plan = plan;
  const auto problems = model::plan_problems(plan, spec.model, spec.device);
  for (const std::string& p : problems) diagnostics.error(spec.fleet_mark, fmt::format("fleet.{}: {}", name, p));
  if (!problems.empty()) return role;
  const std::int64_t gpus_per_node = spec.topology.node.gpus, gpus = std::int64_t{nodes} * gpus_per_node;
  const std::int64_t per_group = plan.gpu_count();
  if (per_group > gpus || gpus % per_group != 0 || (per_group < gpus_per_node && gpus_per_node % per_group != 0) ||
      (per_group > gpus_per_node && per_group % gpus_per_node != 0)) {
    diagnostics.error(
        spec.fleet_mark,
        fmt::format("fleet.{}: groups of {} GPUs (tp {} x dp {}) do not divide the role's {} nodes of {} GPUs", name,
                    per_group, plan.tp, plan.dp, nodes, gpus_per_node));
    return role;
  }
  role->groups = static_cast<std::uint32_t>(gpus / per_group);
  model::MemoryOptions memory;
  memory.memory_fraction = spec.engine.kv_fraction;
  memory.tokens_max = Tokens{spec.engine.max_num_batched_tokens};
  memory.sequences_max = spec.engine.max_num_seqs;
  memory.block = Tokens{spec.engine.block_tokens};
  role->memory = model::memory_budget(spec.model, spec.device, plan, memory);
  const std::string refusal = model::memory_refusal(role->memory, spec.model, spec.device, plan, memory, Tokens{1});
  if (!refusal.empty()) {
    diagnostics.error(spec.fleet_mark, fmt::format("fleet.{}: {}", name, refusal));
    return role;
  }
  role->price = [shape = spec.model, device = spec.device, calibration = spec.calibration,
                 graphs = spec.engine.graph_batch_sizes](const model::ParallelPlan& p) {
    std::shared_ptr<const model::CostModel> price;
    if (calibration) {
      price = std::make_shared<calibration::FittedCost>(std::make_shared<const calibration::Calibration>(*calibration),
                                                        shape, p, device);
    } else {
      price = std::make_shared<model::RooflineCost>(device);
    }
    return std::make_unique<model::StepPricer>(shape, device, p, std::move(price), graphs);
  };
  const bool skewed = spec.experts.popularity.kind != model::PopularityKind::uniform;
  if (plan.exchanges() && (skewed || spec.recovery.keeps_survivors())) {
    const auto& popularity = spec.experts.popularity;
    if (popularity.kind == model::PopularityKind::given &&
        static_cast<std::int64_t>(popularity.weights.size()) != spec.model.experts) {
      diagnostics.error(spec.fleet_mark,
                        fmt::format("experts.popularity has {} weights, but {} has {} experts in a layer",
                                    popularity.weights.size(), spec.model.name, spec.model.experts));
      return role;
    }
    if (skewed && plan.expert_imbalance != 1) {
      diagnostics.error(spec.fleet_mark,
                        fmt::format("fleet.{}: expert_imbalance is given, but experts.popularity decides it", name));
    }
    const auto& node = spec.topology.node;
    const control::RepairRates rates{spec.device.xgmi_bandwidth,
                                     BytesPerSecond{node.nic.bandwidth.v * node.nics / node.gpus}};
    role->experts =
        std::make_unique<control::ExpertPlanner>(spec.model, spec.device, plan, spec.experts.popularity,
                                                 spec.experts.balance, spec.recovery.elastic, rates, spec.seed);
    role->plan = role->experts->plan_of(std::vector<bool>(static_cast<std::size_t>(plan.ep)),
                                        role->experts->initial().imbalance);
  }
  role->pricer = role->price(role->plan);
  return role;
}

/// Groups of one role on its nodes: several per node when they are small, several nodes per group when they are wide.
void add_groups(std::vector<control::GroupSetup>& out, const Deployment::Role& role, GroupRole kind,
                const std::vector<NodeId>& nodes, bool survive) {
  for (std::uint32_t g = 0; g < role.groups; ++g) {
    control::GroupSetup s;
    s.role = kind;
    s.ranks = static_cast<std::int32_t>(role.plan.dp);
    s.kv_blocks_per_rank = role.memory.blocks;
    s.gpus_per_rank = static_cast<std::int32_t>(role.plan.tp);
    if (survive && role.experts) {
      s.ranks_min = static_cast<std::int32_t>((role.experts->gpus_min() + role.plan.tp - 1) / role.plan.tp);
    }
    const std::size_t first = g * nodes.size() / role.groups,
                      last = std::max(first + 1, (g + 1) * nodes.size() / role.groups);
    for (std::size_t n = first; n < last; ++n) s.nodes.push_back(nodes[n].v);
    out.push_back(std::move(s));
  }
}

/// Every link once, by component; what several entries take adds up.
void add_background(Deployment& d, const ExperimentSpec& spec, config::Diagnostics& diagnostics) {
  if (spec.network.background.empty()) return;
  const topology::ComponentGraph& graph = d.topology.graph;
  const topology::Names names(d.topology, d.placement);
  std::map<std::uint32_t, double> taken;
  for (const BackgroundTraffic& b : spec.network.background) {
    std::vector<ComponentId> components;
    if (b.target.find('*') == std::string::npos) {
      if (const auto c = names.resolve(b.target)) {
        components.push_back(*c);
      } else {
        const auto unknown = names.unknown(b.target);
        diagnostics.error(b.mark, unknown.message, unknown.note);
        continue;
      }
    } else {
      for (std::uint32_t c = 0; c < graph.size(); ++c) {
        if (fault::matches(b.target, graph.name(ComponentId{c}))) components.push_back(ComponentId{c});
      }
    }
    std::set<std::uint32_t> links;  // a link once an entry, also where its two ends match
    for (const ComponentId c : components) {
      for (const topology::LinkIndex l : graph.links_of(c)) {
        const ComponentId link = graph.link(l).component;
        if (graph[link].kind != topology::Kind::xgmi_link) links.insert(link.v);  // others are not inside a node
      }
    }
    if (links.empty()) diagnostics.error(b.mark, fmt::format("network.background: '{}' has no link", b.target));
    for (const std::uint32_t c : links) {
      const auto capacity = graph.link(graph.links_of(ComponentId{c}).front()).capacity;
      taken[c] += b.share ? *b.share : static_cast<double>(b.rate->v) / static_cast<double>(capacity.v);
      if (taken[c] <= 0.95) continue;
      diagnostics.error(b.mark, fmt::format("network.background takes {:.0f} % of {}: at most 95 % may be taken",
                                            100 * taken[c], graph.name(ComponentId{c})));
      break;
    }
  }
  for (const auto& [c, share] : taken) {
    if (share > 0) d.background.push_back({ComponentId{c}, 1 - share});
  }
}

}  // namespace

topology::PlacementSpec placement_of(const ExperimentSpec& spec) {
  const FleetSpec& fleet = spec.fleet;
  topology::PlacementSpec place;
  place.instances = fleet.instances;
  place.prefill_nodes = fleet.layout.prefill;
  place.decode_nodes = fleet.layout.decode;
  place.mixed_nodes = fleet.layout.mixed;
  place.spare_nodes = fleet.spare_nodes;
  place.spare_instances = fleet.spare_instances;
  place.routers = static_cast<std::uint32_t>(spec.router.replicas);
  place.router_placement = fleet.router_placement;
  place.rule = fleet.placement;
  for (const FleetMember& m : spec.other_fleets) {
    const InstanceLayout& l = m.fleet.layout;
    place.further.push_back({m.fleet.instances, l.prefill, l.decode, l.mixed, m.fleet.spare_instances});
  }
  return place;
}

namespace {

/// What a fleet by itself asks of policies and fidelity. `spec`: as if it were the only one.
void check_fleet(const ExperimentSpec& spec, config::Diagnostics& diagnostics) {
  const FleetSpec& fleet = spec.fleet;
  if (spec.autoscaler.enabled && static_cast<std::uint32_t>(spec.autoscaler.instances_min) > fleet.instances) {
    diagnostics.error(spec.fleet_mark, fmt::format("autoscaler.instances_min is {}, but the fleet has {} instances",
                                                   spec.autoscaler.instances_min, fleet.instances));
  }
  if (spec.fidelity == Fidelity::fluid && spec.recovery.keeps_survivors()) {
    diagnostics.error(spec.fleet_mark, "fluid fidelity has no groups that go on without some of their ranks",
                      "use recovery.policy: restart, spare_node or spare_instance, or fidelity: step");
  }
  const bool alone =
      fleet.restart_unit == control::RestartUnit::rank || fleet.restart_unit == control::RestartUnit::ep_group;
  if (spec.recovery.policy == control::RecoveryAction::role_switch && (fleet.layout.mixed > 0 || !alone)) {
    diagnostics.error(spec.fleet_mark,
                      "recovery.policy is role_switch, but no group of one role is left when the other's is lost",
                      "use prefill and decode nodes, and fleet.restart_unit: ep_group or rank");
  }
  if (spec.recovery.replicate_kv.enabled && !alone && !spec.recovery.keeps_survivors()) {
    diagnostics.error(spec.fleet_mark,
                      "recovery.replicate_kv is enabled, but the ranks that hold the copies restart with the lost one",
                      "use fleet.restart_unit: ep_group or rank, or recovery.policy: elastic_ep or mask");
  }
  if (spec.fidelity == Fidelity::fluid && spec.recovery.replicate_kv.enabled) {
    diagnostics.error(spec.fleet_mark, "fluid fidelity has no copies of KV on neighbours", "use fidelity: step");
  }
}

/// What several fleets cannot have together.
void check_fleets(const ExperimentSpec& spec, config::Diagnostics& diagnostics) {
  if (spec.fidelity == Fidelity::fluid) {
    diagnostics.error(spec.fleet_mark, "fluid fidelity has one fleet, this experiment has several",
                      "use fidelity: step");
  }
  if (spec.autoscaler.enabled) {
    diagnostics.error(spec.fleet_mark, "the autoscaler looks at the load of one fleet, this experiment has several",
                      "set autoscaler.enabled: false");
  }
}

/// Everything that is one fleet's: its roles, and the set-up of each of its instances.
struct FleetParts {
  std::unique_ptr<Deployment::Role> prefill, decode, both;
  std::vector<const Deployment::Role*> group_roles;
  Bytes kv_bytes_per_token;
};

void make_roles(FleetParts& d, const ExperimentSpec& spec, config::Diagnostics& diagnostics) {
  const FleetSpec& fleet = spec.fleet;
  if (fleet.layout.mixed > 0) {
    d.both = make_role(spec, "both", fleet.both, fleet.layout.mixed, diagnostics);
  } else {
    d.prefill = make_role(spec, "prefill", fleet.prefill, fleet.layout.prefill, diagnostics);
    d.decode = make_role(spec, "decode", fleet.decode, fleet.layout.decode, diagnostics);
  }
}

void list_groups(FleetParts& d, const ExperimentSpec& spec, config::Diagnostics& diagnostics) {
  std::uint32_t groups = 0;
  for (const auto* role : {d.prefill.get(), d.decode.get(), d.both.get()}) {
    if (role == nullptr) continue;
    groups += role->groups;
    d.group_roles.insert(d.group_roles.end(), role->groups, role);
  }
  if (groups > control::kGroupsMax) {
    diagnostics.error(spec.fleet_mark,
                      fmt::format("an instance has {} groups, at most {} are supported", groups, control::kGroupsMax),
                      "use wider groups or smaller instances");
  }
  const Deployment::Role& sender = d.prefill ? *d.prefill : *d.both;
  d.kv_bytes_per_token = sender.pricer->kv_bytes(Tokens{1});
}

control::InstanceSetup make_instance(const FleetParts& d, const ExperimentSpec& spec,
                                     const topology::InstanceNodes& nodes, std::uint32_t index, bool warm) {
  control::InstanceSetup s;
  s.id = InstanceId{index};
  s.engine = spec.engine;
  s.restart_unit = control::effective_unit(spec.fleet.restart_unit, spec.engine);
  const bool survive = spec.recovery.keeps_survivors();
  if (d.prefill) add_groups(s.groups, *d.prefill, GroupRole::prefill, nodes.prefill, survive);
  if (d.decode) add_groups(s.groups, *d.decode, GroupRole::decode, nodes.decode, survive);
  if (d.both) add_groups(s.groups, *d.both, GroupRole::both, nodes.mixed, survive);
  s.kv_bytes_per_token = d.kv_bytes_per_token;
  s.routers = static_cast<std::uint32_t>(spec.router.replicas);
  s.signal_interval = spec.router.signal_interval;
  s.report_to_fleet = spec.autoscaler.enabled;
  s.replication = spec.recovery.replicate_kv;
  s.keep_requests = spec.recovery.elastic.keep_requests;
  s.up = warm;
  return s;
}

}  // namespace

std::unique_ptr<Deployment> deploy(const ExperimentSpec& spec) {
  config::Diagnostics diagnostics;
  auto d = std::make_unique<Deployment>();
  topology::TopologySpec hardware = spec.topology;
  if (spec.recovery.degraded_rail) hardware.node.nic_failover = true;
  d->topology = topology::build(hardware);
  d->placement = topology::place(d->topology, placement_of(spec), spec.fleet_mark, diagnostics);
  const std::size_t fleets = fleet_count(spec);
  std::vector<ExperimentSpec> each;
  for (std::size_t k = 0; fleets > 1 && k < fleets; ++k) each.push_back(one_fleet(spec, k));
  const auto alone = [&](std::size_t k) -> const ExperimentSpec& { return each.empty() ? spec : each[k]; };
  std::vector<FleetParts> parts(fleets);
  std::uint32_t spare_instances = 0;
  for (std::size_t k = 0; k < fleets; ++k) {
    make_roles(parts[k], alone(k), diagnostics);
    check_fleet(alone(k), diagnostics);
    spare_instances += fleet_of(spec, k).spare_instances;
  }
  if (fleets > 1) check_fleets(spec, diagnostics);
  if (spec.recovery.policy == control::RecoveryAction::spare_instance && spare_instances == 0 &&
      !spec.autoscaler.enabled) {
    diagnostics.error(spec.fleet_mark, "recovery.policy is spare_instance, but the fleet has no spare instance",
                      "set fleet.spare_instances, or another policy");
  }
  diagnostics.throw_if_any();
  for (std::size_t k = 0; k < fleets; ++k) list_groups(parts[k], alone(k), diagnostics);
  diagnostics.throw_if_any();
  add_background(*d, spec, diagnostics);
  diagnostics.throw_if_any();

  const auto add_instance = [&](std::size_t k, const topology::InstanceNodes& nodes, bool serving, bool warm) {
    const auto index = static_cast<std::uint32_t>(d->instances.size());
    control::InstanceSetup s = make_instance(parts[k], alone(k), nodes, index, warm);
    control::FleetSetup::Instance f;
    f.groups = s.groups;
    f.leader_node = s.groups.front().nodes.front();
    f.serving = serving;
    f.warm = warm;
    if (fleets > 1) {
      f.fleet = static_cast<std::uint32_t>(k);
      f.restart_unit = s.restart_unit;
      d->fleet_of.push_back(f.fleet);
    }
    d->instances.push_back(std::move(s));
    d->fleet.instances.push_back(std::move(f));
  };
  std::size_t placed = 0;
  for (std::size_t k = 0; k < fleets; ++k) {
    for (std::uint32_t i = 0; i < fleet_of(spec, k).instances; ++i) {
      const bool starts = !spec.autoscaler.enabled || placed < static_cast<std::size_t>(spec.autoscaler.instances_min);
      add_instance(k, d->placement.instances[placed++], starts, starts);
    }
  }
  placed = 0;
  for (std::size_t k = 0; k < fleets; ++k) {
    for (std::uint32_t i = 0; i < fleet_of(spec, k).spare_instances; ++i)
      add_instance(k, d->placement.spare_instances[placed++], false, spec.recovery.spare_instance_warm);
  }

  for (const NodeId n : d->placement.spare_nodes) d->fleet.spare_nodes.push_back(n.v);
  d->fleet.routers = static_cast<std::uint32_t>(spec.router.replicas);
  d->fleet.nodes = d->topology.layout.nodes;
  for (std::uint32_t n = 0; n < d->fleet.nodes; ++n) {
    d->fleet.rack_of.push_back(n / std::max<std::uint32_t>(1, hardware.racks.nodes_per_rack));
    d->fleet.fabric_of.push_back(n / std::max<std::uint32_t>(1, d->topology.layout.nodes_per_leaf));
  }
  d->fleet.restart_unit = control::effective_unit(spec.fleet.restart_unit, spec.engine);
  d->fleet.detector = spec.detector;
  d->fleet.recovery = spec.recovery;
  d->fleet.autoscaler = spec.autoscaler;
  d->router.spec = spec.router;
  d->router.replays = spec.engine.gateway_replays;
  if (fleets > 1) {
    d->router.fleet_of_instance = d->fleet_of;
    for (std::size_t k = 0; k < fleets; ++k) {
      d->router.fleet_of_class.insert(d->router.fleet_of_class.end(), workload_of(spec, k).slo.size(),
                                      static_cast<std::uint32_t>(k));
      d->router.replays_of_fleet.push_back(alone(k).engine.gateway_replays);
    }
  }
  d->agent.detector = spec.detector;
  d->agent.transfer = spec.transfer;
  d->prefill = std::move(parts[0].prefill);
  d->decode = std::move(parts[0].decode);
  d->both = std::move(parts[0].both);
  d->group_roles = std::move(parts[0].group_roles);
  d->kv_bytes_per_token = parts[0].kv_bytes_per_token;
  for (std::size_t k = 1; k < fleets; ++k) {
    FleetParts& p = parts[k];
    d->further.push_back(
        {std::move(p.prefill), std::move(p.decode), std::move(p.both), std::move(p.group_roles), p.kv_bytes_per_token});
  }

  if (const auto& c = spec.calibration)
    d->cost_model = {c->name, c->hardware, calibration::content_hash(*c), c->software_date, {}};
  else d->cost_model = {"roofline", spec.device.name, "", "", {}};
  reseed(*d, spec);
  return d;
}

void reseed(Deployment& d, const ExperimentSpec& spec) {
  config::Diagnostics diagnostics;
  d.router.seed = spec.seed;
  const fault::Candidates candidates = candidates_of(d.topology, d.placement, spec.risk);
  fault::ExpandOptions options;
  options.seed = spec.seed;
  if (spec.end) options.run_end = Instant{spec.end->v};
  else if (const auto duration = load_duration(spec)) options.run_end = Instant{duration->v};
  fault::Sample drawn = fault::sample(spec.faults, spec.sampling, options, candidates, diagnostics);
  d.faults = std::move(drawn.schedule);
  d.weight = drawn.weight;
  diagnostics.throw_if_any();
}

std::vector<record::CostModelUse::Extrapolated> extrapolated_in(const model::OpShares& shares) {
  std::vector<record::CostModelUse::Extrapolated> out;
  for (const auto& [name, op] : shares.ops) {
    if (op.extrapolated > 0) out.push_back({name, op.extrapolated / shares.total, op.why});
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.share > b.share; });
  return out;
}

record::RunRecord Deployment::describe_run(const ExperimentSpec& spec) const {
  record::RunRecord run;
  run.experiment = spec.name;
  run.seed = spec.seed;
  run.instances = static_cast<std::int32_t>(placement.instances.size());
  const auto gpus = static_cast<std::int32_t>(topology.layout.gpus);
  run.spare_gpus = static_cast<std::int32_t>(placement.spare_nodes.size()) * gpus;
  for (std::size_t k = 0; k < fleet_count(spec); ++k) {
    const FleetSpec& f = experiment::fleet_of(spec, k);
    const InstanceLayout& l = f.layout;
    const auto serving = static_cast<std::int32_t>(f.instances), spares = static_cast<std::int32_t>(f.spare_instances);
    const auto nodes = static_cast<std::int32_t>(l.prefill + l.decode + l.mixed);
    record::FleetPart part;
    part.name = fleet_name(spec, k);
    part.model = model_of(spec, k).name;
    part.instances = serving;
    part.gpus = serving * nodes * gpus;
    part.spare_gpus = spares * nodes * gpus;
    part.prefill_nodes = serving * static_cast<std::int32_t>(l.prefill + l.mixed);
    part.decode_nodes = serving * static_cast<std::int32_t>(l.decode + l.mixed);
    part.first_class = static_cast<std::int32_t>(run.slo_class_names.size());
    run.gpus += part.gpus;
    run.spare_gpus += part.spare_gpus;
    run.prefill_nodes += part.prefill_nodes;
    run.decode_nodes += part.decode_nodes;
    for (const auto& c : workload_of(spec, k).slo) {
      run.slo_class_names.push_back(spec.other_fleets.empty() ? c.name : part.name + "/" + c.name);
      run.slo_ttft.push_back(c.ttft);
      run.slo_tpot.push_back(c.tpot);
    }
    if (!spec.other_fleets.empty()) run.fleets.push_back(std::move(part));
  }
  run.fleet_of = fleet_of;
  run.warnings = warnings;
  run.cost_model = cost_model;
  for (std::size_t k = 0; k < fleet_count(spec); ++k) {
    const control::EngineSpec& engine = k == 0 ? spec.engine : spec.other_fleets[k - 1].engine;
    for (const std::string& note : control::not_shipped(engine, spec.recovery, spec.router)) {
      if (std::find(run.warnings.begin(), run.warnings.end(), note) == run.warnings.end()) run.warnings.push_back(note);
    }
  }
  return run;
}

}  // namespace faultline::experiment
