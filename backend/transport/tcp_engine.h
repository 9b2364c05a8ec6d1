// The inside of TcpTransport: shared state under one mutex, and the progress thread with everything only it touches.
#pragma once

#include <atomic>
#include <chrono>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>

#include "backend/transport/net.h"
#include "backend/transport/session.h"
#include "backend/transport/tcp_transport.h"
#include "core/ports/book.h"

namespace faultline::transport {

/// What open() needs to know; the opaque address.
struct TcpAddress {
  Uuid id{};
  std::uint64_t host = 0;
  std::uint32_t ipv4 = 0;  // network order
  std::uint16_t port = 0;
  std::uint16_t flags = 0;  // 1: has a same-host path
};
std::vector<std::byte> encode(const TcpAddress& address);
std::optional<TcpAddress> decode_address(std::span<const std::byte> bytes);

class TcpTransport::Engine {
 public:
  explicit Engine(const TcpSettings& settings);
  ~Engine();

  // Owner's side.
  Status open(EndpointId peer, std::span<const std::byte> address);
  void close(EndpointId peer);
  Status register_memory(RegionId region, std::span<std::byte> memory);
  Status register_shared(RegionId region, const SharedMemory& memory);
  Status deregister(RegionId region);
  std::vector<std::byte> export_region(RegionId region) const;
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob);
  Status post(const WriteBatch& batch);
  void cancel(OpId op);
  std::size_t poll(std::span<TransportEvent> out);
  TcpAddress address() const { return address_; }
  TransportLimits limits() const;
  int event_descriptor() const { return owner_event_.get(); }
  TcpCounters counters() const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Command {
    enum class Kind : std::uint8_t { open, close, post, cancel } kind;
    EndpointId peer;
    TcpAddress address;               // open
    std::unique_ptr<Outgoing> batch;  // post
    OpId op;                          // cancel
  };

  /// A connection before it belongs to a session.
  struct Handshake {
    enum class State : std::uint8_t { connecting, await_challenge, await_hello, await_proof, await_ring } state;
    Fd socket;
    bool unix_socket = false;
    Time deadline;
    Hello hello;
    std::array<std::byte, kHelloBytes> hello_bytes{};
    std::array<std::byte, kChallengeBytes> challenge_bytes{};
    std::vector<std::byte> buffer;
    EndpointId peer;  // initiator's side
    std::uint32_t peer_ops_max = 0;
    std::uint64_t token = 0;       // its watch
    std::unique_ptr<Stream> ring;  // initiator of a same-host path, once it came
  };
  /// Streams of a session that is not complete, or complete and not yet opened here.
  struct Gathering {
    Uuid from{};
    std::uint64_t session = 0;
    std::uint16_t streams_expected = 0;
    std::uint32_t peer_ops_max = 0;
    std::map<std::uint16_t, std::unique_ptr<Stream>> streams;
    Time deadline;
  };
  struct Peer {
    EndpointId id;
    TcpAddress address;
    bool initiator = false;
    bool same_host = false;
    bool up = false;
    std::uint64_t session_id = 0;
    Time connect_deadline;
    Time retry_at;
    std::unique_ptr<Session> session;
    Gathering gathering;  // initiator's side
    std::vector<std::uint64_t> tokens;
    std::uint64_t heard = 0;
    Time last_heard;
    Time next_ping;
  };
  struct Watch {
    enum class Kind : std::uint8_t { wake, listen_tcp, listen_unix, handshake, session } kind;
    std::uint64_t number = 0;  // of the handshake, or the endpoint
    std::size_t stream = 0;
  };

  void run();
  void wake();
  void take_commands();
  void start_open(Command& command);
  void connect(Peer& peer);
  void accept(const Fd& listener, bool unix_socket);
  void step_handshake(std::uint64_t number);
  bool advance(Handshake& handshake, Cause& failed);
  bool read_exactly(Handshake& handshake, std::size_t bytes, bool& closed);
  void refuse(std::uint64_t number);
  void gather_stream(Handshake& handshake);
  void attach_parked(Peer& peer);
  void make_session(Peer& peer, Gathering& gathering);
  void pump(Peer& peer, bool& more);
  void drain(Peer& peer);
  void lose(Peer& peer, Cause cause);
  void unwatch(std::uint64_t token);
  std::uint64_t watch(int fd, std::uint32_t events, Watch what);
  void timers(Time now);
  Time next_timer() const;
  void tell_owner();

  TcpSettings settings_;
  TcpAddress address_;
  std::string unix_name_;
  Fd tcp_listener_;
  Fd unix_listener_;
  Fd epoll_;
  Fd wake_event_;
  Fd owner_event_;
  RegionTable regions_;

  mutable std::mutex mutex_;  // guards what follows up to told_
  Book book_;
  std::map<RegionId, std::uint64_t> keys_;
  struct Share {
    std::uint64_t number = 0;
    int memory = -1;
  };
  std::map<RegionId, Share> shares_;  // regions in shared memory
  std::uint64_t share_numbers_ = 0;
  std::map<EndpointId, Uuid> ids_;  // of open endpoints
  std::vector<Command> commands_;
  std::map<EndpointId, std::uint32_t> unread_notifies_;
  TcpCounters counters_;
  bool told_ = false;  // owner_event_ is set

  std::atomic<bool> stop_{false};
  std::atomic<bool> sleeping_{false};

  // Only the progress thread:
  std::map<EndpointId, Peer> peers_;
  std::map<std::uint64_t, Handshake> handshakes_;
  std::list<Gathering> parked_;
  std::unordered_map<std::uint64_t, Watch> watches_;
  std::map<std::uint64_t, int> watched_fds_;
  std::set<EndpointId> ready_;  // sessions with something to do
  Time timers_at_{};
  std::uint64_t tokens_ = 0;
  std::uint64_t handshake_numbers_ = 0;

  std::thread thread_;  // last: starts when everything is there
};

}  // namespace faultline::transport
