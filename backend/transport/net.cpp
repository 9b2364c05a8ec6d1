#include "backend/transport/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "core/base/assert.h"
#include "core/base/hash.h"

namespace faultline::transport {
namespace {

std::pair<sockaddr_un, socklen_t> abstract_address(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  FAULTLINE_ASSERT(name.size() + 1 < sizeof address.sun_path, "name of {} bytes", name.size());
  std::memcpy(address.sun_path + 1, name.data(),
              name.size());  // the leading 0 makes it abstract: it dies with its socket
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())};
}

}  // namespace

void random_bytes(void* out, std::size_t size) {
  const ssize_t got = ::getrandom(out, size, 0);  // never short below 256 bytes
  FAULTLINE_ASSERT(got == static_cast<ssize_t>(size), "getrandom gave {} of {}", got, size);
}

std::uint64_t host_identity() {
  char boot[64]{};
  const Fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  const ssize_t count = file ? ::read(file.get(), boot, sizeof boot - 1) : 0;
  struct stat status {};
  if (count <= 0 || ::stat("/proc/self/ns/net", &status) != 0)
    return random_value<std::uint64_t>();  // unknown: equal to nobody
  return hash_combine(hash_text(std::string_view(boot, static_cast<std::size_t>(count))), status.st_ino);
}

std::optional<sockaddr_in> parse_ipv4(const std::string& address, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &out.sin_addr) != 1) return std::nullopt;
  return out;
}

Fd listen_tcp(const sockaddr_in& address) {
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int one = 1;
  if (socket) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), 128) != 0) {
    throw std::runtime_error(
        fmt::format("cannot listen on TCP port {}: {}", ntohs(address.sin_port), std::strerror(errno)));
  }
  return socket;
}

Fd listen_unix(const std::string& abstract_name) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto [address, length] = abstract_address(abstract_name);
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(socket.get(), 128) != 0) {
    throw std::runtime_error(fmt::format("cannot listen on a unix socket: {}", std::strerror(errno)));
  }
  return socket;
}

std::uint16_t port_of(const Fd& socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

Fd connect_tcp(const sockaddr_in& to, const sockaddr_in& from) {
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return {};
  sockaddr_in source = from;  // the rail: packets leave by the interface that has this address
  source.sin_port = 0;
  if (source.sin_addr.s_addr != INADDR_ANY &&
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0)
    return {};
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS)
    return {};
  return socket;
}

Fd connect_unix(const std::string& abstract_name) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto [address, length] = abstract_address(abstract_name);
  if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return {};
  return socket;
}

int connect_error(const Fd& socket) {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  return error;
}

std::string hex(const Uuid& id) {
  std::string text;
  for (const std::uint8_t byte : id) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace faultline::transport
