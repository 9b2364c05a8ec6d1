// State of a TcpMessenger: connections out (one a peer we talk to or watch), connections in (one a peer that calls us).
// One mutex guards everything; the progress thread holds it while it works, never while it sleeps.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "backend/messenger/frame.h"
#include "backend/messenger/tcp_messenger.h"
#include "backend/transport/fd.h"
#include "backend/transport/handshake.h"

namespace faultline::messenger {

class TcpMessenger::Engine {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit Engine(TcpMessengerSettings settings);
  ~Engine();

  // The owner's thread.
  void watch(Address peer);
  void unwatch(Address peer);
  Status send(Address to, std::span<const std::byte> payload);
  std::size_t poll(std::span<MessengerEvent> out);
  void set_beat_base(Time base);
  bool watched_by(Address peer) const;
  int event_descriptor() const { return owner_event_.get(); }
  std::uint16_t port() const;
  TcpMessengerCounters counters() const;

 private:
  enum class Health : std::uint8_t { well, suspected, lost };
  enum class Stage : std::uint8_t { idle, connecting, greeted, up };
  /// Bytes on their way over one socket.
  struct Link {
    transport::Fd fd;
    std::uint64_t token = 0;  // of epoll; 0 = not there
    std::string in, out;
    bool wants_write = false;
  };
  struct Out {
    Address peer;
    Endpoint endpoint;
    Link link;
    Stage stage = Stage::idle;
    std::vector<std::byte> hello;  // with the introduction
    std::string waiting;           // frames for when it is up
    std::size_t untaken = 0;       // messages accepted and not yet polled by the peer's owner
    Time deadline{}, retry_at{};
    bool wanted = false;  // connect as soon as possible
    bool watched = false;
    Health health = Health::well;
    Time last_heard{};
    std::uint64_t incarnation = 0;
  };
  struct In {
    Link link;
    Stage stage = Stage::greeted;  // greeted: waits for the hello; connecting: for the proof; up
    Time deadline{};
    std::vector<std::byte> hello;
    std::array<std::byte, transport::kChallengeBytes> challenge{};
    Address peer;
    std::uint64_t incarnation = 0;
    bool watching = false;
    std::size_t unread = 0;   // messages in the inbox
    std::uint32_t taken = 0;  // polled and not yet told
  };
  struct Item {
    MessengerEvent event;
    std::uint64_t in = 0;  // connection that a message came by
  };

  // The progress thread, with the mutex held.
  void run();
  void accept();
  void timers(Time now);
  Time next_timer() const;
  void connect(Out& out, Time now);
  void out_ready(Out& out, bool readable, Time now);
  bool out_handshake(Out& out, Time now);
  void out_frames(Out& out, Time now);
  void lose_connection(Out& out, Cause cause, Time now);
  void report_lost(Out& out, Cause cause);
  void in_ready(std::uint64_t number, bool readable, Time now);
  bool in_handshake(In& in);
  bool in_frames(std::uint64_t number, In& in);
  void beat(Time now);

  // Either thread, with the mutex held.
  /// False when the connection is over.
  static bool read_all(Link& link);
  bool flush(Link& link);
  void close(Link& link);
  void add(Link& link, std::uint32_t events, std::uint64_t token);
  void tell_owner();
  void wake();
  Out* find_or_add(Address peer);
  void tell_taken(In& in);

  TcpMessengerSettings s_;
  transport::Fd epoll_, wake_event_, owner_event_, listener_, timer_;
  mutable std::mutex mutex_;
  std::map<Address, Out> outs_;
  std::map<std::uint64_t, In> ins_;  // by epoll token
  std::map<std::uint64_t, Address> out_tokens_;
  std::map<Address, std::uint64_t> incarnations_;  // newest that proved itself to us
  std::deque<Item> inbox_;
  bool told_ = false;
  std::uint64_t tokens_ = 8;  // below: listener, wake, timer
  Time next_beat_{};
  TcpMessengerCounters counters_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace faultline::messenger
