#include "sim/driver/child_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

namespace faultline::sim {
namespace {

/// Read ends that this process holds. A child closes them: a sibling that writes after our death is to see that nobody
/// reads any more.
std::vector<int>& read_ends() {
  static std::vector<int> ends;
  return ends;
}

[[noreturn]] void run_child(int fd, const std::function<std::string()>& work) {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_DFL);
  std::string answer;
  try {
    answer = "S" + work();
  } catch (const std::exception& e) {
    answer = std::string("E") + e.what();
  }
  _exit(write_all(fd, answer.data(), answer.size()) ? 0 : 1);  // not exit(): buffers and handlers are the parent's
}

}  // namespace

bool write_all(int fd, const void* bytes, std::size_t size) {
  const char* p = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t n = write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

ChildProcess::ChildProcess(const std::function<std::string()>& work) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  std::fflush(nullptr);
  pid_ = fork();
  if (pid_ < 0) {
    const int why = errno;
    close(ends[0]);
    close(ends[1]);
    throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(why)));
  }
  if (pid_ == 0) {
    close(ends[0]);
    for (const int fd : read_ends()) close(fd);
    read_ends().clear();
    run_child(ends[1], work);
  }
  close(ends[1]);
  fd_ = ends[0];
  read_ends().push_back(fd_);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), fd_(std::exchange(other.fd_, -1)), bytes_(std::move(other.bytes_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  end();
  pid_ = std::exchange(other.pid_, -1);
  fd_ = std::exchange(other.fd_, -1);
  bytes_ = std::move(other.bytes_);
  return *this;
}

ChildProcess::~ChildProcess() { end(); }

void ChildProcess::end() {
  if (fd_ >= 0) {
    std::erase(read_ends(), fd_);
    close(fd_);
  }
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  fd_ = -1;
  pid_ = -1;
}

bool ChildProcess::read_some() {
  char buffer[1 << 16];
  const ssize_t n = read(fd_, buffer, sizeof buffer);
  if (n > 0) bytes_.append(buffer, static_cast<std::size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

ChildProcess::Result ChildProcess::wait() {
  while (read_some()) {
  }
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  end();
  if (WIFSIGNALED(status)) return {"", fmt::format("the process was ended by signal {}", WTERMSIG(status))};
  if (WEXITSTATUS(status) != 0 || bytes_.empty())
    return {"", fmt::format("the process ended with status {}", WEXITSTATUS(status))};
  if (bytes_[0] == 'E') return {"", bytes_.size() > 1 ? bytes_.substr(1) : std::string("failed")};
  bytes_.erase(0, 1);
  return {std::move(bytes_), ""};
}

}  // namespace faultline::sim
