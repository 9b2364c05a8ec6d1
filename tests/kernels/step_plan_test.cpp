// The operations that the model runs against those that the simulator prices: the same names, in the same order, as
// often, with the same shapes. What differs on purpose is listed here with its reason; anything else is drift.
#include "core/model/step_plan.h"

#include <map>

#include "kernels/model/model.h"
#include "support.h"

namespace faultline::kernels {
namespace {

using core_op = faultline::model::Op;
namespace plan = faultline::model;
using model::Config;
using model::Limits;
using model::Model;
using model::OpRecord;
using model::SequenceInput;

/// The simulator's description of the same model: DeepSeek-V3's shape in small.
plan::ModelShape shape_of(const Config& c) {
  plan::ModelShape s;
  s.name = "tiny";
  s.hidden = c.hidden, s.layers = c.layers, s.dense_layers = c.dense_layers, s.vocab = c.vocabulary;
  s.attention = {.kind = plan::AttentionKind::mla,
                 .heads = c.heads,
                 .q_lora = c.q_lora,
                 .kv_lora = model::kLatent,
                 .rope_dim = model::kRope,
                 .nope_dim = model::kNope,
                 .v_dim = model::kValue};
  s.dense_inter = c.dense_inter, s.expert_inter = c.expert_inter;
  s.experts = c.experts, s.experts_per_token = c.top_k, s.shared_experts = c.shared_experts;
  s.expert_groups = c.groups, s.groups_per_token = c.top_groups;
  s.weight_precision = plan::Precision::fp8;
  return s;
}

/// One operation of either side; runs of one name and shape are counted.
struct Row {
  std::string name, kind, precision;
  std::int64_t m = 0, n = 0, k = 0, batch = 1, groups = 0, sequences = 0, tokens = 0, context = 0, heads = 0;
  std::int64_t bytes = 0;  // of matrices and attention, 0 where the number of values is not recorded
  std::int64_t repeats = 0;
  auto shape() const {
    return std::tie(name, kind, precision, m, n, k, batch, groups, sequences, tokens, context, heads, bytes);
  }
};
std::ostream& operator<<(std::ostream& out, const Row& r) {
  return out << r.name << " " << r.kind << " " << r.precision << " m=" << r.m << " n=" << r.n << " k=" << r.k
             << " batch=" << r.batch << " groups=" << r.groups << " sequences=" << r.sequences << " tokens=" << r.tokens
             << " context=" << r.context << " heads=" << r.heads << " bytes=" << r.bytes << " x" << r.repeats;
}

std::int64_t value_bytes(const std::string& precision) { return precision == "fp8" ? 1 : 2; }

/// Bytes from a record's own numbers, written down apart from the plan's.
std::int64_t bytes_of(const OpRecord& r) {
  const std::int64_t b = value_bytes(r.precision);
  if (r.kind == "gemm") return r.batch * (r.m * r.k * b + r.k * r.n * b + r.m * r.n * 2);
  if (r.kind == "decode_attention")  // the latent lines once, queries of 576 and outputs of 512 values in bf16
    return r.context * 576 * b + r.sequences * r.heads * (576 + 512) * 2;
  return 0;
}

std::vector<Row> ran(const std::vector<OpRecord>& log) {
  std::vector<Row> rows;
  for (const OpRecord& r : log) {
    // Not in the plan: the input embedding's rows, less than a thousandth of a step; and the copy that puts rotated and
    // plain parts of keys side by side, which the plan counts as a part of rope_cache.
    if (r.name == "embed" || r.name == "rope_concat") continue;
    Row row{r.name,   r.kind,      r.precision, r.m,       r.n,     r.k,        r.batch,
            r.groups, r.sequences, r.tokens,    r.context, r.heads, bytes_of(r)};
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const Row& x) { return x.shape() == row.shape(); });
    if (same == rows.end()) rows.push_back(row), rows.back().repeats = 1;
    else ++same->repeats;
  }
  return rows;
}

