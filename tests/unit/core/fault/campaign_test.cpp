#include "core/fault/campaign.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/unit/core/fault/world.h"

namespace faultline::fault {
namespace {

std::optional<std::string> from_source(const std::string& path) {
  std::ifstream file(path.starts_with('/') ? path : std::string(FAULTLINE_SOURCE_DIR) + "/" + path);
  if (!file) return std::nullopt;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<CampaignCase> cases(const std::string& text, std::string* errors = nullptr) {
  config::Diagnostics diagnostics;
  const CampaignSpec spec = read_campaign(text, "faults/campaigns/c.yaml", from_source, diagnostics);
  std::vector<CampaignCase> out;
  if (diagnostics.ok()) out = cases_of(spec, testing::candidates(), {}, diagnostics);
  if (errors) *errors = diagnostics.text();
  else EXPECT_EQ(diagnostics.text(), "");
  return out;
}

TEST(Campaign, ShippedOnesAreRead) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(FAULTLINE_SOURCE_DIR) + "/faults/campaigns")) {
    config::Diagnostics diagnostics;
    const CampaignSpec spec = read_campaign(*from_source(entry.path()), entry.path(), from_source, diagnostics);
    EXPECT_EQ(diagnostics.text(), "") << entry.path();
    EXPECT_EQ(spec.name + ".yaml", entry.path().filename());
    ++files;
  }
  EXPECT_GE(files, 5);
}

TEST(Campaign, SingleFaultsStrikeEveryComponentWithEveryKindAtEveryInstantAndPhase) {
  const auto all = cases("{name: c, kind: single, at: [1 s, 2 s], phases: [decode_step], repair: 3 s}");
  std::set<std::string> names;
  std::size_t expected = 0;
  for (const KindInfo& kind : catalogue()) {
    if (kind.kind == FaultKind::placebo || kind.kind == FaultKind::gpu_correctable) continue;
    std::size_t targets = kind.targets.empty() ? 1 : 0;
    for (const auto& [name, is] : testing::world())
      targets += std::count(kind.targets.begin(), kind.targets.end(), is) > 0 ? 1 : 0;
    expected += 3 * targets;
  }
  EXPECT_EQ(all.size(), expected);
  for (const CampaignCase& c : all) {
    EXPECT_TRUE(names.insert(c.name).second) << c.name;
    ASSERT_EQ(c.faults.size(), 1u);
    config::Diagnostics diagnostics;
    EXPECT_EQ(expand(c.faults, {.run_end = Instant{100'000'000'000}}, testing::candidates(), diagnostics).size(), 1u)
        << c.name;
    EXPECT_EQ(diagnostics.text(), "") << c.name;
  }
  EXPECT_TRUE(names.contains("gpu.failstop node-0.gpu-1 at 2 s"));
  EXPECT_TRUE(names.contains("switch.down leaf-1 after decode_step"));
}

TEST(Campaign, ASecondFaultWaitsForEachPhaseOfTheFirstOnesRecovery) {
  const auto all = cases(R"(
name: c
kind: second
first: {kind: gpu.failstop, target: node-0.gpu-0, at: 1 s}
second: [{kind: node.crash, target: node-1, delay: 5 ms, repair: 9 s}]
)");
  ASSERT_EQ(all.size(), 5u);
  std::set<CausalEvent> phases;
  for (const CampaignCase& c : all) {
    ASSERT_EQ(c.faults.size(), 2u);
    EXPECT_EQ(c.faults[0].id, "first");
    EXPECT_EQ(c.faults[1].after->fault, "first");
    EXPECT_EQ(c.faults[1].after->delay, Duration{5'000'000});
    phases.insert(c.faults[1].after->event);
  }
  EXPECT_EQ(phases.size(), 5u);
  EXPECT_EQ(all[0].name, "node.crash node-1 after recovery_detected");
}

TEST(Campaign, RollingMaintenanceTakesTheNodesInTurn) {
  const auto all = cases("{name: c, kind: rolling, begin: 10 s, drain: 5 s, down: 20 s, pause: 1 s}");
  ASSERT_EQ(all.size(), 1u);
  ASSERT_EQ(all[0].faults.size(), 2u);
  EXPECT_EQ(all[0].faults[0].at, Instant{10'000'000'000});
  EXPECT_EQ(all[0].faults[1].at, Instant{36'000'000'000});
  EXPECT_EQ(all[0].faults[1].target, "node-1");
  const auto pair = cases("{name: c, kind: rolling, drain: 5 s, down: 20 s, at_a_time: 2}");
  EXPECT_EQ(pair[0].faults[1].at, Instant{0});
}

TEST(Campaign, AProfileBecomesOneRandomFaultASource) {
  const auto all = cases("{name: c, kind: profile, profiles: [../profiles/llama3-h100.yaml], acceleration: 1000}");
  ASSERT_EQ(all.size(), 1u);
  ASSERT_EQ(all[0].faults.size(), 8u);
  EXPECT_EQ(all[0].faults[0].id, "llama3-h100/gpu");
  EXPECT_NEAR(*all[0].faults[0].random->rate_per_hour, 8.1e-3, 1e-9);
  // What is written out reads back: a resolved experiment holds its campaign's faults.
  config::Diagnostics diagnostics;
  const auto back = testing::read_faults("faults: " + yaml_of(all[0].faults) + "\n", diagnostics);
  ASSERT_EQ(diagnostics.text(), "");
  ASSERT_EQ(back.size(), 8u);
  for (std::size_t k = 0; k < 8; ++k) {
    EXPECT_EQ(back[k].random, all[0].faults[k].random) << back[k].id;
    EXPECT_EQ(back[k].repair_spread, all[0].faults[k].repair_spread);
    EXPECT_EQ(back[k].contained, all[0].faults[k].contained);
  }
}

TEST(Campaign, MistakesAreNamed) {
  std::string errors;
  cases("{name: c, kind: single, phases: [recovery_ready]}", &errors);
  EXPECT_EQ(errors,
            "faults/campaigns/c.yaml:1:33: error: recovery_ready is a phase of a recovery\n  use a campaign of kind "
            "'second'\n");
  cases("{name: c, kind: single}", &errors);
  EXPECT_EQ(errors,
            "faults/campaigns/c.yaml:1:1: error: no instant\n  one of 'at' and 'phases' says when the faults come\n");
  cases("{name: c, kind: single, at: [1 s], targets: rack-9}", &errors);
  EXPECT_EQ(errors, "faults/campaigns/c.yaml:1:1: error: no component that these kinds strike matches 'rack-9'\n");
  cases("{name: c, kind: profile, profiles: [../profiles/hpn-fabric.yaml, ../profiles/azure-switch.yaml]}", &errors);
  EXPECT_EQ(errors,
            "faults/campaigns/c.yaml:1:36: error: hpn-fabric/tor and azure-switch/switch both include switch: their "
            "rates cannot be added\n");
  cases("{name: c, kind: profile, profiles: [none.yaml]}", &errors);
  EXPECT_EQ(errors,
            "faults/campaigns/c.yaml:1:36: error: profiles: cannot read 'faults/campaigns/none.yaml'\n  paths start at "
            "the campaign's folder\n");
}

}  // namespace
}  // namespace faultline::fault
