// faultline calibrate: import, fit, evaluate, advise.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/gzip_stream.h"
#include "core/calibration/advise.h"
#include "core/calibration/evaluate.h"
#include "core/calibration/fit/fit.h"
#include "core/calibration/importers.h"
#include "core/calibration/waterfall.h"

namespace faultline::cli {
namespace {

using nlohmann::json;
namespace cal = calibration;

struct Options {
  std::vector<std::string> files;
  std::vector<std::string> rules;
  std::string experiment, device, hardware = "MI300X", calibration, data, out, name, note;
  bool json = false, print_rules = false, no_validation = false;
};

// Files of a folder and below, in the order of their names; a file stands for itself.
std::vector<std::string> files_below(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      out.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path, error))
      if (entry.is_regular_file()) found.push_back(entry.path().string());
    std::sort(found.begin(), found.end());
    out.insert(out.end(), found.begin(), found.end());
  }
  return out;
}

cal::Format format_of(const std::string& path) {
  const auto stream = open_stream(path);
  if (!stream) must_read_file(path);  // says why
  std::string head(1 << 16, '\0');
  stream->read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(stream->gcount()));
  return cal::detect_format(head);
}

bool is_profile(cal::Format format) {
  return format == cal::Format::kineto || format == cal::Format::rocprofv3_csv ||
         format == cal::Format::rocprofv3_json || format == cal::Format::h800_classes || format == cal::Format::op_log;
}

cal::KernelRules rules_of(const Options& options) {
  cal::KernelRules rules = cal::builtin_rules();
  config::Diagnostics diagnostics;
  for (const std::string& file : options.rules) rules.add(must_read_file(file), file, diagnostics);
  diagnostics.throw_if_any();
  return rules;
}

json time_json(const cal::KernelTime& time, Duration busy) {
  return {{"count", time.count},
          {"us", static_cast<double>(time.total_ns) / 1e3},
          {"min_us", static_cast<double>(time.min_ns) / 1e3},
          {"max_us", static_cast<double>(time.max_ns) / 1e3},
          {"share", busy.v == 0 ? 0 : static_cast<double>(time.total_ns) / static_cast<double>(busy.v)}};
}

json profile_json(const std::string& file, cal::Format format, const cal::ProfileFold& fold) {
  json out{{"file", file},
           {"format", name_of(format)},
           {"events", fold.events()},
           {"busy_us", static_cast<double>(fold.busy().v) / 1e3},
           {"span_us", static_cast<double>(fold.span().v) / 1e3}};
  json operations = json::object();
  std::int64_t mapped = 0;
  for (const auto& [name, time] : fold.by_operation()) {
    operations[name] = time_json(time, fold.busy());
    mapped += time.total_ns;
  }
  out["operations"] = operations;
  out["mapped_us"] = static_cast<double>(mapped) / 1e3;
  out["unmapped_us"] = static_cast<double>(fold.unmapped_time().v) / 1e3;
  out["accounted_share"] =
      fold.busy().v == 0 ? 1.0
                         : static_cast<double>(mapped + fold.unmapped_time().v) / static_cast<double>(fold.busy().v);
  json unmapped = json::array();
  for (const auto& [name, time] : fold.unmapped()) {
    json row = time_json(time, fold.busy());
    row["kernel"] = name;
    unmapped.push_back(row);
  }
  out["unmapped"] = unmapped;
  return out;
}

