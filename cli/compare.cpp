// faultline compare A B: what differs between two runs; of a simulated and a live one, prediction beside observation.
// With more than two, one table of all.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "cli/run_logs.h"
#include "core/report/compare.h"
#include "core/report/html.h"
#include "core/report/twin.h"
#include "core/report/variants.h"

namespace faultline::cli {
namespace {

struct Options {
  std::vector<std::string> runs;
  bool all = false, json = false, table = false, exit_code = false;
  std::string html;
};

/// A run's output folder or its summary.json.
std::string summary_path(const std::string& run) {
  std::error_code error;
  return std::filesystem::is_directory(run, error) ? (std::filesystem::path(run) / "summary.json").string() : run;
}

/// The folder's name where the file is called summary.json, else the file's.
std::string variant_name(const std::string& run) {
  std::filesystem::path path = std::filesystem::path(run).lexically_normal();
  if (path.filename() == "summary.json" && path.has_parent_path()) path = path.parent_path();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

int run(const Options& o) {
  config::Diagnostics diagnostics;
  std::vector<report::Variant> variants;
  for (const std::string& name : o.runs) {
    const std::string path = summary_path(name);
    if (auto summary = report::read_summary(must_read_file(path), path, diagnostics)) {
      variants.push_back({variant_name(name), *std::move(summary)});
    }
  }
  diagnostics.throw_if_any();
  const std::string title = "Comparison of " + std::to_string(variants.size()) + " runs";
  if (!o.html.empty()) write_file(o.html, report::html_page(title, report::variants_html(title, variants)));
  if (o.table || variants.size() > 2) {
    const std::string text =
        o.json ? report::variants_json(title, variants).dump(2) + "\n" : report::variants_text(title, variants);
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  if (report::is_live(variants[0].summary) != report::is_live(variants[1].summary) && !o.all) {
    const std::size_t live = report::is_live(variants[0].summary) ? 0 : 1, sim = 1 - live;
    const auto lines = report::twin_lines(variants[sim].summary, variants[live].summary, instances_hit(o.runs[sim]),
                                          instances_hit(o.runs[live]));
    const std::string twin = o.json ? report::twin_json(o.runs[sim], o.runs[live], lines).dump(2) + "\n"
                                    : report::twin_text(o.runs[sim], o.runs[live], lines);
    std::fputs(twin.c_str(), stdout);
    return o.exit_code && !report::all_within(lines) ? 1 : 0;
  }
  const auto list = report::differences(variants[0].summary, variants[1].summary);
  const std::string text = o.json ? report::differences_json(o.runs[0], o.runs[1], list).dump(2) + "\n"
                                  : report::differences_text(o.runs[0], o.runs[1], list, o.all);
  std::fputs(text.c_str(), stdout);
  return o.exit_code && !report::same_run(list) ? 1 : 0;
}

const Registration kCompare{
    {.order = 60,
     .name = "compare",
     .help = "Compare the summaries of two or more runs; a simulated with a live one: prediction beside observation",
     .setup = [](CLI::App& app) -> std::function<int()> {
       auto o = std::make_shared<Options>();
       app.add_option("runs", o->runs, "Output folders or summary.json files")->required()->expected(2, 1000);
       app.add_flag("--all", o->all, "Every field, equal ones too");
       app.add_flag("--table", o->table, "One row a run, also for two runs");
       app.add_flag("--json", o->json, "Print JSON");
       app.add_option("--html", o->html, "Write the table and charts to this file");
       app.add_flag(
           "--exit-code", o->exit_code,
           "Exit with 1 if two runs differ (machine figures apart), or a prediction is outside what is allowed");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
