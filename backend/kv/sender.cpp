#include "backend/kv/sender.h"

#include <algorithm>

namespace faultline::kv {

Sender::Sender(const Layout& layout, std::vector<Transport*> transports, std::vector<Rail> rails,
               std::function<OpId()> next_op)
    : layout_(layout),
      transports_(std::move(transports)),
      rails_(std::move(rails)),
      usable_(rails_.size(), true),
      next_op_(std::move(next_op)) {
  FAULTLINE_ASSERT(!rails_.empty() && transports_.size() == rails_.size() && layout.layers <= kLayersMax,
                   "rails={} layers={}", rails_.size(), layout.layers);
}

void Sender::begin(RequestId request, std::vector<std::uint32_t> blocks, Ticket ticket) {
  FAULTLINE_ASSERT(blocks.size() == ticket.blocks.size(), "{} blocks for {}", blocks.size(), ticket.blocks.size());
  slots_[ticket.slot] = request;
  const bool fresh = transfers_
                         .emplace(request, Transfer{.blocks = std::move(blocks),
                                                    .ticket = std::move(ticket),
                                                    .ready = {},
                                                    .done = {},
                                                    .in_flight = {},
                                                    .attempts = {}})
                         .second;
  FAULTLINE_ASSERT(fresh, "request {} is being sent", request.v);
}

void Sender::layer_ready(RequestId request, std::uint32_t layer) {
  const auto it = transfers_.find(request);
  if (it == transfers_.end() || it->second.ending != Cause::none) return;  // given up meanwhile
  const bool fresh = it->second.ready.insert(layer).second;
  FAULTLINE_ASSERT(fresh && layer < layout_.layers, "layer {} of request {}", layer, request.v);
  waiting_.emplace_back(request, layer);
  pump();
}

void Sender::abort(RequestId request) {
  const auto it = transfers_.find(request);
  if (it != transfers_.end()) give_up(request, it->second, Cause::canceled);
}

bool Sender::post_layer(RequestId request, Transfer& transfer, std::uint32_t layer) {
  for (std::size_t tries = 0; tries < rails_.size(); ++tries) {
    const std::size_t rail = (rotation_ + tries) % rails_.size();
    if (!usable_[rail]) continue;
    WriteBatch batch{next_op_(), rails_[rail].peer, {}, encode({Say::layer, transfer.ticket.slot, layer})};
    batch.spans.reserve(transfer.blocks.size());
    for (std::size_t i = 0; i < transfer.blocks.size(); ++i) {
      batch.spans.push_back({rails_[rail].local,
                             {layout_.offset(layer, transfer.blocks[i])},
                             rails_[rail].remote,
                             {layout_.offset(layer, transfer.ticket.blocks[i])},
                             {layout_.slice_bytes}});
    }
    const Status status = transports_[rail]->post(batch);
    if (status) {
      transfer.in_flight[batch.op] = layer;
      flights_[batch.op] = {request, rail};
      rotation_ = rail + 1;
      return true;
    }
    if (status.cause() == Cause::peer_lost) usable_[rail] = false;
    if (status.cause() == Cause::protection) {
      give_up(request, transfer, Cause::protection);
      return true;
    }
  }
  if (std::none_of(usable_.begin(), usable_.end(), [](bool usable) { return usable; })) {
    give_up(request, transfer, last_rail_cause_);
    return true;
  }
  return false;  // overload: later
}

void Sender::say(Say what, std::uint32_t slot) {
  unsaid_.emplace_back(what, slot);
  pump();
}

void Sender::pump() {
  while (!unsaid_.empty()) {
    bool said = false;
    bool hopeless = true;
    for (std::size_t rail = 0; rail < rails_.size() && !said; ++rail) {
      if (!usable_[rail]) continue;
      const Status status = transports_[rail]->post(
          {next_op_(), rails_[rail].peer, {}, encode({unsaid_.front().first, unsaid_.front().second, 0})});
      said = bool(status);
      hopeless = hopeless && status.cause() == Cause::peer_lost;
    }
    if (!said && !hopeless) return;
    unsaid_.pop_front();  // nobody there to be told: EndpointDown tells the other side
  }
  while (!waiting_.empty()) {
    const auto [request, layer] = waiting_.front();
    waiting_.pop_front();
    const auto it = transfers_.find(request);
    if (it != transfers_.end() && it->second.ending == Cause::none && !post_layer(request, it->second, layer)) {
      waiting_.emplace_front(request, layer);
      return;
    }
    settle(request);
  }
}

void Sender::give_up(RequestId request, Transfer& transfer, Cause cause) {
  if (transfer.ending != Cause::none) return;
  transfer.ending = cause;
  for (const auto& [op, layer] : transfer.in_flight) transports_[flights_.at(op).rail]->cancel(op);
  std::erase_if(waiting_, [&](const auto& entry) { return entry.first == request; });
  settle(request);
}

void Sender::settle(RequestId request) {
  const auto it = transfers_.find(request);
  if (it == transfers_.end() || !it->second.in_flight.empty()) return;
  const Transfer& transfer = it->second;
  const bool whole = transfer.done.size() == layout_.layers;
  if (!whole && transfer.ending == Cause::none) return;
  const std::uint32_t slot = transfer.ticket.slot;
  const Cause cause = transfer.ending;
  const std::int64_t bytes = static_cast<std::int64_t>(transfer.blocks.size()) * layout_.layers * layout_.slice_bytes;
  slots_.erase(slot);
  transfers_.erase(it);
  if (whole) {
    events_.push_back(Sent{request, {bytes}});
  } else {
    events_.push_back(SendFailed{request, cause});
    say(Say::abort, slot);  // only now: nothing of it moves any more, so the receiver may reuse its blocks
  }
}

void Sender::rail_up(std::size_t rail) {
  usable_[rail] = true;
  pump();
}

void Sender::handle(std::size_t rail, const TransportEvent& event) {
  const auto* done = std::get_if<OpCompleted>(&event);
  const auto* lost = std::get_if<OpFailed>(&event);
  if (done || lost) {
    const auto flight = flights_.find(done ? done->op : lost->op);
    if (flight != flights_.end()) {
      const RequestId request = flight->second.request;
      Transfer& transfer = transfers_.at(request);
      const std::uint32_t layer = transfer.in_flight.at(flight->first);
      transfer.in_flight.erase(flight->first);
      flights_.erase(flight);
      if (done) {
        transfer.done.insert(layer);
      } else if (transfer.ending == Cause::none) {
        if (lost->cause == Cause::protection) {
          give_up(request, transfer, Cause::protection);
        } else {
          last_rail_cause_ = lost->cause;
          // One failure is enough to try another rail first; EndpointDown, if it comes, takes this one out.
          rotation_ = rail + 1;
          if (++transfer.attempts[layer] >= kAttemptsMax) {
            give_up(request, transfer, Cause::retries_exhausted);
          } else {
            ++resent_;
            waiting_.emplace_back(request, layer);
          }
        }
      }
      settle(request);
    }
    pump();
  } else if (const auto* down = std::get_if<EndpointDown>(&event); down && down->peer == rails_[rail].peer) {
    usable_[rail] = false;
    last_rail_cause_ = down->cause;
    pump();
    if (std::none_of(usable_.begin(), usable_.end(), [](bool usable) { return usable; })) {
      std::vector<RequestId> all;
      for (const auto& [request, transfer] : transfers_) all.push_back(request);
      for (const RequestId request : all) {
        const auto it = transfers_.find(request);
        if (it != transfers_.end()) give_up(request, it->second, down->cause);
        settle(request);
      }
    }
  } else if (const auto* told = std::get_if<Notified>(&event); told && told->from == rails_[rail].peer) {
    const Tag tag = decode(told->tag);
    const auto slot = slots_.find(tag.slot);
    if (tag.say != Say::cancel) return;
    if (slot != slots_.end()) abort(slot->second);
    else say(Say::abort, tag.slot);  // ended here already: the receiver waits for an answer all the same
  }
}

}  // namespace faultline::kv
