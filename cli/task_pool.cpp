#include "cli/task_pool.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <stdexcept>

#include "cli/fluid_run.h"
#include "core/report/summary_json.h"
#include "sim/driver/replicas.h"
#include "sim/driver/simulate.h"

namespace faultline::cli {
namespace {

constexpr std::size_t kPreparedMax = 64;  // deployments kept: a large topology takes some megabytes

[[noreturn]] void child(int fd, const std::function<std::string(std::size_t)>& run, std::size_t task) {
  int status = 1;
  try {
    signal(SIGINT, SIG_IGN);  // the parent decides; what runs is finished
    signal(SIGTERM, SIG_DFL);
    const std::string text = run(task);
    std::string_view rest = text;
    while (!rest.empty()) {
      const ssize_t n = write(fd, rest.data(), rest.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    status = rest.empty() ? 0 : 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
  }
  _exit(status);  // not exit(): buffers and handlers are the parent's
}

}  // namespace

TaskPool::~TaskPool() {
  for (Worker& w : workers_) {
    close(w.fd);
    kill(w.pid, SIGKILL);
    waitpid(w.pid, nullptr, 0);
  }
}

void TaskPool::start(std::size_t task) {
  if (work_.prepare) work_.prepare(task);
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (pid == 0) {
    close(ends[0]);
    for (const Worker& w : workers_) close(w.fd);
    child(ends[1], work_.run, task);
  }
  close(ends[1]);
  workers_.push_back({pid, ends[0], task, {}});
}

bool TaskPool::turn(int wait_ms, const Done& done) {
  while (workers_.size() < jobs_ && next_ < tasks_.size() && !interrupted && !failed_) start(tasks_[next_++]);
  if (workers_.empty()) return false;
  std::vector<pollfd> fds;
  for (const Worker& w : workers_) fds.push_back({w.fd, POLLIN, 0});
  if (poll(fds.data(), fds.size(), wait_ms) < 0 && errno != EINTR) throw std::runtime_error("poll failed");
  for (std::size_t i = workers_.size(); i-- > 0;) {
    if (!(fds[i].revents & (POLLIN | POLLHUP))) continue;
    char buffer[1 << 16];
    const ssize_t n = read(workers_[i].fd, buffer, sizeof buffer);
    if (n > 0) {
      workers_[i].bytes.append(buffer, static_cast<std::size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    close(workers_[i].fd);
    int status = 0;
    while (waitpid(workers_[i].pid, &status, 0) < 0 && errno == EINTR) {
    }
    const Worker w = std::move(workers_[i]);
    workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) done(w.task, w.bytes);
    else failed_ = w.task;
  }
  return true;
}

namespace {

std::string replica_summary(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                            bool unpaired) {
  if (spec.fidelity == experiment::Fidelity::fluid) return fluid_summary(*make_fluid(spec, {})).dump();
  std::vector<sim::ReplicaJob> jobs;
  if (!deployment.faults.empty() && !unpaired) jobs.push_back({.with_faults = false});
  sim::Replicas others(spec, deployment, read_text, jobs);
  const record::RunRecord run = sim::simulate(spec, deployment, read_text, {});
  const auto pair = others.collect();
  metrics::Options options;
  options.gpu_price_per_hour = spec.cost.gpu_hour;
  const report::Report report = report::make_report(run, pair.empty() ? nullptr : &pair[0], nullptr, options);
  nlohmann::ordered_json json = report::summary_json(report);
  // A replica is a pure function of (experiment, seed): what depends on the machine is not of it.
  for (const char* key : {"wall_s", "cpu_s", "requests_per_cpu_s", "peak_rss_bytes"}) json["simulator"].erase(key);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct Shared {
  std::vector<experiment::ExperimentSpec> specs;
  std::vector<ReplicaTask> replicas;
  std::map<std::size_t, std::unique_ptr<experiment::Deployment>> prepared;
};

}  // namespace

Work replica_work(std::vector<experiment::ExperimentSpec> specs, std::vector<ReplicaTask> replicas, bool unpaired) {
  auto shared = std::make_shared<Shared>(Shared{std::move(specs), std::move(replicas), {}});
  Work work;
  work.prepare = [shared](std::size_t task) {
    const std::size_t spec = shared->replicas[task].spec;
    if (shared->specs[spec].fidelity == experiment::Fidelity::fluid || shared->prepared.contains(spec)) return;
    if (shared->prepared.size() >= kPreparedMax) shared->prepared.clear();
    shared->prepared[spec] = experiment::deploy(shared->specs[spec]);
  };
  work.run = [shared, unpaired](std::size_t task) {
    const ReplicaTask& r = shared->replicas[task];
    experiment::ExperimentSpec& spec = shared->specs[r.spec];
    spec.seed = r.seed;
    static experiment::Deployment none;
    auto& deployment = shared->prepared[r.spec];
    if (deployment) experiment::reseed(*deployment, spec);
    return replica_summary(spec, deployment ? *deployment : none, unpaired);
  };
  return work;
}

}  // namespace faultline::cli
