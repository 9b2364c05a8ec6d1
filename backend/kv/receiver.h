// The decode side of a KV hand-off: gives blocks out for a transfer, learns by notifies which layers are there, and
// takes the blocks back. Its own deadline, because a sender may think that it failed when everything arrived, or never
// say.
//
// Blocks of a transfer that did not arrive are *held* until no late write can reach them: until the sender said that
// nothing moves any more (abort), or every rail's connection has ended (its session is fenced). If neither comes within
// `fence_after`, the receiver closes the rails itself. Only then are they free again. Sans-IO like the sender.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include "backend/kv/layout.h"
#include "core/ports/transport.h"

namespace faultline::kv {

struct Arrived {
  RequestId request;
};
struct LayerArrived {
  RequestId request;
  std::uint32_t layer;
};
struct ReceiveFailed {
  RequestId request;
  Cause cause;  // timeout (own deadline), canceled (the sender gave up, or cancel()), else why the last rail was lost
};
/// After ReceiveFailed: nothing can write these blocks any more.
struct BlocksFree {
  RequestId request;
  std::vector<std::uint32_t> blocks;
};
using ReceiverEvent = std::variant<Arrived, LayerArrived, ReceiveFailed, BlocksFree>;

struct ReceiverSettings {
  bool layer_events = false;            // LayerArrived for each layer
  Duration fence_after{2'000'000'000};  // from ReceiveFailed: wait this long for the sender's abort
};

class Receiver {
 public:
  Receiver(const Layout& layout, const ReceiverSettings& settings, std::vector<Transport*> transports,
           std::vector<Rail> rails, std::function<OpId()> next_op);

  /// The blocks are the transfer's until Arrived or BlocksFree. One transfer per request at a time (asserted).
  Ticket expect(RequestId request, std::vector<std::uint32_t> blocks, Instant deadline);
  /// The request is gone: as a passed deadline, with canceled. Unknown requests are ignored.
  void cancel(RequestId request, Instant now);

  void handle(std::size_t rail, const TransportEvent& event, Instant now);
  void rail_up(std::size_t rail) { up_[rail] = true; }
  /// Deadlines; call at next_deadline() or later.
  void tick(Instant now);
  Instant next_deadline() const;
  std::vector<ReceiverEvent> take_events() { return std::exchange(events_, {}); }
  std::size_t active() const { return transfers_.size(); }

 private:
  struct Transfer {
    std::uint32_t slot = 0;
    std::vector<std::uint32_t> blocks;
    std::set<std::uint32_t> layers;
    Instant deadline{};  // of the transfer, then of the fence
    bool failed = false;
  };
  void fail(RequestId request, Transfer& transfer, Cause cause, Instant now, bool fenced);
  void release(RequestId request);
  void ask_to_stop(std::uint32_t slot);

  Layout layout_;
  ReceiverSettings settings_;
  std::vector<Transport*> transports_;
  std::vector<Rail> rails_;
  std::vector<bool> up_;
  std::function<OpId()> next_op_;
  std::map<RequestId, Transfer> transfers_;
  std::map<std::uint32_t, RequestId> slots_;
  std::vector<ReceiverEvent> events_;
  std::uint32_t next_slot_ = 0;
};

}  // namespace faultline::kv
