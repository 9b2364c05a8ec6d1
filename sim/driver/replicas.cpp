#include "sim/driver/replicas.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "core/record/run_codec.h"
#include "sim/driver/simulate.h"

namespace faultline::sim {
namespace {

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

Replicas::Replicas(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                   const config::FileReader& reader, const std::vector<ReplicaJob>& jobs) {
  for (const ReplicaJob& job : jobs) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
    std::fflush(nullptr);
    const pid_t pid = fork();
    if (pid < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
    if (pid == 0) {
      close(ends[0]);
      int status = 1;
      try {
        SimulateOptions options;
        options.with_faults = job.with_faults;
        options.placebo = job.placebo;
        record::RunRecord run;
        if (job.seed_offset == 0) {
          run = simulate(spec, deployment, reader, options);
        } else {
          experiment::ExperimentSpec other = spec;
          other.seed += job.seed_offset;
          run = simulate(other, *experiment::deploy(other), reader, options);
        }
        status = write_all(ends[1], record::encode_run(run)) ? 0 : 1;
      } catch (const std::exception& e) {
        fmt::print(stderr, "{}\n", e.what());
      }
      close(ends[1]);
      _exit(status);  // not exit(): the parent's buffers and handlers are the parent's
    }
    close(ends[1]);
    children_.push_back({pid, ends[0]});
  }
}

Replicas::~Replicas() {
  for (Child& c : children_) {
    if (c.read_end >= 0) close(c.read_end);
    if (c.pid > 0) {
      kill(c.pid, SIGKILL);
      waitpid(c.pid, nullptr, 0);
    }
  }
}

std::vector<record::RunRecord> Replicas::collect() {
  std::vector<record::RunRecord> runs;
  for (Child& c : children_) {
    std::string bytes;
    char buffer[1 << 16];
    ssize_t n = 0;
    while ((n = read(c.read_end, buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR)) {
      if (n > 0) bytes.append(buffer, static_cast<std::size_t>(n));
    }
    close(c.read_end);
    c.read_end = -1;
    int status = 0;
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR) {
    }
    c.pid = -1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      throw std::runtime_error(WIFSIGNALED(status)
                                   ? fmt::format("a paired run was ended by signal {}", WTERMSIG(status))
                                   : std::string("a paired run failed"));
    }
    runs.push_back(record::decode_run(bytes));
  }
  return runs;
}

}  // namespace faultline::sim
