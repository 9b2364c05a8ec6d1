// The progress thread of TcpMessenger: connections, proofs, heartbeats, and who is lost.
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "backend/messenger/tcp_messenger_engine.h"
#include "backend/transport/net.h"

namespace faultline::messenger {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kListener = 1, kWake = 2, kTimer = 3;
constexpr std::size_t kEventsMax = 64;

/// The handshake names its ends by 16 bytes; ours are addresses.
transport::Uuid name_of(Address address) {
  transport::Uuid id{};
  id[0] = 'm';
  id[1] = static_cast<std::uint8_t>(address.role);
  for (std::size_t i = 0; i < 4; ++i) id[4 + i] = static_cast<std::uint8_t>(address.index >> (8 * i));
  return id;
}

std::span<const std::byte> bytes_of(const std::string& text, std::size_t from, std::size_t count) {
  return {reinterpret_cast<const std::byte*>(text.data()) + from, count};
}
void append(std::string& out, std::span<const std::byte> bytes) {
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

void TcpMessenger::Engine::run() {
  const auto plain = [&](int fd, std::uint64_t token) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = token;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  };
  plain(listener_.get(), kListener);
  plain(wake_event_.get(), kWake);
  plain(timer_.get(), kTimer);
  std::array<epoll_event, kEventsMax> events{};
  while (!stop_.load()) {
    {
      const std::lock_guard lock(mutex_);
      const Time now = steady_clock::now();
      timers(now);
      tell_owner();
      const auto at = std::max<std::int64_t>(1, next_timer().time_since_epoch().count());
      itimerspec when{};
      when.it_value.tv_sec = at / 1'000'000'000;
      when.it_value.tv_nsec = at % 1'000'000'000;
      ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
    }
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, -1);
    const std::lock_guard lock(mutex_);
    const Time now = steady_clock::now();
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      const std::uint64_t token = event.data.u64;
      const bool readable = (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
      if (token == kListener) {
        accept();
      } else if (token == kWake || token == kTimer) {
        std::uint64_t drained = 0;
        const ssize_t got = ::read(token == kWake ? wake_event_.get() : timer_.get(), &drained, sizeof drained);
        (void)got;
      } else if (const auto out = out_tokens_.find(token); out != out_tokens_.end()) {
        out_ready(outs_.at(out->second), readable, now);
      } else if (ins_.contains(token)) {
        in_ready(token, readable, now);
      }
    }
    tell_owner();
  }
}

void TcpMessenger::Engine::add(Link& link, std::uint32_t events, std::uint64_t token) {
  link.token = token;
  link.wants_write = (events & EPOLLOUT) != 0;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link.fd.get(), &event);
}

// ---- time
// -------------------------------------------------------------------------------------------------------------

TcpMessenger::Engine::Time TcpMessenger::Engine::next_timer() const {
  Time next = next_beat_;
  for (const auto& [peer, out] : outs_) {
    if (out.stage == Stage::idle && (out.watched || out.wanted)) next = std::min(next, out.retry_at);
    if (out.stage == Stage::connecting || out.stage == Stage::greeted) next = std::min(next, out.deadline);
    if (!out.watched || out.health == Health::lost) continue;
    next = std::min(next, out.last_heard + nanoseconds(s_.lost_after.v));
    if (out.health == Health::well && out.stage == Stage::up)
      next = std::min(next, out.last_heard + nanoseconds(s_.suspect_after.v));
  }
  for (const auto& [token, in] : ins_) {
    if (in.stage != Stage::up) next = std::min(next, in.deadline);
  }
  return next;
}

