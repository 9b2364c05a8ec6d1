// The Transport of a node agent: KV hand-offs as real bytes, scaled, agent to agent over TCP.
//
// Each agent owns a region; a sender writes into the stripe of the region that is its own, so that no two senders meet.
// A hand-off is bound to the prefill pass that computes it: its bytes go at once, its end is told when both have ended.
// The receiver checks the bytes. The model's layers, blocks and paths are not: backend/kv moves those (docs/twin.md).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "backend/driver/cluster.h"
#include "backend/driver/wire.h"
#include "backend/transport/tcp_transport.h"

namespace faultline::live {

class KvPort {
 public:
  using Time = LiveClock::Time;
  struct Ended {
    OpId op;
    Cause cause;
  };

  KvPort(const Cluster& cluster, std::uint32_t node, std::uint64_t incarnation, Duration budget);
  ~KvPort();

  /// What must be said to other agents, in order.
  std::vector<std::pair<std::uint32_t, TransportHello>> take_hellos() { return std::exchange(hellos_, {}); }
  void hello(std::uint32_t from, const TransportHello& hello);
  /// Begins to open a path to a node; nothing if there is one.
  void want(std::uint32_t node);

  void post(OpId op, std::uint32_t to_node, Bytes bytes, OpId pass);
  void cancel(OpId op);
  /// A prefill pass ended well or not; hand-offs that come later learn it, too.
  void pass_ended(OpId pass, bool done);

  void work(Time now);
  std::vector<Ended> take_ended() { return std::exchange(ended_, {}); }
  int event_descriptor() const { return transport_.event_descriptor(); }
  Time next_work() const;

 private:
  struct Path {
    enum class State : std::uint8_t { asked, opening, up, down } state = State::asked;
    EndpointId peer;
    RegionId region;
    std::uint64_t incarnation = 0;
    Time asked{};
    std::int64_t at = 0;  // in the stripe
    bool fell_silent = false;
  };
  struct Push {
    OpId id;  // of the agent
    std::uint32_t to = 0;
    std::int64_t bytes = 0;
    OpId pass;
    OpId posted;      // at the transport; invalid while it waits for the path
    Time deadline{};  // for the path
    bool passed = false, moved = false;
    Cause cause = Cause::none;
  };
  void open(std::uint32_t node, Path& path, const TransportHello& hello);
  void write(Push& push, Path& path);
  void end(std::map<std::uint64_t, Push>::iterator it, Cause cause);
  void lose(std::uint32_t node, Cause cause);
  void check(std::uint32_t from, std::uint32_t tag);

  const Cluster& cluster_;
  std::uint32_t node_;
  std::uint64_t incarnation_;
  Duration budget_;
  transport::TcpTransport transport_;
  std::byte* region_ = nullptr;    // what others write
  std::byte* outgoing_ = nullptr;  // what we write from, by node
  std::size_t size_ = 0;
  std::map<std::uint32_t, Path> paths_;
  std::map<EndpointId, std::uint32_t> node_of_;
  std::map<std::uint64_t, Push> pushes_;  // by the agent's op
  std::map<OpId, std::uint64_t> posted_;
  std::deque<std::pair<OpId, bool>> passes_;  // the last that ended
  std::vector<std::pair<std::uint32_t, TransportHello>> hellos_;
  std::vector<Ended> ended_;
  std::uint32_t endpoints_ = 0;
  std::uint64_t ops_ = 0;
};

}  // namespace faultline::live
