#include "cli/case_runs.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/run.h"
#include "core/experiment/deployment.h"
#include "core/report/report.h"
#include "core/report/summary_json.h"
#include "sim/driver/replicas.h"
#include "sim/driver/simulate.h"

namespace faultline::cli {
namespace {

struct Child {
  pid_t pid = -1;
  int fd = -1;
  std::size_t index = 0;
  std::string bytes;  // 'S' and a summary, or 'E' and an error
};

std::string summary_of(const experiment::ExperimentSpec& spec, bool unpaired) {
  const auto deployment = experiment::deploy(spec);
  std::vector<sim::ReplicaJob> jobs;
  if (!unpaired && !deployment->faults.empty()) jobs.push_back({.with_faults = false});
  sim::Replicas others(spec, *deployment, read_text, jobs);
  const record::RunRecord run = sim::simulate(spec, *deployment, read_text, {});
  const auto pair = others.collect();
  metrics::Options options;
  options.gpu_price_per_hour = spec.cost.gpu_hour;
  const report::Report report = report::make_report(run, pair.empty() ? nullptr : &pair[0], nullptr, options);
  return report::summary_json(report).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write_all(int fd, std::string_view rest) {
  while (!rest.empty()) {
    const ssize_t n = write(fd, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(1);
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
}

Child start(const experiment::ExperimentSpec& spec, std::size_t index, bool unpaired,
            const std::vector<Child>& others) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (pid == 0) {
    close(ends[0]);
    for (const Child& c : others) close(c.fd);
    signal(SIGINT, SIG_IGN);  // the parent decides; what runs is finished
    try {
      write_all(ends[1], "S" + summary_of(spec, unpaired));
    } catch (const std::exception& e) {
      write_all(ends[1], std::string("E") + e.what());
    }
    _exit(0);
  }
  close(ends[1]);
  return {pid, ends[0], index, {}};
}

CaseResult result_of(const Child& child) {
  close(child.fd);
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return {"", fmt::format("the run died of signal {}", WTERMSIG(status))};
  if (WEXITSTATUS(status) != 0 || child.bytes.empty())
    return {"", fmt::format("the run ended with status {}", WEXITSTATUS(status))};
  return child.bytes[0] == 'S' ? CaseResult{child.bytes.substr(1), ""} : CaseResult{"", child.bytes.substr(1)};
}

}  // namespace

void run_cases(const std::vector<experiment::ExperimentSpec>& specs, const std::vector<std::size_t>& which,
               std::size_t jobs, bool unpaired, const std::function<void(std::size_t, const CaseResult&)>& done,
               const std::function<void()>& turn) {
  std::vector<Child> children;
  std::size_t next = 0;
  while ((next < which.size() && !interrupted) || !children.empty()) {
    while (children.size() < jobs && next < which.size() && !interrupted) {
      children.push_back(start(specs[which[next]], which[next], unpaired, children));
      ++next;
    }
    std::vector<pollfd> fds;
    for (const Child& c : children) fds.push_back({c.fd, POLLIN, 0});
    if (poll(fds.data(), fds.size(), 500) < 0 && errno != EINTR) throw std::runtime_error("poll failed");
    for (std::size_t i = children.size(); i-- > 0;) {
      if (!(fds[i].revents & (POLLIN | POLLHUP))) continue;
      char buffer[1 << 16];
      const ssize_t n = read(children[i].fd, buffer, sizeof buffer);
      if (n > 0) children[i].bytes.append(buffer, static_cast<std::size_t>(n));
      if (n > 0 || (n < 0 && errno == EINTR)) continue;
      const Child ended = std::move(children[i]);
      children.erase(children.begin() + static_cast<std::ptrdiff_t>(i));
      done(ended.index, result_of(ended));
    }
    if (turn) turn();
  }
}

CaseResult run_case(const experiment::ExperimentSpec& spec, bool unpaired) {
  const Child child = start(spec, 0, unpaired, {});
  Child reading = child;
  char buffer[1 << 16];
  for (ssize_t n = 0; (n = read(reading.fd, buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    reading.bytes.append(buffer, static_cast<std::size_t>(n));
  }
  return result_of(reading);
}

}  // namespace faultline::cli