void print_profile(const json& p) {
  fmt::print("{}: {}, {} GPU events, busy {:.3f} us\n", p["file"].get<std::string>(), p["format"].get<std::string>(),
             p["events"].get<std::int64_t>(), p["busy_us"].get<double>());
  std::vector<std::pair<double, std::string>> rows;
  for (const auto& [name, time] : p["operations"].items()) rows.emplace_back(-time["us"].get<double>(), name);
  std::sort(rows.begin(), rows.end());
  for (const auto& [us, name] : rows) {
    const json& time = p["operations"][name];
    fmt::print("  {:<12} {:>6} x {:>12.3f} us  {:5.1f}%\n", name, time["count"].get<std::int64_t>(), -us,
               100 * time["share"].get<double>());
  }
  const double busy = p["busy_us"].get<double>(), unmapped = p["unmapped_us"].get<double>();
  fmt::print("  {:<12} {:>8} {:>12.3f} us  {:5.1f}%\n", "not mapped", "", unmapped,
             busy == 0 ? 0 : 100 * unmapped / busy);
  for (const auto& row : p["unmapped"])
    fmt::print("    {:>6} x {:>12.3f} us  {:5.1f}%  {}\n", row["count"].get<std::int64_t>(), row["us"].get<double>(),
               100 * row["share"].get<double>(), row["kernel"].get<std::string>().substr(0, 100));
}

json dataset_json(const cal::Dataset& d) {
  return {{"gemm", d.gemm.size()},           {"moe", d.moe.size()},
          {"exchange", d.exchange.size()},   {"transfer", d.transfer.size()},
          {"attention", d.attention.size()}, {"collective", d.collective.size()},
          {"serving", d.serving.size()}};
}

int run_import(const Options& options) {
  if (options.print_rules) {
    fmt::print("{}", cal::builtin_rules_yaml().substr(1));
    return 0;
  }
  if (options.files.empty()) throw config::ConfigError("calibrate import: error: name at least one file or folder\n");
  const cal::KernelRules rules = rules_of(options);
  config::Diagnostics diagnostics;
  json all = json::array();
  for (const std::string& file : files_below(options.files)) {
    const cal::Format format = format_of(file);
    const bool named = std::find(options.files.begin(), options.files.end(), file) != options.files.end();
    if (format == cal::Format::unknown && !named) {  // a folder may hold other things
      all.push_back({{"file", file}, {"format", "not recognised, passed over"}, {"rows", 0}});
      continue;
    }
    if (format == cal::Format::unknown) {
      diagnostics.error(
          {file, 0, 0}, "the format is not recognised",
          "known: AITER, MoRI, MORI-IO, DeepEP, Kineto, rocprofv3, perftest, rccl-tests, vllm bench serve, op log");
      continue;
    }
    const auto stream = open_stream(file);
    const cal::ImportOptions import{.hardware = {}, .device = options.device};
    if (is_profile(format)) {
      cal::ProfileFold fold(rules);
      cal::import_profile(format, *stream, file, import, fold, diagnostics);
      all.push_back(profile_json(file, format, fold));
    } else {
      cal::Dataset data;
      cal::import_measurements(format, *stream, file, import, data, diagnostics);
      all.push_back(
          {{"file", file}, {"format", name_of(format)}, {"rows", data.size()}, {"kinds", dataset_json(data)}});
    }
    if (stream->bad()) diagnostics.error({file, 0, 0}, "the gzip content is damaged or cut off");
  }
  diagnostics.throw_if_any();
  if (options.json) {
    fmt::print("{}\n", all.dump(2));
    return 0;
  }
  for (const json& entry : all) {
    if (entry.contains("busy_us")) print_profile(entry);
    else
      fmt::print("{}: {}, {} rows\n", entry["file"].get<std::string>(), entry["format"].get<std::string>(),
                 entry["rows"].get<std::int64_t>());
  }
  return 0;
}

cal::CaseList load_cases(const std::string& folder, const Options& options) {
  config::Diagnostics diagnostics;
  cal::Dataset data;
  int tables = 0;
  for (const std::string& file : files_below({folder})) {
    const cal::Format format = format_of(file);
    if (format == cal::Format::unknown || is_profile(format)) continue;
    const auto stream = open_stream(file);
    cal::import_measurements(format, *stream, file, {.hardware = {}, .device = options.device}, data, diagnostics);
    if (stream->bad()) diagnostics.error({file, 0, 0}, "the gzip content is damaged or cut off");
    ++tables;
  }
  diagnostics.throw_if_any();
  if (tables == 0) throw config::ConfigError(fmt::format("{}: error: no table of measurements found\n", folder));
  return cal::cases_of(data);
}