void TcpMessenger::Engine::timers(Time now) {
  if (now >= next_beat_) beat(now);
  for (auto& [peer, out] : outs_) {
    if ((out.stage == Stage::connecting || out.stage == Stage::greeted) && now >= out.deadline)
      lose_connection(out, Cause::timeout, now);
    if (out.watched && out.health != Health::lost) {
      if (now >= out.last_heard + nanoseconds(s_.lost_after.v)) {
        if (out.stage == Stage::up) lose_connection(out, Cause::timeout, now);
        else report_lost(out, Cause::peer_lost);  // it never answered
      } else if (out.health == Health::well && out.stage == Stage::up &&
                 now >= out.last_heard + nanoseconds(s_.suspect_after.v)) {
        out.health = Health::suspected;
        inbox_.push_back({PeerSuspected{peer}, 0});
      }
    }
    if (out.stage == Stage::idle && (out.wanted || out.watched) && now >= out.retry_at) connect(out, now);
  }
  for (auto it = ins_.begin(); it != ins_.end();) {
    if (it->second.stage != Stage::up && now >= it->second.deadline) {
      ++counters_.refused;
      close(it->second.link);
      it = ins_.erase(it);
    } else {
      ++it;
    }
  }
}

void TcpMessenger::Engine::beat(Time now) {
  for (auto& [token, in] : ins_) {
    if (in.stage != Stage::up) continue;
    if (in.watching) append_frame(in.link.out, FrameType::beat, {});
    if (in.taken > 0) tell_taken(in);
    else flush(in.link);
  }
  const auto period = nanoseconds(s_.heartbeat.v);
  next_beat_ += period;
  if (next_beat_ <= now)
    next_beat_ += ((now - next_beat_) / period + 1) * period;  // beats that were missed are not made up for
}

// ---- out
// --------------------------------------------------------------------------------------------------------------

