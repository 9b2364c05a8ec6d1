// faultline cluster run: an experiment on live processes of this host. The two hidden commands are those processes.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "backend/driver/conductor.h"
#include "backend/driver/member.h"
#include "backend/driver/observe.h"
#include "backend/driver/worker.h"
#include "cli/run.h"
#include "core/fluid/capacity.h"
#include "core/report/html.h"
#include "core/report/report.h"
#include "core/report/requests_jsonl.h"
#include "core/report/summary_json.h"
#include "core/report/terminal.h"

namespace faultline::cli {
namespace {

struct Options {
  ExperimentOptions experiment;
  std::string out;
  double speed = 1;
  std::int64_t scale = 1000;
  bool json = false, quiet = false, no_html = false;
};

int run(const Options& o) {
  const LoadedExperiment loaded = load_experiment(o.experiment);
  const experiment::ExperimentSpec& spec = loaded.spec;
  const std::string resolved = experiment::resolved(spec);
  const std::string out = o.out.empty() ? "out/live/" + spec.name : o.out;
  live::LiveOptions options;
  options.program = std::filesystem::read_symlink("/proc/self/exe").string();
  options.out = std::filesystem::absolute(out).string();
  options.speed = o.speed;
  options.scale = o.scale;
  catch_interrupts();
  const bool tty = isatty(STDERR_FILENO) != 0;
  options.progress = [&](Instant now, std::uint64_t arrived, std::uint64_t done) {
    if (tty && !o.quiet) {
      if (now.ns == 0) fmt::print(stderr, "\rstarting processes …");
      else
        fmt::print(stderr, "\r{:>7.1f} s of the run at {}x, {} requests, {} done ", seconds(now), o.speed, arrived,
                   done);
    }
    return !interrupted.load();
  };
  live::Conductor conductor(spec, resolved, options, read_text);  // refuses what it cannot do before it writes anything
  std::filesystem::remove_all(out + "/logs");                     // of an earlier run
  make_folder(out + "/logs");
  write_file(out + "/experiment.yaml", resolved);
  const live::LiveRun live = conductor.run();
  if (tty && !o.quiet) fmt::print(stderr, "\r{:78}\r", "");
  if (live.interrupted)
    fmt::print(stderr, "interrupted: what the processes did up to {:.1f} s is reported\n", seconds(live.end));
  record::RunRecord record = live::observe(spec, conductor.cluster().deployment(), live, live::read_logs(out));

  // Workers are paced by these prices; which steps they ran is in their logs only, so shares are those of the load.
  const auto& deployment = conductor.cluster().deployment();
  record.cost_model =
      fluid::cost_model_of(spec, deployment, fluid::capacity_of(spec, deployment, fluid::load_of(spec, read_text)));
  metrics::Options metric_options;
  metric_options.gpu_price_per_hour = spec.cost.gpu_hour;
  const report::Report report =
      report::make_report(record, nullptr, nullptr, metric_options, resolved, sources_of(spec));
  write_file(out + "/truth.jsonl", live.truth);
  write_file(out + "/requests.jsonl", report::requests_jsonl(record));
  const std::string summary = report::summary_text(report);
  write_file(out + "/summary.json", summary);
  if (!o.no_html) write_file(out + "/report.html", report::html_text(report));
  if (o.json) {
    std::fputs(summary.c_str(), stdout);
  } else if (!o.quiet) {
    std::fputs(report::terminal_text(report, {.colour = isatty(STDOUT_FILENO) != 0}).c_str(), stdout);
    fmt::print(
        "\nlive        {} processes and their workers at {}x, {} exchanges of worker groups, {} KV hand-offs with "
        "{:.1f} MB (1 byte for {} of the model)\n",
        live.processes, o.speed, live.exchanges, live.kv_pushes, static_cast<double>(live.kv_bytes) / 1e6, o.scale);
    fmt::print(
        "written     {}/\n            report.html summary.json requests.jsonl experiment.yaml truth.jsonl "
        "logs/*.flog\n",
        out);
  }
  if (report.summary.requests.unaccounted != 0) {
    fmt::print(stderr, "faultline: error: {} requests are unaccounted for\n", report.summary.requests.unaccounted);
    return 1;
  }
  if (live.exchanges_wrong + live.kv_wrong > 0) {
    fmt::print(stderr, "faultline: error: {} exchanges and {} KV hand-offs were wrong\n", live.exchanges_wrong,
               live.kv_wrong);
    return 1;
  }
  return live.interrupted ? 130 : 0;
}

const Registration kRun{
    {.order = 25,
     .name = "cluster run",
     .help = "Run an experiment on live processes of this host: real controllers, sockets, signals; paced steps",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       add_experiment_options(app, o->experiment);
       app.add_option("--speed", o->speed, "Seconds of the experiment for each real one")
           ->check(CLI::Range(0.01, 1000.0));
       app.add_option("--scale", o->scale, "Bytes of the model's KV for each byte that is moved")
           ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
       app.add_option("--out", o->out, "Folder for the outputs (default: out/live/<name of the experiment>)");
       app.add_flag("--json", o->json, "Print summary.json instead of the report");
       app.add_flag("--quiet,-q", o->quiet, "Print nothing but errors");
       app.add_flag("--no-html", o->no_html, "Do not write report.html");
       return [o] { return run(*o); };
     }}};

/// A process of a cluster; started by `cluster run` with what it needs in inherited descriptors.
const Registration kMember{
    {.order = 26, .name = "cluster member", .help = "", .setup = [](CLI::App& app) {
       app.group("");
       auto role = std::make_shared<std::string>();
       auto index = std::make_shared<std::uint32_t>(0), incarnation = std::make_shared<std::uint32_t>(0);
       app.add_option("--role", *role)->required()->check(CLI::IsMember({"router", "fleet", "instance", "node"}));
       app.add_option("--index", *index)->required();
       app.add_option("--incarnation", *incarnation)->required();
       return [role, index, incarnation] {
         const Role r = *role == "router"     ? Role::router
                        : *role == "fleet"    ? Role::fleet
                        : *role == "instance" ? Role::instance
                                              : Role::node;
         return live::run_member({r, *index}, *incarnation, read_text);
       };
     }}};
const Registration kWorker{{.order = 27, .name = "cluster worker", .help = "", .setup = [](CLI::App& app) {
                              app.group("");
                              auto o = std::make_shared<live::WorkerOptions>();
                              app.add_option("--group", o->group)->required();
                              app.add_option("--index", o->index)->required();
                              app.add_option("--count", o->count)->required();
                              app.add_option("--gpus", o->gpus)->required();
                              return [o] { return live::run_worker(*o, read_text); };
                            }}};

}  // namespace
}  // namespace faultline::cli
