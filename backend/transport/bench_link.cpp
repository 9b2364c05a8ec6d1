#include "backend/transport/bench_link.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <thread>

#include "backend/transport/tcp_transport.h"
#include "core/base/hash.h"

namespace faultline::transport {
namespace {
using Clock = std::chrono::steady_clock;

void put(int socket, const std::vector<std::byte>& blob) {
  const std::uint64_t size = blob.size();
  if (::send(socket, &size, sizeof size, MSG_NOSIGNAL) != sizeof size) return;
  const ssize_t sent = ::send(socket, blob.data(), blob.size(), MSG_NOSIGNAL);
  (void)sent;  // the reader notices a short message
}
std::optional<std::vector<std::byte>> get(int socket) {
  std::uint64_t size = 0;
  if (::recv(socket, &size, sizeof size, MSG_WAITALL) != sizeof size || size > (1 << 20)) return std::nullopt;
  std::vector<std::byte> blob(size);
  if (size > 0 && ::recv(socket, blob.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) return std::nullopt;
  return blob;
}

std::span<std::byte> map_memory(std::size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) throw std::runtime_error("no memory for a link");
  return {static_cast<std::byte*>(at), bytes};
}

/// Exchanges addresses and regions over the control socket; false if the link did not come up.
bool connect(Transport& transport, int socket, std::span<std::byte> memory, const std::optional<SharedMemory>& shared,
             std::vector<std::byte>& blob_out) {
  const Status registered = shared ? dynamic_cast<TcpTransport&>(transport).register_shared(kLinkLocal, *shared)
                                   : transport.register_memory(kLinkLocal, memory);
  if (!registered) return false;
  put(socket, transport.local_address());
  const auto address = get(socket);
  if (!address || !transport.open(kLinkPeer, *address)) return false;
  put(socket, transport.export_region(kLinkLocal));
  const auto blob = get(socket);
  if (blob) blob_out = *blob;
  const auto end = Clock::now() + std::chrono::seconds(20);
  std::array<TransportEvent, 8> events{};
  while (blob && Clock::now() < end) {
    const std::size_t count = transport.poll(events);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::holds_alternative<EndpointUp>(events[i]))
        return bool(transport.import_region(kLinkRemote, kLinkPeer, *blob));
      if (std::holds_alternative<EndpointDown>(events[i])) return false;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return false;
}

/// The child: connects, then answers one-byte commands until the control socket ends.
[[noreturn]] void serve(const LinkSettings& settings, int socket) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!settings.child_netns.empty() && !enter_netns(settings.child_netns)) ::_exit(3);
  std::optional<SharedMemory> shared;
  if (settings.shared_memory) shared.emplace(settings.region_bytes);
  const auto memory = shared ? shared->bytes() : map_memory(settings.region_bytes);
  auto transport = settings.make(1);
  std::vector<std::byte> blob;
  if (!transport || !connect(*transport, socket, memory, shared, blob)) ::_exit(2);
  put(socket, {});
  std::array<TransportEvent, 64> events{};
  for (;;) {
    char command = 0;
    const ssize_t count = ::recv(socket, &command, 1, MSG_DONTWAIT);
    if (count == 0) break;
    if (count == 1 && command == 's') {
      const std::uint64_t sum = checksum(memory);
      if (::send(socket, &sum, sizeof sum, MSG_NOSIGNAL) != sizeof sum) break;
    }
    if (count == 1 && command == 'r') {
      const char done = transport->deregister(kLinkLocal) ? 1 : 0;
      if (::send(socket, &done, 1, MSG_NOSIGNAL) != 1) break;
    }
    transport->poll(events);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the progress thread does the work
  }
  transport.reset();
  ::_exit(0);
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    sum = sum * 0x9e3779b97f4a7c15ULL + word;
  }
  return sum;
}

bool enter_netns(const std::string& name) {
  const int fd = ::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool entered = ::setns(fd, CLONE_NEWNET) == 0;
  ::close(fd);
  return entered;
}

