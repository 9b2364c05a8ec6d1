#include "core/fault/catalogue.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace faultline::fault {
namespace {

std::string shipped_text() {
  std::ifstream file(std::string(FAULTLINE_SOURCE_DIR) + "/faults/catalogue.yaml");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string errors_of(std::string_view text, Catalogue* out = nullptr) {
  config::Diagnostics diagnostics;
  const config::Document document(text, "c.yaml", diagnostics);
  Catalogue catalogue;
  if (diagnostics.ok()) config::read(document, document.root(), "", catalogue, diagnostics);
  if (out) *out = catalogue;
  return diagnostics.text();
}

TEST(CatalogueFile, AgreesWithTheKindsOfTheProgram) {
  Catalogue catalogue;
  ASSERT_EQ(errors_of(shipped_text(), &catalogue), "");
  EXPECT_EQ(catalogue.kinds.size(), kFaultKindCount);
  EXPECT_GE(catalogue.rates.size(), 5u);
  for (const RateProfile& r : catalogue.rates) {
    EXPECT_GT(r.rate_per_hour, 1e-8)
        << r.name;  // a part that fails every 10,000 years or every 100 h is a typing error
    EXPECT_LT(r.rate_per_hour, 1e-2) << r.name;
  }
}

TEST(CatalogueFile, RatesComputedFromCountsAreThoseCounts) {
  // Llama 3, arXiv 2407.21783: 16,384 GPUs for 54 days; eight GPUs a node. To the digits that the file states.
  const double gpu_hours = 16384.0 * 54 * 24;
  Catalogue catalogue;
  errors_of(shipped_text(), &catalogue);
  const auto rate = [&](const std::string& name) {
    for (const RateProfile& r : catalogue.rates) {
      if (r.name == name) return r.rate_per_hour;
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  EXPECT_NEAR(rate("llama3-h100-all") / (419 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100") / (246 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100-hang") / (17 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100-nic") / (7 / gpu_hours), 1, 0.01);
  EXPECT_NEAR(rate("llama3-h100-host") / (32 / (gpu_hours / 8)), 1, 0.01);
  EXPECT_NEAR(rate("hpn-link") / (0.00057 / 730.5), 1, 0.01);  // a mean month has 730.5 h
  EXPECT_NEAR(rate("hpn-tor") / (0.00051 / 730.5), 1, 0.01);
  EXPECT_NEAR(rate("azure-switch") / (0.02 / (3 * 730.5)), 1, 0.01);
  EXPECT_NEAR(rate("delta-h100-hbm") * 88768, 1, 0.01);
  EXPECT_NEAR(rate("rsc1-a100-small") * 47.7 * 24 * 8, 1, 0.01);
}

TEST(CatalogueFile, AMissingKindAWrongClassAndARateOfTheWrongPartAreErrors) {
  std::string text = shipped_text();
  const auto first = text.find("  - kind: placebo");
  const auto end = text.find("# evidence:");
  const std::string without = text.substr(0, first) + text.substr(end);
  EXPECT_NE(errors_of(without).find("kind placebo is missing"), std::string::npos);
  std::string wrong = text;
  wrong.replace(wrong.find("safety: S0"), 10, "safety: S2");
  EXPECT_NE(errors_of(wrong).find("gpu.failstop is of class S0"), std::string::npos);
  wrong = text;
  wrong.replace(wrong.find("per: nic"), 8, "per: gpu");
  EXPECT_NE(errors_of(wrong).find("nic.down does not target a gpu"), std::string::npos);
  wrong = text;
  wrong.replace(wrong.find("targets: [rack, power]"), 22, "targets: [rack]");
  EXPECT_NE(errors_of(wrong).find("not what rack.power targets"), std::string::npos);
}

}  // namespace
}  // namespace faultline::fault
