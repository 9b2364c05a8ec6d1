// How TcpTransport gets from open() to a session: connecting, the handshake on each stream, and the streams that arrive
// before this side opened the peer.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "backend/transport/tcp_engine.h"

namespace faultline::transport {
namespace {
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::size_t kParkedMax = 64;

bool send_all(const Fd& socket, std::span<const std::byte> bytes) {
  // A handshake's few bytes fit into any fresh socket's buffer.
  return ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(bytes.size());
}

}  // namespace

void TcpTransport::Engine::start_open(Command& command) {
  Peer& peer = peers_[command.peer];
  peer.id = command.peer;
  peer.address = command.address;
  peer.initiator = address_.id < command.address.id;  // exactly one of the two
  peer.same_host =
      settings_.same_host_path && (command.address.flags & 1) != 0 && command.address.host == address_.host;
  const Time now = steady_clock::now();
  peer.connect_deadline = now + nanoseconds(settings_.connect_timeout.v);
  peer.retry_at = now;
  if (peer.initiator) connect(peer);
  else attach_parked(peer);
}

void TcpTransport::Engine::connect(Peer& peer) {
  const Time now = steady_clock::now();
  peer.retry_at = now + nanoseconds(settings_.connect_timeout.v);  // until these streams succeed or fail
  peer.session_id = random_value<std::uint64_t>();
  const std::uint16_t streams = static_cast<std::uint16_t>(peer.same_host ? 1 : settings_.connections);
  peer.gathering = {.from = peer.address.id,
                    .session = peer.session_id,
                    .streams_expected = streams,
                    .peer_ops_max = 0,
                    .streams = {},
                    .deadline = {}};
  for (std::uint16_t i = 0; i < streams; ++i) {
    Handshake handshake{};
    handshake.state = Handshake::State::connecting;
    handshake.unix_socket = peer.same_host;
    if (peer.same_host) {
      handshake.socket = connect_unix("faultline-" + hex(peer.address.id));
      if (!handshake.socket) peer.same_host = false;  // next try over TCP
    } else {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_addr.s_addr = peer.address.ipv4;
      to.sin_port = htons(peer.address.port);
      sockaddr_in from{};
      from.sin_family = AF_INET;
      from.sin_addr.s_addr = address_.ipv4;
      handshake.socket = connect_tcp(to, from);
    }
    if (!handshake.socket) {
      lose(peer, Cause::peer_lost);
      return;
    }
    handshake.deadline = now + nanoseconds(settings_.connect_timeout.v);
    handshake.peer = peer.id;
    handshake.hello = {.from = address_.id,
                       .to = peer.address.id,
                       .session = peer.session_id,
                       .stream = i,
                       .streams = streams,
                       .ops_in_flight_max = settings_.ops_in_flight_max,
                       .info_length = 0,
                       .nonce = random_value<Nonce>()};
    handshake.hello_bytes = encode(handshake.hello);
    const std::uint64_t number = ++handshake_numbers_;
    const int fd = handshake.socket.get();
    handshakes_.emplace(number, std::move(handshake));
    handshakes_.at(number).token =
        watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, {.kind = Watch::Kind::handshake, .number = number, .stream = 0});
  }
}

void TcpTransport::Engine::accept(const Fd& listener, bool unix_socket) {
  for (;;) {
    Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    const auto strangers = std::count_if(handshakes_.begin(), handshakes_.end(),
                                         [](const auto& entry) { return !entry.second.peer.valid(); });
    if (strangers >= static_cast<std::ptrdiff_t>(settings_.handshakes_max)) {
      const std::lock_guard lock(mutex_);
      ++counters_.handshakes_refused;
      continue;  // closed at once: strangers cannot use our descriptors up
    }
    Handshake handshake{};
    handshake.state = Handshake::State::await_hello;
    handshake.unix_socket = unix_socket;
    handshake.deadline = steady_clock::now() + nanoseconds(settings_.connect_timeout.v);
    const int fd = socket.get();
    handshake.socket = std::move(socket);
    const std::uint64_t number = ++handshake_numbers_;
    handshakes_.emplace(number, std::move(handshake));
    handshakes_.at(number).token =
        watch(fd, EPOLLIN | EPOLLET, {.kind = Watch::Kind::handshake, .number = number, .stream = 0});
    step_handshake(number);
  }
}

