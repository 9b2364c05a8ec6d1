// What one dead worker costs under each unit of restart: who restarts, who waits, which requests are tried again.
#include <gtest/gtest.h>

#include <set>

#include "core/record/event_log.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

// One instance of a prefill node and two decode groups of four ranks (a node each); another that could take over.
constexpr const char* kFleet = R"(
name: units
seed: 5
topology:
  name: tiny
  nodes: 6
  hosts: 1
  node: {{from: ../../topologies/nodes/mi300x-8gpu.yaml, name: 4x MI300X, gpus: 4, nics: 4}}
  fabric: {{from: ../../topologies/fabrics/rail-optimised.yaml, nodes_per_leaf: 8}}
model: ../../topologies/models/qwen3-235b-a22b.yaml
device: ../../topologies/devices/mi300x.yaml
engine: {{name: ideal, peers_die: {}}}
fleet: {{instances: 2, layout: 1P2D, prefill: {{dp: 4, ep: 4}}, decode: {{dp: 4, ep: 4}}, restart_unit: {}}}
workload:
  arrivals: {{kind: poisson, rate: 4}}
  lengths: {{kind: independent, prompt: {{kind: uniform, min: 200, max: 200}}, output: {{kind: uniform, min: 400, max: 400}}}}
  duration: 180 s
end: 1000 s
recovery: {{policy: restart}}
faults: [{{id: gpu, kind: gpu.failstop, target: inst-0.d-0.gpu-1, at: 30 s, repair: 1 s}}]
)";
constexpr std::uint32_t kFaulty = 1;  // group 0 is prefill, 1 and 2 are decode

struct Seen {
  std::set<std::uint32_t> retried;       // requests with a second attempt
  std::set<std::uint32_t> started;       // groups that were started
  std::set<std::uint32_t> started_rank;  // and for which rank
  std::size_t kept = 0;  // of the faulty group: in flight at the fault, ended after the restart, one attempt
};

Seen look(bool peers_die, const char* unit) {
  const test::Outcome o = test::simulate(fmt::format(kFleet, peers_die, unit));
  Seen seen;
  if (o.run.faults.empty()) return seen;
  EXPECT_EQ(o.completed(), o.run.requests.size());
  const Instant fault = o.run.faults.at(0).at;
  const Instant ready = o.run.faults.at(0).phases.ready;
  EXPECT_NE(ready, kNever);
  for (std::uint32_t i = 0; i < o.run.requests.size(); ++i) {
    const auto& r = o.run.requests[i];
    if (r.attempts > 1) seen.retried.insert(i);
    const bool here = r.instance == InstanceId{0} && r.decode_group == static_cast<std::int16_t>(kFaulty);
    if (here && r.attempts == 1 && r.first_token < fault && r.end > ready) ++seen.kept;
  }
  record::EventLogReader reader(o.log);
  for (record::LogRecord step; reader.next(step);) {
    for (const control::Command& c : step.commands) {
      const auto* send = std::get_if<control::Send>(&c);
      const auto* start = send ? std::get_if<control::StartGroup>(&send->message) : nullptr;
      if (!start) continue;
      EXPECT_EQ(start->instance, InstanceId{0});
      seen.started.insert(start->group);
      seen.started_rank.insert(start->rank);
    }
  }
  return seen;
}

bool contains(const std::set<std::uint32_t>& all, const std::set<std::uint32_t>& some) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

using Groups = std::set<std::uint32_t>;
constexpr std::uint32_t kAll = control::kUnknownRank;

TEST(RestartUnit, EachUnitRestartsMoreAndRetriesTheRequestsOfWhatItRestarts) {
  const Seen rank = look(false, "rank"), group = look(false, "ep_group"), role = look(false, "role"),
             instance = look(false, "instance");
  EXPECT_EQ(rank.started, Groups{1});
  EXPECT_EQ(rank.started_rank, Groups{1}) << "the second GPU of the group";
  EXPECT_EQ(group.started, Groups{1});
  EXPECT_EQ(group.started_rank, Groups{kAll});
  EXPECT_EQ(role.started, (Groups{1, 2}));
  EXPECT_EQ(instance.started, (Groups{0, 1, 2}));

  EXPECT_FALSE(rank.retried.empty());
  EXPECT_GT(group.retried.size(), rank.retried.size());
  EXPECT_GT(role.retried.size(), group.retried.size());
  EXPECT_GE(instance.retried.size(), role.retried.size());
  EXPECT_TRUE(contains(group.retried, rank.retried));
  EXPECT_TRUE(contains(role.retried, group.retried));
  EXPECT_TRUE(contains(instance.retried, role.retried));

  // The other rank's requests wait for the restart of the dead one; no other unit keeps any of its group.
  EXPECT_GT(rank.kept, 0U);
  EXPECT_EQ(rank.kept + rank.retried.size(), group.retried.size()) << "what is not retried is kept";
  EXPECT_EQ(group.kept + role.kept + instance.kept, 0U);
}

TEST(RestartUnit, WherePeersDieWithARankItsWholeGroupRestarts) {
  const Seen rank = look(true, "rank"), group = look(true, "ep_group");
  EXPECT_EQ(rank.started, group.started);
  EXPECT_EQ(rank.started_rank, Groups{kAll});
  EXPECT_EQ(rank.retried, group.retried);
  EXPECT_EQ(rank.kept, 0U);
}

}  // namespace
}  // namespace faultline
