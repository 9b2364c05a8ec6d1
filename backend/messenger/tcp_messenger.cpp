// The owner's side of TcpMessenger.
#include "backend/messenger/tcp_messenger.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <stdexcept>

#include "backend/messenger/tcp_messenger_engine.h"
#include "backend/transport/net.h"
#include "core/base/assert.h"

namespace faultline::messenger {

using transport::Fd;

TcpMessenger::Engine::Engine(TcpMessengerSettings settings)
    : s_(std::move(settings)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      owner_event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
  FAULTLINE_ASSERT(!s_.secret.empty() && s_.find, "secret of {} bytes", s_.secret.size());
  FAULTLINE_ASSERT(s_.heartbeat.v > 0 && s_.lost_after >= s_.suspect_after, "heartbeat={}", s_.heartbeat.v);
  const auto address = transport::parse_ipv4(s_.listen.address, s_.listen.port);
  if (!address) throw std::runtime_error("not a numeric IPv4 address: " + s_.listen.address);
  listener_ = transport::listen_tcp(*address);
  if (s_.beat_base == Time{}) s_.beat_base = std::chrono::steady_clock::now();
  next_beat_ = s_.beat_base + std::chrono::nanoseconds(s_.phase.v);
  thread_ = std::thread([this] { run(); });
}

TcpMessenger::Engine::~Engine() {
  stop_ = true;
  wake();
  thread_.join();
}

std::uint16_t TcpMessenger::Engine::port() const { return transport::port_of(listener_); }

TcpMessengerCounters TcpMessenger::Engine::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void TcpMessenger::Engine::wake() {
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(wake_event_.get(), &one, sizeof one);
  (void)sent;
}

void TcpMessenger::Engine::tell_owner() {
  if (told_ || inbox_.empty()) return;
  told_ = true;
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(owner_event_.get(), &one, sizeof one);
  (void)sent;
}

TcpMessenger::Engine::Out* TcpMessenger::Engine::find_or_add(Address peer) {
  const auto it = outs_.find(peer);
  if (it != outs_.end()) return &it->second;
  const auto endpoint = s_.find(peer);
  if (!endpoint) return nullptr;
  Out& out = outs_[peer];
  out.peer = peer;
  out.endpoint = *endpoint;
  return &out;
}

void TcpMessenger::Engine::watch(Address peer) {
  const std::lock_guard lock(mutex_);
  Out* out = find_or_add(peer);
  if (out == nullptr || out->watched) return;
  out->watched = true;
  out->health = Health::well;
  out->last_heard = std::chrono::steady_clock::now();
  if (out->stage == Stage::up) {
    append_frame(out->link.out, FrameType::watch, {});
    flush(out->link);
  } else {
    out->wanted = true;
  }
  wake();
}

void TcpMessenger::Engine::unwatch(Address peer) {
  const std::lock_guard lock(mutex_);
  const auto it = outs_.find(peer);
  if (it == outs_.end() || !it->second.watched) return;
  Out& out = it->second;
  out.watched = false;
  out.health = Health::well;
  if (out.stage != Stage::up) return;
  append_frame(out.link.out, FrameType::unwatch, {});
  flush(out.link);
}

Status TcpMessenger::Engine::send(Address to, std::span<const std::byte> payload) {
  if (payload.size() > s_.message_bytes_max) return Cause::too_large;
  const std::lock_guard lock(mutex_);
  Out* out = find_or_add(to);
  if (out == nullptr || (out->watched && out->health == Health::lost)) return Cause::peer_lost;
  // What the peer's owner has polled is told in quarters of the bound, so up to one quarter may be counted too long.
  if (out->untaken >= s_.queue_messages_max + s_.queue_messages_max / 4) return Cause::overload;
  ++out->untaken;
  ++counters_.sent;
  const std::string_view bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
  if (out->stage != Stage::up) {
    append_frame(out->waiting, FrameType::message, bytes);
    if (!out->wanted && out->stage == Stage::idle) {
      out->wanted = true;
      wake();
    }
    return ok();
  }
  append_frame(out->link.out, FrameType::message, bytes);
  flush(out->link);  // a broken connection is found by the progress thread, which is told of it, too
  return ok();
}

std::size_t TcpMessenger::Engine::poll(std::span<MessengerEvent> out) {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  while (count < out.size() && !inbox_.empty()) {
    Item& item = inbox_.front();
    if (item.in != 0) {
      const auto it = ins_.find(item.in);
      if (it != ins_.end()) {
        --it->second.unread;
        ++it->second.taken;
        if (it->second.taken >= s_.queue_messages_max / 4) tell_taken(it->second);
      }
    }
    out[count++] = std::move(item.event);
    inbox_.pop_front();
  }
  if (inbox_.empty() && told_) {
    std::uint64_t drained = 0;
    const ssize_t got = ::read(owner_event_.get(), &drained, sizeof drained);
    (void)got;
    told_ = false;
  }
  return count;
}

void TcpMessenger::Engine::tell_taken(In& in) {
  append_taken(in.link.out, in.taken);
  in.taken = 0;
  flush(in.link);
}

void TcpMessenger::Engine::set_beat_base(Time base) {
  const std::lock_guard lock(mutex_);
  s_.beat_base = base;
  next_beat_ = base + std::chrono::nanoseconds(s_.phase.v);
  for (auto& [peer, out] : outs_) out.last_heard = std::max(base, std::chrono::steady_clock::now());
  wake();
}

bool TcpMessenger::Engine::watched_by(Address peer) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [token, in] : ins_) {
    if (in.stage == Stage::up && in.watching && in.peer == peer) return true;
  }
  return false;
}

