// The progress thread of TcpTransport: one loop over epoll that moves bytes, answers heartbeats and declares peers
// lost.
#include <sys/epoll.h>

#include <algorithm>

#include "backend/transport/tcp_engine.h"

namespace faultline::transport {
namespace {
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::size_t kEventsMax = 64;
// A peer is lost after this part of the failure budget without a byte; the rest is for the timer and for telling.
constexpr std::int64_t kSilencePercent = 80;
constexpr std::int64_t kPingsPerBudget = 5;
}  // namespace

void TcpTransport::Engine::run() {
  watch(wake_event_.get(), EPOLLIN | EPOLLET, {.kind = Watch::Kind::wake});
  watch(tcp_listener_.get(), EPOLLIN | EPOLLET, {.kind = Watch::Kind::listen_tcp});
  if (unix_listener_) watch(unix_listener_.get(), EPOLLIN | EPOLLET, {.kind = Watch::Kind::listen_unix});
  std::array<epoll_event, kEventsMax> events{};
  Time last_work = steady_clock::now();
  while (!stop_.load()) {
    take_commands();
    bool any_more = false;
    bool worked = !ready_.empty();
    for (const EndpointId id : std::exchange(ready_, {})) {
      const auto it = peers_.find(id);
      if (it == peers_.end() || !it->second.session) continue;
      bool more = false;
      pump(it->second, more);
      if (more) {
        ready_.insert(id);
        any_more = true;
      }
    }
    const Time now = steady_clock::now();
    timers(now);
    if (worked) last_work = now;

    bool sleep = !any_more && ready_.empty();
    if (sleep && settings_.spin.v > 0 && now - last_work < nanoseconds(settings_.spin.v)) sleep = false;
    if (sleep) {
      sleeping_.store(true);
      for (auto& [id, peer] : peers_) {
        if (peer.session && !peer.session->may_sleep()) {
          ready_.insert(id);
          sleep = false;
        }
      }
      const std::lock_guard lock(mutex_);
      if (!commands_.empty()) sleep = false;
    }
    int wait_ms = 0;
    if (sleep) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_timer() - now).count();
      wait_ms = static_cast<int>(std::clamp<long>(left, 0, 1000));
    }
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, wait_ms);
    sleeping_.store(false, std::memory_order_relaxed);
    for (int i = 0; i < count; ++i) {
      const auto it = watches_.find(events[static_cast<std::size_t>(i)].data.u64);
      if (it == watches_.end()) continue;
      const Watch what = it->second;
      switch (what.kind) {
        case Watch::Kind::wake: {
          std::uint64_t drained = 0;
          const ssize_t got = ::read(wake_event_.get(), &drained, sizeof drained);
          (void)got;
          break;
        }
        case Watch::Kind::listen_tcp: accept(tcp_listener_, false); break;
        case Watch::Kind::listen_unix: accept(unix_listener_, true); break;
        case Watch::Kind::handshake: step_handshake(what.number); break;
        case Watch::Kind::session: {
          const EndpointId id{static_cast<std::uint32_t>(what.number)};
          const auto peer = peers_.find(id);
          if (peer == peers_.end() || !peer->second.session) break;
          peer->second.session->woken(what.stream);
          ready_.insert(id);
          break;
        }
      }
    }
  }
  for (auto& [id, peer] : peers_) {
    if (peer.session) peer.session->abandon();
  }
}

std::uint64_t TcpTransport::Engine::watch(int fd, std::uint32_t events, Watch what) {
  const std::uint64_t token = ++tokens_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  watches_[token] = what;
  watched_fds_[token] = fd;
  return token;
}

void TcpTransport::Engine::unwatch(std::uint64_t token) {
  const auto it = watched_fds_.find(token);
  if (it == watched_fds_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second, nullptr);
  watched_fds_.erase(it);
  watches_.erase(token);
}

void TcpTransport::Engine::take_commands() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    switch (command.kind) {
      case Command::Kind::open: start_open(command); break;
      case Command::Kind::close: {
        const auto peer = peers_.find(command.peer);
        if (peer != peers_.end()) lose(peer->second, Cause::canceled);
        break;
      }
      case Command::Kind::post: {
        const auto peer = peers_.find(command.peer);
        if (peer == peers_.end() || !peer->second.session) break;  // it went down: the operation has failed with it
        peer->second.session->submit(std::move(command.batch));
        ready_.insert(command.peer);
        break;
      }
      case Command::Kind::cancel:
        for (auto& [id, peer] : peers_) {
          if (!peer.session || !peer.session->cancel(command.op)) continue;
          const std::lock_guard lock(mutex_);
          book_.failed(command.op, Cause::canceled);
          tell_owner();
        }
        break;
    }
  }
}

void TcpTransport::Engine::tell_owner() {  // with the mutex held
  if (told_ || book_.idle()) return;
  told_ = true;
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(owner_event_.get(), &one, sizeof one);
  (void)sent;
}

