// Every way to recover against single faults of every kind of component: each policy with each unit of restart, on the
// fleet of single_fault_search_test.cpp with what the policy needs standing by. Of the many equal targets some are
// taken, others with each seed of the choice; with FAULTLINE_SLOW_TESTS=1 all of them, at more instants.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "tests/sim/driver/promise.h"
#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/tiny_fleet.h"

namespace faultline {
namespace {

using topology::Kind;

// The fault ends 25 s after its beginning; the longest waits after that: a back-off of 20 s, a spare node's 10 s, a
// restart.
constexpr double kServesAgain = 110;

struct Way {
  const char* name;
  const char* unit;
  const char* spares;
  const char* recovery;
  bool peers_die = true;
};

constexpr Way kWays[] = {
    {"RankAlone", "rank", "spare_nodes: 0", "{policy: restart}", false},
    {"RankWithPeers", "rank", "spare_nodes: 0", "{policy: restart}", true},
    {"Role", "role", "spare_nodes: 0", "{policy: restart}"},
    {"SpareNodeForRank", "rank", "spare_nodes: 2", "{policy: spare_node, node_attach: 10 s}", false},
    {"SpareNodeForGroup", "ep_group", "spare_nodes: 2", "{policy: spare_node, node_attach: 10 s}"},
    {"SpareNodeForRole", "role", "spare_nodes: 1", "{policy: spare_node, node_attach: 10 s}"},
    {"SpareNodeForInstance", "instance", "spare_nodes: 2", "{policy: spare_node, node_attach: 10 s}"},
    {"WarmSpareInstance", "instance", "spare_instances: 1", "{policy: spare_instance}"},
    {"ColdSpareInstance", "instance", "spare_instances: 1", "{policy: spare_instance, spare_instance_warm: false}"},
    {"WarmSpareInstanceForGroup", "ep_group", "spare_instances: 1", "{policy: spare_instance}"},
    {"RoleSwitch", "ep_group", "spare_nodes: 0", "{policy: role_switch}"},
    {"RoleSwitchForRank", "rank", "spare_nodes: 0", "{policy: role_switch}", false},
    {"CopiesOfKvForRank", "rank", "spare_nodes: 0",
     "{policy: restart, replicate_kv: {enabled: true, interval: 500 ms}}", false},
    {"WarmSpareInstanceForRank", "rank", "spare_instances: 1", "{policy: spare_instance}", false},
};

std::string fleet_of(const Way& way) {
  return test::text_of(
      {.seed = "3",
       .nodes = 12,
       .engine = fmt::format("{{name: quick, peers_die: {}, restart_process: 5 s, restart_weights: 10 s, "
                             "restart_graph_capture: 4 s, restart_warmup: 1 s, collective_timeout: 20 s}}",
                             way.peers_die),
       .fleet = fmt::format("restart_unit: {}, {}", way.unit, way.spares),
       .rate = "3",
       .duration = "150 s",
       .rest = fmt::format("router: {{replicas: 2}}\nrecovery: {}", way.recovery)});
}

/// Faults by kind; every target of each.
std::map<std::string, std::vector<std::string>> faults_of(const experiment::ExperimentSpec& spec) {
  const auto d = experiment::deploy(spec);
  std::map<std::string, std::vector<std::string>> all;
  const topology::ComponentGraph& graph = d->topology.graph;
  const auto add = [&](const char* kind, std::string_view target, const char* extra) {
    all[kind].push_back(fmt::format("kind: {}, target: {}{}", kind, target, extra));
  };
  for (std::uint32_t c = 0; c < graph.size(); ++c) {
    const std::string_view name = graph.name(ComponentId{c});
    switch (graph[ComponentId{c}].kind) {
      case Kind::gpu:
        add("gpu.failstop", name, ", duration: 25 s");
        add("gpu.hang", name, ", duration: 25 s");
        break;
      case Kind::nic: add("nic.down", name, ", duration: 25 s"); break;
      case Kind::xgmi_link:
      case Kind::cable:
      case Kind::fabric_link:
        add("link.down", name, ", duration: 25 s");
        add("link.flap", name, ", down: 2 s, up: 3 s, cycles: 4");
        break;
      case Kind::leaf:
      case Kind::spine:
      case Kind::core: add("switch.down", name, ", duration: 25 s"); break;
      case Kind::node: add("node.crash", name, ", duration: 25 s"); break;
      case Kind::rack:
      case Kind::power: add("rack.power", name, ", duration: 25 s"); break;
      case Kind::host: break;
    }
  }
  for (const char* router : {"router-0", "router-1"}) add("router.crash", router, "");
  return all;
}

class RecoveryMatrix : public ::testing::TestWithParam<Way> {};

TEST_P(RecoveryMatrix, NothingIsLostToASingleFaultAndTheFleetServesAgain) {
  const bool every = std::getenv("FAULTLINE_SLOW_TESTS") != nullptr;
  const std::string fleet = fleet_of(GetParam());
  int runs = 0;
  std::size_t retried = 0;
  for (const auto& [kind, faults] : faults_of(test::spec_of(fleet))) {
    // Without all of them: four targets spread over the list, from the first to the last.
    const std::size_t step = every || faults.size() <= 4 ? 1 : (faults.size() + 2) / 4;
    for (std::size_t k = 0; k < faults.size(); k += step) {
      for (const int at_ms :
           every ? std::vector{7'003, 13'990, 10'501} : std::vector{7'003 + static_cast<int>(k % 5) * 1'371}) {
        const std::string fault = fmt::format("{{{}, at: {} ms}}", faults[k], at_ms);
        SCOPED_TRACE(fault);
        const test::Outcome o = test::simulate(fleet + "faults: [" + fault + "]\n");
        if (o.run.faults.empty()) continue;  // the child failed, which is recorded
        EXPECT_EQ(test::broken_promise(o, kServesAgain), "");
        ++runs;
        retried += static_cast<std::size_t>(
            std::count_if(o.run.requests.begin(), o.run.requests.end(), [](const auto& r) { return r.attempts > 1; }));
      }
    }
  }
  std::printf("    %d runs, %zu requests tried again\n", runs, retried);
  EXPECT_GT(retried, 10U) << "the faults hit nothing";
}

INSTANTIATE_TEST_SUITE_P(Ways, RecoveryMatrix, ::testing::ValuesIn(kWays),
                         [](const auto& way) { return std::string(way.param.name); });

}  // namespace
}  // namespace faultline
