#include "cli/task_pool.h"

#include <poll.h>

#include <cerrno>
#include <stdexcept>

#include "cli/run.h"

namespace faultline::cli {

void TaskPool::start(const Task& task) {
  if (work_.prepare) work_.prepare(task);
  workers_.push_back({task, sim::ChildProcess([&] { return work_.run(task); })});
}

bool TaskPool::turn(int wait_ms, const Ended& ended) {
  while (workers_.size() < jobs_ && next_ < tasks_.size() && !interrupted) start(tasks_[next_++]);
  if (workers_.empty()) return false;
  std::vector<pollfd> fds;
  for (const Worker& w : workers_) fds.push_back({w.process.fd(), POLLIN, 0});
  if (poll(fds.data(), fds.size(), wait_ms) < 0 && errno != EINTR) throw std::runtime_error("poll failed");
  for (std::size_t i = workers_.size(); i-- > 0;) {
    if (!(fds[i].revents & (POLLIN | POLLHUP)) || workers_[i].process.read_some()) continue;
    Worker w = std::move(workers_[i]);
    workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i));
    ended(w.task, w.process.wait());
  }
  return true;
}

}  // namespace faultline::cli
