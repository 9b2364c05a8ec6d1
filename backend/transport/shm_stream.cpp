// Two rings in one sealed memfd, one per direction. The peer shares the memory and may be hostile: positions are
// checked on every use, payload is copied out before anybody looks at it, and the seal keeps the file from shrinking
// under us.
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <new>

#include "backend/transport/far_copy.h"
#include "backend/transport/shared_memory.h"
#include "backend/transport/stream.h"

namespace faultline::transport {
namespace {

struct alignas(64) Ring {
  alignas(64) std::atomic<std::uint64_t> written;  // bytes, only the writer changes it
  alignas(64) std::atomic<std::uint64_t> read;     // bytes, only the reader changes it
  alignas(64) std::atomic<std::uint32_t> reader_sleeps;
  std::atomic<std::uint32_t> writer_sleeps;
  alignas(64) std::byte data[kRingBytes];
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

struct Shared {
  Ring rings[2];  // 0: acceptor writes, 1: initiator writes
};

constexpr int kDescriptors = 3;  // memory, acceptor's eventfd, initiator's eventfd

bool send_descriptors(const Fd& socket, const void* text, std::size_t bytes, std::span<const int> fds) {
  iovec part{const_cast<void*>(text), bytes};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(bytes);
}

ssize_t receive_descriptors(const Fd& socket, void* text, std::size_t bytes, std::vector<Fd>& fds) {
  iovec part{text, bytes};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = ::recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); count > 0 && header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return count;
}

class ShmStream final : public Stream {
 public:
  ShmStream(Fd socket, Shared* shared, bool acceptor, Fd mine, Fd theirs)
      : socket_(std::move(socket)),
        shared_(shared),
        out_(shared->rings[acceptor ? 0 : 1]),
        in_(shared->rings[acceptor ? 1 : 0]),
        mine_(std::move(mine)),
        theirs_(std::move(theirs)) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0) {
      process_ =
          Fd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));  // may fail: then the socket's end tells alone
    }
  }
  ~ShmStream() override { ::munmap(shared_, sizeof(Shared)); }

  StreamResult write(std::span<const iovec> parts) override {
    const std::uint64_t read = out_.read.load(std::memory_order_acquire);
    if (written_ - read > kRingBytes) return {0, Cause::peer_lost};  // a position that cannot be: not an honest peer
    std::size_t room = kRingBytes - static_cast<std::size_t>(written_ - read);
    std::size_t moved = 0;
    std::size_t unwoken = 0;
    for (const iovec& part : parts) {
      const auto* from = static_cast<const std::byte*>(part.iov_base);
      std::size_t left = std::min(part.iov_len, room);
      const bool whole = left == part.iov_len;
      room -= left;
      while (left > 0) {
        const std::size_t at = static_cast<std::size_t>(written_ % kRingBytes);
        const std::size_t piece = std::min({left, kRingBytes - at, kPublishBytes});
        std::memcpy(out_.data + at, from, piece);
        from += piece;
        left -= piece;
        moved += piece;
        written_ += piece;
        out_.written.store(written_);  // early, so that both sides copy at the same time
        // A reader that sleeps is woken for half a ring, not for every piece: on a busy core each waking is a switch.
        if ((unwoken += piece) >= kRingBytes / 2) wake(out_.reader_sleeps), unwoken = 0;
      }
      if (!whole) break;
    }
    if (unwoken > 0) wake(out_.reader_sleeps);
    return {moved, Cause::none};
  }

  StreamResult read(std::span<const iovec> parts) override {
    const std::uint64_t written = in_.written.load(std::memory_order_acquire);
    if (written - read_ > kRingBytes) return {0, Cause::peer_lost};
    std::size_t there = static_cast<std::size_t>(written - read_);
    std::size_t moved = 0;
    for (const iovec& part : parts) {
      auto* to = static_cast<std::byte*>(part.iov_base);
      std::size_t left = std::min(part.iov_len, there);
      there -= left;
      while (left > 0) {
        const std::size_t at = static_cast<std::size_t>(read_ % kRingBytes);
        const std::size_t piece = std::min({left, kRingBytes - at, kPublishBytes});
        if (part.iov_len > kNearBytes) far_copy(to, in_.data + at, piece);
        else std::memcpy(to, in_.data + at, piece);
        to += piece;
        left -= piece;
        moved += piece;
        read_ += piece;
        in_.read.store(read_);
      }
      if (there == 0) break;
    }
    // A writer that waits for room is woken when half of the ring is free, not for every kilobyte.
    if (moved > 0 && in_.writer_sleeps.load() != 0 && written - read_ <= kRingBytes / 2) wake(in_.writer_sleeps);
    if (moved == 0 && gone_) return {0, Cause::peer_lost};
    return {moved, Cause::none};
  }

  std::vector<int> descriptors() const override {
    std::vector<int> all{mine_.get(), socket_.get()};
    if (process_) all.push_back(process_.get());
    return all;
  }

  bool may_sleep(bool wants_to_write) override {
    // Sequentially consistent on both sides (positions and flags): either we see the peer's new position here, or it
    // sees our flag after publishing it.
    in_.reader_sleeps.store(1);
    if (wants_to_write) out_.writer_sleeps.store(1);
    const bool readable = in_.written.load() != read_;
    const bool writable = wants_to_write && written_ - out_.read.load() <= kRingBytes / 2;
    return !readable && !writable && !gone_;
  }

  Cause woken() override {
    std::uint64_t count = 0;
    const ssize_t got = ::read(mine_.get(), &count, sizeof count);
    (void)got;  // non-blocking; nothing to read is fine
    static_cast<void>(still_there());
    return Cause::none;  // what the dead peer had written is still read; then read() tells
  }
  Cause cause_of_silence() const override { return Cause::timeout; }  // the path is memory: it is the peer
  bool share(std::uint64_t number, int memory) override {
    return send_descriptors(socket_, &number, sizeof number, {&memory, 1});
  }
  std::span<const std::byte> shared(std::uint64_t number) override {
    if (!peers_.contains(number)) take_shared();
    const auto it = peers_.find(number);
    return it == peers_.end() ? std::span<const std::byte>{} : it->second.bytes();
  }
  bool still_there() override {
    take_shared();
    std::array<pollfd, 1> end{{{process_.get(), POLLIN, 0}}};
    if (process_ && ::poll(end.data(), end.size(), 0) > 0) gone_ = true;
    return !gone_;
  }
  void abandon() override {}  // the peer sees the socket's end and reads no further than what was written
  const char* kind() const override { return "shm"; }

 private:
  static constexpr std::size_t kSharedMax = 256;  // memories of one peer
  static constexpr std::size_t kPublishBytes = 128 << 10;
  static constexpr std::size_t kNearBytes = 64 << 10;  // up to here it is frames, read at once

  /// What the socket has for us: descriptors of the peer's memory, or its end.
  void take_shared() {
    for (;;) {
      std::uint64_t number = 0;
      std::vector<Fd> fds;
      const ssize_t count = receive_descriptors(socket_, &number, sizeof number, fds);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
      PeerMemory memory;
      if (count == sizeof number && fds.size() == 1 && peers_.size() < kSharedMax) memory = PeerMemory(fds[0]);
      if (memory.bytes().empty()) {  // its end, or nothing that an honest peer sends
        gone_ = true;
        return;
      }
      peers_[number] = std::move(memory);
    }
  }

  void wake(std::atomic<std::uint32_t>& sleeps) {
    if (sleeps.load() == 0 || sleeps.exchange(0) == 0) return;
    const std::uint64_t one = 1;
    const ssize_t sent = ::write(theirs_.get(), &one, sizeof one);
    (void)sent;  // a full counter means that the peer has wake-ups enough
  }

  Fd socket_;
  Fd process_;
  Shared* shared_;
  Ring& out_;
  Ring& in_;
  Fd mine_;
  Fd theirs_;
  std::uint64_t written_ = 0;  // our own copies: the shared ones are the peer's to spoil
  std::uint64_t read_ = 0;
  bool gone_ = false;
  std::map<std::uint64_t, PeerMemory> peers_;  // shared by the peer
};

