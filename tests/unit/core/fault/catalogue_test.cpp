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
}

TEST(CatalogueFile, AMissingKindAWrongClassAndAWrongTargetAreErrors) {
  std::string text = shipped_text();
  const auto first = text.find("  - kind: placebo");
  const std::string without = text.substr(0, first);
  EXPECT_NE(errors_of(without).find("kind placebo is missing"), std::string::npos);
  std::string wrong = text;
  wrong.replace(wrong.find("safety: S0"), 10, "safety: S2");
  EXPECT_NE(errors_of(wrong).find("gpu.failstop is of class S0"), std::string::npos);
  wrong = text;
  wrong.replace(wrong.find("targets: [rack, power]"), 22, "targets: [rack]");
  EXPECT_NE(errors_of(wrong).find("not what rack.power targets"), std::string::npos);
}

}  // namespace
}  // namespace faultline::fault
