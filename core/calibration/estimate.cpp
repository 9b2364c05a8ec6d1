#include "core/calibration/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/calibration/delimited.h"

namespace faultline::calibration {
namespace {

using model::Op;
using model::OpKind;

double us_of(model::FixedTime t) { return model::nanoseconds(t) / 1e3; }

// One step of the group with every rank alike.
struct Load {
  std::vector<model::RankLoad> decode;
  std::vector<model::PrefillItem> prefill;
};

std::int64_t decode_context(const EstimateRequest& r) { return r.input + r.output / 2; }  // mean over a request's life

Load load_of(const EstimateRequest& r, std::int64_t sequences_per_rank) {
  Load load;
  if (r.phase == Phase::decode) {
    // Draft tokens are verified as further queries of the same sequence; each reads the whole context.
    const std::int64_t queries = sequences_per_rank * (1 + r.mtp);
    load.decode.assign(static_cast<std::size_t>(r.plan.dp),
                       {static_cast<std::int32_t>(queries), queries * decode_context(r)});
  } else {
    for (std::int64_t rank = 0; rank < r.plan.dp; ++rank)
      for (std::int64_t i = 0; i < sequences_per_rank; ++i)
        load.prefill.push_back({static_cast<std::int32_t>(rank), r.input, 0});
  }
  return load;
}

// Each draft token costs a pass through one more layer of the model; the step grows by that share.
double mtp_factor(const EstimateRequest& r) {
  return r.phase == Phase::decode ? 1 + static_cast<double>(r.mtp) / static_cast<double>(r.model.layers) : 1;
}
double tokens_per_step(const EstimateRequest& r) {
  double expected = 1, chance = 1;  // a draft counts only when all before it were accepted
  for (std::int64_t i = 0; i < r.mtp; ++i) expected += chance *= r.mtp_acceptance;
  return expected;
}

double step_us(const EstimateRequest& r, const model::StepPricer& pricer, std::int64_t sequences_per_rank) {
  const Load load = load_of(r, sequences_per_rank);
  return us_of(pricer.step(load.prefill, load.decode, {})) * mtp_factor(r);
}

double prefill_us_of_one(const EstimateRequest& r, const model::StepPricer& pricer) {
  EstimateRequest one = r;
  one.phase = Phase::prefill;
  return step_us(one, pricer, 1);
}

// Layers leave one after the other as the prefill computes them: the path is busy from the end of the first layer, so
// what is left at the end is the last layer's push, or all of them less the rest of the prefill where the path is
// slower. Fragments: one message for each page of a layer, as the engines that do not merge post them.
KvPush kv_push_of(const EstimateRequest& r, const FittedCost& cost, double prefill_us) {
  KvPush out{.model = "transfer_CX7_write"};
  const double layers = static_cast<double>(r.model.layers);
  const double bytes = static_cast<double>(r.input * model::kv_bytes_per_token_layer(r.model, r.plan.kv_precision).v) /
                       static_cast<double>(r.plan.tp);
  const double pages = std::ceil(static_cast<double>(r.input) / static_cast<double>(r.memory.block.v));
  const auto layer =
      cost.predict(out.model, "CX7 write", transfer_at(bytes / pages, pages), TransferShape{bytes / pages, pages});
  out.us = layers * layer.us;
  out.after_us = std::max(layer.us, out.us - prefill_us * (layers - 1) / layers);
  out.extrapolated = layer.extrapolated;
  return out;
}

// Half widths, in microseconds of the step, that each parameter's interval and each model's own error give.
void add_uncertainty(const FittedCost& cost, const model::Breakdown& breakdown, Estimate& out) {
  std::map<std::pair<std::size_t, std::size_t>, double> by_parameter;
  std::map<std::size_t, double> by_model;  // time in the step
  for (const model::OpTime& timed : breakdown.ops) {
    const double us = us_of(timed.time);
    OperationTime row{
        .name = std::string(timed.op.name),
        .kind = std::string(enum_names(static_cast<const OpKind*>(nullptr))[static_cast<std::size_t>(timed.op.kind)]),
        .source = std::string(timed.source),
        .model = {},
        .repeats = timed.op.repeats,
        .us = us,
        .us_low = us,
        .us_high = us,
        .extrapolated = timed.extrapolated,
        .why = std::string(timed.why)};
    const auto priced = cost.shape_of(timed.op);
    out.extrapolated = out.extrapolated || (row.extrapolated && us > 0);
    if (priced && us > 0) {
      const FittedModel& fitted = cost.calibration().models[priced->model];
      row.model = fitted.name;
      auto parameters = cost.parameters(priced->model);
      const double at = cost.mechanism_us(*priced, parameters);
      double squares = 0;
      for (std::size_t i = 0; i < parameters.size() && at > 0; ++i) {
        const double value = parameters[i];
        parameters[i] = fitted.parameters[i].high;
        const double high = cost.mechanism_us(*priced, parameters);
        parameters[i] = fitted.parameters[i].low;
        const double low = cost.mechanism_us(*priced, parameters);
        parameters[i] = value;
        const double half = us * (high - low) / 2 / at;
        // Within the data the residual table holds the level; the intervals matter in full where it is extrapolated.
        by_parameter[{priced->model, i}] += half;
        squares += half * half;
      }
      by_model[priced->model] += us;
      const double half = std::min(std::sqrt(squares), 0.9 * us);
      row.us_low = us - half;
      row.us_high = us + half;
    }
    out.operations.push_back(std::move(row));
  }
  double squares = 0;
  for (const auto& [key, half] : by_parameter) {
    squares += half * half;
    const FittedModel& fitted = cost.calibration().models[key.first];
    out.sensitivity.emplace_back(fitted.name + "." + fitted.parameters[key.second].name, std::abs(half) / out.step_us);
  }
  for (const auto& [index, us] : by_model) {
    // A model's error on families it had not seen: 1.4826 medians make a standard deviation of a normal error.
    for (const ScoreRow& s : cost.calibration().models[index].scores)
      if (s.check == "families" && s.family == "all" && s.bucket == "all")
        squares += std::pow(1.96 * 1.4826 * s.median * us, 2);
  }
  std::stable_sort(out.sensitivity.begin(), out.sensitivity.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (out.sensitivity.size() > 8) out.sensitivity.resize(8);
  const double half = std::min(std::sqrt(squares), 0.9 * out.step_us);
  out.step_us_low = out.step_us - half;
  out.step_us_high = out.step_us + half;
}

}  // namespace

void parse_plan(std::string_view text, EstimateRequest& request, config::Diagnostics& diagnostics) {
  static const std::vector<std::string> kKeys{"tp",   "dp",        "ep",     "kv",     "dispatch", "dbo",
                                              "eplb", "imbalance", "shared", "launch", "mtp",      "acceptance"};
  model::ParallelPlan& p = request.plan;
  bool has_dp = false, has_ep = false, has_tp = false;
  std::size_t start = 0;
  while (start < text.size()) {
    const auto end = std::min(text.find(',', start), text.size());
    const std::string_view item = text.substr(start, end - start);
    const auto equals = item.find('=');
    const std::string key(item.substr(0, equals)),
        value(equals == std::string_view::npos ? "on" : item.substr(equals + 1));
    const auto fail = [&](const std::string& message, const std::string& note = {}) {
      diagnostics.error({"--plan", 1, static_cast<int>(start) + 1}, message, note);
    };
    const auto count = [&](std::int64_t& to, double min) {
      const auto number = parse_number(value);
      if (!number || *number < min || *number > 1e6 || *number != std::floor(*number))
        fail(fmt::format("{}: expected a whole number of at least {}, got '{}'", key, min, value));
      else to = static_cast<std::int64_t>(*number);
    };
    const auto ratio = [&](double& to, double min, double max) {
      const auto number = parse_number(value);
      if (!number || *number < min || *number > max)
        fail(fmt::format("{}: expected {} to {}, got '{}'", key, min, max, value));
      else to = *number;
    };
    const auto choice = [&](const char* first, const char* second, auto&& set) {
      if (value == first) set(true);
      else if (value == second) set(false);
      else fail(fmt::format("{}: expected {} or {}, got '{}'", key, first, second, value));
    };
    if (key == "tp") count(p.tp, 1), has_tp = true;
    else if (key == "dp") count(p.dp, 1), has_dp = true;
    else if (key == "ep") count(p.ep, 1), has_ep = true;
    else if (key == "eplb") count(p.redundant_experts, 0);
    else if (key == "mtp") count(request.mtp, 0);
    else if (key == "acceptance") ratio(request.mtp_acceptance, 0, 1);
    else if (key == "imbalance") ratio(p.expert_imbalance, 1, 1e3);
    else if (key == "kv")
      choice("fp8", "bf16",
             [&](bool first) { p.kv_precision = first ? model::Precision::fp8 : model::Precision::bf16; });
    else if (key == "dispatch")
      choice("fp8", "bf16",
             [&](bool first) { p.dispatch_precision = first ? model::Precision::fp8 : model::Precision::bf16; });
    else if (key == "dbo") choice("on", "off", [&](bool first) { p.dual_batch_overlap = first; });
    else if (key == "shared") choice("fused", "apart", [&](bool first) { p.fused_shared_expert = first; });
    else if (key == "launch")
      choice("graph", "eager",
             [&](bool first) { p.decode_launch = first ? model::Launch::graph : model::Launch::eager; });
    else
      fail("unknown key '" + key + "'",
           "known: " + config::name_list(kKeys, 20) + " " + config::did_you_mean(key, kKeys));
    start = end + 1;
  }
  if (has_ep && !has_dp) p.dp = std::max<std::int64_t>(1, p.ep / p.tp);
  if (has_tp && !has_ep && !has_dp) p.ep = p.dp = 1;
  if (has_dp && !has_ep) p.ep = p.tp * p.dp;
}

Estimate estimate(const EstimateRequest& r, std::shared_ptr<const Calibration> calibration) {
  Estimate out;
  out.plan = fmt::format("tp={},dp={},ep={}", r.plan.tp, r.plan.dp, r.plan.ep);
  out.gpus = r.plan.gpu_count();
  const auto problems = model::plan_problems(r.plan, r.model, r.device);
  if (!problems.empty()) {
    for (const auto& problem : problems) out.refusal += (out.refusal.empty() ? "" : "; ") + problem;
    return out;
  }
  out.nodes = model::nodes_of(r.plan, r.device);
  const double tp = static_cast<double>(r.plan.tp);
  out.memory = model::memory_budget(r.model, r.device, r.plan, r.memory);
  const std::int64_t request_tokens = r.input + r.output;
  out.refusal = model::memory_refusal(out.memory, r.model, r.device, r.plan, r.memory, Tokens{request_tokens});
  if (!out.refusal.empty()) return out;

  const auto cost = std::make_shared<FittedCost>(std::move(calibration), r.model, r.plan, r.device);
  const model::StepPricer pricer(r.model, r.device, r.plan, cost);
  // A DP rank is tp GPUs; batch per GPU counts a rank's sequences over its GPUs.
  const std::int64_t rank_largest = out.memory.tokens.v / request_tokens;
  const auto ranked = [&](std::int64_t per_gpu) { return std::max<std::int64_t>(1, per_gpu * r.plan.tp); };
  out.largest_batch = std::max<std::int64_t>(rank_largest / r.plan.tp, rank_largest > 0 ? 1 : 0);
  std::int64_t rank_batch =
      r.batch_per_gpu > 0 ? ranked(r.batch_per_gpu) : std::min<std::int64_t>(rank_largest, r.memory.sequences_max);
  const auto tpot_us = [&](std::int64_t batch) { return step_us(r, pricer, batch) / tokens_per_step(r); };
  if (r.phase == Phase::decode && r.tpot_max) {
    // Prices are monotone, so the largest batch that meets the objective is found by bisection; it has the best
    // throughput.
    const double limit = static_cast<double>(r.tpot_max->v) / 1e3;
    std::int64_t low = 0, high = std::max<std::int64_t>(1, std::min<std::int64_t>(rank_largest, 4096));
    while (low < high) {
      const std::int64_t middle = (low + high + 1) / 2;
      if (tpot_us(middle) <= limit) low = middle;
      else high = middle - 1;
    }
    if (low > 0) out.best_batch = std::max<std::int64_t>(1, low / r.plan.tp);
    if (r.batch_per_gpu == 0 && low > 0) rank_batch = low;
  }
  if (r.phase == Phase::prefill && r.batch_per_gpu == 0) {
    rank_batch = std::max<std::int64_t>(1, r.memory.tokens_max.v / r.input);  // as many prompts as a step may hold
    if (r.ttft_max) {
      while (rank_batch > 1 && step_us(r, pricer, rank_batch) * 1e3 > static_cast<double>(r.ttft_max->v)) --rank_batch;
      if (step_us(r, pricer, rank_batch) * 1e3 <= static_cast<double>(r.ttft_max->v)) out.best_batch = rank_batch;
    }
  }
  if (r.phase == Phase::decode && rank_batch > rank_largest) {
    out.refusal = fmt::format("{} sequences of {} tokens a rank need {} tokens of KV cache, {} fit", rank_batch,
                              request_tokens, rank_batch * request_tokens, out.memory.tokens.v);
    return out;
  }
  out.batch_per_gpu = std::max<std::int64_t>(1, rank_batch / r.plan.tp);
  const Load load = load_of(r, rank_batch);
  const model::Breakdown breakdown = pricer.breakdown(load.prefill, load.decode, {});
  out.step_us = us_of(breakdown.total) * mtp_factor(r);
  out.host_us = us_of(breakdown.host);
  out.hidden_us = us_of(breakdown.overlap);
  add_uncertainty(*cost, breakdown, out);
  const double gpus_per_node = static_cast<double>(std::min<std::int64_t>(r.device.gpus_per_node, r.plan.gpu_count()));
  const double prefill_us = prefill_us_of_one(r, pricer);
  out.kv_push = kv_push_of(r, *cost, prefill_us);
  for (const auto& [from, name] : {std::pair{WeightLoadShape::From::peer, "peer GPU"},
                                   {WeightLoadShape::From::host, "host memory"},
                                   {WeightLoadShape::From::disk, "disk"}})
    out.weight_load_s.emplace_back(
        name,
        cost->predict("weight_load", "", {}, WeightLoadShape{static_cast<double>(out.memory.weights().v), from}).us /
            1e6);
  out.ttft_ms = (prefill_us + out.kv_push.after_us) / 1e3;
  if (r.phase == Phase::decode) {
    out.tpot_ms = out.step_us / tokens_per_step(r) / 1e3;
    out.output_tokens_per_s_node = static_cast<double>(rank_batch) / tp * gpus_per_node / (out.tpot_ms / 1e3);
    out.cost_per_million_tokens = r.gpu_hour_cost * gpus_per_node / 3600 / out.output_tokens_per_s_node * 1e6;
  } else {
    out.ttft_ms = (out.step_us + out.kv_push.after_us) / 1e3;
    out.input_tokens_per_s_node = static_cast<double>(rank_batch * r.input) / tp * gpus_per_node / (out.step_us / 1e6);
    out.cost_per_million_tokens = r.gpu_hour_cost * gpus_per_node / 3600 / out.input_tokens_per_s_node * 1e6;
  }
  return out;
}

}  // namespace faultline::calibration