std::vector<Row> planned(const plan::ModelShape& s, const plan::RankBatch& batch) {
  plan::ParallelPlan p;
  p.kv_precision = plan::Precision::fp8;
  p.fused_shared_expert = true;
  plan::DeviceSpec device;
  device.gpus_per_node = 1;
  const std::int64_t tokens = batch.tokens();
  std::vector<Row> rows;
  for (const core_op& op : plan::step_plan(s, p, device, batch, {tokens, tokens})) {
    // The transfer to the decode side belongs to the transport, not to the model.
    if (op.kind == plan::OpKind::kv_push) continue;
    // Gate and up, activation and down are one fused launch.
    if (op.name == "mlp_activation" || op.name == "mlp_down" || op.name == "experts_activation" ||
        op.name == "experts_down")
      continue;
    Row row;
    row.name = std::string(op.name);
    row.kind = std::string(enum_names(static_cast<const plan::OpKind*>(nullptr))[static_cast<std::size_t>(op.kind)]);
    row.precision = op.precision == plan::Precision::fp8 ? "fp8" : "bf16";
    row.m = op.m, row.n = op.n, row.k = op.k, row.batch = op.batch, row.groups = op.groups;
    row.sequences = op.sequences, row.tokens = op.tokens, row.context = op.context, row.heads = op.heads;
    row.bytes = op.kind == plan::OpKind::gemm || op.kind == plan::OpKind::decode_attention ? op.bytes.v : 0;
    row.repeats = op.repeats;
    if (op.kind == plan::OpKind::gemm) row.tokens = 0;            // m says it
    if (op.kind == plan::OpKind::elementwise) row.m = row.n = 0;  // `tokens` rows of a width that no record holds
    if (row.name == "experts_up") row.name = "experts";
    if (row.name == "mlp_up")  // the dense MLP runs as a fused MoE of one expert
      row.name = "mlp", row.kind = "grouped_gemm", row.groups = 1, row.tokens = tokens, row.bytes = 0;
    if (!rows.empty() && row.name == "mla_prefill" && rows.back().name == row.name) {
      // One launch for all sequences of a step.
      rows.back().tokens += row.tokens, rows.back().sequences += row.sequences;
      continue;
    }
    rows.push_back(row);
  }
  return rows;
}

void expect_same(const std::vector<Row>& model, const std::vector<Row>& plan) {
  std::map<std::string, std::size_t> place;
  for (const Row& row : plan) place.emplace(row.name, place.size());
  std::size_t before = 0;
  for (const Row& row : model) {
    const auto at = std::find_if(plan.begin(), plan.end(), [&](const Row& x) { return x.shape() == row.shape(); });
    if (at == plan.end()) {
      const auto name = std::find_if(plan.begin(), plan.end(), [&](const Row& x) { return x.name == row.name; });
      ADD_FAILURE() << "the model runs        " << row << "\nthe plan has "
                    << (name == plan.end() ? std::string("no such operation") : testing::PrintToString(*name));
      continue;
    }
    EXPECT_EQ(row.repeats, at->repeats) << row;
    EXPECT_GE(place[row.name], before) << row.name << " runs earlier than the plan says";
    before = place[row.name];
  }
  for (const Row& row : plan) {
    EXPECT_TRUE(std::any_of(model.begin(), model.end(), [&](const Row& x) { return x.name == row.name; }))
        << "only in the plan: " << row;
  }
}

class StepPlanOfTheModel : public testing::Test {
 protected:
  StepPlanOfTheModel() {
    limits_.tokens = 64, limits_.sequences = 8, limits_.positions = 256, limits_.pages = 16;
    limits_.cache = model::CacheFormat::fp8;
    model_ = std::make_unique<Model>(*device_, config_, *model::seeded_weights(7), limits_);
  }
  std::vector<OpRecord> log(const std::vector<SequenceInput>& sequences) {
    std::vector<OpRecord> out;
    model_->step(sequences, &out);
    return out;
  }
  std::unique_ptr<Device> device_ = make_cpu_device();
  Config config_;  // 4 layers, 16 experts, hidden 256
  Limits limits_;
  std::unique_ptr<Model> model_;
};

TEST_F(StepPlanOfTheModel, APrefillRunsThePlannedOperations) {
  const auto log = this->log({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0, {0}}, {{9, 8, 7, 6}, 0, {1}}});
  plan::RankBatch batch;
  batch.chunks = {{9, 0}, {4, 0}};
  expect_same(ran(log), planned(shape_of(config_), batch));
}

TEST_F(StepPlanOfTheModel, ADecodeStepRunsThePlannedOperations) {
  log({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0, {0}}, {{9, 8, 7, 6}, 0, {1}}});
  const auto log = this->log({{{3}, 9, {0}}, {{5}, 4, {1}}});
  plan::RankBatch batch;
  batch.sequences = 2;
  batch.context_tokens = 10 + 5;  // the new token of each is in the cache when it attends
  expect_same(ran(log), planned(shape_of(config_), batch));
}

TEST_F(StepPlanOfTheModel, AnotherShapeThanTheModelsIsNoticed) {
  const auto log = this->log({{{1, 2, 3}, 0, {0}}});
  plan::RankBatch batch;
  batch.chunks = {{3, 0}};
  auto other = shape_of(config_);
  other.attention.q_lora += 128;
  const auto rows = planned(other, batch), model = ran(log);
  const auto missing = std::count_if(model.begin(), model.end(), [&](const Row& x) {
    return std::none_of(rows.begin(), rows.end(), [&](const Row& y) { return x.shape() == y.shape(); });
  });
  EXPECT_EQ(missing, 2) << "qkv_down and q_up";
}

}  // namespace
}  // namespace faultline::kernels