void TcpMessenger::Engine::connect(Out& out, Time now) {
  out.wanted = false;
  out.retry_at = now + nanoseconds(s_.reconnect.v);
  const auto to = transport::parse_ipv4(out.endpoint.address, out.endpoint.port);
  const auto from = transport::parse_ipv4(s_.listen.address, 0);
  if (to && from) out.link.fd = transport::connect_tcp(*to, *from);
  if (!out.link.fd) {
    lose_connection(out, Cause::peer_lost, now);
    return;
  }
  const int one = 1;
  ::setsockopt(out.link.fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  out.stage = Stage::connecting;
  out.deadline = now + nanoseconds(s_.handshake_max.v);
  const std::uint64_t token = ++tokens_;
  out_tokens_[token] = out.peer;
  add(out.link, EPOLLIN | EPOLLOUT, token);
}

/// What had not been delivered is gone. A watched peer that was there is lost; one that never was gets its time.
void TcpMessenger::Engine::lose_connection(Out& out, Cause cause, Time now) {
  const bool was_up = out.stage == Stage::up;
  out_tokens_.erase(out.link.token);
  close(out.link);
  out.stage = Stage::idle;
  out.retry_at = now + nanoseconds(s_.reconnect.v);
  if (out.watched && !was_up && out.health != Health::lost) return;  // what waits for it may still be sent
  out.waiting.clear();
  out.untaken = 0;
  if (was_up && out.watched) report_lost(out, cause);
}

void TcpMessenger::Engine::report_lost(Out& out, Cause cause) {
  if (out.health == Health::lost) return;
  out.health = Health::lost;
  out.waiting.clear();
  out.untaken = 0;
  inbox_.push_back({PeerLost{out.peer, cause}, 0});
}

void TcpMessenger::Engine::out_ready(Out& out, bool readable, Time now) {
  if (out.stage == Stage::connecting) {
    if (transport::connect_error(out.link.fd) != 0) {
      lose_connection(out, Cause::peer_lost, now);
      return;
    }
    transport::Hello hello;
    hello.from = name_of(s_.self);
    hello.to = name_of(out.peer);
    hello.session = s_.incarnation;
    hello.ops_in_flight_max = 1;
    hello.nonce = transport::random_value<transport::Nonce>();
    const auto introduction = encode(Introduction{s_.self, out.peer});
    hello.info_length = static_cast<std::uint32_t>(introduction.size());
    const auto bytes = transport::encode(hello);
    out.hello.assign(bytes.begin(), bytes.end());
    out.hello.insert(out.hello.end(), introduction.begin(), introduction.end());
    append(out.link.out, out.hello);
    out.stage = Stage::greeted;
  }
  bool open = true;
  if (readable) open = read_all(out.link);
  if (out.stage == Stage::greeted && !out_handshake(out, now)) open = false;
  if (out.stage == Stage::up) out_frames(out, now);
  if (out.link.fd && (!flush(out.link) || !open)) lose_connection(out, Cause::peer_lost, now);
}

/// False when the other end is not who was called.
bool TcpMessenger::Engine::out_handshake(Out& out, Time now) {
  std::string& in = out.link.in;
  if (in.size() < transport::kChallengeBytes + sizeof(std::uint64_t)) return true;
  const auto bytes = bytes_of(in, 0, transport::kChallengeBytes).first<transport::kChallengeBytes>();
  const auto info = bytes_of(in, transport::kChallengeBytes, sizeof(std::uint64_t));
  if (!transport::check_challenge(s_.secret, out.hello, name_of(out.peer), bytes, info)) {
    ++counters_.refused;
    return false;
  }
  append(out.link.out, transport::make_proof(s_.secret, out.hello, bytes));
  std::memcpy(&out.incarnation, info.data(), sizeof out.incarnation);
  in.erase(0, transport::kChallengeBytes + sizeof(std::uint64_t));
  out.stage = Stage::up;
  out.last_heard = now;
  if (out.watched) {
    append_frame(out.link.out, FrameType::watch, {});
    if (out.health == Health::lost) inbox_.push_back({PeerBack{out.peer, out.incarnation}, 0});
    out.health = Health::well;
  }
  out.link.out += std::exchange(out.waiting, {});
  return true;
}

void TcpMessenger::Engine::out_frames(Out& out, Time now) {
  std::size_t at = 0;
  for (;;) {
    const Cut cut = cut_frame(std::string_view(out.link.in).substr(at), 0);
    const bool known = cut.frame && (cut.frame->type == FrameType::beat || cut.frame->type == FrameType::taken);
    if (cut.bad || (cut.frame && !known)) {
      ++counters_.misbehaved;
      lose_connection(out, Cause::protection, now);
      return;
    }
    if (!cut.frame) break;
    at += cut.size;
    if (cut.frame->type == FrameType::beat) {
      out.last_heard = now;
      if (out.health == Health::suspected) out.health = Health::well;
    } else {
      out.untaken -= std::min<std::size_t>(out.untaken, taken_count(*cut.frame));
    }
  }
  out.link.in.erase(0, at);
}

// ---- in
// ---------------------------------------------------------------------------------------------------------------

void TcpMessenger::Engine::accept() {
  for (;;) {
    transport::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) return;
    const auto unproved =
        std::count_if(ins_.begin(), ins_.end(), [](const auto& entry) { return entry.second.stage != Stage::up; });
    if (static_cast<std::uint32_t>(unproved) >= s_.handshakes_max) {
      ++counters_.refused;
      continue;
    }
    const int one = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const std::uint64_t token = ++tokens_;
    In& in = ins_[token];
    in.deadline = steady_clock::now() + nanoseconds(s_.handshake_max.v);
    in.link.fd = std::move(fd);
    add(in.link, EPOLLIN, token);
  }
}

void TcpMessenger::Engine::in_ready(std::uint64_t token, bool readable, Time) {
  In& in = ins_.at(token);
  const bool open = !readable || read_all(in.link);
  bool fine = true;
  if (in.stage != Stage::up) {
    fine = in_handshake(in);
    if (!fine) ++counters_.refused;
  }
  // What it said before its end counts.
  if (fine && in.stage == Stage::up && !in_frames(token, in)) {
    fine = false;
    ++counters_.misbehaved;
  }
  if (fine && open && flush(in.link)) return;
  close(in.link);
  ins_.erase(token);
}

