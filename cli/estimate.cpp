// faultline estimate: a step and its throughput in closed form, from a calibration; compares plans.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "core/calibration/estimate.h"
#include "core/calibration/study.h"
#include "core/report/cost_model.h"

namespace faultline::cli {
namespace {

using nlohmann::json;
namespace cal = calibration;

struct Options {
  std::string study, model = "deepseek-v3", device = "mi300x", plan, phase = "decode",
                     calibration = "experiments/calibration/mi300x.yaml";
  std::vector<std::string> compare, slo;
  std::int64_t batch = 0, input = 2000, output = 100;
  double gpu_hour_cost = 2;
  bool json = false;
};

// "deepseek-v3" is topologies/models/deepseek-v3.yaml; anything with a dot or a slash is a path.
std::string path_of(const std::string& name, const std::string& folder) {
  if (name.find('/') != std::string::npos || name.ends_with(".yaml")) return name;
  return folder + "/" + name + ".yaml";
}

void read_slo(const std::string& text, cal::EstimateRequest& request, config::Diagnostics& diagnostics) {
  const auto equals = text.find('=');
  const std::string key = text.substr(0, equals);
  const auto value = equals == std::string::npos ? config::Parsed<Duration>{}
                                                 : config::parse_scalar(std::string_view(text).substr(equals + 1),
                                                                        static_cast<const Duration*>(nullptr));
  if ((key != "tpot" && key != "ttft") || !value.value || value.value->v <= 0) {
    diagnostics.error({"--slo", 0, 0},
                      "expected tpot=<duration> or ttft=<duration>, for example tpot=100ms; got '" + text + "'");
    return;
  }
  (key == "tpot" ? request.tpot_max : request.ttft_max) = *value.value;
}

/// The calibration, and the operations of this estimate that lie outside of what it was fitted on.
record::CostModelUse cost_model_of(const cal::Calibration& c, const std::string& hash, const cal::Estimate& e) {
  record::CostModelUse use{c.name, c.hardware, hash, c.software_date, {}};
  double sum = e.host_us;
  for (const auto& op : e.operations) sum += op.us;
  for (const auto& op : e.operations)
    if (op.extrapolated && op.us > 0) use.extrapolated.push_back({op.name, op.us / sum, op.why});
  std::stable_sort(use.extrapolated.begin(), use.extrapolated.end(),
                   [](const auto& a, const auto& b) { return a.share > b.share; });
  return use;
}

json to_json(const cal::Estimate& e, const json& cost_model) {
  json out{{"plan", e.plan}, {"gpus", e.gpus}};
  if (!e.refusal.empty()) {
    out["refusal"] = e.refusal;
    return out;
  }
  const auto gib = [](Bytes b) { return static_cast<double>(b.v) / 1073741824.0; };
  const auto& m = e.memory;
  out.update({{"nodes", e.nodes},
              {"batch_per_gpu", e.batch_per_gpu},
              {"largest_batch_per_gpu", e.largest_batch},
              {"best_batch_per_gpu", e.best_batch ? json(*e.best_batch) : json(nullptr)},
              {"step_us", e.step_us},
              {"step_us_low", e.step_us_low},
              {"step_us_high", e.step_us_high},
              {"host_us", e.host_us},
              {"hidden_us", e.hidden_us},
              {"tpot_ms", e.tpot_ms},
              {"ttft_ms", e.ttft_ms},
              {"output_tokens_per_s_node", e.output_tokens_per_s_node},
              {"input_tokens_per_s_node", e.input_tokens_per_s_node},
              {"usd_per_million_tokens", e.cost_per_million_tokens},
              {"extrapolated", e.extrapolated},
              {"memory_gib",
               {{"capacity", gib(m.capacity)},
                {"weights", gib(m.weights())},
                {"activations", gib(m.activations)},
                {"communication", gib(m.communication)},
                {"kv", gib(m.kv)},
                {"kv_tokens_per_rank", m.tokens.v}}}});
  out["cost_model"] = cost_model;
  out["kv_push"] = {{"us", e.kv_push.us},
                    {"after_prefill_us", e.kv_push.after_us},
                    {"model", e.kv_push.model},
                    {"extrapolated", e.kv_push.extrapolated}};
  for (const auto& [from, s] : e.weight_load_s) out["weight_load_s"][from] = s;
  for (const auto& op : e.operations)
    out["operations"].push_back({{"name", op.name},
                                 {"kind", op.kind},
                                 {"model", op.model},
                                 {"source", op.source},
                                 {"repeats", op.repeats},
                                 {"us", op.us},
                                 {"us_low", op.us_low},
                                 {"us_high", op.us_high},
                                 {"extrapolated", op.extrapolated},
                                 {"why", op.why.empty() ? json(nullptr) : json(op.why)}});
  for (const auto& [name, share] : e.sensitivity)
    out["sensitivity"].push_back({{"parameter", name}, {"step_half_width", share}});
  return out;
}

void print_estimate(const cal::Estimate& e, cal::Phase phase, const json& cost_model) {
  if (!e.refusal.empty()) {
    fmt::print("{}: cannot run: {}\n", e.plan, e.refusal);
    return;
  }
  fmt::print("{} on {} GPUs, {} node{}\n", e.plan, e.gpus, e.nodes, e.nodes == 1 ? "" : "s");
  fmt::print("batch       {} a GPU, largest that fits {}{}\n", e.batch_per_gpu, e.largest_batch,
             e.best_batch ? fmt::format(", best under the objective {}", *e.best_batch) : "");
  fmt::print("step        {:.2f} ms [{:.2f}, {:.2f}], host {:.2f} ms, hidden {:.2f} ms\n", e.step_us / 1e3,
             e.step_us_low / 1e3, e.step_us_high / 1e3, e.host_us / 1e3, e.hidden_us / 1e3);
  const bool decode = phase == cal::Phase::decode;
  if (decode) fmt::print("TPOT        {:.2f} ms\n", e.tpot_ms);
  fmt::print("TTFT        {:.1f} ms, one prompt a rank, no queue\n", e.ttft_ms);
  fmt::print("throughput  {:.0f} {} tokens/s a node, {:.3f} USD per 1M\n",
             decode ? e.output_tokens_per_s_node : e.input_tokens_per_s_node, decode ? "output" : "input",
             e.cost_per_million_tokens);
  fmt::print("memory      weights {:.1f} GiB, KV {:.1f} GiB a GPU ({} tokens a rank)\n",
             static_cast<double>(e.memory.weights().v) / 1073741824.0,
             static_cast<double>(e.memory.kv.v) / 1073741824.0, e.memory.tokens.v);
  fmt::print("KV push     {:.2f} ms a prompt, {:.2f} ms of it after the prefill\n", e.kv_push.us / 1e3,
             e.kv_push.after_us / 1e3);
  fmt::print("weight load");
  for (const auto& [from, seconds] : e.weight_load_s) fmt::print(" {:.1f} s from {},", seconds, from);
  fmt::print(" all prior\n\n{:<18} {:>5} {:>10} {:>6}  {:<18} {}\n", "operation", "times", "us each", "share",
             "ms in all, 95 %", "from");
  for (const auto& op : e.operations)
    if (op.us > 0)
      fmt::print("{:<18} {:>5} {:>10.1f} {:>5.1f}%  {:<18} {}{}\n", op.name, op.repeats,
                 op.us / static_cast<double>(op.repeats), 100 * op.us / e.step_us,
                 fmt::format("[{:.2f}, {:.2f}]", op.us_low / 1e3, op.us_high / 1e3), op.source,
                 op.extrapolated && op.source != "prior" ? ", extrapol." : "");
  fmt::print("\n");
  if (e.extrapolated) {
    fmt::print("{}\n", report::cost_model_text(cost_model));
    for (const auto& x : cost_model["extrapolated"])
      fmt::print("  {:<18} {}\n", x["op"].get<std::string>(), x["why"].get<std::string>());
  }
  fmt::print("depends most on");
  for (std::size_t i = 0; i < std::min<std::size_t>(3, e.sensitivity.size()); ++i)
    fmt::print("{} {} (±{:.1f}%)", i == 0 ? "" : ",", e.sensitivity[i].first, 100 * e.sensitivity[i].second);
  fmt::print("\n");
}

int run_study(const Options& o) {
  config::Diagnostics diagnostics;
  const config::Document document(must_read_file(o.study), o.study, diagnostics);
  diagnostics.throw_if_any();
  cal::Study study;
  config::read(document, document.root(), "", study, diagnostics);
  diagnostics.throw_if_any();
  cal::EstimateRequest base;
  base.model = model::read_model(must_read_file(study.model), study.model, diagnostics);
  base.device = model::read_device(must_read_file(study.device), study.device, diagnostics);
  const auto calibration = std::make_shared<cal::Calibration>(
      cal::read_calibration(must_read_file(study.calibration), study.calibration, diagnostics));
  base.plan.kv_precision = model::Precision::fp8;
  base.memory.sequences_max = 4096;
  diagnostics.throw_if_any();
  const std::string hash = cal::content_hash(*calibration);
  const auto used = [&](const cal::Estimate& e) {
    return report::cost_model_json(cost_model_of(*calibration, hash, e));
  };
  const cal::StudyResult result = cal::run_study(study, base, calibration, diagnostics);
  diagnostics.throw_if_any();
  if (o.json) {
    json out{
        {"study", study.name}, {"calibration", study.calibration}, {"rows", json::array()}, {"splits", json::array()}};
    for (std::size_t i = 0; i < result.rows.size(); ++i) {
      json row = to_json(result.rows[i], used(result.rows[i]));
      row.erase("operations");
      row["name"] = study.rows[i].name;
      out["rows"].push_back(row);
    }
    for (const auto& s : result.splits)
      out["splits"].push_back({{"prefill", s.prefill},
                               {"decode", s.decode},
                               {"decode_nodes_per_prefill_node", s.decode_nodes_per_prefill_node},
                               {"requests_per_s_node", s.requests_s_node},
                               {"total_tokens_per_s_node", s.total_tokens_s_node},
                               {"usd_per_million_tokens", s.cost_per_million_total}});
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("{}\ncalibration {} ({}), {} in / {} out, {} USD a GPU hour\n\n", study.question, study.calibration,
             calibration->hardware, study.input, study.output, study.gpu_hour_cost);
  fmt::print("{:<34} {:>6} {:>9} {:>9} {:>26} {:>11}\n", "phase and plan", "batch", "step ms", "TTFT ms",
             "tokens/s a node", "USD per 1M");
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    const cal::Estimate& e = result.rows[i];
    const double value =
        study.rows[i].phase == cal::Phase::decode ? e.output_tokens_per_s_node : e.input_tokens_per_s_node;
    if (!e.refusal.empty()) fmt::print("{:<34} cannot run: {}\n", study.rows[i].name, e.refusal);
    else
      fmt::print(
          "{:<34} {:>6} {:>9.2f} {:>9.1f} {:>8.0f} [{:>6.0f}, {:>6.0f}] {:>11.3f}{}\n", study.rows[i].name,
          e.batch_per_gpu, e.step_us / 1e3, e.ttft_ms, value, value * e.step_us / e.step_us_high,
          value * e.step_us / e.step_us_low, e.cost_per_million_tokens,
          (study.rows[i].tpot_max.v > 0 || study.rows[i].ttft_max.v > 0) && !e.best_batch ? "  objective missed" : "");
  }
  fmt::print("\nprices\n");
  for (std::size_t i = 0; i < result.rows.size(); ++i)
    if (result.rows[i].refusal.empty())
      fmt::print("  {}: {}\n", study.rows[i].name, report::cost_model_text(used(result.rows[i])));
  fmt::print("\nbalanced splits: prefill nodes : decode nodes so that both are saturated\n");
  for (const auto& s : result.splits)
    fmt::print(
        "  {} + {}: 1 : {:.2f}, {:.2f} requests/s and {:.0f} tokens/s a node, {:.3f} USD per 1M tokens (input and "
        "output)\n",
        s.prefill, s.decode, s.decode_nodes_per_prefill_node, s.requests_s_node, s.total_tokens_s_node,
        s.cost_per_million_total);
  return 0;
}

int run(const Options& o) {
  if (!o.study.empty()) return run_study(o);
  config::Diagnostics diagnostics;
  cal::EstimateRequest request;
  const std::string model_path = path_of(o.model, "topologies/models"),
                    device_path = path_of(o.device, "topologies/devices");
  request.model = model::read_model(must_read_file(model_path), model_path, diagnostics);
  request.device = model::read_device(must_read_file(device_path), device_path, diagnostics);
  const auto calibration = std::make_shared<cal::Calibration>(
      cal::read_calibration(must_read_file(o.calibration), o.calibration, diagnostics));
  if (o.phase != "decode" && o.phase != "prefill")
    diagnostics.error({"--phase", 0, 0}, "expected decode or prefill, got '" + o.phase + "'");
  request.phase = o.phase == "prefill" ? cal::Phase::prefill : cal::Phase::decode;
  request.batch_per_gpu = o.batch;
  request.input = o.input;
  request.output = o.output;
  request.gpu_hour_cost = o.gpu_hour_cost;
  request.plan.kv_precision = model::Precision::fp8;
  request.memory.sequences_max = 4096;
  for (const std::string& slo : o.slo) read_slo(slo, request, diagnostics);
  std::vector<std::string> plans = o.compare;
  if (plans.empty()) plans.push_back(o.plan.empty() ? "ep=8" : o.plan);
  std::vector<cal::EstimateRequest> requests;
  for (const std::string& plan : plans) {
    cal::EstimateRequest r = request;
    if (!o.compare.empty() && !o.plan.empty()) cal::parse_plan(o.plan, r, diagnostics);  // options that all share
    cal::parse_plan(plan, r, diagnostics);
    requests.push_back(r);
  }
  diagnostics.throw_if_any();
  if (!calibration->hardware.empty() && calibration->hardware != request.device.name)
    fmt::print(stderr, "warning: the calibration is of {}, the device is {}: scaled by data sheets\n",
               calibration->hardware, request.device.name);

  json all = json::array();
  const std::string hash = cal::content_hash(*calibration);
  std::vector<json> models;  // the cost model as each estimate used it
  std::vector<cal::Estimate> estimates;
  for (const auto& r : requests) {
    estimates.push_back(cal::estimate(r, calibration));
    models.push_back(report::cost_model_json(cost_model_of(*calibration, hash, estimates.back())));
    all.push_back(to_json(estimates.back(), models.back()));
  }
  const auto value = [&](const cal::Estimate& e) {
    return request.phase == cal::Phase::decode ? e.output_tokens_per_s_node : e.input_tokens_per_s_node;
  };
  std::size_t best = 0;
  for (std::size_t i = 1; i < estimates.size(); ++i)
    if (value(estimates[i]) > value(estimates[best])) best = i;
  if (o.json) {
    json out{{"calibration", o.calibration},
             {"model", request.model.name},
             {"device", request.device.name},
             {"phase", o.phase},
             {"input", o.input},
             {"output", o.output}};
    if (o.compare.empty()) out.update(all[0]);
    else {
      out["plans"] = all;
      if (estimates[best].refusal.empty()) out["best"] = plans[best];
    }
    fmt::print("{}\n", out.dump(2));
  } else {
    fmt::print("{} on {}, {} in / {} out, {}; calibration {} ({})\n", request.model.name, request.device.name, o.input,
               o.output, o.phase, o.calibration, calibration->hardware);
    if (o.compare.empty()) {
      print_estimate(estimates[0], request.phase, models[0]);
    } else {
      fmt::print("{:<28} {:>6} {:>10} {:>10} {:>22} {:>14}\n", "plan", "batch", "step ms", "TTFT ms", "tokens/s a node",
                 "USD per 1M");
      for (std::size_t i = 0; i < estimates.size(); ++i) {
        const auto& e = estimates[i];
        if (!e.refusal.empty()) fmt::print("{:<28} cannot run: {}\n", plans[i], e.refusal);
        else
          fmt::print("{:<28} {:>6} {:>10.2f} {:>10.1f} {:>10.0f} [{:.0f}, {:.0f}] {:>10.3f}{}\n", plans[i],
                     e.batch_per_gpu, e.step_us / 1e3, e.ttft_ms, value(e), value(e) * e.step_us / e.step_us_high,
                     value(e) * e.step_us / e.step_us_low, e.cost_per_million_tokens, i == best ? "  best" : "");
      }
      for (std::size_t i = 0; i < estimates.size(); ++i)
        if (estimates[i].extrapolated) fmt::print("{}: {}\n", plans[i], report::cost_model_text(models[i]));
    }
  }
  const bool any = std::any_of(estimates.begin(), estimates.end(), [](const auto& e) { return e.refusal.empty(); });
  return any ? 0 : 1;
}

const Registration kEstimate{
    {.order = 45,
     .name = "estimate",
     .help = "Predict a step, its throughput, memory and cost from a calibration",
     .setup = [](CLI::App& app) -> std::function<int()> {
       auto o = std::make_shared<Options>();
       app.add_option("--study", o->study, "A study of plans (experiments/seed/*.yaml) instead of one");
       app.add_option("--model", o->model, "Model: a name under topologies/models or a file")->capture_default_str();
       app.add_option("--device", o->device, "Device: a name under topologies/devices or a file")
           ->capture_default_str();
       app.add_option("--plan", o->plan,
                      "ep=16,dp=16,tp=1,kv=fp8|bf16,dbo=on,eplb=32,imbalance=1.2,shared=fused,launch=graph|eager,mtp=1,"
                      "acceptance=0.8");
       app.add_option("--compare", o->compare, "Several plans side by side; --plan then holds what they share");
       app.add_option("--phase", o->phase, "decode or prefill")->capture_default_str();
       app.add_option("--batch-per-gpu", o->batch,
                      "Sequences a GPU; without it the best under --slo, or the largest that fits")
           ->check(CLI::NonNegativeNumber);
       app.add_option("--input", o->input, "Prompt tokens")->check(CLI::PositiveNumber)->capture_default_str();
       app.add_option("--output", o->output, "Generated tokens")->check(CLI::PositiveNumber)->capture_default_str();
       app.add_option("--slo", o->slo, "tpot=100ms, ttft=2s");
       app.add_option("--calibration", o->calibration, "Calibration file")->capture_default_str();
       app.add_option("--gpu-hour-cost", o->gpu_hour_cost, "USD a GPU hour")
           ->check(CLI::PositiveNumber)
           ->capture_default_str();
       app.add_flag("--json", o->json, "Print JSON");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
