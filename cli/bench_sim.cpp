// faultline bench sim: whole runs of the simulator, each in a process of its own from start to written outputs, as a
// user would run it. Figures only; nothing is asserted.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace faultline::cli {
namespace {

struct Case {
  std::string experiment;
  std::int64_t requests;
  double goal;  // requests per CPU-second, whole process
};

struct Figure {
  double wall_s, cpu_s;
  std::int64_t rss;
};

/// Runs this very program; CPU of the whole process, start-up and output included.
Figure run_once(const std::string& program, const std::vector<std::string>& arguments) {
  const auto began = std::chrono::steady_clock::now();
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("cannot start a process");
  if (pid == 0) {
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  wait4(pid, &status, 0, &usage);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error(fmt::format("a benchmark run of {} failed", arguments[1]));
  const auto s = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(),
          s(usage.ru_utime) + s(usage.ru_stime), usage.ru_maxrss * 1024};
}

int run_sim(const std::string& folder, int repeats, bool json) {
  const std::vector<Case> cases{{"one_instance", 10'000, 100'000},          {"fleet_of_32", 10'000, 100'000},
                                {"disaggregated_50_nodes", 10'000, 50'000}, {"disaggregated_50_nodes", 50'000, 50'000},
                                {"deepseek_ep32", 10'000, 20'000},          {"deepseek_ep32", 50'000, 20'000}};
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto out = std::filesystem::temp_directory_path() / fmt::format("faultline-bench-{}", getpid());
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  double load[1] = {0};
  const bool has_load = getloadavg(load, 1) == 1;
  if (!json) {
    fmt::print("whole process, event log and metrics on, unpaired; best and median of {}; load {:.1f}\n", repeats,
               has_load ? load[0] : -1);
    fmt::print("{:<24} {:>8} {:>9} {:>9} {:>9} {:>8}\n", "experiment", "requests", "best r/s", "median", "goal",
               "RSS MiB");
  }
  for (const Case& c : cases) {
    std::vector<Figure> figures;
    for (int k = 0; k < repeats; ++k) {
      figures.push_back(
          run_once(program, {"run", folder + "/" + c.experiment + ".yaml", "--unpaired", "--quiet", "--out",
                             out.string(), "--set", fmt::format("workload.requests={}", c.requests)}));
    }
    std::sort(figures.begin(), figures.end(), [](const Figure& a, const Figure& b) { return a.cpu_s < b.cpu_s; });
    const Figure& best = figures.front();
    const Figure& median = figures[figures.size() / 2];
    const double n = static_cast<double>(c.requests);
    rows.push_back({{"experiment", c.experiment},
                    {"requests", c.requests},
                    {"goal_requests_per_cpu_s", c.goal},
                    {"requests_per_cpu_s", n / best.cpu_s},
                    {"requests_per_cpu_s_median", n / median.cpu_s},
                    {"cpu_s", best.cpu_s},
                    {"wall_s", best.wall_s},
                    {"peak_rss_bytes", best.rss}});
    if (!json) {
      fmt::print("{:<24} {:>8} {:>9.0f} {:>9.0f} {:>9.0f} {:>8.0f}\n", c.experiment, c.requests, n / best.cpu_s,
                 n / median.cpu_s, c.goal, static_cast<double>(best.rss) / 1048576);
    }
  }
  std::error_code error;
  std::filesystem::remove_all(out, error);
  if (json)
    fmt::print("{}\n", nlohmann::ordered_json{{"load_average", has_load ? load[0] : -1}, {"sim", rows}}.dump(2));
  return 0;
}

const Registration kSim{
    {.order = 70, .name = "bench sim", .help = "Speed of the simulator: whole runs", .setup = [](CLI::App& app) {
       auto folder = std::make_shared<std::string>("experiments/bench");
       auto repeats = std::make_shared<int>(5);
       auto json = std::make_shared<bool>(false);
       app.add_option("--experiments", *folder, "Folder of the benchmark's experiments");
       app.add_option("--repeats", *repeats, "Runs of each")->check(CLI::Range(1, 1000));
       app.add_flag("--json", *json, "Print JSON");
       return [=] { return run_sim(*folder, *repeats, *json); };
     }}};

}  // namespace
}  // namespace faultline::cli