/// A handshake that failed. The initiator's peer tries again later, or is told why not.
void TcpTransport::Engine::refuse(std::uint64_t number) {
  const auto it = handshakes_.find(number);
  if (it == handshakes_.end()) return;
  {
    const std::lock_guard lock(mutex_);
    ++counters_.handshakes_refused;
  }
  unwatch(it->second.token);
  handshakes_.erase(it);  // last: the other end sees it
}

bool TcpTransport::Engine::read_exactly(Handshake& handshake, std::size_t bytes, bool& closed) {
  closed = false;
  while (handshake.buffer.size() < bytes) {
    std::array<std::byte, 512> part;
    // Not one byte more than the handshake: what follows are frames.
    const std::size_t want = std::min(part.size(), bytes - handshake.buffer.size());
    const ssize_t count = ::recv(handshake.socket.get(), part.data(), want, MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
      closed = true;
      return false;
    }
    if (count < 0) return false;
    handshake.buffer.insert(handshake.buffer.end(), part.begin(), part.begin() + count);
  }
  return true;
}

void TcpTransport::Engine::step_handshake(std::uint64_t number) {
  const auto it = handshakes_.find(number);
  if (it == handshakes_.end()) return;
  Handshake& handshake = it->second;
  const EndpointId peer_id = handshake.peer;
  Cause failed = Cause::none;
  if (advance(handshake, failed)) {
    unwatch(handshake.token);
    Handshake done = std::move(handshake);
    handshakes_.erase(it);
    gather_stream(done);
    return;
  }
  if (failed == Cause::none) return;  // waits for more
  refuse(number);
  const auto peer = peers_.find(peer_id);
  if (peer != peers_.end()) lose(peer->second, failed);
}