void TcpTransport::Engine::pump(Peer& peer, bool& more) {
  const Cause cause = peer.session->pump(more);
  if (peer.session->heard() != peer.heard) {
    peer.heard = peer.session->heard();
    peer.last_heard = steady_clock::now();
  }
  drain(peer);
  if (cause != Cause::none) {
    more = false;
    lose(peer, cause);
  }
}

void TcpTransport::Engine::drain(Peer& peer) {
  const auto events = peer.session->take_events();
  const bool answer = !peer.up && peer.heard > 0;
  if (events.empty() && !answer) return;
  if (answer) {
    // Whatever came first: data of another stream may overtake the ready frame, and says the same.
    peer.up = true;
    if (peer.initiator) peer.session->send_ready();
    ready_.insert(peer.id);
  }
  bool flooded = false;
  {
    const std::lock_guard lock(mutex_);
    if (answer) {
      book_.went_up(peer.id);
      ++counters_.sessions_opened;
      if (std::string_view(peer.session->stream(0).kind()) == "shm") ++counters_.shm_sessions;
    }
    for (const SessionEvent& event : events) {
      switch (event.kind) {
        case SessionEvent::Kind::ready: break;
        case SessionEvent::Kind::done: book_.completed(event.op); break;
        case SessionEvent::Kind::failed: book_.failed(event.op, event.cause); break;
        case SessionEvent::Kind::notified:
          book_.notified(peer.id, event.tag);
          flooded = ++unread_notifies_[peer.id] > settings_.notifies_unread_max;
          break;
      }
      if (flooded) break;
    }
    tell_owner();
  }
  if (flooded) lose(peer, Cause::overload);
}

void TcpTransport::Engine::lose(Peer& peer, Cause cause) {
  const EndpointId id = peer.id;
  const Time now = steady_clock::now();
  for (const std::uint64_t token : peer.tokens) unwatch(token);
  peer.tokens.clear();
  if (peer.session) peer.session->abandon();
  const bool was_up = peer.up;
  peer.session.reset();
  for (auto it = handshakes_.begin(); it != handshakes_.end();) {
    if (it->second.peer == id) {
      const std::uint64_t number = it->first;
      ++it;
      refuse(number);
    } else {
      ++it;
    }
  }
  peer.gathering = {};
  const bool final = was_up || cause == Cause::canceled || cause == Cause::protection || now >= peer.connect_deadline;
  if (!final) {  // not yet up: try again until the deadline
    peer.retry_at = now + std::chrono::milliseconds(20);
    if (!peer.initiator) attach_parked(peer);
    return;
  }
  const std::lock_guard lock(mutex_);
  book_.went_down(id, cause, cause);
  ids_.erase(id);
  unread_notifies_.erase(id);
  if (was_up) ++counters_.sessions_lost;
  tell_owner();
  ready_.erase(id);
  peers_.erase(id);
}

void TcpTransport::Engine::timers(Time now) {
  if (now < timers_at_) return;
  timers_at_ = now + nanoseconds(settings_.failure_budget.v / (4 * kPingsPerBudget));
  const auto ping_every = nanoseconds(settings_.failure_budget.v / kPingsPerBudget);
  const auto silence_max = nanoseconds(settings_.failure_budget.v * kSilencePercent / 100);
  std::vector<std::pair<EndpointId, Cause>> lost;
  std::vector<EndpointId> again;
  for (auto& [id, peer] : peers_) {
    if (!peer.up) {
      if (now >= peer.connect_deadline) lost.emplace_back(id, Cause::timeout);
      else if (peer.initiator && !peer.session && now >= peer.retry_at) again.push_back(id);
      continue;
    }
    if (now - peer.last_heard > silence_max) {
      lost.emplace_back(id, peer.session->cause_of_silence());
    } else if (now >= peer.next_ping) {
      peer.next_ping = now + ping_every;
      peer.session->send_ping();
      ready_.insert(id);
    }
  }
  for (const auto& [id, cause] : lost) {
    const auto it = peers_.find(id);
    if (it != peers_.end()) lose(it->second, cause);
  }
  for (const EndpointId id : again) {
    const auto it = peers_.find(id);
    if (it != peers_.end()) connect(it->second);
  }
  std::vector<std::uint64_t> late;
  for (const auto& [number, handshake] : handshakes_) {
    if (now >= handshake.deadline) late.push_back(number);
  }
  for (const std::uint64_t number : late) refuse(number);
  parked_.remove_if([now](const Gathering& gathering) { return now >= gathering.deadline; });
  // An edge that came while no descriptor was left is not told again.
  accept(tcp_listener_, false);
  if (unix_listener_) accept(unix_listener_, true);
}

TcpTransport::Engine::Time TcpTransport::Engine::next_timer() const { return timers_at_; }

}  // namespace faultline::transport
