#include "core/fault/campaign.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace faultline::fault {
namespace {

using namespace faultline::literals;

std::string_view text(CausalEvent e) { return enum_names(&e)[static_cast<std::size_t>(e)]; }

struct Reading {
  CampaignSpec& spec;
  const config::FileReader& reader;
  std::string folder;
};

void read_profiles(config::Fields& f, Reading& r) {
  std::vector<std::string> files;
  f.list("profiles", files, true);
  for (const std::string& file : files) {
    const std::string path = file.starts_with('/') || r.folder.empty() ? file : r.folder + "/" + file;
    const auto content = r.reader(path);
    if (!content) {
      f.error("profiles", fmt::format("profiles: cannot read '{}'", path), "paths start at the campaign's folder");
      continue;
    }
    const config::Document document(*content, path, f.diagnostics());
    RateProfile profile;
    if (document.root() && document.root().IsMap())
      config::read(document, document.root(), "", profile, f.diagnostics());
    r.spec.profiles.push_back(std::move(profile));
  }
  for (const std::string& overlap : overlaps(r.spec.profiles)) {
    f.error("profiles", overlap + ": their rates cannot be added");
  }
}

void check_phases(config::Fields& f, const CampaignSpec& s, bool recovery) {
  for (const CausalEvent e : s.phases) {
    if (is_recovery(e) == recovery) continue;
    f.error(
        "phases", fmt::format("{} is {}a phase of a recovery", text(e), recovery ? "not " : ""),
        recovery ? "a second fault waits for a phase of the first one's recovery" : "use a campaign of kind 'second'");
  }
}

void describe(config::Fields& f, Reading& r) {
  CampaignSpec& s = r.spec;
  s.mark = f.mark();
  f.required("name", s.name);
  f.field("description", s.description);
  f.required("kind", s.kind);
  if (!f.has("kind")) return;
  switch (s.kind) {
    case CampaignKind::scripted: f.list("faults", s.faults, true); break;
    case CampaignKind::profile: {
      read_profiles(f, r);
      f.field("acceleration", s.acceleration, {.min = std::numeric_limits<double>::min(), .max = 1e9});
      std::int64_t most = 0;
      f.field("max", most, {.min = 1, .max = 1e6});
      if (f.has("max")) s.max = most;
      break;
    }
    case CampaignKind::single:
      f.list("kinds", s.kinds);
      f.field("targets", s.targets);
      f.list("at", s.at);
      f.list("phases", s.phases);
      f.field("repair", s.repair, config::kPositive);
      check_phases(f, s, false);
      if (s.at.empty() && s.phases.empty())
        f.error("", "no instant", "one of 'at' and 'phases' says when the faults come");
      break;
    case CampaignKind::second:
      f.object("first", s.first, true);
      f.list("second", s.second, true);
      f.list("phases", s.phases);
      check_phases(f, s, true);
      break;
    case CampaignKind::rolling:
      f.field("targets", s.targets);
      f.field("begin", s.begin, config::kNotNegative);
      f.required("drain", s.drain, config::kPositive);
      f.required("down", s.down, config::kPositive);
      f.field("pause", s.pause, config::kNotNegative);
      f.field("at_a_time", s.at_a_time, {.min = 1, .max = 1e6});
      break;
  }
}

/// "at 20 s" and the like, and the trigger itself, once for each instant and phase.
std::vector<std::pair<std::string, FaultSpec>> at_each_instant(const CampaignSpec& s, const FaultSpec& fault) {
  std::vector<std::pair<std::string, FaultSpec>> out;
  for (const Instant at : s.at) {
    out.emplace_back("at " + config::print_scalar(at), fault);
    out.back().second.at = at;
  }
  for (const CausalEvent phase : s.phases) {
    out.emplace_back(fmt::format("after {}", text(phase)), fault);
    // A link or a switch takes part in no step of its own: the first one of the fleet is meant.
    out.back().second.after = AfterEvent{.event = phase, .scope = CausalScope::fleet};
  }
  return out;
}

std::vector<CampaignCase> single_cases(const CampaignSpec& s, const Candidates& candidates,
                                       const std::function<bool(FaultKind)>& can_apply,
                                       config::Diagnostics& diagnostics) {
  std::vector<CampaignCase> out;
  bool matched = false;
  for (const KindInfo& kind : catalogue()) {
    const bool named = std::find(s.kinds.begin(), s.kinds.end(), kind.kind) != s.kinds.end();
    if (!s.kinds.empty() && !named) continue;
    const bool harmless = kind.kind == FaultKind::placebo || kind.kind == FaultKind::gpu_correctable;
    if (!named && (harmless || (can_apply && !can_apply(kind.kind)))) continue;
    std::vector<std::string> names;
    if (kind.targets.empty() && s.targets == "*") names.emplace_back();
    for (const TargetKind target : kind.targets) {
      for (std::string& name : candidates.names(target)) {
        if (matches(s.targets, name)) names.push_back(std::move(name));
      }
    }
    matched |= !names.empty();
    for (const std::string& name : names) {
      FaultSpec fault = typical(kind.kind);
      fault.id = "fault";
      fault.target = name;
      fault.mark = fault.target_mark = s.mark;
      if (kind.takes_duration && s.repair != kForever) fault.repair = s.repair;
      for (auto& [when, spec] : at_each_instant(s, fault)) {
        out.push_back(
            {fmt::format("{}{}{} {}", name_of(kind.kind), name.empty() ? "" : " ", name, when), {std::move(spec)}});
      }
    }
  }
  if (!matched) diagnostics.error(s.mark, fmt::format("no component that these kinds strike matches '{}'", s.targets));
  return out;
}

std::vector<CampaignCase> second_cases(const CampaignSpec& s) {
  std::vector<CausalEvent> phases = s.phases;
  if (phases.empty()) {
    phases = {CausalEvent::recovery_detected, CausalEvent::recovery_decided, CausalEvent::recovery_drained,
              CausalEvent::recovery_rerouted, CausalEvent::recovery_ready};
  }
  std::vector<CampaignCase> out;
  FaultSpec first = s.first;
  if (first.id.empty()) first.id = "first";
  for (const CausalEvent phase : phases) {
    for (const BareFault& bare : s.second) {
      FaultSpec second = typical(bare.kind);
      second.id = "second";
      second.target = bare.target;
      second.mark = second.target_mark = bare.mark;
      if (bare.repair != kForever) second.repair = bare.repair;
      second.after = AfterEvent{.event = phase, .scope = CausalScope::fleet, .fault = first.id, .delay = bare.delay};
      out.push_back({fmt::format("{} {} after {}", name_of(second.kind), second.target, text(phase)), {first, second}});
    }
  }
  return out;
}

std::vector<CampaignCase> rolling_case(const CampaignSpec& s, const Candidates& candidates,
                                       config::Diagnostics& diagnostics) {
  CampaignCase rolling{s.name, {}};
  Instant next = s.begin;
  std::int64_t together = 0;
  for (const std::string& name : candidates.names(TargetKind::node)) {
    if (!matches(s.targets, name)) continue;
    FaultSpec f;
    f.id = fmt::format("maintenance {}", name);
    f.kind = FaultKind::node_maintenance;
    f.target = name;
    f.mark = f.target_mark = s.mark;
    f.at = next;
    f.drain = s.drain;
    f.duration = s.down;
    rolling.faults.push_back(std::move(f));
    if (++together == s.at_a_time) {
      together = 0;
      next = next + s.drain + s.down + s.pause;
    }
  }
  if (rolling.faults.empty()) diagnostics.error(s.mark, fmt::format("no node matches '{}'", s.targets));
  return {rolling};
}

}  // namespace

