#include "core/experiment/spec.h"

#include <fmt/format.h>

#include <regex>

#include "core/base/assert.h"
#include "core/config/overlay.h"
#include "core/experiment/calendar.h"
#include "core/experiment/campaign.h"
#include "core/experiment/document_kind.h"
#include "core/experiment/fleets.h"

namespace faultline::experiment {

using config::Fields;

std::string InstanceLayout::text() const {
  if (mixed > 0) return fmt::format("{}PD", mixed);
  return fmt::format("{}P{}D", prefill, decode);
}

std::optional<InstanceLayout> InstanceLayout::parse(const std::string& text) {
  static const std::regex split("([1-9][0-9]{0,3})P([1-9][0-9]{0,3})D"), both("([1-9][0-9]{0,3})PD");
  std::smatch m;
  const auto number = [&](std::size_t k) { return static_cast<std::uint32_t>(std::stoul(m[k].str())); };
  if (std::regex_match(text, m, split)) return InstanceLayout{number(1), number(2), 0};
  if (std::regex_match(text, m, both)) return InstanceLayout{0, 0, number(1)};
  return std::nullopt;
}

void describe(Fields& f, FleetSpec& s) {
  f.field("instances", s.instances, {.min = 1, .max = 100'000});
  std::string layout = s.layout.text();
  f.field("layout", layout);
  if (const auto parsed = InstanceLayout::parse(layout)) s.layout = *parsed;
  else
    f.error("layout",
            fmt::format("layout: expected xPyD such as 2P2D, or xPD for nodes that do both, got '{}'", layout));
  if (s.layout.mixed > 0) {
    f.object("both", s.both, true);
  } else {
    f.object("prefill", s.prefill, true);
    f.object("decode", s.decode, true);
  }
  f.field("restart_unit", s.restart_unit);
  f.field("spare_nodes", s.spare_nodes, {.min = 0, .max = 100'000});
  f.field("spare_instances", s.spare_instances, {.min = 0, .max = 100'000});
  f.field("placement", s.placement);
  f.field("router_placement", s.router_placement);
}

void describe(Fields& f, BackgroundTraffic& s) {
  f.required("target", s.target);
  f.field("share", s.share, {.min = 0, .max = 0.95});
  f.field("rate", s.rate, config::kPositive);
  s.mark = f.mark("target");
  if (f.reading() && s.share.has_value() == s.rate.has_value())
    f.error({}, "background traffic takes a 'share' of its links or a 'rate', one of them");
}

void describe(Fields& f, NetworkSpec& s) {
  f.field("rdma_timeout", s.rdma_timeout, {.min = 1, .max = 31});
  f.field("rdma_retry", s.rdma_retry, {.min = 0, .max = 7});
  f.list("background", s.background);
}

void describe(Fields& f, FluidSpec& s) {
  f.field("effects", s.effects);
  f.field("repair_crews", s.repair_crews, config::kNotNegative);
  f.field("capacity_factor", s.capacity_factor, {.min = 1e-3, .max = 10});
}

void describe(Fields& f, ExpertsSpec& s) {
  f.object("popularity", s.popularity);
  f.object("balance", s.balance);
}

void describe(Fields& f, CostSpec& s) { f.field("gpu_hour", s.gpu_hour, config::kNotNegative); }

namespace {

/// A file that an experiment names: relative to the experiment's folder; where --set names it, first as it stands,
/// which is relative to where the user is.
struct NamedFile {
  std::string path, note;  // note: for when it cannot be read
  std::optional<std::string> text;
};
NamedFile read_named(const std::string& name, const config::Mark& mark, const std::string& folder,
                     const config::FileReader& reader) {
  const std::string beside = name.starts_with('/') || folder.empty() ? name : folder + "/" + name;
  if (!mark.file.starts_with("--set ") || beside == name)
    return {beside, "paths start at the experiment's folder", reader(beside)};
  if (auto text = reader(name)) return {name, {}, std::move(text)};
  return {beside, fmt::format("'{}' in the working directory cannot be read either", name), reader(beside)};
}

/// A part given by file name, inline, or as a file with changes (`from:`): reads a described struct from each.
template <class T>
void part(Fields& f, const std::string& key, T& value, const std::string& folder, const config::FileReader& reader,
          bool is_required) {
  if (!f.reading()) {
    f.write_object(key, value);
    return;
  }
  const YAML::Node node = f.raw(key);
  if (!node.IsDefined()) {
    if (is_required) f.error({}, fmt::format("missing key '{}'", key), "give a file name or a mapping");
    return;
  }
  const YAML::Node name = node.IsMap() ? node["from"] : node;
  if (node.IsMap() && !name.IsDefined()) {
    config::read(f.document(), node, key, value, f.diagnostics());
    return;
  }
  if (!name.IsScalar()) {
    f.error(key, fmt::format("{}: expected a file name or a mapping", key));
    return;
  }
  const config::Mark mark = f.document().mark(name);
  const auto [path, note, text] = read_named(name.Scalar(), mark, folder, reader);
  if (!text) {
    f.diagnostics().error(mark, fmt::format("{}: cannot read '{}'", key, path), note);
    return;
  }
  const config::Document document(*text, path, f.diagnostics());
  if (node.IsMap() && document.root() && document.root().IsMap()) config::overlay(document, f.document(), node);
  if (document.root() && document.root().IsMap()) config::read(document, document.root(), "", value, f.diagnostics());
}

struct CampaignRef {
  std::string file;
  config::Mark mark;
};
void describe(Fields& f, CampaignRef& s) {
  f.required("campaign", s.file);
  s.mark = f.mark("campaign");
}

/// The spare nodes of all fleets, and how instances and routers are placed.
struct PoolSpec {
  std::uint32_t spare_nodes = 0;
  topology::PlacementRule placement = topology::PlacementRule::pack;
  topology::RouterPlacement router_placement = topology::RouterPlacement::hosts;
};
void describe(Fields& f, PoolSpec& s) {
  f.field("spare_nodes", s.spare_nodes, {.min = 0, .max = 100'000});
  f.field("placement", s.placement);
  f.field("router_placement", s.router_placement);
}

struct MemberIo {
  FleetMember member;
  std::string folder;
  const config::FileReader* reader = nullptr;
};
void describe(Fields& f, MemberIo& io) {
  static const config::FileReader none = [](const std::string&) { return std::nullopt; };
  const config::FileReader& reader = io.reader ? *io.reader : none;
  FleetMember& s = io.member;
  f.required("name", s.name);
  if (f.reading() && (s.name.empty() || s.name.find('/') != std::string::npos))
    f.error("name", fmt::format("the name of a fleet is not empty and has no '/', got '{}'", s.name));
  part(f, "model", s.model, io.folder, reader, true);
  part(f, "engine", s.engine, io.folder, reader, false);
  s.mark = f.mark("fleet");
  f.object("fleet", s.fleet, true);
  f.object("workload", s.workload, true);
  const FleetSpec usual;
  if (s.fleet.spare_nodes != 0 || s.fleet.placement != usual.placement ||
      s.fleet.router_placement != usual.router_placement) {
    f.error("fleet", "spare_nodes, placement and router_placement are common to all fleets", "write them under 'pool'");
  }
}

/// `fleets:`, of which the first becomes the experiment's own.
void read_fleets(Fields& f, ExperimentSpec& s, const config::FileReader& reader) {
  for (const char* key : {"model", "fleet", "workload"}) {
    if (f.has(key)) f.error(key, fmt::format("'{}' beside 'fleets'", key), "each entry of 'fleets' has its own");
    f.raw(key);
  }
  PoolSpec pool;
  f.object("pool", pool);
  const YAML::Node list = f.raw("fleets");
  if (!list.IsSequence() || list.size() == 0) {
    f.error("fleets", "fleets: expected a list of at least one fleet");
    return;
  }
  std::size_t classes = 0;
  std::vector<FleetMember> members;
  for (std::size_t k = 0; k < list.size(); ++k) {
    MemberIo io{.member = {}, .folder = s.folder, .reader = &reader};
    io.member.engine = s.engine;  // the common one, unless it has its own
    config::read(f.document(), list[k], fmt::format("fleets[{}]", k), io, f.diagnostics());
    if (!list[k].IsMap()) f.error("fleets", fmt::format("fleets[{}]: expected a mapping", k));
    for (const FleetMember& other : members) {
      if (other.name == io.member.name)
        f.error("fleets", fmt::format("fleets[{}]: there is a fleet '{}' already", k, other.name));
    }
    classes += io.member.workload.slo.size();
    members.push_back(std::move(io.member));
  }
  if (classes > 256) f.error("fleets", fmt::format("{} SLO classes in all, at most 256 are told apart", classes));
  FleetMember& first = members.front();
  s.fleet_name = first.name;
  s.model = std::move(first.model);
  s.engine = std::move(first.engine);
  s.workload = std::move(first.workload);
  s.fleet = first.fleet;
  s.fleet.spare_nodes = pool.spare_nodes;
  s.fleet.placement = pool.placement;
  s.fleet.router_placement = pool.router_placement;
  s.fleet_mark = first.mark;
  s.other_fleets.assign(std::make_move_iterator(members.begin() + 1), std::make_move_iterator(members.end()));
}

void write_fleets(Fields& f, ExperimentSpec& s) {
  PoolSpec pool{s.fleet.spare_nodes, s.fleet.placement, s.fleet.router_placement};
  f.object("pool", pool);
  const FleetSpec usual;
  std::vector<MemberIo> members(1);
  members[0].member = {s.fleet_name, s.model, s.engine, s.fleet, s.workload, {}};
  members[0].member.fleet.spare_nodes = usual.spare_nodes;
  members[0].member.fleet.placement = usual.placement;
  members[0].member.fleet.router_placement = usual.router_placement;
  for (const FleetMember& m : s.other_fleets) members.push_back({m, {}, nullptr});
  f.list("fleets", members);
}

/// Whether outputs can go to out/NAME: parts between '/', none of them empty or a step upwards.
bool names_a_folder(std::string_view name) {
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20) return false;
  while (true) {
    const auto slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

struct Reading {
  ExperimentSpec& spec;
  const config::FileReader* reader = nullptr;
  CampaignRef campaign = {};
  std::vector<fault::FaultSpec> maintenance = {};
};

/// The faults of the one case of a campaign.
void read_campaign(ExperimentSpec& s, const CampaignRef& ref, const config::FileReader& reader,
                   config::Diagnostics& diagnostics) {
  const auto [path, note, text] = read_named(ref.file, ref.mark, s.folder, reader);
  if (!text) {
    diagnostics.error(ref.mark, fmt::format("campaign: cannot read '{}'", path), note);
    return;
  }
  const fault::CampaignSpec campaign = fault::read_campaign(*text, path, reader, diagnostics);
  if (!diagnostics.ok()) return;
  auto cases = campaign_cases(s, campaign, {}, diagnostics);
  if (!diagnostics.ok()) return;
  if (cases.size() != 1) {
    diagnostics.error(ref.mark,
                      fmt::format("campaign '{}' makes {} runs of one experiment", campaign.name, cases.size()),
                      fmt::format("run it with: faultline run EXPERIMENT --campaign {}", path));
    return;
  }
  s.faults = std::move(cases.front().faults);
}

void describe(Fields& f, Reading& r) {
  ExperimentSpec& s = r.spec;
  f.required("name", s.name);
  if (f.reading() && f.raw("name").IsDefined() && f.raw("name").IsScalar() && !names_a_folder(s.name)) {
    f.error("name", fmt::format("name: outputs go to a folder of this name, '{}' cannot be one", s.name),
            "words and '/' between them; none is '.' or '..'");
  }
  f.field("question", s.question);
  f.field("answer", s.answer);
  f.field("seed", s.seed, {.min = 0, .max = 9.2e18});
  f.field("fidelity", s.fidelity);
  f.object("fluid", s.fluid);
  f.field("end", s.end, config::kPositive);
  static const config::FileReader none = [](const std::string&) { return std::nullopt; };
  const config::FileReader& reader = r.reader ? *r.reader : none;
  if (f.reading()) {
    const YAML::Node node = f.raw("topology");
    if (!node.IsDefined()) f.error({}, "missing key 'topology'", "give a file name or a mapping");
    else s.topology = topology::read_topology(f.document(), node, "topology", reader, f.diagnostics());
  } else {
    f.write_object("topology", s.topology);
  }
  const bool several = f.reading() ? f.has("fleets") : !s.fleet_name.empty();
  if (!several) part(f, "model", s.model, s.folder, reader, true);
  part(f, "device", s.device, s.folder, reader, true);
  if (f.reading() ? f.has("calibration") : s.calibration.has_value()) {
    if (!s.calibration) s.calibration.emplace();
    part(f, "calibration", *s.calibration, s.folder, reader, false);
  }
  if (!several || f.reading()) part(f, "engine", s.engine, s.folder, reader, false);
  if (!several) {
    s.fleet_mark = f.mark("fleet");
    f.object("fleet", s.fleet, true);
  } else if (f.reading()) {
    read_fleets(f, s, reader);
  } else {
    write_fleets(f, s);
  }
  part(f, "experts", s.experts, s.folder, reader, false);
  f.object("router", s.router);
  f.object("timing", s.timing);
  f.object("transfer", s.transfer);
  f.object("network", s.network);
  part(f, "detector", s.detector, s.folder, reader, false);
  f.object("recovery", s.recovery);
  f.field("router_restart", s.router_restart, config::kNotNegative);
  f.object("autoscaler", s.autoscaler);
  if (!several) f.object("workload", s.workload, true);
  if (const YAML::Node faults = f.reading() ? f.raw("faults") : YAML::Node();
      f.reading() && faults.IsDefined() && faults.IsMap()) {
    config::read(f.document(), faults, "faults", r.campaign, f.diagnostics());
  } else {
    f.list("faults", s.faults);
  }
  if (f.reading() && f.has("maintenance")) {
    MaintenanceSpec maintenance;
    f.object("maintenance", maintenance);
    const Duration end = s.end.value_or(load_duration(s).value_or(kForever));
    r.maintenance = maintenance_faults(maintenance, s.folder, s.topology.nodes, end, reader, f.diagnostics());
  }
  f.object("sampling", s.sampling);
  f.object("risk", s.risk);
  f.object("cost", s.cost);
}

}  // namespace

ExperimentSpec load(const std::string& text, const std::string& file, const Overrides& overrides,
                    const config::FileReader& reader) {
  config::Diagnostics diagnostics;
  config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  for (const std::string& assignment : overrides.set) document.set(assignment, diagnostics);
  diagnostics.throw_if_any();
  if (const std::string_view command = command_for(document.root()); command != "run") {
    diagnostics.error(document.mark(document.root()["experiment"]),
                      fmt::format("a {}, which is made of an experiment, is none itself", command),
                      fmt::format("run it with: faultline {} {}", command, file));
    diagnostics.throw_if_any();
  }
  ExperimentSpec spec;
  const auto slash = file.rfind('/');
  spec.folder = slash == std::string::npos ? "" : file.substr(0, slash);
  Reading reading{spec, &reader};
  config::read(document, document.root(), "", reading, diagnostics);
  const auto beside = [&](workload::WorkloadSpec& load) {
    if (load.trace && !load.trace->path.starts_with('/') && !spec.folder.empty())
      load.trace->path = spec.folder + "/" + load.trace->path;
  };
  if (overrides.trace && !spec.other_fleets.empty()) {
    diagnostics.error(spec.fleet_mark, "--trace does not say which of the fleets it is for",
                      "write it as the 'trace' of a fleet's workload");
  } else if (overrides.trace) {
    if (!spec.workload.trace) spec.workload.trace.emplace();
    spec.workload.trace->path = *overrides.trace;
  } else {
    beside(spec.workload);
  }
  for (FleetMember& m : spec.other_fleets) beside(m.workload);
  if (overrides.seed) spec.seed = *overrides.seed;
  if (!reading.campaign.file.empty() && diagnostics.ok()) read_campaign(spec, reading.campaign, reader, diagnostics);
  else fault::finish_list(spec.faults, diagnostics);
  // Written out, they are faults like the others.
  spec.faults.insert(spec.faults.end(), reading.maintenance.begin(), reading.maintenance.end());
  diagnostics.throw_if_any();
  return spec;
}

std::string resolved(const ExperimentSpec& spec) {
  ExperimentSpec copy = spec;
  Reading writing{copy, nullptr};
  YAML::Emitter emitter;
  config::print(emitter, writing);
  FAULTLINE_ASSERT(emitter.good(), "{}", emitter.GetLastError());
  return std::string(emitter.c_str()) + "\n";
}

}  // namespace faultline::experiment
