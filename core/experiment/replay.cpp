#include "core/experiment/replay.h"

#include <fmt/format.h>

#include <map>
#include <memory>

#include "core/experiment/deployment.h"
#include "core/record/codec.h"
#include "core/record/event_log.h"

namespace faultline::experiment {
namespace {

constexpr std::string_view kRoles[] = {"client", "router", "fleet", "instance", "node"};

std::unique_ptr<control::Controller> make(const Deployment& d, Address who, std::uint32_t incarnation) {
  switch (who.role) {
    case Role::router: {
      control::RouterSetup s = d.router;
      s.index = who.index;
      for (const auto& i : d.fleet.instances) s.accepting.push_back(i.serving);
      return std::make_unique<control::Router>(s);
    }
    case Role::fleet: {
      control::FleetSetup s = d.fleet;
      s.term = incarnation;
      return std::make_unique<control::FleetManager>(std::move(s));
    }
    case Role::instance: {
      if (who.index >= d.instances.size()) break;
      control::InstanceSetup s = d.instances[who.index];
      if (incarnation > 0) s.up = false;  // a leader that was started again waits for its groups
      return std::make_unique<control::InstanceController>(std::move(s));
    }
    case Role::node: {
      control::NodeAgentSetup s = d.agent;
      s.node = who.index;
      return std::make_unique<control::NodeAgent>(s);
    }
    case Role::client: break;
  }
  throw record::CodecError("a record of an unknown controller");
}

std::string bytes_of(const control::Commands& commands) {
  std::string out;
  record::Encoder e(out);
  for (const auto& c : commands) e.value(c);
  return out;
}

}  // namespace

ReplayResult replay(std::string_view log, const config::FileReader& reader) {
  record::EventLogReader in(log);
  const ExperimentSpec spec = load(in.experiment(), "the log's experiment", {}, reader);
  const auto deployment = deploy(spec);
  struct Live {
    std::uint32_t incarnation = 0;
    std::unique_ptr<control::Controller> controller;
  };
  std::map<Address, Live> controllers;
  ReplayResult result;
  record::LogRecord r;
  control::Commands commands;
  while (in.next(r)) {
    ++result.records;
    Live& live = controllers[r.who];
    if (!live.controller || live.incarnation != r.incarnation)
      live = {r.incarnation, make(*deployment, r.who, r.incarnation)};
    commands.clear();
    live.controller->step(r.at, r.event, commands);
    const std::uint64_t digest = live.controller->digest();
    if (digest == r.digest && bytes_of(commands) == bytes_of(r.commands)) continue;
    result.matches = false;
    result.at = r.at;
    result.who = fmt::format("{} {}", kRoles[static_cast<std::size_t>(r.who.role)], r.who.index);
    result.difference = fmt::format("  event:   {}\n", record::describe_event(r.event));
    for (std::size_t k = 0; k < std::max(commands.size(), r.commands.size()); ++k) {
      const std::string recorded = k < r.commands.size() ? record::describe_command(r.commands[k]) : " (none)";
      const std::string produced = k < commands.size() ? record::describe_command(commands[k]) : " (none)";
      if (recorded != produced) result.difference += fmt::format("  recorded:{}\n  replayed:{}\n", recorded, produced);
    }
    if (digest != r.digest)
      result.difference += fmt::format("  digest:   recorded {:016x}, replayed {:016x}\n", r.digest, digest);
    return result;
  }
  return result;
}

}  // namespace faultline::experiment
