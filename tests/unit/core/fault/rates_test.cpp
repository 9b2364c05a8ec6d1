#include "core/fault/rates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/stats/sample.h"

namespace faultline::fault {
namespace {

std::vector<RateProfile> shipped() {
  std::vector<RateProfile> out;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(FAULTLINE_SOURCE_DIR) + "/faults/profiles")) {
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    out.push_back(load_profile(text.str(), entry.path().filename()));
    EXPECT_EQ(out.back().name + ".yaml", entry.path().filename());
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

RateProfile named(const std::string& name) {
  for (RateProfile& p : shipped()) {
    if (p.name == name) return p;
  }
  ADD_FAILURE() << name;
  return {};
}

std::string errors_of(const std::string& sources) {
  try {
    load_profile("name: p\nborrowed_from: here\nsources:\n" + sources, "p.yaml");
  } catch (const config::ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(RateProfiles, ShippedOnesAreReadNameTheirFleetAndTheirSources) {
  const auto all = shipped();
  EXPECT_GE(all.size(), 10u);
  for (const RateProfile& p : all) {
    EXPECT_FALSE(p.borrowed_from.empty()) << p.name;
    for (const RateSource& s : p.sources) {
      EXPECT_GT(s.source.size(), 20u) << p.name << "/" << s.id;
      // A part that fails every 10,000 years or every 100 h is a typing error.
      EXPECT_GT(s.rate_per_hour, 1e-8) << p.name << "/" << s.id;
      EXPECT_LT(s.rate_per_hour, 1e-2) << p.name << "/" << s.id;
    }
  }
}

// The report's own counts: all rows but the ones that its profile leaves out add up to all 419 of its interruptions.
TEST(RateProfiles, RowsOfTheLlamaProfileAddUpToItsTotal) {
  double events = 0;
  for (const RateSource& s : named("llama3-h100").sources) events += *s.events;
  EXPECT_EQ(events, 418);  // of 419; six thermal rows are taken as five
  const double gpu_hours = 16384.0 * 54 * 24;
  EXPECT_NEAR(rate_per_hour(named("llama3-h100-all"), TargetKind::gpu) / (419 / gpu_hours), 1, 0.01);
}

// Each number from its publication, independent of what the file says it was computed from; to the digits of the file.
TEST(RateProfiles, RatesComputedFromCountsAreThoseCounts) {
  const auto rate = [](const std::string& profile, const std::string& id) {
    for (const RateSource& s : named(profile).sources) {
      if (s.id == id) return s.rate_per_hour;
    }
    ADD_FAILURE() << profile << " has no " << id;
    return 0.0;
  };
  // Llama 3, arXiv 2407.21783, table 5: 16,384 GPUs for 54 days; eight GPUs a node, a NIC and a cable a GPU.
  const double gpu_hours = 16384.0 * 54 * 24;
  EXPECT_NEAR(rate("llama3-h100-all", named("llama3-h100-all").sources.front().id) / (419 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "gpu") / ((148 + 19 + 5) / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "hbm") / (72 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "system-processor") / (17 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "sdc") / (6 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "nic") / (7 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "fabric") / (35 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "host") / ((32 + 3 + 3 + 2 + 2 + 2 + 2) / (gpu_hours / 8)), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100", "software") / ((54 + 2 + 7) / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("hpn-fabric", "access-link") / (0.00057 / 730.5), 1, 0.01);  // a mean month has 730.5 h
  EXPECT_NEAR(rate("hpn-fabric", "tor") / (0.00051 / 730.5), 1, 0.01);
  EXPECT_NEAR(rate("azure-switch", "switch") / (0.02 / (3 * 730.5)), 1, 0.01);
  EXPECT_NEAR(rate("delta-h100-hbm", "hbm") * 88768, 1, 0.01);
  EXPECT_NEAR(rate("rsc1-a100-small", "job") * 47.7 * 24 * 8, 1, 0.01);
  EXPECT_NEAR(rate("rsc1-a100", "infra") / (6.5 / (1000 * 24)), 1, 0.01);
}

// What a profile says it counted is what its rate is made of: the interval of a rank rests on the count.
TEST(RateProfiles, CountOverExposureIsTheRateWhereBothAreGiven) {
  int checked = 0;
  for (const RateProfile& p : shipped()) {
    for (const RateSource& s : p.sources) {
      if (!s.events || !s.exposure_hours) continue;
      ++checked;
      EXPECT_NEAR(s.rate_per_hour / (*s.events / *s.exposure_hours), 1, 0.01) << p.name << "/" << s.id;
    }
  }
  EXPECT_GE(checked, 10);
}

TEST(RateProfiles, ProfilesThatCountTheSameCauseCannotBeAdded) {
  EXPECT_EQ(overlaps({named("rsc1-a100-small"), named("azure-switch")}),
            std::vector<std::string>{"rsc1-a100-small/job and azure-switch/switch both include switch"});
  EXPECT_TRUE(overlaps({named("delta-h100-hbm"), named("hpn-fabric")}).empty());
  EXPECT_EQ(overlaps({named("hpn-fabric"), named("azure-switch")}).size(), 1u);
}

TEST(RateProfiles, WhatAProfileDoesNotCoverIsKnown) {
  const auto missing = not_covered(named("hpn-fabric"));
  EXPECT_EQ(missing.size(), kCoversCount - 2);
  EXPECT_TRUE(not_covered(named("llama3-h100-all")) == std::vector<Covers>{Covers::gpu_slow});
}

TEST(RateProfiles, MistakesAreNamedAtTheirPlace) {
  const std::string good =
      "  - {id: a, kind: nic.down, per: nic, rate_per_hour: 1e-6, includes: [nic], evidence: read, source: x}\n";
  EXPECT_EQ(errors_of(good), "");
  EXPECT_EQ(errors_of(good + "  - {id: b, kind: gpu.failstop, per: gpu, rate_per_hour: 1e-5, includes: [gpu, nic], "
                             "evidence: read, source: x}\n"),
            "p.yaml:4:3: error: 'a' and 'b' both include nic: their rates cannot be added\n"
            "  a fleet-wide count already contains its NICs and switches\n");
  EXPECT_EQ(
      errors_of(
          "  - {id: a, kind: nic.down, per: gpu, rate_per_hour: 1e-6, includes: [nic], evidence: read, source: x}\n"),
      "p.yaml:4:34: error: nic.down does not target a gpu\n");
  EXPECT_EQ(errors_of("  - {id: a, kind: nic.down, per: nic, rate_per_hour: 1e-6, includes: [nic], events: 7, "
                      "exposure_hours: 21.23e6, evidence: read, source: x}\n"),
            "p.yaml:4:54: error: events / exposure_hours is 3.3e-07, not 1e-06\n");
  EXPECT_EQ(errors_of("  - {id: a, kind: gpu.slow, per: gpu, rate_per_hour: 1e-6, includes: [gpu_slow], evidence: "
                      "read, source: x}\n"),
            "p.yaml:4:19: error: gpu.slow needs 'factor'\n");
  EXPECT_EQ(errors_of("  - {id: a, kind: link.flap, per: cable, rate_per_hour: 1e-6, includes: [link], evidence: read, "
                      "source: x}\n"),
            "p.yaml:4:19: error: link.flap has no place in a rate profile\n  write it as a fault of the experiment\n");
}

// The laws: their means are what they are told, the tail of the lemons is that of a Pareto law.
TEST(FailureLaws, LivesRepairsAndFrailtyKeepTheirMeans) {
  stats::Moments exponential, weibull, repair, lemon;
  constexpr int kN = 200'000;
  int far = 0;
  const Lemons lemons{.share = 0.02, .factor = 20, .tail = 3};
  for (std::uint64_t n = 0; n < kN; ++n) {
    Random r(7, "laws", n);
    exponential.add(draw_life_s(r, {}, 5));
    weibull.add(draw_life_s(r, {GapDistribution::weibull, 0.7}, 5));
    repair.add(seconds(draw_repair(r, {duration_from_seconds(3600), 1.0})));
    const double f = frailty(lemons, 7, "gpu", n);
    lemon.add(f);
    far += f > 40 / (1 - 0.02 + 0.02 * 20 * 1.5) ? 1 : 0;  // twice the least lemon
  }
  EXPECT_NEAR(exponential.mean(), 5, exponential.half_width(3.3));
  EXPECT_NEAR(exponential.cv(), 1, 0.01);
  EXPECT_NEAR(weibull.mean(), 5, weibull.half_width(3.3));
  EXPECT_NEAR(weibull.cv(), 1.462, 0.03);  // sqrt(G(1 + 2/k) / G(1 + 1/k)^2 - 1) for k = 0.7
  EXPECT_NEAR(repair.mean(), 3600, repair.half_width(3.3));
  EXPECT_NEAR(lemon.mean(), 1, lemon.half_width(3.3));
  const double expected = kN * lemons.share / 8;  // P(X > 2 least) = 2^-tail
  EXPECT_NEAR(far, expected, 3.3 * std::sqrt(expected));
  EXPECT_EQ(frailty(lemons, 7, "gpu", 5), frailty(lemons, 7, "gpu", 5));
}

}  // namespace
}  // namespace faultline::fault
