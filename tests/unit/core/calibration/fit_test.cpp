#include "core/calibration/fit/fit.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "core/base/random.h"
#include "core/calibration/evaluate.h"
#include "core/calibration/fit/least_squares.h"
#include "core/calibration/importers.h"
#include "tests/unit/core/calibration/data.h"

namespace faultline::calibration {
namespace {

using ::testing::HasSubstr;

const FittedModel& model_of(const Calibration& c, const std::string& name) {
  for (const FittedModel& m : c.models)
    if (m.name == name) return m;
  throw std::runtime_error("no model " + name);
}

std::vector<double> priors(const Model& model) {
  std::vector<double> p;
  for (const ParameterInfo& info : model.parameters) p.push_back(info.prior);
  return p;
}

// Transfers made by the model itself at other parameters than its priors, with 5% noise and one row in twenty off by
// 2x.
std::vector<Case> transfers(std::uint64_t seed) {
  const std::vector<double> truth{9.0, 8.0, 8.0, 0.2, 40.0, 1.5};
  std::vector<Case> cases;
  for (int i = 0; i < 200; ++i) {
    Random random(seed, "noise", static_cast<std::uint64_t>(i));
    Case c;
    c.model = "transfer_CX7_write";
    c.group = c.family = i % 2 == 0 ? "a" : "b";
    c.bucket = "all";
    const TransferShape shape{.bytes = std::exp2(10 + i % 16), .batch = i % 2 == 0 ? 1.0 : 128.0};
    c.at = {10.0 + i % 16, i % 2 == 0 ? 0.0 : 14.0, 0};
    c.shape = shape;
    c.us = transfer_us(truth, shape) * std::exp(0.05 * random.normal()) * (random.chance(0.05) ? 2 : 1);
    c.origin.mark = {"made", i + 1, 1};
    c.origin.hardware = "MI300X";
    cases.push_back(c);
  }
  return cases;
}

TEST(Fit, RecoversParametersDespiteOutliers) {
  const std::uint64_t seed = 17;
  SCOPED_TRACE(::testing::Message() << "seed=" << seed);
  const Calibration c = fit(transfers(seed), {.validate = false});
  const FittedModel& m = model_of(c, "transfer_CX7_write");
  // 200 rows at 5% noise determine a parameter to about 1%; outliers at soft L1 shift it by a few percent at most.
  EXPECT_NEAR(m.parameters[0].value / 9.0, 1, 0.06);
  EXPECT_NEAR(m.parameters[4].value / 40.0, 1, 0.04);
  EXPECT_LE(m.parameters[4].low, 40.0);
  EXPECT_GE(m.parameters[4].high, 40.0);
}

TEST(Fit, AllReduceRowsOfRcclTestsFitTheCollective) {
  Dataset data;
  for (const double ranks : {4.0, 8.0}) {
    for (double bytes = 1024; bytes < 1 << 28; bytes *= 4) {
      CollectiveSample s{.operation = "all_reduce",
                         .ranks = ranks,
                         .bytes = bytes,
                         .us = collective_us(std::vector<double>{25, 33}, {ranks, bytes}),
                         .origin = {}};
      s.origin.mark = {"made", static_cast<int>(data.collective.size()) + 1, 1};
      s.origin.hardware = "MI300X";
      data.collective.push_back(s);
    }
  }
  data.collective.push_back(
      {.operation = "broadcast", .ranks = 8, .bytes = 1024, .us = 5, .origin = data.collective.back().origin});
  const CaseList list = cases_of(data);
  ASSERT_EQ(list.skipped.size(), 1u);
  EXPECT_EQ(list.skipped[0].first, "collective broadcast: no model");
  const Calibration c = fit(list.cases, {.validate = false});
  const FittedModel& m = model_of(c, "collective");
  // Rows without noise; the priors (sigma 0.4 and 0.3) still pull the values a little.
  EXPECT_NEAR(m.parameters[0].value / 25, 1, 0.03);
  EXPECT_NEAR(m.parameters[1].value / 33, 1, 0.03);
}

TEST(Fit, IsDeterministic) {
  Calibration a = fit(transfers(3), {.validate = false}), b = fit(transfers(3), {.validate = false});
  EXPECT_EQ(print_calibration(a), print_calibration(b));
}

TEST(Fit, ModelsWithoutRowsKeepTheirPriorsAndSaySo) {
  const Calibration c = fit(transfers(1), {.validate = false});
  const FittedModel& m = model_of(c, "collective");
  EXPECT_EQ(m.rows, 0);
  EXPECT_THAT(m.parameters[0].source, HasSubstr("prior"));
  EXPECT_THAT(m.range, HasSubstr("extrapolated"));
}

TEST(Evaluate, RowsOfOtherHardwareAreScoredApart) {
  const Calibration c = fit(transfers(7), {.validate = false});
  CaseList list{.cases = transfers(8), .skipped = {}};
  const std::size_t own = list.cases.size();
  list.cases[0].origin.hardware = "MI325X";  // shares MI300X's dies
  for (std::size_t i = 0; i < 50; ++i) {
    Case other = list.cases[i];
    other.us *= 20;
    other.origin.hardware = "MI308X";
    list.cases.push_back(other);
  }
  for (Case& each : list.cases) each.bucket = "1-16";
  const auto all_of = [](const Evaluation& e, const std::string& check) {
    for (const auto& [model, row] : e.scores)
      if (row.check == check && row.family == "all" && row.bucket == "all") return row;
    return ScoreRow{};
  };
  const Evaluation e = evaluate(c, list);
  EXPECT_EQ(all_of(e, "known families").count, static_cast<std::int64_t>(own));
  EXPECT_LT(all_of(e, "known families").median, 0.1);
  EXPECT_EQ(all_of(e, "unseen families").count, 0);
  EXPECT_EQ(all_of(e, "other hardware: MI308X").count, 50);
  EXPECT_GT(all_of(e, "other hardware: MI308X").median, 1);
  EXPECT_LT(e.worst.at(0).measured_us, 5 * e.worst.at(0).predicted_us) << "the worst rows are of the own hardware";
}

TEST(CalibrationFile, ReadsBackToTheSameText) {
  Calibration c = fit(transfers(5), {.validate = false});
  const std::string text = print_calibration(c);
  config::Diagnostics diagnostics;
  Calibration back = read_calibration(text, "c.yaml", diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  EXPECT_EQ(print_calibration(back), text);
}

TEST(CalibrationFile, MissingParametersAndUnknownModelsAreErrorsWithTheirPlace) {
  config::Diagnostics diagnostics;
  read_calibration("name: x\nhardware: MI300X\nmodels:\n  - name: gem\n    parameters: []\n", "c.yaml", diagnostics);
  EXPECT_THAT(diagnostics.text(), HasSubstr("c.yaml:4:11: error: unknown model 'gem'"));
  EXPECT_THAT(diagnostics.text(), HasSubstr("did you mean 'gemm'?"));
  config::Diagnostics missing;
  read_calibration(
      "name: x\nhardware: MI300X\nmodels:\n  - name: stream\n    parameters: [{name: kernel, value: 3, low: 2, high: "
      "4}]\n",
      "c.yaml", missing);
  EXPECT_THAT(missing.text(), HasSubstr("c.yaml:5:17: error: model stream needs exactly these parameters"));
}

TEST(Predictor, CorrectsNearItsDataAndFallsBackToTheMechanismFarFromIt) {
  const Model& model = *find_model("transfer_CX7_write");
  std::vector<Case> cases = transfers(2);
  for (Case& c : cases) c.us = 1.3 * model.us(priors(model), c.shape);
  std::vector<const Case*> pointers;
  for (const Case& c : cases) pointers.push_back(&c);
  Predictor p(model, priors(model));
  p.learn(pointers);
  const auto near = p.predict(cases[0]);
  EXPECT_FALSE(near.extrapolated);
  // The correction is shrunk: between nothing and the whole 1.3.
  EXPECT_GT(near.us, 1.15 * model.us(priors(model), cases[0].shape));
  EXPECT_LE(near.us, 1.3 * model.us(priors(model), cases[0].shape) * (1 + 1e-6));
  const auto far = p.predict("a", {60, 0, 0}, cases[0].shape);
  EXPECT_TRUE(far.extrapolated);
  EXPECT_DOUBLE_EQ(far.us, model.us(priors(model), cases[0].shape));
}

TEST(Models, AreMonotoneInSize) {
  const auto grows = [](const char* name, auto shape_of) {
    const Model& model = *find_model(name);
    double last = 0;
    for (int i = 0; i < 60; ++i) {
      const double us = model.us(priors(model), shape_of(std::floor(std::exp2(i / 4.0))));
      EXPECT_GE(us, last * (1 - 1e-12)) << name << " at " << i;
      last = us;
    }
  };
  grows("gemm", [](double m) { return GemmShape{.m = m, .n = 4096, .k = 7168}; });
  grows("moe", [](double t) {
    return MoeShape{.pairs = 8 * t, .touched = std::min(32.0, 8 * t), .hidden = 7168, .inter = 2048};
  });
  grows("exchange_intra", [](double t) { return ExchangeShape{.tokens = t}; });
  grows("exchange_inter", [](double t) { return ExchangeShape{.ranks = 16, .tokens = t}; });
  grows("transfer_Thor2_write", [](double b) { return TransferShape{.bytes = b, .batch = 8}; });
  grows("transfer_Thor2_write", [](double n) { return TransferShape{.bytes = 1024, .batch = n}; });
  grows("mla_decode", [](double c) { return MlaDecodeShape{.batch = 64, .context = c}; });
}

TEST(Models, FewerComputeUnitsAreSlowerAndSplittingHelpsSmallBatches) {
  const Model& model = *find_model("gemm");
  GemmShape large{.m = 8192, .n = 7168, .k = 7168};
  const double whole = model.us(priors(model), large);
  large.gpu.compute_units = 80;
  EXPECT_GT(model.us(priors(model), large), 3 * whole);
  GemmShape small{.m = 16, .n = 512, .k = 7168, .split_k = false};
  const double unsplit = model.us(priors(model), small);
  small.split_k = true;
  EXPECT_LT(model.us(priors(model), small), unsplit);
}

Dataset shared_tables(std::string& missing) {
  Dataset data;
  config::Diagnostics diagnostics;
  for (const char* file : {"aiter_gemm_fp8_blockscale_gfx942_304cu.csv", "aiter_gemm_other_precisions_gfx942_304cu.csv",
                           "aiter_fmoe_gfx942_304cu.csv", "mori_ep_tuning_mi300x.csv", "mori_ep_readme_tables.csv",
                           "mori_io_rdma_bandwidth.csv", "aiter_mla_decode_points.csv"}) {
    const std::string path = testing::data_folder() + "/mi300x/" + file;
    if (!std::filesystem::exists(path)) {
      missing = path;
      return data;
    }
    const std::string text = testing::read_unpacked(path);
    std::istringstream in(text);
    import_measurements(detect_format(text), in, path, {}, data, diagnostics);
  }
  diagnostics.throw_if_any();
  return data;
}

double median_of(const FittedModel& m, const std::string& check, const std::string& bucket) {
  for (const ScoreRow& s : m.scores)
    if (s.check == check && s.family == "all" && s.bucket == bucket) return s.median;
  return -1;
}

TEST(SharedData, WithheldSizesAndFamiliesArePredictedWithinTheGoals) {
  std::string missing;
  const Dataset data = shared_tables(missing);
  if (!missing.empty()) GTEST_SKIP() << "shared data absent: " << missing;
  std::vector<Case> cases = cases_of(data).cases;
  std::erase_if(cases, [](const Case& c) { return c.origin.hardware == "MI308X" || c.origin.hardware == "MI355X"; });
  const Calibration c = fit(cases, {});
  const FittedModel& gemm = model_of(c, "gemm");
  int buckets = 0;
  for (const ScoreRow& s : gemm.scores) {
    if (s.family != "all" || s.bucket == "all") continue;
    EXPECT_LE(s.median, s.check == "families" ? 0.25 : 0.12) << s.check << " " << s.bucket;
    if (s.check != "fitted") ++buckets;
  }
  EXPECT_GE(buckets, 12);
  EXPECT_LE(median_of(model_of(c, "moe"), "points", "all"), 0.15);
  EXPECT_LE(median_of(model_of(c, "moe"), "families", "all"), 0.30);
  EXPECT_LE(median_of(model_of(c, "exchange_intra"), "points", "all"), 0.15);
  for (const char* name : {"transfer_CX7_write", "transfer_CX7_read", "transfer_Thor2_write", "transfer_Thor2_read"})
    EXPECT_LE(median_of(model_of(c, name), "points", "all"), 0.10) << name;
  // The newest README rows that are not stale, each.
  const Predictor inter(model_of(c, "exchange_inter"));
  int rows = 0;
  for (const Case& row : cases) {
    if (row.model != "exchange_inter" || row.weight < 1) continue;
    EXPECT_NEAR(std::log(inter.predict(row).us / row.us), 0, 0.15) << row.family;
    ++rows;
  }
  EXPECT_EQ(rows, 4);
}

}  // namespace
}  // namespace faultline::calibration
