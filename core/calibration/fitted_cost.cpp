#include "core/calibration/fitted_cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/assert.h"
#include "core/base/math.h"

namespace faultline::calibration {
namespace {

using model::Op;
using model::OpKind;

constexpr std::string_view kFitted = "fitted";
constexpr std::string_view kPrior = "prior";  // a model without rows: parameters assumed or taken from a publication
// Why a price is extrapolated, for reports.
constexpr std::string_view kNoRows = "no measured row of this operation: assumed parameters";
constexpr std::string_view kNoneNear = "no measured size near it: the mechanism alone";
constexpr std::string_view kManyRows = "more rows than any measured";
constexpr std::string_view kManyPairs = "more expert-token pairs than measured";
constexpr std::string_view kExpertSize = "expert matrices of a size that was not measured";
constexpr std::string_view kMlaVariant = "MLA measured for an FP8 cache, 128 heads a GPU and up to 256 sequences only";
constexpr std::string_view kManyTokens = "more tokens a rank than measured";
constexpr std::string_view kManyNodes = "exchange over more nodes than measured";
// The attention tables end at 64 cached tokens and a peak rate at 32,768 (docs/calibration.md): what lies between rests
// on the mechanism.
constexpr std::int64_t kMlaContext = 64;
constexpr int kGridPerOctave = 4;
constexpr int kGridSize = 17 * kGridPerOctave + 1;  // rows of 1 to 131,072
// Against FP8: the matrix rate for BF16 is half (data sheet); for MLA over a BF16 cache no row was at hand.
constexpr double kMlaBf16Rate = 0.5;

double grid_rows(int i) {
  return std::ceil(stable::exp(static_cast<double>(i) / kGridPerOctave * 0.6931471805599453) - 1e-9);
}

Precision precision_of(model::Precision p) {
  return p == model::Precision::fp8 ? Precision::fp8_block : Precision::bf16;
}
model::FixedTime fixed_from_us(double us) { return model::fixed_from_ns(us * 1e3); }

}  // namespace

FittedCost::FittedCost(std::shared_ptr<const Calibration> calibration, model::ModelShape shape,
                       model::ParallelPlan plan, model::DeviceSpec device)
    : calibration_(std::move(calibration)),
      shape_(std::move(shape)),
      plan_(std::move(plan)),
      device_(std::move(device)) {
  gpu_ = gpu_of(device_.name);
  gpu_.compute_units = static_cast<double>(device_.compute_units);
  gpu_.hbm_tbps = static_cast<double>(device_.memory_bandwidth.v) / 1e12;
  // Fitted on MI300X and MI325X together, with a ratio for the newer part; other calibrations know one part only.
  variant_ = device_.name == "MI325X" ? 1 : 0;
  if (variant_ == 1) gpu_.hbm_tbps = 5.3;  // the ratio holds the whole difference
  for (const FittedModel& m : calibration_->models) predictors_.emplace_back(m);
  for (const Model& m : models()) index_of(m.name);
}

std::size_t FittedCost::index_of(std::string_view name) const {
  for (std::size_t i = 0; i < calibration_->models.size(); ++i)
    if (calibration_->models[i].name == name) return i;
  FAULTLINE_ASSERT(false, "calibration {} has no model {}", calibration_->name, name);
}

const FittedCost::Grid& FittedCost::gemm_grid(const GemmShape& shape, const std::string& group) const {
  const std::string key = fmt::format("{} {} {} {}", shape.n, shape.k, shape.batch, group);
  const auto found = grids_.find(key);
  if (found != grids_.end()) return found->second;
  const Predictor& predictor = predictors_[index_of("gemm")];
  Grid grid;
  GemmShape at = shape;
  double highest = 0;
  for (int i = 0; i < kGridSize; ++i) {
    at.m = grid_rows(i);
    const auto predicted = predictor.predict(group, {log2(at.m), log2(at.n * at.batch), log2(at.k)}, at);
    highest = std::max(highest, predicted.us);
    grid.us.push_back(highest);
    grid.extrapolated.push_back(predicted.extrapolated);
  }
  return grids_.emplace(key, std::move(grid)).first->second;
}

ExchangeShape FittedCost::exchange_shape(const Op& op, bool low_latency) const {
  const double value = op.precision == model::Precision::fp8 ? 1 : 2;
  return {.combine = op.kind == OpKind::combine,
          .low_latency = low_latency,
          .ranks = static_cast<double>(plan_.ep > 1 ? plan_.live_gpus() : plan_.ep),
          .ranks_per_node = static_cast<double>(device_.gpus_per_node),
          .tokens = static_cast<double>(op.tokens),
          .topk = static_cast<double>(op.k),
          .token_bytes = static_cast<double>(op.n) * value};
}

std::optional<PricedShape> FittedCost::shape_of(const Op& op) const {
  switch (op.kind) {
    case OpKind::gemm: {
      GemmShape g{.m = static_cast<double>(op.m),
                  .n = static_cast<double>(op.n),
                  .k = static_cast<double>(op.k),
                  .batch = static_cast<double>(op.batch),
                  .precision = precision_of(op.precision),
                  .split_k = true,
                  .cold = true,
                  .variant = variant_,
                  .gpu = gpu_};
      return PricedShape{index_of("gemm"), g, 1};
    }
    case OpKind::grouped_gemm: {
      const bool up = op.name == "experts_up";
      const double hidden = static_cast<double>(up ? op.k : op.n),
                   inter = up ? static_cast<double>(op.n) / 2 : static_cast<double>(op.k);
      const double weight = static_cast<double>(model::bytes_per_element(op.precision));
      const double pairs = static_cast<double>(op.m);
      // The plan's bytes are weights of the experts touched, and the activations: solve for the former.
      const double touched = (static_cast<double>(op.bytes.v) -
                              pairs * (static_cast<double>(op.k) * weight + 2 * static_cast<double>(op.n))) /
                             (weight * static_cast<double>(op.n) * static_cast<double>(op.k));
      MoeShape m{.pairs = pairs,
                 .touched = std::max(touched, 0.0),
                 .hidden = hidden,
                 .inter = inter,
                 .precision = precision_of(op.precision),
                 .gpu = gpu_};
      // The model times both matrices and the activation between them: gate and up are two thirds of the weights.
      return PricedShape{index_of("moe"), m, up ? 2.0 / 3 : 1.0 / 3};
    }
    case OpKind::elementwise:
      if (op.name == "experts_activation") return std::nullopt;  // inside the fused experts
      return PricedShape{index_of("stream"), StreamShape{.bytes = static_cast<double>(op.bytes.v), .kernels = 1}, 1};
    case OpKind::prefill_attention:
      return PricedShape{index_of("prefill_attention"), PrefillShape{static_cast<double>(op.flops)}, 1};
    case OpKind::decode_attention:
      if (shape_.attention.kind == model::AttentionKind::mla) {
        const double context =
            op.sequences == 0 ? 0 : static_cast<double>(op.context) / static_cast<double>(op.sequences);
        return PricedShape{
            index_of("mla_decode"),
            MlaDecodeShape{static_cast<double>(op.sequences), context, static_cast<double>(op.heads), true, gpu_}, 1};
      }
      return PricedShape{index_of("kv_attention"), StreamShape{static_cast<double>(op.bytes.v), 1}, 1};
    case OpKind::dispatch:
    case OpKind::combine: {
      const bool across = op.nodes > 1;
      const std::size_t index = index_of(across ? "exchange_inter" : "exchange_intra");
      const PricedShape normal{index, exchange_shape(op, false), 1}, fast{index, exchange_shape(op, true), 1};
      const auto p = parameters(index);
      return mechanism_us(fast, p) < mechanism_us(normal, p) ? fast : normal;
    }
    case OpKind::all_reduce:
      // xgmi = passes * (tp - 1) / tp of the tensor; two passes move twice that.
      return PricedShape{index_of("collective"),
                         CollectiveShape{static_cast<double>(plan_.tp),
                                         static_cast<double>(op.xgmi.v) / 2 * static_cast<double>(plan_.tp) /
                                             static_cast<double>(std::max<std::int64_t>(1, plan_.tp - 1))},
                         1};
    case OpKind::kv_push: return std::nullopt;
  }
  return std::nullopt;
}

Predictor::Prediction FittedCost::predict(std::string_view model, const std::string& group, const Coordinates& at,
                                          const Shape& shape) const {
  return predictors_[index_of(model)].predict(group, at, shape);
}

double FittedCost::mechanism_us(const PricedShape& priced, const std::vector<double>& parameters) const {
  return priced.share *
         models()[static_cast<std::size_t>(find_model(calibration_->models[priced.model].name) - models().data())].us(
             parameters, priced.shape);
}

model::Price FittedCost::price(const Op& op) const {
  FAULTLINE_ASSERT(op.kind != OpKind::decode_attention && op.kind != OpKind::dispatch && op.kind != OpKind::combine &&
                       op.kind != OpKind::all_reduce,
                   "op {} has no price of its own", op.name);
  const auto priced = shape_of(op);
  if (!priced) return {.source = kFitted};
  const FittedModel& fitted = calibration_->models[priced->model];
  const bool unfitted = fitted.rows == 0;
  if (op.kind == OpKind::gemm) {
    const auto& shape = std::get<GemmShape>(priced->shape);
    const std::string group = fmt::format("{} {}", shape.precision == Precision::bf16 ? "bf16" : "fp8_block",
                                          variant_ == 1 ? "MI325X" : "base");
    const Grid& grid = gemm_grid(shape, group);
    int i = 0;
    while (i + 1 < kGridSize && grid_rows(i + 1) <= shape.m) ++i;
    const std::size_t at = static_cast<std::size_t>(i);
    if (i + 1 == kGridSize)
      return {.time = fixed_from_us(grid.us[at] * shape.m / grid_rows(i)),
              .extrapolated = true,
              .source = kFitted,
              .why = kManyRows};
    const double low = grid_rows(i), high = grid_rows(i + 1);
    const double part = (shape.m - low) / (high - low);
    return {.time = fixed_from_us(grid.us[at] + part * (grid.us[at + 1] - grid.us[at])),
            .extrapolated = unfitted || grid.extrapolated[at],
            .source = kFitted,
            .why = unfitted                ? kNoRows
                   : grid.extrapolated[at] ? kNoneNear
                                           : std::string_view{}};
  }
  double us = mechanism_us(*priced, parameters(priced->model));
  std::string_view why = unfitted ? kNoRows : std::string_view{};
  if (op.kind == OpKind::grouped_gemm) {
    // Rows cover 1 to 150,000 pairs and 250 to 15,000 thousand weights a matrix; the mechanism carries between
    // families.
    const auto& m = std::get<MoeShape>(priced->shape);
    if (why.empty() && m.pairs > fitted.size_max * 9) why = kManyPairs;
    if (why.empty() && (m.hidden * m.inter < 1e6 || m.hidden * m.inter > 2e7)) why = kExpertSize;
  }
  return {.time = fixed_from_us(us), .extrapolated = !why.empty(), .source = unfitted ? kPrior : kFitted, .why = why};
}

model::ContextPrice FittedCost::context_price(const model::ModelShape& s, const model::ParallelPlan& p,
                                              std::int64_t sequences) const {
  const Op none = model::decode_attention_op(s, p, sequences, 0), one = model::decode_attention_op(s, p, sequences, 1);
  if (s.attention.kind != model::AttentionKind::mla) {
    const std::size_t index = index_of("kv_attention");
    const auto q = parameters(index);
    const double slope = static_cast<double>((one.bytes - none.bytes).v) / 1e6 / q[1];
    return {.lines = {{fixed_from_us(q[0] + static_cast<double>(none.bytes.v) / 1e6 / q[1]), fixed_from_us(slope)}},
            .extrapolated = calibration_->models[index].rows == 0,
            .source = calibration_->models[index].rows == 0 ? kPrior : kFitted,
            .why = calibration_->models[index].rows == 0 ? kNoRows : std::string_view{}};
  }
  // mla_decode_us() as two lines in the context: bound by the matrix cores, or by memory.
  const std::size_t index = index_of("mla_decode");
  const auto q = parameters(index);
  const double heads = static_cast<double>(none.heads), count = static_cast<double>(sequences);
  const double fixed = mla_decode_us(q, {count, 0, heads, true, gpu_});
  const double rate = p.kv_precision == model::Precision::fp8 ? 1 : kMlaBf16Rate;
  const double flop = 2 * heads * static_cast<double>(2 * s.attention.kv_lora + s.attention.rope_dim);
  const double compute = flop / 1e6 / (q[2] * rate * gpu_.relative_rate * gpu_.compute_units / 304) * q[4];
  const double memory =
      static_cast<double>((s.attention.kv_lora + s.attention.rope_dim) * model::bytes_per_element(p.kv_precision)) /
      1e6 / (q[3] * gpu_.hbm_tbps) * q[4];
  const bool measured =
      sequences <= 256 && p.kv_precision == model::Precision::fp8 && s.attention.heads == 128 && p.tp == 1;
  return {.lines = {{fixed_from_us(fixed), fixed_from_us(compute)}, {fixed_from_us(fixed), fixed_from_us(memory)}},
          .extrapolated = calibration_->models[index].rows == 0 || !measured,
          .source = kFitted,
          .why = calibration_->models[index].rows == 0 ? kNoRows
                 : measured                            ? std::string_view{}
                                                       : kMlaVariant,
          .context_measured = kMlaContext};
}

model::ExchangePrice FittedCost::exchange_price(const Op& op) const {
  const auto priced = shape_of(op);
  const FittedModel& fitted = calibration_->models[priced->model];
  const auto p = parameters(priced->model);
  const double total = mechanism_us(*priced, p);
  if (op.kind == OpKind::all_reduce)
    return {.latency = fixed_from_us(p[0]),
            .xgmi = fixed_from_us(std::max(0.0, total - p[0])),
            .extrapolated = fitted.rows == 0,
            .source = kPrior,
            .why = fitted.rows == 0 ? kNoRows : std::string_view{}};
  PricedShape empty = *priced;
  std::get<ExchangeShape>(empty.shape).tokens = 0;
  const double latency = mechanism_us(empty, p);
  const std::string_view why = fitted.rows == 0                                   ? kNoRows
                               : static_cast<double>(op.tokens) > fitted.size_max ? kManyTokens
                               : op.nodes > 2                                     ? kManyNodes
                                                                                  : std::string_view{};
  if (op.nodes == 1)
    return {.latency = fixed_from_us(latency),
            .xgmi = fixed_from_us(total - latency),
            .extrapolated = !why.empty(),
            .source = kFitted,
            .why = why};
  // Scale-up links run at the same time and are seldom the limit: their time from the intra-node fit's link rate.
  const auto intra = parameters(index_of("exchange_intra"));
  const double links = static_cast<double>(device_.gpus_per_node - 1);
  return {.latency = fixed_from_us(latency),
          .xgmi = fixed_from_us(std::min(total - latency, static_cast<double>(op.xgmi.v) / 1e3 / (intra[4] * links))),
          .rdma = fixed_from_us(total - latency),
          .extrapolated = !why.empty(),
          .source = kFitted,
          .why = why};
}

model::FixedTime FittedCost::host_step(model::Launch launch) const {
  return model::fixed_from(launch == model::Launch::graph ? device_.host.step + device_.host.graph : device_.host.step);
}
model::FixedTime FittedCost::host_launch(model::Launch launch, std::int64_t layers) const {
  return launch == model::Launch::graph ? model::FixedTime{} : model::fixed_from(device_.host.eager_layer * layers);
}

}  // namespace faultline::calibration