bool TcpMessenger::Engine::in_handshake(In& in) {
  std::string& bytes = in.link.in;
  if (in.stage == Stage::greeted) {
    if (bytes.size() < transport::kHelloBytes) return true;
    const auto hello =
        transport::decode_hello(bytes_of(bytes, 0, transport::kHelloBytes).first<transport::kHelloBytes>());
    if (!hello || hello->to != name_of(s_.self) || hello->info_length > 64) return false;
    const std::size_t size = transport::kHelloBytes + hello->info_length;
    if (bytes.size() < size) return true;
    const auto said = decode_introduction(bytes_of(bytes, transport::kHelloBytes, hello->info_length));
    if (!said || said->to != s_.self || name_of(said->from) != hello->from) return false;
    in.peer = said->from;
    in.incarnation = hello->session;
    const auto whole = bytes_of(bytes, 0, size);
    in.hello.assign(whole.begin(), whole.end());
    bytes.erase(0, size);
    std::array<std::byte, sizeof s_.incarnation> mine{};
    std::memcpy(mine.data(), &s_.incarnation, sizeof s_.incarnation);
    transport::Challenge challenge;
    challenge.from = name_of(s_.self);
    challenge.ops_in_flight_max = 1;
    challenge.info_length = static_cast<std::uint32_t>(mine.size());
    challenge.nonce = transport::random_value<transport::Nonce>();
    in.challenge = transport::make_challenge(s_.secret, in.hello, challenge, mine);
    append(in.link.out, in.challenge);
    append(in.link.out, mine);
    in.stage = Stage::connecting;
  }
  if (bytes.size() < transport::kProofBytes) return true;
  const auto proof = bytes_of(bytes, 0, transport::kProofBytes).first<transport::kProofBytes>();
  if (!transport::check_proof(s_.secret, in.hello, in.challenge, proof)) return false;
  bytes.erase(0, transport::kProofBytes);
  std::uint64_t& newest = incarnations_[in.peer];
  if (in.incarnation < newest) return false;  // a process that is dead elsewhere
  const bool anew = in.incarnation > newest;
  newest = in.incarnation;
  in.stage = Stage::up;
  const std::uint64_t token = in.link.token;
  for (auto it = ins_.begin(); it != ins_.end();) {  // one connection a peer: the latest
    if (it->first != token && it->second.stage == Stage::up && it->second.peer == in.peer) {
      close(it->second.link);
      it = ins_.erase(it);
    } else {
      ++it;
    }
  }
  // It lives: no need to wait for the next attempt.
  if (const auto out = outs_.find(in.peer); out != outs_.end()) {
    const Time now = steady_clock::now();
    if (anew && out->second.stage == Stage::up && out->second.incarnation != 0 &&
        out->second.incarnation < in.incarnation) {
      lose_connection(out->second, Cause::peer_lost, now);
    }
    out->second.retry_at = std::min(out->second.retry_at, now);
  }
  return true;
}

/// False when the peer sent what no honest one sends.
bool TcpMessenger::Engine::in_frames(std::uint64_t token, In& in) {
  std::size_t at = 0;
  for (;;) {
    const Cut cut = cut_frame(std::string_view(in.link.in).substr(at), s_.message_bytes_max);
    if (cut.bad) return false;
    if (!cut.frame) break;
    at += cut.size;
    switch (cut.frame->type) {
      case FrameType::message: {
        if (++in.unread > 2 * s_.queue_messages_max) return false;  // honest senders stop before
        const auto payload = bytes_of(in.link.in, at - cut.frame->payload.size(), cut.frame->payload.size());
        inbox_.push_back({MessageReceived{in.peer, {payload.begin(), payload.end()}}, token});
        ++counters_.received;
        break;
      }
      case FrameType::watch:
        in.watching = true;
        append_frame(in.link.out, FrameType::beat, {});  // it hears at once that we live
        break;
      case FrameType::unwatch: in.watching = false; break;
      default: return false;
    }
  }
  in.link.in.erase(0, at);
  return true;
}

}  // namespace faultline::messenger