ProcessLink::ProcessLink(const LinkSettings& settings) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("no socket for a link");
  child_ = ::fork();
  if (child_ == 0) {
    ::close(ends[0]);
    serve(settings, ends[1]);
  }
  ::close(ends[1]);
  socket_ = ends[0];
  if (settings.shared_memory) shared_.emplace(settings.region_bytes);
  memory_ = shared_ ? shared_->bytes() : map_memory(settings.region_bytes);
  const int home = settings.parent_netns.empty() ? -1 : ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home >= 0 && !enter_netns(settings.parent_netns))
    throw std::runtime_error("cannot enter network namespace " + settings.parent_netns);
  transport_ = settings.make(0);  // its threads stay in the namespace
  const bool up = transport_ && connect(*transport_, socket_, memory_, shared_, remote_blob_);
  if (home >= 0) {
    const int back = ::setns(home, CLONE_NEWNET);
    ::close(home);
    if (back != 0) throw std::runtime_error("cannot leave a network namespace");
  }
  if (!up || !get(socket_)) throw std::runtime_error("the two processes of a link did not connect");
}

ProcessLink::~ProcessLink() {
  transport_.reset();
  ::close(socket_);
  if (child_ > 0) {
    ::kill(child_, SIGCONT);
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  if (!shared_) ::munmap(memory_.data(), memory_.size());
}

Cause ProcessLink::write(std::vector<WriteSpan> spans, std::int64_t timeout_ms) {
  const OpId op = next_op();
  if (const Status status = transport_->post({op, kLinkPeer, std::move(spans), {}}); !status) return status.cause();
  const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
  std::array<TransportEvent, 8> events{};
  while (Clock::now() < end) {
    const std::size_t count = transport_->poll(events);
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* done = std::get_if<OpCompleted>(&events[i]); done && done->op == op) return Cause::none;
      if (const auto* lost = std::get_if<OpFailed>(&events[i]); lost && lost->op == op) return lost->cause;
    }
    if (count == 0) std::this_thread::yield();
  }
  return Cause::timeout;
}

ProcessLink::Flow ProcessLink::stream(std::int64_t total, std::size_t depth,
                                      const std::function<std::vector<WriteSpan>(std::uint64_t)>& make_spans) {
  Flow flow;
  std::size_t in_flight = 0;
  std::int64_t posted = 0;
  std::uint64_t batch = 0;
  std::array<TransportEvent, 64> events{};
  const auto start = Clock::now();
  auto heard = start;
  while (flow.bytes < total) {
    while (in_flight < depth && posted < total) {
      WriteBatch next{next_op(), kLinkPeer, make_spans(batch), {}};
      for (const WriteSpan& span : next.spans) posted += span.length.v;
      const auto before = Clock::now();
      const Status status = transport_->post(next);
      flow.post_seconds += std::chrono::duration<double>(Clock::now() - before).count();
      if (!status) {
        flow.cause = status.cause();
        return flow;
      }
      ++batch;
      ++in_flight;
    }
    const std::size_t count = transport_->poll(events);
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* done = std::get_if<OpCompleted>(&events[i])) {
        flow.bytes += done->bytes.v;
        --in_flight;
        heard = Clock::now();
      } else if (const auto* lost = std::get_if<OpFailed>(&events[i])) {
        flow.cause = lost->cause;
        return flow;
      }
    }
    if (count == 0) {
      if (Clock::now() - heard > std::chrono::seconds(30)) {
        flow.cause = Cause::timeout;
        return flow;
      }
      std::this_thread::sleep_for(
          std::chrono::microseconds(depth > 1 ? 50 : 0));  // do not take the progress threads' cores
    }
  }
  flow.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  flow.batches = batch;
  return flow;
}

std::uint64_t ProcessLink::remote_checksum() {
  std::uint64_t sum = 0;
  if (::send(socket_, "s", 1, MSG_NOSIGNAL) != 1 || ::recv(socket_, &sum, sizeof sum, MSG_WAITALL) != sizeof sum)
    return 0;
  return sum;
}

bool ProcessLink::revoke_remote() {
  char done = 0;
  return ::send(socket_, "r", 1, MSG_NOSIGNAL) == 1 && ::recv(socket_, &done, 1, MSG_WAITALL) == 1 && done == 1;
}

void ProcessLink::signal_child(int signal) { ::kill(child_, signal); }

}  // namespace faultline::transport
