// The prefill side of a KV hand-off: pushes each layer as soon as prefill has computed it, over one or several rails.
//
// Idempotent: a layer whose rail failed is written again over another; the receiver takes a layer it has already with
// no harm. Zero copy: spans point into the pool. Never blocks: what a transport refuses for overload waits here. The
// source blocks are the caller's again at Sent or SendFailed, not before. Sans-IO: the owner passes transport events in
// and calls from one thread; the copying is done by the transports' progress threads, one per rail.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include "backend/kv/layout.h"
#include "core/ports/transport.h"

namespace faultline::kv {

struct Sent {
  RequestId request;
  Bytes bytes;
};
struct SendFailed {
  RequestId request;
  Cause cause;  // canceled (by either side), protection (the receiver revoked its region), retries_exhausted, else why
                // the last rail was lost
};
using SenderEvent = std::variant<Sent, SendFailed>;

class Sender {
 public:
  /// `transports[i]` belongs to `rails[i]` and outlives this; `next_op` gives ids that nobody else uses.
  Sender(const Layout& layout, std::vector<Transport*> transports, std::vector<Rail> rails,
         std::function<OpId()> next_op);

  /// `blocks` of the own pool go to the blocks of the ticket, one to one (asserted). A request is sent once at a time.
  void begin(RequestId request, std::vector<std::uint32_t> blocks, Ticket ticket);
  /// Prefill has written this layer of all the blocks. Layers may come in any order; each once (asserted).
  void layer_ready(RequestId request, std::uint32_t layer);
  /// Ends in SendFailed canceled, once nothing of it moves any more. Unknown requests are ignored.
  void abort(RequestId request);

  /// For every event of transports[rail]. Events that are not this sender's are ignored.
  void handle(std::size_t rail, const TransportEvent& event);
  /// Marks a rail usable again after it was opened anew.
  void rail_up(std::size_t rail);
  std::vector<SenderEvent> take_events() { return std::exchange(events_, {}); }
  std::size_t active() const { return transfers_.size(); }
  /// Layers that were written again because their rail failed.
  std::uint64_t resent() const { return resent_; }

 private:
  struct Transfer {
    std::vector<std::uint32_t> blocks;
    Ticket ticket;
    std::set<std::uint32_t> ready;  // announced by prefill
    std::set<std::uint32_t> done;   // completed at the receiver
    std::map<OpId, std::uint32_t> in_flight;
    std::map<std::uint32_t, int> attempts;  // failed ones, per layer
    Cause ending = Cause::none;             // given up: waits for what is in flight
  };
  struct Flight {
    RequestId request;
    std::size_t rail = 0;
  };
  static constexpr int kAttemptsMax = 8;  // of one layer on rails that stay up; then retries_exhausted
  void pump();
  bool post_layer(RequestId request, Transfer& transfer, std::uint32_t layer);
  void give_up(RequestId request, Transfer& transfer, Cause cause);
  void settle(RequestId request);
  void say(Say what, std::uint32_t slot);

  Layout layout_;
  std::vector<Transport*> transports_;
  std::vector<Rail> rails_;
  std::vector<bool> usable_;
  std::function<OpId()> next_op_;
  std::map<RequestId, Transfer> transfers_;
  std::map<std::uint32_t, RequestId> slots_;
  std::map<OpId, Flight> flights_;
  std::deque<std::pair<RequestId, std::uint32_t>> waiting_;  // layers that no rail took yet
  std::deque<std::pair<Say, std::uint32_t>> unsaid_;
  std::vector<SenderEvent> events_;
  Cause last_rail_cause_ = Cause::peer_lost;
  std::uint64_t rotation_ = 0;
  std::uint64_t resent_ = 0;
};

}  // namespace faultline::kv
