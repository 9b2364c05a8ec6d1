// A fleet manager with its timers, for tests: two instances of a prefill and a decode group.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "core/control/fleet.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control::testing::fleet {

// Two instances of a prefill group (node 2i) and a decode group (node 2i + 1); nodes 4 and 5 are spares where asked
// for.
inline FleetSetup setup(RecoveryAction policy = RecoveryAction::restart, RestartUnit unit = RestartUnit::ep_group) {
  FleetSetup s;
  for (std::uint32_t i = 0; i < 2; ++i) {
    FleetSetup::Instance x;
    x.groups = {{GroupRole::prefill, 8, 100, {2 * i}}, {GroupRole::decode, 8, 100, {2 * i + 1}}};
    x.leader_node = 2 * i;
    s.instances.push_back(x);
  }
  s.nodes = 6;
  s.restart_unit = unit;
  s.recovery.policy = policy;
  s.recovery.decision_delay = 100_ms;
  s.recovery.retry_interval = 10_s;
  s.recovery.retry_interval_max = 30_s;
  return s;
}

/// A fleet manager and the moments at which it wants to be woken.
struct Fixture {
  explicit Fixture(FleetSetup s) : fleet(std::move(s)) {}
  Commands event(const Event& e) {
    Commands out = feed(fleet, now, e);
    for (const Command& c : out) {
      if (const auto* t = std::get_if<ArmTimer>(&c)) timers[t->key] = t->deadline;
      if (const auto* t = std::get_if<DisarmTimer>(&c)) timers.erase(t->key);
    }
    return out;
  }
  Commands message(Address from, Message m) { return event(Received{from, std::move(m)}); }
  Commands group_failed(std::uint32_t i, std::uint32_t group, Epoch epoch = 0, std::uint32_t rank = kUnknownRank) {
    return message(leader_at(i), GroupFailed{group, epoch, Cause::device_lost, rank});
  }
  /// Lets the next timer fire.
  Commands next() {
    EXPECT_FALSE(timers.empty());
    if (timers.empty()) return {};
    auto first = timers.begin();
    for (auto it = timers.begin(); it != timers.end(); ++it) {
      if (it->second < first->second) first = it;
    }
    now = first->second;
    const TimerKey key = first->first;
    timers.erase(first);
    return event(TimerFired{key});
  }
  Commands started(const StartGroup& s, Cause cause = Cause::none, std::uint32_t bad = kUnknownRank) {
    return message(agent_at(s.nodes.front()), GroupStarted{s.instance, s.group, s.epoch, cause, bad});
  }
  Commands probed(const std::pair<Address, ProbeNode>& probe, std::uint32_t bad_gpus = 0, bool network = true) {
    return message(probe.first, ProbeResult{probe.second.token, bad_gpus, network});
  }
  FleetManager fleet;
  Instant now{0};
  std::map<TimerKey, Instant> timers;
};

inline std::vector<StartGroup> starts(const Commands& c) {
  std::vector<StartGroup> out;
  for (const auto& [to, s] : sent<StartGroup>(c)) {
    EXPECT_EQ(to, agent_at(s.nodes.front()));
    out.push_back(s);
  }
  return out;
}
inline bool has_phase(const Commands& c, Phase phase) {
  for (const NotePhase& n : all<NotePhase>(c)) {
    if (n.phase == phase) return true;
  }
  return false;
}

}  // namespace faultline::control::testing::fleet
