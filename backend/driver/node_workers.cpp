// Worker processes of this node.
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>

#include "backend/driver/node_member.h"

namespace faultline::live {
namespace {
constexpr std::size_t kReportMax = 1 << 16;
}

bool NodeMember::hardware_fails(std::uint32_t gpus) const {
  for (std::uint32_t g = 0; g < gpus && g < kNodeGpusMax; ++g) {
    if (board().nodes[self().index].gpu[g] == GpuState::dead) return true;
  }
  return false;
}

void NodeMember::spawn(std::uint32_t head, const SpawnWorker& s) {
  const Key key{s.id.instance, s.id.group};
  end_worker(key, false);
  Board::Node& node = board().nodes[self().index];
  for (auto& gpu : node.gpu) {  // a new process resets its GPUs: a hang is over
    GpuState hung = GpuState::hung;
    gpu.compare_exchange_strong(hung, GpuState::well);
  }
  if (hardware_fails(s.gpus)) {
    tell(head, WorkerUp{s.id, s.index, Cause::device_lost, {}, {}});
    return;
  }
  for (const auto& group : cluster().deployment().instances[s.id.instance].groups) {  // where its hand-offs will go
    for (const std::uint32_t n : group.nodes) kv_.want(n);
  }
  std::uint32_t slot = 0;
  while (slot < kNodeWorkersMax && node.workers[slot].pid != 0) ++slot;
  int ends[2];
  if (slot == kNodeWorkersMax || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    tell(head, WorkerUp{s.id, s.index, Cause::overload, {}, {}});
    return;
  }
  transport::Fd mine(ends[0]), theirs(ends[1]);
  const transport::Fd page = make_memory("worker page", sizeof(WorkerPage));
  Worker worker;
  worker.id = s.id;
  worker.index = s.index;
  worker.head = head;
  worker.slot = slot;
  worker.page = new (map_memory(page.get(), sizeof(WorkerPage))) WorkerPage;
  worker.pid =
      start_process(cluster().settings().program,
                    {"cluster", "worker", "--group", std::to_string(s.id.group), "--index", std::to_string(s.index),
                     "--count", std::to_string(s.count), "--gpus", std::to_string(s.gpus)},
                    {kSettingsFd, kBoardFd, theirs.get(), page.get()}, false);
  worker.control = std::move(mine);
  node.workers[slot].instance = s.id.instance;
  node.workers[slot].group = s.id.group;
  node.workers[slot].gpus = s.gpus;
  node.workers[slot].pid = worker.pid;
  workers_.emplace(key, std::move(worker));
}

void NodeMember::end_worker(const Key& key, bool tell_head) {
  const auto it = workers_.find(key);
  if (it == workers_.end()) return;
  Worker& w = it->second;
  if (w.pid > 0) {
    board().nodes[self().index].workers[w.slot].pid =
        0;  // nobody is to signal a number that the system gives away again
    ::kill(w.pid, SIGKILL);
    ::waitpid(w.pid, nullptr, 0);
    w.pid = 0;
    w.control.reset();
  }
  if (tell_head) {  // what it had done stays readable until the group is given up
    tell(w.head, WorkerGone{w.id, w.index});
    return;
  }
  ::munmap(w.page, sizeof(WorkerPage));
  workers_.erase(it);
}

void NodeMember::kill_workers(const GroupId& id) {
  const Key key{id.instance, id.group};
  const auto it = workers_.find(key);
  if (it == workers_.end() || it->second.id.epoch > id.epoch) return;
  end_worker(key, false);
}

void NodeMember::order(const Key& key, const WorkerOrder& what) {
  const auto it = workers_.find(key);
  if (it == workers_.end() || !it->second.control) return;
  const std::string bytes = encode(what);
  const ssize_t sent = ::send(it->second.control.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)sent;  // a worker that takes no orders reports nothing either: the time-outs speak
}

void NodeMember::take_reports() {
  static thread_local std::array<char, kReportMax> buffer;
  std::vector<Key> keys;
  for (const auto& [key, worker] : workers_) keys.push_back(key);
  for (const Key& key : keys) {
    for (;;) {
      const auto it = workers_.find(key);
      if (it == workers_.end() || !it->second.control) break;
      const ssize_t count = ::recv(it->second.control.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (count <= 0) {
        end_worker(key, true);
        break;
      }
      if (const auto said = decode_report({buffer.data(), static_cast<std::size_t>(count)})) report(it->second, *said);
    }
  }
}

}  // namespace faultline::live
