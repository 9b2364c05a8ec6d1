#include "core/model/step_samples.h"

#include <gtest/gtest.h>

#include "core/model/roofline.h"
#include "tests/unit/core/model/model_files.h"

namespace faultline::model {
namespace {

/// Expert exchange is extrapolated, and attention over more than 1,000 cached tokens.
class PartlyMeasured final : public CostModel {
 public:
  explicit PartlyMeasured(const DeviceSpec& d) : base_(d) {}
  Price price(const Op& op) const override { return base_.price(op); }
  ContextPrice context_price(const ModelShape& s, const ParallelPlan& p, std::int64_t n) const override {
    ContextPrice c = base_.context_price(s, p, n);
    c.context_measured = 1000;
    return c;
  }
  ExchangePrice exchange_price(const Op& op) const override {
    ExchangePrice e = base_.exchange_price(op);
    e.extrapolated = true;
    e.why = "wider than measured";
    return e;
  }
  FixedTime host_step(Launch l) const override { return base_.host_step(l); }
  FixedTime host_launch(Launch l, std::int64_t n) const override { return base_.host_launch(l, n); }

 private:
  RooflineCost base_;
};

constexpr int kRanks = 8;

const StepPricer& pricer() {
  static const DeviceSpec device = shipped_device("mi300x");
  static const StepPricer p(shipped_model("deepseek-v3"), device, {.dp = kRanks, .ep = kRanks},
                            std::make_shared<PartlyMeasured>(device));
  return p;
}

std::vector<RankLoad> loads(std::int32_t sequences, std::int64_t context) {
  return std::vector<RankLoad>(kRanks, {sequences, sequences * context});
}

TEST(StepSamples, SharesOfOneKindOfStepAreThoseOfItsBreakdown) {
  StepSamples samples(pricer());
  for (int i = 0; i < 10; ++i) samples.add({}, loads(32, 2000), 5'000'000);
  OpShares shares;
  samples.append_to(shares);
  EXPECT_DOUBLE_EQ(shares.total, 5e7);
  const Breakdown step = pricer().breakdown({}, loads(32, 2000), {});
  double sum = nanoseconds(step.host);
  for (const OpTime& op : step.ops) sum += nanoseconds(op.time);
  for (const OpTime& op : step.ops) {
    if (op.time.v == 0) continue;
    const OpShare& share = shares.ops.at(std::string(op.op.name));
    EXPECT_NEAR(share.time / shares.total, nanoseconds(op.time) / sum, 1e-12) << op.op.name;
    EXPECT_EQ(share.extrapolated > 0, op.extrapolated) << op.op.name;
  }
  EXPECT_EQ(shares.ops.at("dispatch").why, "wider than measured");
  EXPECT_EQ(shares.ops.at("mla_decode").why, "contexts longer than any measured");
}

TEST(StepSamples, OnlyTheStepsOutsideTheMeasuredRangeCount) {
  StepSamples samples(pricer());
  samples.add({}, loads(4, 500), 1'000'000);
  samples.add({}, loads(64, 4000), 1'000'000);
  OpShares both, apart;
  samples.append_to(both);
  StepSamples outside(pricer());
  outside.add({}, loads(64, 4000), 1'000'000);
  outside.append_to(apart);
  const OpShare& attention = both.ops.at("mla_decode");
  EXPECT_LT(attention.extrapolated, attention.time);
  EXPECT_DOUBLE_EQ(attention.extrapolated, apart.ops.at("mla_decode").time);
}

TEST(StepSamples, StepsOfMixedSizesAreWithinTheStatedError) {
  // Batches of 40 to 60 sequences fall into two cells; each is represented by its longest operation. The attention's
  // share changes by less than the batch, which varies by a factor of two in a cell at most: so does the share.
  StepSamples samples(pricer());
  double exact = 0, total = 0;
  for (std::int32_t n = 8; n <= 120; ++n) {
    const Breakdown step = pricer().breakdown({}, loads(n, 2000), {});
    const auto ns = static_cast<std::int64_t>(nanoseconds(step.total));
    samples.add({}, loads(n, 2000), ns);
    double sum = nanoseconds(step.host), attention = 0;
    for (const OpTime& op : step.ops) {
      sum += nanoseconds(op.time);
      if (op.op.name == "mla_decode") attention += nanoseconds(op.time);
    }
    exact += attention / sum * static_cast<double>(ns);
    total += static_cast<double>(ns);
  }
  OpShares shares;
  samples.append_to(shares);
  const double share = shares.ops.at("mla_decode").time / shares.total;
  EXPECT_GT(share, exact / total / 2);
  EXPECT_LT(share, exact / total * 2);
}

TEST(StepSamples, PrefillAndEmptySumsAreHandled) {
  OpShares none;
  StepSamples(pricer()).append_to(none);
  EXPECT_EQ(none.total, 0);
  EXPECT_TRUE(none.ops.empty());
  StepSamples samples(pricer(), 8);
  samples.add({{0, 2048, 0}}, {}, 1000);
  OpShares shares;
  samples.append_to(shares);
  EXPECT_DOUBLE_EQ(shares.total, 8000);
  EXPECT_GT(shares.ops.count("mla_prefill"), 0U);
}

}  // namespace
}  // namespace faultline::model
