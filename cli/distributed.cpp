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
#include <thread>

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

using sim::write_all;

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
  void start(const Task& task) {
    busy_ = true;
    task_ = task;
    const std::uint64_t head[2] = {task.number, task.input.size()};
    if (!write_all(fd_, head, sizeof head) || !write_all(fd_, task.input.data(), task.input.size()))
      throw std::runtime_error("a task process is gone");
  }
  struct Answer {
    Task task;
    Result result;
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
    std::string bytes;
    if (!read_all(fd_, head, sizeof head)) return Answer{task_, {"", "its process is gone"}};
    bytes.resize(head[1]);
    if (!read_all(fd_, bytes.data(), bytes.size())) return Answer{task_, {"", "its process is gone"}};
    return head[0] == 1 ? Answer{task_, {bytes, ""}} : Answer{task_, {"", bytes}};
  }

 private:
  [[noreturn]] static void serve(int fd, const Work& work) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a killed job leaves nothing behind
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    std::uint64_t asked[2] = {0, 0};  // number, size of the input
    while (read_all(fd, asked, sizeof asked)) {
      Task task{asked[0], std::string(asked[1], '\0')};
      if (!read_all(fd, task.input.data(), task.input.size())) break;
      TaskPool pool(work, 1);
      pool.add(std::move(task));
      Result result{"", "interrupted"};
      while (pool.turn(1000, [&](const Task&, const Result& r) { result = r; })) {
      }
      const std::string& text = result.well() ? result.bytes : result.error;
      const std::uint64_t head[2] = {result.well() ? 1U : 0U, text.size()};
      if (!write_all(fd, head, sizeof head) || !write_all(fd, text.data(), text.size())) break;
    }
    _exit(0);
  }
  pid_t pid_ = -1;
  int fd_ = -1;
  bool busy_ = false;
  Task task_;
};

// Messages to the leader: 'r' ready; 'd' + number + result, 'f' + number + error. To a rank: 't' + number + input; 's'
// stop.
std::string message(char kind, std::uint64_t number = 0, const std::string& bytes = {}) {
  std::string m(1, kind);
  m.append(reinterpret_cast<const char*>(&number), sizeof number);
  return m + bytes;
}
std::uint64_t number_in(const std::string& m) {
  std::uint64_t number = 0;
  std::memcpy(&number, m.data() + 1, sizeof number);
  return number;
}
std::string bytes_in(const std::string& m) { return m.substr(1 + sizeof(std::uint64_t)); }

[[noreturn]] void serve_rank(MpiLink& link, Runner& runner) {
  link.send(0, message('r'));
  for (;;) {
    MpiMessage m;
    if (link.receive(m)) {
      if (m.bytes[0] == 's') break;
      runner.start({number_in(m.bytes), bytes_in(m.bytes)});
    }
    if (const auto a = runner.poll_answer(2)) {
      link.send(0, a->result.well() ? message('d', a->task.number, a->result.bytes)
                                    : message('f', a->task.number, a->result.error));
    }
  }
  link.~MpiLink();
  std::fflush(nullptr);
  _exit(0);  // the command's own end (tables, files) is the leader's
}

std::optional<FailedTask> lead(MpiLink& link, Runner& runner, TaskRun& run) {
  std::optional<FailedTask> failed;
  std::size_t next = 0, running = 0;
  std::vector<int> idle;
  std::map<int, Task> given;  // by rank
  const int serving = link.size() - 1;
  auto last = std::chrono::steady_clock::now();
  const auto ended = [&](const Task& task, const Result& result) {
    --running;
    if (result.well()) run.done(task, result.bytes);
    else if (!failed) failed = FailedTask{task, result.error};
  };
  for (;;) {
    const bool stopped = interrupted || failed;
    const auto ready = [&] { return !stopped && next < run.todo.size(); };
    MpiMessage m;
    while (link.receive(m)) {
      if (m.bytes[0] == 'd') ended(given[m.from], {bytes_in(m.bytes), ""});
      if (m.bytes[0] == 'f') ended(given[m.from], {"", bytes_in(m.bytes)});
      idle.push_back(m.from);
    }
    while (!idle.empty() && ready()) {
      const Task& task = run.todo[next++];
      link.send(idle.back(), message('t', task.number, task.input));
      given[idle.back()] = task;
      idle.pop_back();
      ++running;
    }
    if (runner.idle() && ready()) {
      runner.start(run.todo[next++]);
      ++running;
    }
    if (const auto a = runner.poll_answer(2)) ended(a->task, a->result);
    if (running == 0 && (interrupted || failed)) break;
    if (running == 0 && next == run.todo.size()) {
      run.todo = run.more ? run.more() : std::vector<Task>{};
      next = 0;
      if (run.todo.empty()) break;
    }
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

std::optional<FailedTask> run_tasks(const Work& work, TaskRun run) {
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
  std::optional<FailedTask> failed;
  while (!failed && !interrupted) {
    if (run.todo.empty() && run.more) run.todo = run.more();
    if (run.todo.empty()) break;
    for (Task& t : run.todo) pool.add(std::move(t));
    run.todo.clear();
    while (pool.turn(500, [&](const Task& task, const Result& result) {
      if (result.well()) {
        run.done(task, result.bytes);
      } else if (!failed) {
        failed = FailedTask{task, result.error};
        pool.drop();
      }
    })) {
      if (run.progress) run.progress();
    }
  }
  return failed;
}

std::size_t jobs_or_cores(int asked) {
  return static_cast<std::size_t>(asked > 0 ? asked : std::max(1U, std::thread::hardware_concurrency()));
}

Progress::Progress(std::string what, bool quiet)
    : what_(std::move(what)), shown_(!quiet && isatty(STDERR_FILENO) != 0), began_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (shown_) fmt::print(stderr, "\r{:78}\r", "");
}

void Progress::show(std::size_t done, std::size_t count, std::size_t there) {
  if (!shown_) return;
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  const std::string left =
      done > 0 ? fmt::format("{:.0f} s left", elapsed / static_cast<double>(done) * static_cast<double>(count - done))
               : "no estimate yet";
  fmt::print(stderr, "\r{:78}\r{}/{} {}, {} were there already, {}", "", done, count, what_, there, left);
}

}  // namespace faultline::cli