Shared* map(int memory) {
  void* at = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory, 0);
  return at == MAP_FAILED ? nullptr : static_cast<Shared*>(at);
}

}  // namespace

std::unique_ptr<Stream> offer_shm_stream(Fd socket) {
  Fd memory(::memfd_create("faultline-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || ::ftruncate(memory.get(), sizeof(Shared)) != 0) return nullptr;
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return nullptr;
  Fd mine(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Fd theirs(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!mine || !theirs) return nullptr;
  Shared* shared = map(memory.get());
  if (!shared) return nullptr;
  new (shared) Shared{};

  const std::byte greeting{1};
  const std::array<int, kDescriptors> fds{memory.get(), mine.get(), theirs.get()};
  if (!send_descriptors(socket, &greeting, 1, fds)) {
    ::munmap(shared, sizeof(Shared));
    return nullptr;
  }
  return std::make_unique<ShmStream>(std::move(socket), shared, true, std::move(mine), std::move(theirs));
}

std::unique_ptr<Stream> accept_shm_stream(Fd& socket, bool& bad) {
  bad = false;
  std::byte greeting{};
  std::vector<Fd> fds;
  const ssize_t count = receive_descriptors(socket, &greeting, 1, fds);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return nullptr;
  bad = true;
  struct stat status {};
  if (fds.size() != kDescriptors || ::fstat(fds[0].get(), &status) != 0 || status.st_size != sizeof(Shared))
    return nullptr;
  if ((::fcntl(fds[0].get(), F_GET_SEALS) & F_SEAL_SHRINK) == 0)
    return nullptr;  // else it could be cut off under our feet
  for (std::size_t i : {1, 2}) ::fcntl(fds[i].get(), F_SETFL, O_NONBLOCK);
  Shared* shared = map(fds[0].get());
  if (!shared) return nullptr;
  bad = false;
  return std::make_unique<ShmStream>(std::move(socket), shared, false, std::move(fds[2]), std::move(fds[1]));
}

}  // namespace faultline::transport
