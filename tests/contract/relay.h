// A TCP relay between two transports of one test process, so that a route can break without privileges: while it is
// closed nothing is forwarded and nobody is told. Own thread; forwards bytes and ends of connections.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/transport/net.h"

namespace faultline::contract {

class Relay {
 public:
  Relay() : listener_(transport::listen_tcp(*transport::parse_ipv4("127.0.0.1", 0))), thread_([this] { run(); }) {}
  ~Relay() {
    stop_ = true;
    thread_.join();
  }
  std::uint16_t port() const { return transport::port_of(listener_); }
  void forward_to(std::uint16_t port) { target_ = port; }
  void set_open(bool open) { open_ = open; }

 private:
  struct Pipe {
    transport::Fd ends[2];
    std::vector<char> pending[2];  // read from end i, not yet written to the other
  };

  void run() {
    while (!stop_) {
      std::vector<pollfd> fds;
      fds.push_back({listener_.get(), POLLIN, 0});
      for (Pipe& pipe : pipes_) {
        for (int i : {0, 1}) {
          short wanted = 0;
          if (open_ && pipe.pending[i].empty()) wanted |= POLLIN;
          if (open_ && !pipe.pending[1 - i].empty()) wanted |= POLLOUT;
          fds.push_back({open_ ? pipe.ends[i].get() : -1, wanted, 0});
        }
      }
      ::poll(fds.data(), fds.size(), 5);
      if ((fds[0].revents & POLLIN) != 0) accept();
      if (!open_) continue;
      for (auto it = pipes_.begin(); it != pipes_.end();) it = forward(*it) ? std::next(it) : pipes_.erase(it);
    }
  }
  void accept() {
    transport::Fd from(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!from) return;
    transport::Fd to(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = *transport::parse_ipv4("127.0.0.1", target_);
    if (::connect(to.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
    pipes_.emplace_back();
    pipes_.back().ends[0] = std::move(from);
    pipes_.back().ends[1] = std::move(to);
  }
  /// False when the connection is over.
  static bool forward(Pipe& pipe) {
    std::array<char, 1 << 16> buffer;
    for (int i : {0, 1}) {
      auto& pending = pipe.pending[i];
      if (pending.empty()) {
        const ssize_t count = ::recv(pipe.ends[i].get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) return false;
        if (count > 0) pending.assign(buffer.begin(), buffer.begin() + count);
      }
      if (pending.empty()) continue;
      const ssize_t count = ::send(pipe.ends[1 - i].get(), pending.data(), pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (count > 0) pending.erase(pending.begin(), pending.begin() + count);
    }
    return true;
  }

  transport::Fd listener_;
  std::atomic<std::uint16_t> target_{0};
  std::atomic<bool> open_{true};
  std::atomic<bool> stop_{false};
  std::list<Pipe> pipes_;
  std::thread thread_;
};

}  // namespace faultline::contract