void describe(config::Fields& f, BareFault& s) {
  f.required("kind", s.kind);
  f.field("target", s.target);
  f.field("delay", s.delay, config::kNotNegative);
  f.field("repair", s.repair, config::kPositive);
  s.mark = f.mark();
  if (!f.has("kind")) return;
  if (s.target.empty() != info(s.kind).targets.empty() && s.kind != FaultKind::placebo) {
    f.error("kind", fmt::format("{} {} 'target'", name_of(s.kind), s.target.empty() ? "needs" : "takes no"));
  }
  if (s.repair != kForever && !info(s.kind).takes_duration) {
    f.error("repair", fmt::format("{} takes no 'repair'", name_of(s.kind)));
  }
}

CampaignSpec read_campaign(const std::string& content, const std::string& file, const config::FileReader& reader,
                           config::Diagnostics& diagnostics) {
  CampaignSpec spec;
  const config::Document document(content, file, diagnostics);
  if (!diagnostics.ok()) return spec;
  const auto slash = file.rfind('/');
  Reading reading{spec, reader, slash == std::string::npos ? "" : file.substr(0, slash)};
  config::read(document, document.root(), "", reading, diagnostics);
  return spec;
}

FaultSpec typical(FaultKind kind) {
  FaultSpec f;
  f.kind = kind;
  switch (info(kind).parameters) {
    case Parameters::none: break;
    case Parameters::slowdown: f.factor = 2; break;
    case Parameters::share: f.factor = 0.5; break;
    case Parameters::flap:
      f.down = 1_s;
      f.up = 5_s;
      f.cycles = 3;
      break;
    case Parameters::loss: f.loss = 0.01; break;
    case Parameters::contained: f.contained = 0; break;
    case Parameters::cooling:
      f.factor = 1.5;
      f.shutdown_after = 10_s;
      break;
    case Parameters::drain: f.drain = 10_s; break;
  }
  return f;
}

std::vector<CampaignCase> cases_of(const CampaignSpec& s, const Candidates& candidates,
                                   const std::function<bool(FaultKind)>& can_apply, config::Diagnostics& diagnostics) {
  std::vector<CampaignCase> cases;
  switch (s.kind) {
    case CampaignKind::scripted: cases = {{s.name, s.faults}}; break;
    case CampaignKind::profile: {
      CampaignCase one{s.name, {}};
      for (const RateProfile& profile : s.profiles) {
        for (FaultSpec& f : specs_of(profile, s.acceleration)) {
          f.mark = f.target_mark = s.mark;
          f.random->max = s.max;
          // A sort of component that this topology lacks fails never.
          if (f.random->per && candidates.names(*f.random->per).empty()) continue;
          one.faults.push_back(std::move(f));
        }
      }
      cases = {std::move(one)};
      break;
    }
    case CampaignKind::single: cases = single_cases(s, candidates, can_apply, diagnostics); break;
    case CampaignKind::second: cases = second_cases(s); break;
    case CampaignKind::rolling: cases = rolling_case(s, candidates, diagnostics); break;
  }
  for (CampaignCase& c : cases) finish_list(c.faults, diagnostics);
  return cases;
}

std::string yaml_of(std::vector<FaultSpec> faults) {
  YAML::Emitter e;
  e.SetMapFormat(YAML::Flow);
  e.SetSeqFormat(YAML::Flow);
  e << YAML::Flow << YAML::BeginSeq;
  for (FaultSpec& f : faults) config::print(e, f);
  e << YAML::EndSeq;
  std::string out = e.c_str();
  // The emitter breaks long lines of flow collections: one line is what a command line takes.
  std::replace(out.begin(), out.end(), '\n', ' ');
  return out;
}

}  // namespace faultline::fault
