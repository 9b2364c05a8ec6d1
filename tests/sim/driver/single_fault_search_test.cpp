// Safety and liveness under every single fault: each component of a tiny fleet, each kind of fault that fits it, at
// several instants of the run. Whatever breaks, every request ends, none fails unless its router died, the log replays
// to the same commands, and once the part is repaired the fleet serves again as if nothing had happened.
// Every controller's conservation laws and digests are checked after each of its steps.
#include <gtest/gtest.h>

#include <set>

#include "core/fault/kind.h"
#include "sim/faults/support.h"
#include "tests/sim/driver/promise.h"
#include "tests/sim/driver/scenario.h"
#include "tests/sim/driver/tiny_fleet.h"

namespace faultline {
namespace {

using fault::FaultKind;
using topology::Kind;

constexpr std::int64_t kRepairedAfter = 25;  // s
constexpr double kServesAgain = 110;         // s: repair, the longest wait between two restart attempts, one restart

struct Case {
  std::string kind, target, extra;
};

std::vector<Case> cases_of(const experiment::ExperimentSpec& spec) {
  const auto d = experiment::deploy(spec);
  std::vector<Case> all;
  const std::string length = fmt::format("duration: {} s", kRepairedAfter);
  const topology::ComponentGraph& graph = d->topology.graph;
  for (std::uint32_t c = 0; c < graph.size(); ++c) {
    const ComponentId id{c};
    const std::string name{graph.name(id)};
    switch (graph[id].kind) {
      case Kind::gpu:
        all.push_back({"gpu.failstop", name, length});
        all.push_back({"gpu.hang", name, length});
        all.push_back({"gpu.slow", name, length + ", factor: 3"});
        all.push_back({"gpu.ecc", name, length + ", contained: 0"});
        all.push_back({"gpu.ecc", name, length + ", contained: 1"});
        all.push_back({"gpu.sdc", name, length});
        all.push_back({"process.crash", name, ""});
        all.push_back({"pcie.degrade", name, length + ", factor: 0.25"});
        break;
      case Kind::nic:
        all.push_back({"nic.down", name, length});
        all.push_back({"nic.flap", name, "down: 2 s, up: 3 s, cycles: 4"});
        break;
      case Kind::xgmi_link:
        all.push_back({"xgmi.down", name, length});
        all.push_back({"xgmi.degrade", name, length + ", factor: 0.2"});
        break;
      case Kind::cable:
      case Kind::fabric_link:
        all.push_back({"link.lossy", name, length + ", loss: 0.01"});
        all.push_back({"link.oneway", name, length});
        all.push_back({"link.down", name, length});
        all.push_back({"link.degrade", name, length + ", factor: 0.2"});
        all.push_back({"link.flap", name, "down: 2 s, up: 3 s, cycles: 4"});
        break;
      case Kind::leaf:
      case Kind::spine:
      case Kind::core:
        all.push_back({"switch.down", name, length});
        all.push_back({"pfc.storm", name, length + ", factor: 0.3"});
        break;
      case Kind::node:
        all.push_back({"node.crash", name, length});
        all.push_back({"node.maintenance", name, length + ", drain: 5 s"});
        all.push_back({"kv.fail", name, length});
        break;
      case Kind::rack:
      case Kind::power:
        all.push_back({"rack.power", name, length});
        all.push_back({"cooling.loss", name, length + ", factor: 1.5, shutdown_after: 4 s"});
        break;
      case Kind::host: break;  // reached by its router and its power
    }
  }
  all.push_back({"storage.slow", "", length + ", factor: 3"});
  all.push_back({"rollout.bad", "", length});
  for (const char* router : {"router-0", "router-1"}) all.push_back({"router.crash", router, ""});
  return all;
}

struct Recovery {
  const char* unit;
  const char* policy;
  int redundant_experts;  // 44: three GPUs of a group of four can hold all experts of the model
};
class SingleFault : public ::testing::TestWithParam<Recovery> {};

TEST_P(SingleFault, NothingIsLostAndTheFleetServesAgain) {
  const Recovery& recovery = GetParam();
  const std::string fleet = test::text_of(
      {.seed = "3",
       .group = fmt::format("redundant_experts: {}", recovery.redundant_experts),
       .fleet = fmt::format("restart_unit: {}", recovery.unit),
       .rate = "3",
       .duration = "150 s",
       .rest = fmt::format("router: {{replicas: 2}}\nrecovery: {{policy: {}, elastic: {{rank_start: 5 s}}}}",
                           recovery.policy)});
  std::set<std::string> kinds;
  int runs = 0;
  std::size_t retried = 0;
  for (const Case& c : cases_of(test::spec_of(fleet))) {
    for (const int at_ms : {7'003, 13'990}) {
      const std::string target = c.target.empty() ? "" : ", target: " + c.target;
      const std::string fault =
          fmt::format("{{kind: {}{}, at: {} ms{}{}}}", c.kind, target, at_ms, c.extra.empty() ? "" : ", ", c.extra);
      SCOPED_TRACE(fault);
      const test::Outcome o = test::simulate(fleet + "faults: [" + fault + "]\n");
      if (o.run.faults.empty()) continue;  // the child failed, which is recorded
      EXPECT_EQ(test::broken_promise(o, kServesAgain), "");
      ++runs;
      kinds.insert(c.kind);
      retried += static_cast<std::size_t>(
          std::count_if(o.run.requests.begin(), o.run.requests.end(), [](const auto& r) { return r.attempts > 1; }));
    }
  }
  std::printf("    %d runs, %zu requests tried again\n", runs, retried);
  for (const fault::KindInfo& k : fault::catalogue()) {
    const bool harmless = k.kind == fault::FaultKind::placebo || k.kind == fault::FaultKind::gpu_correctable;
    EXPECT_EQ(kinds.contains(std::string(name_of(k.kind))), sim::why_not_simulated(k.kind).empty() && !harmless)
        << name_of(k.kind);
  }
  EXPECT_GT(retried, 100u) << "the faults hit nothing";
}

INSTANTIATE_TEST_SUITE_P(Units, SingleFault,
                         ::testing::Values(Recovery{"instance", "restart", 0}, Recovery{"ep_group", "restart", 0}),
                         [](const auto& r) { return std::string(r.param.unit) + "_" + r.param.policy; });

}  // namespace
}  // namespace faultline