/// True: the other end has proved itself. `failed` says why it will not.
bool TcpTransport::Engine::advance(Handshake& handshake, Cause& failed) {
  using State = Handshake::State;
  bool closed = false;
  const auto give_up = [&](Cause cause) {
    failed = cause;
    return false;
  };
  if (handshake.state == State::connecting) {
    const int error = connect_error(handshake.socket);
    if (error == EINPROGRESS) return false;
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    if (error == 0 && ::getpeername(handshake.socket.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0)
      return false;  // still connecting
    if (error != 0 || !send_all(handshake.socket, handshake.hello_bytes)) return give_up(Cause::peer_lost);
    handshake.state = State::await_challenge;
  }
  if (handshake.state == State::await_challenge) {
    if (!read_exactly(handshake, kChallengeBytes, closed)) return closed ? give_up(Cause::peer_lost) : false;
    std::copy_n(handshake.buffer.begin(), kChallengeBytes, handshake.challenge_bytes.begin());
    const auto challenge =
        check_challenge(settings_.secret, handshake.hello_bytes, handshake.hello.to, handshake.challenge_bytes);
    if (!challenge) return give_up(Cause::protection);  // another secret, or not who was called
    handshake.peer_ops_max = challenge->ops_in_flight_max;
    handshake.buffer.clear();
    if (!send_all(handshake.socket, make_proof(settings_.secret, handshake.hello_bytes, handshake.challenge_bytes)))
      return give_up(Cause::peer_lost);
    if (!handshake.unix_socket) return true;
    handshake.state = State::await_ring;
  }
  if (handshake.state == State::await_ring) {
    bool bad = false;
    handshake.ring = accept_shm_stream(handshake.socket, bad);
    if (bad) return give_up(Cause::peer_lost);
    return handshake.ring != nullptr;
  }
  if (handshake.state == State::await_hello) {
    if (!read_exactly(handshake, kHelloBytes, closed)) return closed ? give_up(Cause::peer_lost) : false;
    std::copy_n(handshake.buffer.begin(), kHelloBytes, handshake.hello_bytes.begin());
    const auto hello = decode_hello(handshake.hello_bytes);
    if (!hello || hello->to != address_.id || hello->info_length != 0 ||
        (handshake.unix_socket && hello->streams != 1)) {
      return give_up(Cause::protection);
    }
    handshake.hello = *hello;
    handshake.peer_ops_max = hello->ops_in_flight_max;
    handshake.buffer.clear();
    handshake.challenge_bytes = make_challenge(settings_.secret, handshake.hello_bytes,
                                               {.from = address_.id,
                                                .ops_in_flight_max = settings_.ops_in_flight_max,
                                                .info_length = 0,
                                                .nonce = random_value<Nonce>()});
    if (!send_all(handshake.socket, handshake.challenge_bytes)) return give_up(Cause::peer_lost);
    handshake.state = State::await_proof;
  }
  if (!read_exactly(handshake, kProofBytes, closed)) return closed ? give_up(Cause::peer_lost) : false;
  const std::span<const std::byte, kProofBytes> proof(handshake.buffer.data(), kProofBytes);
  if (!check_proof(settings_.secret, handshake.hello_bytes, handshake.challenge_bytes, proof))
    return give_up(Cause::protection);
  return true;
}

void TcpTransport::Engine::gather_stream(Handshake& handshake) {
  std::unique_ptr<Stream> stream = std::move(handshake.ring);
  const bool initiator = handshake.peer.valid();
  if (!stream && handshake.unix_socket) stream = offer_shm_stream(std::move(handshake.socket));
  if (!stream && !handshake.unix_socket)
    stream = make_tcp_stream(std::move(handshake.socket), settings_.failure_budget);
  if (!stream) return;  // the other end sees its socket close and tries again
  if (initiator) {
    const auto peer = peers_.find(handshake.peer);
    if (peer == peers_.end() || peer->second.session_id != handshake.hello.session) return;
    Gathering& gathering = peer->second.gathering;
    gathering.peer_ops_max = handshake.peer_ops_max;
    gathering.streams[handshake.hello.stream] = std::move(stream);
    if (gathering.streams.size() == gathering.streams_expected) make_session(peer->second, gathering);
    return;
  }
  const Hello& hello = handshake.hello;
  auto it = std::find_if(parked_.begin(), parked_.end(),
                         [&](const Gathering& g) { return g.from == hello.from && g.session == hello.session; });
  if (it == parked_.end()) {
    if (parked_.size() >= kParkedMax) parked_.pop_front();
    // Only the newest attempt of a peer counts: it has given the earlier ones up.
    parked_.remove_if([&](const Gathering& g) { return g.from == hello.from; });
    parked_.push_back({.from = hello.from,
                       .session = hello.session,
                       .streams_expected = hello.streams,
                       .peer_ops_max = hello.ops_in_flight_max,
                       .streams = {},
                       .deadline = steady_clock::now() + nanoseconds(settings_.connect_timeout.v)});
    it = std::prev(parked_.end());
  }
  if (hello.streams != it->streams_expected) return;
  it->streams[hello.stream] = std::move(stream);
  if (it->streams.size() < it->streams_expected) return;
  for (auto& [id, peer] : peers_) {
    if (peer.address.id != hello.from || peer.initiator) continue;
    if (peer.session && peer.up)
      lose(peer, Cause::peer_lost);  // it opened us anew: the old connection is over, fence it
    else attach_parked(peer);
    return;
  }
}

void TcpTransport::Engine::attach_parked(Peer& peer) {
  for (auto it = parked_.begin(); it != parked_.end(); ++it) {
    if (it->from != peer.address.id || it->streams.size() < it->streams_expected) continue;
    Gathering gathering = std::move(*it);
    parked_.erase(it);
    for (const std::uint64_t token : peer.tokens) unwatch(token);
    peer.tokens.clear();
    make_session(peer, gathering);
    peer.session->send_ready();
    return;
  }
}

void TcpTransport::Engine::make_session(Peer& peer, Gathering& gathering) {
  std::vector<std::unique_ptr<Stream>> streams;
  for (auto& [index, stream] : gathering.streams) streams.push_back(std::move(stream));
  peer.session = std::make_unique<Session>(
      regions_, SessionSettings{.peer_ops_max = gathering.peer_ops_max, .backlog_bytes = settings_.backlog.v},
      std::move(streams));
  peer.session_id = gathering.session;
  peer.gathering = {};
  peer.heard = 0;
  peer.last_heard = peer.next_ping = steady_clock::now();
  for (std::size_t i = 0; i < peer.session->stream_count(); ++i) {
    for (const int fd : peer.session->stream(i).descriptors()) {
      peer.tokens.push_back(watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                  {.kind = Watch::Kind::session, .number = peer.id.v, .stream = i}));
    }
  }
  ready_.insert(peer.id);
}

}  // namespace faultline::transport
