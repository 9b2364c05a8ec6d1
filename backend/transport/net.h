// Small helpers around sockets and the identity of this host, shared by TcpTransport and VerbsTransport.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <string>

#include "backend/transport/fd.h"
#include "backend/transport/handshake.h"

namespace faultline::transport {

/// Cryptographically random bytes from the kernel.
void random_bytes(void* out, std::size_t size);
template <class T>
T random_value() {
  T value;
  random_bytes(&value, sizeof value);
  return value;
}

/// Equal for two processes that share a kernel boot and a network namespace, and hardly otherwise.
std::uint64_t host_identity();

/// Numeric IPv4. nullopt if it is not one.
std::optional<sockaddr_in> parse_ipv4(const std::string& address, std::uint16_t port);
/// Non-blocking listening socket. Throws std::runtime_error with the system's reason.
Fd listen_tcp(const sockaddr_in& address);
Fd listen_unix(const std::string& abstract_name);
std::uint16_t port_of(const Fd& socket);
/// Starts a non-blocking connect. An empty Fd if it failed at once.
Fd connect_tcp(const sockaddr_in& to, const sockaddr_in& from);
Fd connect_unix(const std::string& abstract_name);
/// 0 once connected, else errno.
int connect_error(const Fd& socket);
std::string hex(const Uuid& id);

}  // namespace faultline::transport