cal::Calibration load_calibration(const std::string& file) {
  config::Diagnostics diagnostics;
  auto calibration = cal::read_calibration(must_read_file(file), file, diagnostics);
  diagnostics.throw_if_any();
  return calibration;
}

json score_json(const cal::ScoreRow& s) {
  return {{"check", s.check},   {"family", s.family}, {"bucket", s.bucket}, {"count", s.count},
          {"median", s.median}, {"p90", s.p90},       {"bias", s.bias}};
}

int run_fit(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  cal::CaseList list = load_cases(options.data, options);
  std::erase_if(list.cases, [&](const cal::Case& c) { return !cal::same_part(c.origin.hardware, options.hardware); });
  if (list.cases.empty())
    throw config::ConfigError(
        fmt::format("{}: error: no row of {} in a model's range\n", options.data, options.hardware));
  cal::FitOptions fit_options;
  fit_options.name = options.name.empty() ? options.hardware : options.name;
  fit_options.hardware = options.hardware;
  fit_options.validate = !options.no_validation;
  cal::Calibration calibration = cal::fit(list.cases, fit_options);
  calibration.note = options.note;
  if (!options.out.empty()) {
    write_file(options.out,
               "# Written by `faultline calibrate fit`; docs/calibration.md says what the numbers mean. Parameters and "
               "residuals only,\n"
               "# no measured row: sizes are logarithms to base 2, a cell is size:log(measured/mechanism):rows.\n" +
                   cal::print_calibration(calibration));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.json) {
    json out{{"calibration", options.out}, {"seconds", seconds}, {"models", json::array()}};
    for (const auto& m : calibration.models) {
      json model{{"name", m.name}, {"rows", m.rows}, {"scores", json::array()}};
      for (const auto& s : m.scores) model["scores"].push_back(score_json(s));
      out["models"].push_back(model);
    }
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  for (const auto& m : calibration.models) {
    fmt::print("{}: {}\n", m.name, m.range);
    for (const auto& p : m.parameters)
      fmt::print("  {:<20} {:>10.4g}  [{:.4g}, {:.4g}] {:<8} {}\n", p.name, p.value, p.low, p.high, p.unit, p.source);
    for (const auto& s : m.scores)
      if (s.family == "all")
        fmt::print("    {:<9} {:<14} {:>6} rows  median {:5.1f}%  p90 {:5.1f}%  bias {:+5.1f}%\n", s.check, s.bucket,
                   s.count, 100 * s.median, 100 * s.p90, 100 * s.bias);
  }
  for (const auto& [reason, count] : list.skipped) fmt::print("left out: {} rows: {}\n", count, reason);
  fmt::print("{:.1f} s{}\n", seconds, options.out.empty() ? "" : ", written to " + options.out);
  return 0;
}

int run_evaluate(const Options& options) {
  const cal::Calibration calibration = load_calibration(options.calibration);
  const cal::CaseList list = load_cases(options.data, options);
  const cal::Evaluation e = cal::evaluate(calibration, list);
  if (options.json) {
    json out{{"calibration", options.calibration},
             {"hardware", calibration.hardware},
             {"data", options.data},
             {"models", json::object()},
             {"worst", json::array()},
             {"skipped", json::array()},
             {"warnings", e.warnings}};
    for (const auto& [model, s] : e.scores) out["models"][model].push_back(score_json(s));
    for (const auto& w : e.worst)
      out["worst"].push_back({{"model", w.model},
                              {"family", w.family},
                              {"place", w.place},
                              {"measured_us", w.measured_us},
                              {"predicted_us", w.predicted_us},
                              {"reason", w.reason}});
    for (const auto& [reason, count] : e.skipped) out["skipped"].push_back({{"reason", reason}, {"rows", count}});
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("{} ({}, {}) on {}\n", options.calibration, calibration.name, calibration.hardware, options.data);
  std::string last;
  for (const auto& [model, s] : e.scores) {
    if (model != last) fmt::print("{}\n", model);
    last = model;
    // What the calibration is not made for gets one line here; --json has all.
    if (s.check.starts_with(cal::kOtherHardware) && (s.family != "all" || s.bucket != "all")) continue;
    fmt::print("  {:<22} {:<34} {:<14} {:>6} rows  median {:5.1f}%  p90 {:5.1f}%  bias {:+5.1f}%\n", s.check, s.family,
               s.bucket, s.count, 100 * s.median, 100 * s.p90, 100 * s.bias);
  }
  fmt::print("worst\n");
  for (const auto& w : e.worst)
    fmt::print("  {} {}: measured {:.1f} us, predicted {:.1f} us ({})\n    {}\n", w.model, w.family, w.measured_us,
               w.predicted_us, w.reason, w.place);
  for (const auto& [reason, count] : e.skipped) fmt::print("left out: {} rows: {}\n", count, reason);
  for (const auto& warning : e.warnings) fmt::print("warning: {}\n", warning);
  return 0;
}

int run_advise(const Options& options) {
  const cal::Calibration calibration = load_calibration(options.calibration);
  const auto advice = cal::advise(calibration);
  if (options.json) {
    json out = json::array();
    for (const auto& a : advice)
      out.push_back({{"model", a.model},
                     {"parameter", a.parameter},
                     {"step_share", a.step_share},
                     {"step_interval", a.step_interval},
                     {"run", a.run}});
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("What to measure next ({}): each line would shrink the interval of a decode step most\n",
             calibration.name);
  for (const auto& a : advice)
    fmt::print("  ±{:4.1f}% of the step from {}.{} ({:.0f}% of the step)\n    {}\n", 100 * a.step_interval, a.model,
               a.parameter, 100 * a.step_share, a.run);
  return 0;
}

// Exit status 1 when a step misses its tolerance: an experiment whose expected answer did not come out.
int run_step(const Options& options) {
  config::Diagnostics diagnostics;
  const cal::Calibration calibration = load_calibration(options.calibration);
  const config::Document document(must_read_file(options.experiment), options.experiment, diagnostics);
  cal::StepExperiments experiments;
  config::read(document, document.root(), "", experiments, diagnostics);
  diagnostics.throw_if_any();
  const cal::KernelRules rules = rules_of(options);
  bool all_hold = true;
  json out{{"experiment", options.experiment}, {"calibration", options.calibration}, {"steps", json::array()}};
  for (const auto& step : experiments.steps) {
    const std::string file = options.data + "/" + step.profile;
    const cal::Format format = format_of(file);
    const auto stream = open_stream(file);
    cal::ProfileFold fold(rules);
    if (!is_profile(format)) diagnostics.error({file, 0, 0}, "expected a profile");
    else cal::import_profile(format, *stream, file, {}, fold, diagnostics);
    diagnostics.throw_if_any();
    const cal::Waterfall w = cal::waterfall(step, calibration, fold);
    all_hold = all_hold && w.holds;
    json rows = json::array();
    for (const auto& r : w.rows)
      rows.push_back({{"operation", r.operation},
                      {"predicted_us", r.predicted_us},
                      {"measured_us", r.measured_us},
                      {"predicted_count", r.predicted_count},
                      {"measured_count", r.measured_count}});
    out["steps"].push_back({{"question", step.question},
                            {"predicted_us", w.predicted_us},
                            {"measured_us", w.measured_us},
                            {"holds", w.holds},
                            {"operations", rows}});
    if (options.json) continue;
    fmt::print("{}\n  expected: {}\n  {:<12} {:>8} {:>12} {:>12} {:>8}\n", step.question, step.expectation, "operation",
               "kernels", "predicted us", "measured us", "error");
    for (const auto& r : w.rows)
      fmt::print("  {:<12} {:>8} {:>12.1f} {:>12.1f} {:>7.1f}%\n", r.operation, r.measured_count, r.predicted_us,
                 r.measured_us, r.measured_us > 0 ? 100 * (r.predicted_us / r.measured_us - 1) : 0);
    fmt::print("  {:<12} {:>8} {:>12.1f} {:>12.1f} {:>7.1f}%  {}\n", "step", fold.events(), w.predicted_us,
               w.measured_us, 100 * (w.predicted_us / w.measured_us - 1), w.holds ? "holds" : "DOES NOT HOLD");
  }
  if (options.json) fmt::print("{}\n", out.dump(2));
  return all_hold ? 0 : 1;
}

const Registration kCalibrate{
    {.order = 50,
     .name = "calibrate",
     .help = "Import measurements, fit cost models to them, score and advise",
     .setup = [](CLI::App& app) {
       auto options = std::make_shared<Options>();
       auto action = std::make_shared<std::function<int()>>();
       app.require_subcommand(1);
       const auto add = [&](const char* name, const char* help, int (*run)(const Options&)) {
         CLI::App* sub = app.add_subcommand(name, help);
         sub->add_flag("--json", options->json, "Print JSON");
         sub->callback([action, options, run] { *action = [options, run] { return run(*options); }; });
         return sub;
       };
       CLI::App* import = add("import", "Read profiles and benchmark tables; say what each kernel is", run_import);
       import->add_option("files", options->files, "Files or folders; formats are recognised by content");
       import->add_option("--rules", options->rules, "YAML with kernel rules, before the built-in ones");
       import->add_option("--device", options->device, "Device of a file that holds several");
       import->add_flag("--print-rules", options->print_rules, "Print the built-in rules");
       CLI::App* fit = add("fit", "Fit the operation models to measurements and write a calibration", run_fit);
       fit->add_option("--data", options->data, "Folder of tables")->required();
       fit->add_option("--hardware", options->hardware, "Hardware tag: MI300X, MI325X, MI308X, MI355X, H800")
           ->capture_default_str();
       fit->add_option("--name", options->name, "Name of the calibration");
       fit->add_option("--note", options->note, "A note kept in the file");
       fit->add_option("--out", options->out, "File to write");
       fit->add_option("--device", options->device, "Device of a table that holds several");
       fit->add_flag("--no-validation", options->no_validation, "Skip cross-validation");
       CLI::App* evaluate = add("evaluate", "Score a calibration on measurements", run_evaluate);
       evaluate->add_option("--calibration", options->calibration, "Calibration file")
           ->default_val("experiments/calibration/mi300x.yaml");
       evaluate->add_option("--data", options->data, "Folder of tables")->required();
       evaluate->add_option("--device", options->device, "Device of a table that holds several");
       CLI::App* step = add("step", "A recorded step against the models, operation by operation", run_step);
       step->add_option("--experiment", options->experiment, "Experiment file")
           ->default_val("experiments/calibration/step_decode.yaml");
       step->add_option("--calibration", options->calibration, "Calibration file")
           ->default_val("experiments/calibration/mi300x.yaml");
       step->add_option("--data", options->data, "Folder of profiles")->required();
       step->add_option("--rules", options->rules, "YAML with kernel rules, before the built-in ones");
       CLI::App* advise = add("advise", "The benchmark runs that would shrink the interval most", run_advise);
       advise->add_option("--calibration", options->calibration, "Calibration file")
           ->default_val("experiments/calibration/mi300x.yaml");
       return std::function<int()>([action] { return (*action)(); });
     }}};

}  // namespace
}  // namespace faultline::cli
