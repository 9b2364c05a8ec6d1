#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>

#include "backend/transport/stream.h"

namespace faultline::transport {
namespace {

Cause cause_of_errno(int error) {
  switch (error) {
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN: return Cause::link_down;
    default: return Cause::peer_lost;  // ECONNRESET, EPIPE and the like
  }
}

class TcpStream final : public Stream {
 public:
  TcpStream(Fd socket, Duration user_timeout) : socket_(std::move(socket)) {
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(user_timeout.v / 1'000'000));
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 1);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set(IPPROTO_TCP, TCP_KEEPCNT, 2);
  }

  StreamResult write(std::span<const iovec> parts) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    return result(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT), false);
  }
  StreamResult read(std::span<const iovec> parts) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    return result(::recvmsg(socket_.get(), &message, MSG_DONTWAIT), true);
  }
  std::vector<int> descriptors() const override { return {socket_.get()}; }
  bool may_sleep(bool) override { return true; }
  Cause woken() override { return Cause::none; }  // reads and writes tell
  Cause cause_of_silence() const override {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return Cause::link_down;
    // Heartbeats were sent meanwhile: a living kernel at the other end acknowledges them even if its process does not
    // run.
    return info.tcpi_unacked > 0 ? Cause::link_down : Cause::timeout;
  }
  void abandon() override {
    const linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  const char* kind() const override { return "tcp"; }

 private:
  void set(int level, int name, int value) { ::setsockopt(socket_.get(), level, name, &value, sizeof value); }
  static StreamResult result(ssize_t count, bool reading) {
    if (count > 0) return {static_cast<std::size_t>(count), Cause::none};
    if (count == 0) return {0, reading ? Cause::peer_lost : Cause::none};
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {};
    return {0, cause_of_errno(errno)};
  }

  Fd socket_;
};

}  // namespace

std::unique_ptr<Stream> make_tcp_stream(Fd socket, Duration user_timeout) {
  return std::make_unique<TcpStream>(std::move(socket), user_timeout);
}

}  // namespace faultline::transport
