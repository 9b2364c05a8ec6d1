// faultline run: simulate an experiment, with the fault, without it and as placebo, and report what was lost. Several
// experiments: run_many.cpp.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/campaign.h"
#include "cli/fluid_run.h"
#include "cli/run.h"
#include "core/experiment/deployment.h"
#include "core/record/event_log.h"
#include "core/report/html.h"
#include "core/report/report.h"
#include "core/report/requests_jsonl.h"
#include "core/report/summary_json.h"
#include "core/report/terminal.h"
#include "sim/driver/replicas.h"
#include "sim/driver/simulate.h"

namespace faultline::cli {

std::atomic<bool> interrupted{false};

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw std::runtime_error(fmt::format("cannot make the folder {}: {}", path, error.message()));
}

namespace {

/// Appends to a file as the run goes on; a full disk ends the run with the system's reason.
class LogFile {
 public:
  explicit LogFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    check(file_ != nullptr);
  }
  ~LogFile() {
    if (file_) std::fclose(file_);
  }
  void write(std::string_view bytes) { check(std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size()); }
  void close() {
    const bool ok = std::fclose(file_) == 0;
    file_ = nullptr;
    check(ok);
  }

 private:
  void check(bool ok) const {
    if (!ok) throw std::runtime_error(fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
  }
  std::string path_;
  std::FILE* file_;
};

std::string default_out(const std::string& name) { return "out/" + name; }

}  // namespace

int run_one(const RunOptions& options) {
  const LoadedExperiment loaded = load_experiment(options.experiment);
  const experiment::ExperimentSpec& spec = loaded.spec;
  if (spec.fidelity == experiment::Fidelity::fluid) return run_fluid(options, spec);
  if (!options.prices.empty() || !options.state.empty() || options.check_fidelity) {
    throw config::ConfigError(
        options.experiment.file +
        ": error: --prices, --state and --against-step need 'fidelity: fluid'\n  add --set fidelity=fluid\n");
  }
  const auto deployment = experiment::deploy(spec);
  const std::string out = options.out.empty() ? default_out(spec.name) : options.out;
  make_folder(out);
  const std::string resolved = experiment::resolved(spec);
  write_file(out + "/experiment.yaml", resolved);

  catch_interrupts();
  const bool paired = !options.unpaired && !deployment->faults.empty();
  LogFile log_file(out + "/events.flog");
  record::EventLogWriter log(resolved, [&](std::string_view bytes) { log_file.write(bytes); });
  sim::SimulateOptions with;
  with.log = &log;
  record::TruthLog truth(spec.seed);
  with.truth = &truth;
  const bool tty = isatty(STDERR_FILENO) != 0;
  const double total = spec.workload.duration ? seconds(*spec.workload.duration) : 0;
  bool printed = false;
  const double began = static_cast<double>(clock()) / CLOCKS_PER_SEC;
  double last = began;
  with.progress = [&](Instant now, std::uint64_t done) {
    const double t = static_cast<double>(clock()) / CLOCKS_PER_SEC;
    if (tty && !options.quiet && t - began > 1 && t - last > 0.1) {
      last = t;
      printed = true;
      const double share = total > 0 ? std::min(1.0, seconds(now) / total) : 0;
      std::string bar;
      for (int k = 0; k < 24; ++k) bar += k < share * 24 ? "█" : "░";
      fmt::print(stderr, "\r{} {:>7.1f} s simulated, {} requests done ", total > 0 ? bar : "", seconds(now), done);
    }
    return !interrupted.load();
  };
  // The paired runs come first, in processes of their own: this process is still small, and they need no log.
  std::vector<sim::ReplicaJob> jobs;
  if (paired) {
    jobs.push_back({.with_faults = false});
    jobs.push_back({.with_faults = true, .placebo = true});
  }
  sim::Replicas others(spec, *deployment, read_text, jobs);
  record::RunRecord run = sim::simulate(spec, *deployment, read_text, with);
  if (printed) fmt::print(stderr, "\r{:78}\r", "");
  log_file.close();
  // A run that was cut short is not compared with whole ones: only what it shows by itself is reported.
  const std::vector<record::RunRecord> pair = interrupted ? std::vector<record::RunRecord>{} : others.collect();
  if (interrupted) {
    fmt::print(
        stderr,
        "interrupted: what was simulated up to {:.1f} s is reported, without comparison to a run without the fault\n",
        seconds(run.end));
  }

  metrics::Options metric_options;
  metric_options.gpu_price_per_hour = spec.cost.gpu_hour;
  const report::Report report =
      report::make_report(run, pair.empty() ? nullptr : &pair[0], pair.size() < 2 ? nullptr : &pair[1], metric_options,
                          resolved, sources_of(spec));
  write_file(out + "/truth.jsonl", truth.text());
  write_file(out + "/requests.jsonl", report::requests_jsonl(run));
  const std::string summary = report::summary_text(report);
  write_file(out + "/summary.json", summary);
  if (!options.no_html) write_file(out + "/report.html", report::html_text(report));
  if (options.json) {
    std::fputs(summary.c_str(), stdout);
  } else if (options.report && !options.quiet) {
    std::fputs(report::terminal_text(report, {.colour = isatty(STDOUT_FILENO) != 0}).c_str(), stdout);
    fmt::print(
        "\nwritten     {}/\n            report.html summary.json requests.jsonl experiment.yaml events.flog\n          "
        "  truth.jsonl\n",
        out);
  }
  if (report.summary.requests.unaccounted != 0) {
    fmt::print(stderr, "faultline: error: {} requests are unaccounted for\n", report.summary.requests.unaccounted);
    return 1;
  }
  for (const std::string& violation : report.summary.violations)
    fmt::print(stderr, "faultline: error: {}\n", violation);
  if (!report.summary.violations.empty()) return 1;
  return interrupted ? 130 : 0;
}

namespace {

const Registration kRun{
    {.order = 10,
     .name = "run",
     .help = "Simulate an experiment and report what its faults cost; several: one table of all",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<RunOptions>();
       app.add_option("experiment", o->files, "Experiment files (YAML), or folders of them")->required();
       add_override_options(app, o->experiment);
       add_campaign_options(app, o->experiment);
       app.add_option("--out", o->out,
                      "Folder for the outputs (default: out/<name of the experiment>; with several: the folder above)");
       app.add_flag("--json", o->json, "Print summary.json (with several: comparison.json) instead of the report");
       app.add_flag("--unpaired", o->unpaired, "Only the run with the faults: no paired runs, no losses by difference");
       app.add_flag("--quiet,-q", o->quiet, "Print nothing but errors");
       app.add_option("--prices", o->prices, "Price file (fidelity fluid)");
       app.add_option("--state", o->state, "Start from this state of the fleet (fidelity fluid)");
       app.add_flag("--against-step", o->check_fidelity,
                    "Run a fluid experiment at step fidelity, too, and print the difference");
       app.add_flag("--no-html", o->no_html, "Do not write report.html");
       return [o] {
         const auto [files, others] = experiment_files(o->files);
         for (const std::string& other : others) {
           if (!o->quiet) fmt::print(stderr, "not run here: {}\n", other);
         }
         if (files.size() > 1) return run_many(*o, files);
         o->experiment.file = files.front();
         if (!o->experiment.campaign.empty() && o->experiment.case_name.empty()) return run_campaign(*o);
         return run_one(*o);
       };
     }}};

}  // namespace
}  // namespace faultline::cli