// ---- bytes
// --------------------------------------------------------------------------------------------------------------

bool TcpMessenger::Engine::read_all(Link& link) {
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::recv(link.fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (count > 0) {
      link.in.append(buffer, static_cast<std::size_t>(count));
      // What one peer says is handled before more is read: nobody can fill our memory.
      if (link.in.size() >= (4U << 20) || static_cast<std::size_t>(count) < sizeof buffer) return true;
    } else if (count == 0) {
      return false;
    } else if (errno != EINTR) {
      return errno == EAGAIN || errno == EWOULDBLOCK;
    }
  }
}

/// Writes what it can; the rest when the socket takes more. False when the connection is over.
bool TcpMessenger::Engine::flush(Link& link) {
  std::size_t at = 0;
  bool over = false;
  while (at < link.out.size()) {
    const ssize_t count =
        ::send(link.fd.get(), link.out.data() + at, link.out.size() - at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) at += static_cast<std::size_t>(count);
    else if (count < 0 && errno == EINTR) continue;
    else {
      over = !(count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
      break;
    }
  }
  link.out.erase(0, at);
  const bool wants = !link.out.empty() && !over;
  if (wants != link.wants_write && link.token != 0) {
    link.wants_write = wants;
    epoll_event event{};
    event.events = EPOLLIN | (wants ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
    event.data.u64 = link.token;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, link.fd.get(), &event);
  }
  return !over;
}

void TcpMessenger::Engine::close(Link& link) {
  if (link.token != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link.fd.get(), nullptr);
  link = Link{};
}

// ---- the port
// ---------------------------------------------------------------------------------------------------------

TcpMessenger::TcpMessenger(TcpMessengerSettings settings) : engine_(std::make_unique<Engine>(std::move(settings))) {}
TcpMessenger::~TcpMessenger() = default;
void TcpMessenger::watch(Address peer) { engine_->watch(peer); }
void TcpMessenger::unwatch(Address peer) { engine_->unwatch(peer); }
Status TcpMessenger::send(Address to, std::span<const std::byte> payload) { return engine_->send(to, payload); }
std::size_t TcpMessenger::poll(std::span<MessengerEvent> out) { return engine_->poll(out); }
void TcpMessenger::set_beat_base(std::chrono::steady_clock::time_point base) { engine_->set_beat_base(base); }
bool TcpMessenger::watched_by(Address peer) const { return engine_->watched_by(peer); }
int TcpMessenger::event_descriptor() const { return engine_->event_descriptor(); }
std::uint16_t TcpMessenger::port() const { return engine_->port(); }
TcpMessengerCounters TcpMessenger::counters() const { return engine_->counters(); }

}  // namespace faultline::messenger
