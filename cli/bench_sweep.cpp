// faultline bench sweep: the same sweep by one process and by several, alone and under mpirun; what the others add.
// Figures only; nothing is asserted.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"

namespace faultline::cli {
namespace {

struct Options {
  std::string experiment = "experiments/bench/replicas_3_instances.yaml";
  int replicas = 100, processes = 0;
  bool json = false;
};

/// Seconds from the start of the command to its end, with its output thrown away; throws where it fails.
double wall_s(std::vector<std::string> command) {
  const auto began = std::chrono::steady_clock::now();
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("cannot start a process");
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(null, 1), dup2(null, 2);
    std::vector<char*> argv;
    for (std::string& a : command) argv.push_back(a.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error(command[0] + ": the benchmark run failed");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

int run(const Options& o) {
  namespace fs = std::filesystem;
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int n = o.processes > 0 ? o.processes : cores;
  const fs::path folder = fs::temp_directory_path() / fmt::format("faultline-bench-sweep-{}", getpid());
  fs::create_directories(folder);
  const auto sweep = [&](const std::string& out, int jobs) {
    return std::vector<std::string>{program,   "sweep", o.experiment,         "--seeds", std::to_string(o.replicas),
                                    "--quiet", "-j",    std::to_string(jobs), "--out",   (folder / out).string()};
  };
  struct Row {
    std::string how;
    int processes;
    double wall;
  };
  std::vector<Row> rows{{"one process", 1, wall_s(sweep("one.sqlite", 1))},
                        {"processes of one command", n, wall_s(sweep("many.sqlite", n))}};
  const bool mpi = fs::exists(fs::path(program).parent_path() / "libfaultline_mpi.so") &&
                   std::system("mpirun --version >/dev/null 2>&1") == 0;
  if (mpi) {
    std::vector<std::string> command{"mpirun", "-np", std::to_string(n)};
    if (n > cores) command.insert(command.begin() + 1, "--oversubscribe");
    if (geteuid() == 0) command.insert(command.begin() + 1, "--allow-run-as-root");
    for (const std::string& a : sweep("mpi.sqlite", 1)) command.push_back(a);
    rows.push_back({"ranks under mpirun", n, wall_s(command)});
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  double load[1] = {0};
  const double load_average = getloadavg(load, 1) == 1 ? load[0] : -1;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  if (!o.json)
    fmt::print("{} replicas of {}, start-up included; {} cores, load {:.1f}\n", o.replicas, o.experiment, cores,
               load_average);
  for (const Row& r : rows) {
    // Against the cores that there are: more processes than these cannot add anything.
    const double efficiency = rows[0].wall / (r.wall * std::min(r.processes, cores));
    list.push_back({{"how", r.how}, {"processes", r.processes}, {"wall_s", r.wall}, {"efficiency", efficiency}});
    if (!o.json) fmt::print("  {:<26} {:>3}  {:>8.2f} s  efficiency {:.2f}\n", r.how, r.processes, r.wall, efficiency);
  }
  if (!mpi && !o.json) fmt::print("  (no mpirun here)\n");
  if (o.json)
    fmt::print("{}\n",
               nlohmann::ordered_json{
                   {"load_average", load_average}, {"cores", cores}, {"replicas", o.replicas}, {"scaling", list}}
                   .dump(2));
  return 0;
}

const Registration kBenchSweep{
    {.order = 72,
     .name = "bench sweep",
     .help = "Scaling of a sweep over processes and MPI ranks",
     .setup = [](CLI::App& app) {
       auto o = std::make_shared<Options>();
       app.add_option("--experiment", o->experiment, "Experiment that is swept over seeds")->capture_default_str();
       app.add_option("--replicas", o->replicas, "Seeds")->check(CLI::Range(2, 1'000'000))->capture_default_str();
       app.add_option("--processes,-n", o->processes, "How many (default: the cores)")->check(CLI::Range(2, 4096));
       app.add_flag("--json", o->json, "Print JSON");
       return [o] { return run(*o); };
     }}};

}  // namespace
}  // namespace faultline::cli
