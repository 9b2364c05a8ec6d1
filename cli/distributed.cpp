#include "cli/distributed.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>

#include "cli/mpi_link.h"
#include "cli/run.h"
#include "core/base/module.h"

namespace faultline::cli {
namespace {

int from_environment(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    if (const char* text = std::getenv(name); text != nullptr && *text != '\0') return std::atoi(text);
  }
  return otherwise;
}

bool write_all(int fd, const void* data, std::size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}
bool read_all(int fd, void* data, std::size_t size) {
  char* p = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = read(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

/// Runs tasks for a rank. It is started before MPI is: a process of MPI is better not forked.
class Runner {
 public:
  explicit Runner(const Work& work) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
      throw std::runtime_error(fmt::format("cannot make a socket pair: {}", std::strerror(errno)));
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
    if (pid_ == 0) {
      close(ends[0]);
      serve(ends[1], work);
    }
    close(ends[1]);
    fd_ = ends[0];
  }
  ~Runner() {
    close(fd_);
    waitpid(pid_, nullptr, 0);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  bool idle() const { return !busy_; }
  void start(std::uint64_t task) {
    busy_ = true;
    task_ = task;
    if (!write_all(fd_, &task, sizeof task)) throw std::runtime_error("a task process is gone");
  }
  struct Answer {
    bool well = false;
    std::uint64_t task = 0;
    std::string bytes;
  };
  /// Waits at most so long.
  std::optional<Answer> poll_answer(int wait_ms) {
    pollfd p{fd_, POLLIN, 0};
    if (!busy_) {
      if (wait_ms > 0) poll(nullptr, 0, wait_ms);
      return std::nullopt;
    }
    if (poll(&p, 1, wait_ms) <= 0) return std::nullopt;
    busy_ = false;
    std::uint64_t head[2] = {0, 0};  // well, size
    Answer a{.well = false, .task = task_, .bytes = {}};
    if (!read_all(fd_, head, sizeof head)) return a;
    a.bytes.resize(head[1]);
    a.well = read_all(fd_, a.bytes.data(), a.bytes.size()) && head[0] == 1;
    return a;
  }

 private:
  [[noreturn]] static void serve(int fd, const Work& work) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a killed job leaves nothing behind
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    TaskPool pool(work, 1);
    std::uint64_t task = 0;
    while (read_all(fd, &task, sizeof task)) {
      std::string result;
      pool.add(task);
      while (pool.turn(1000, [&](std::size_t, const std::string& bytes) { result = bytes; })) {
      }
      const std::uint64_t head[2] = {pool.failed() ? 0U : 1U, result.size()};
      if (!write_all(fd, head, sizeof head) || !write_all(fd, result.data(), result.size()) || pool.failed()) break;
    }
    _exit(0);
  }
  pid_t pid_ = -1;
  int fd_ = -1;
  bool busy_ = false;
  std::uint64_t task_ = 0;
};

// Messages: 'r' ready; 'd' + task + bytes, 'f' + task: ended well or not; to a rank: 't' + task; 's' stop.
std::string message(char kind, std::uint64_t task = 0, const std::string& bytes = {}) {
  std::string m(1, kind);
  m.append(reinterpret_cast<const char*>(&task), sizeof task);
  return m + bytes;
}
std::uint64_t task_in(const std::string& m) {
  std::uint64_t task = 0;
  std::memcpy(&task, m.data() + 1, sizeof task);
  return task;
}

[[noreturn]] void serve_rank(MpiLink& link, Runner& runner) {
  link.send(0, message('r'));
  for (;;) {
    MpiMessage m;
    if (link.receive(m)) {
      if (m.bytes[0] == 's') break;
      runner.start(task_in(m.bytes));
    }
    if (const auto a = runner.poll_answer(2)) link.send(0, message(a->well ? 'd' : 'f', a->task, a->bytes));
  }
  link.~MpiLink();
  std::fflush(nullptr);
  _exit(0);  // the command's own end (tables, files) is the leader's
}

std::optional<std::size_t> lead(MpiLink& link, Runner& runner, TaskRun& run) {
  std::optional<std::size_t> failed;
  std::size_t next = 0, running = 0;
  std::vector<int> idle;
  int serving = link.size() - 1;
  auto last = std::chrono::steady_clock::now();
  bool stopped = false;
  const auto ended = [&](bool well, std::uint64_t task, const std::string& bytes) {
    --running;
    if (well) run.done(task, bytes);
    else failed = task;
  };
  for (;;) {
    stopped = stopped || interrupted || failed || (run.enough && run.enough());
    const auto more = [&] { return !stopped && next < run.todo.size(); };
    MpiMessage m;
    while (link.receive(m)) {
      if (m.bytes[0] != 'r') ended(m.bytes[0] == 'd', task_in(m.bytes), m.bytes.substr(1 + sizeof(std::uint64_t)));
      idle.push_back(m.from);
    }
    while (!idle.empty() && more()) {
      link.send(idle.back(), message('t', run.todo[next++]));
      idle.pop_back();
      ++running;
    }
    if (runner.idle() && more()) {
      runner.start(run.todo[next++]);
      ++running;
    }
    if (const auto a = runner.poll_answer(2)) ended(a->well, a->task, a->bytes);
    if (running == 0 && (stopped || next == run.todo.size())) break;
    if (run.progress && std::chrono::steady_clock::now() - last > std::chrono::milliseconds(500)) {
      last = std::chrono::steady_clock::now();
      run.progress();
    }
  }
  // Every rank answers once more, to its last task or to its start.
  while (static_cast<int>(idle.size()) < serving) {
    MpiMessage m;
    if (link.receive(m)) idle.push_back(m.from);
    else poll(nullptr, 0, 1);
  }
  for (const int rank : idle) link.send(rank, message('s'));
  return failed;
}

}  // namespace

int job_size() { return std::max(1, from_environment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1)); }
int job_rank() { return from_environment({"OMPI_COMM_WORLD_RANK", "PMI_RANK"}, 0); }

std::optional<std::size_t> run_tasks(const Work& work, TaskRun run) {
  if (job_size() > 1) {
    Runner runner(work);
    using Open = MpiLink*();
    static MpiLink* const link = open_module<Open>("libfaultline_mpi.so", "faultline_open_mpi")();
    if (link->rank() != 0) serve_rank(*link, runner);
    const auto failed = lead(*link, runner, run);
    delete link;
    return failed;
  }
  TaskPool pool(work, run.jobs);
  for (const std::size_t t : run.todo) pool.add(t);
  while (pool.turn(500, run.done)) {
    if (run.enough && run.enough()) pool.drop();
    if (run.progress) run.progress();
  }
  return pool.failed();
}

}  // namespace faultline::cli
