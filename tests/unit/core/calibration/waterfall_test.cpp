#include "core/calibration/waterfall.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "core/calibration/importers.h"
#include "tests/unit/core/calibration/data.h"

namespace faultline::calibration {
namespace {

std::string source(const std::string& path) {
  std::ifstream in(std::string(FAULTLINE_SOURCE_DIR) + "/" + path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

StepExperiments experiments() {
  config::Diagnostics diagnostics;
  const config::Document document(source("experiments/calibration/step_decode.yaml"), "step_decode.yaml", diagnostics);
  StepExperiments read;
  config::read(document, document.root(), "", read, diagnostics);
  diagnostics.throw_if_any();
  return read;
}

Calibration calibration() {
  config::Diagnostics diagnostics;
  Calibration c = read_calibration(source("experiments/calibration/mi300x.yaml"), "mi300x.yaml", diagnostics);
  diagnostics.throw_if_any();
  return c;
}

TEST(Waterfall, AddsPredictedAndMeasuredTimesByOperation) {
  const KernelRules rules = builtin_rules();
  ProfileFold fold(rules);
  fold.event(
      {.name = "Cijk_x", .category = "kernel", .start_ns = 0, .duration_ns = 100'000, .stream = "0", .device = "0"});
  fold.event(
      {.name = "Memcpy", .category = "gpu_memcpy", .start_ns = 0, .duration_ns = 5'000, .stream = "0", .device = "0"});
  StepExperiment e;
  e.kernels.push_back({.name = "g", .operation = "gemm", .model = "gemm", .count = 2, .m = 32, .n = 4096, .k = 4096});
  const Waterfall w = waterfall(e, calibration(), fold);
  ASSERT_EQ(w.rows.size(), 2u);
  EXPECT_EQ(w.rows[0].operation, "gemm");
  EXPECT_EQ(w.rows[0].measured_us, 100);
  EXPECT_EQ(w.rows[0].predicted_count, 2);
  EXPECT_GT(w.rows[0].predicted_us, 0);
  EXPECT_EQ(w.rows[1].predicted_us, 0);
  EXPECT_EQ(w.measured_us, 105);
  EXPECT_FALSE(w.holds);
}

TEST(Waterfall, ShapesThatAModelNeedsAreRequired) {
  config::Diagnostics diagnostics;
  const config::Document document(
      "name: x\nsteps:\n  - question: q\n    profile: p\n    kernels:\n      - {name: a, operation: gemm, model: gemm, "
      "m: 3}\n",
      "e.yaml", diagnostics);
  StepExperiments read;
  config::read(document, document.root(), "", read, diagnostics);
  EXPECT_THAT(diagnostics.text(), ::testing::HasSubstr("e.yaml:6:43: error: a gemm needs m, n and k"));
}

TEST(SharedData, BothDecodeStepsAreWithinTenPercentOfTheirSum) {
  const StepExperiments e = experiments();
  ASSERT_EQ(e.steps.size(), 2u);
  for (const StepExperiment& step : e.steps) {
    FAULTLINE_SHARED_FILE(path, "traces/profiles/" + step.profile);
    const KernelRules rules = builtin_rules();
    ProfileFold fold(rules);
    config::Diagnostics diagnostics;
    std::istringstream in(testing::read_unpacked(path));
    import_profile(Format::kineto, in, path, {}, fold, diagnostics);
    const Waterfall w = waterfall(step, calibration(), fold);
    EXPECT_EQ(step.tolerance, 0.1);
    EXPECT_TRUE(w.holds) << step.question << ": " << w.predicted_us << " us against " << w.measured_us;
    // The list must name as many kernels as ran, or a sum could be right for the wrong reason.
    std::int64_t predicted = 0;
    for (const auto& row : w.rows) predicted += row.predicted_count;
    EXPECT_NEAR(static_cast<double>(predicted), static_cast<double>(fold.events()),
                0.25 * static_cast<double>(fold.events()));
  }
}

}  // namespace
}  // namespace faultline::calibration
