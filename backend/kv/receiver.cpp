#include "backend/kv/receiver.h"

#include <algorithm>

namespace faultline::kv {

Receiver::Receiver(const Layout& layout, const ReceiverSettings& settings, std::vector<Transport*> transports,
                   std::vector<Rail> rails, std::function<OpId()> next_op)
    : layout_(layout),
      settings_(settings),
      transports_(std::move(transports)),
      rails_(std::move(rails)),
      up_(rails_.size(), true),
      next_op_(std::move(next_op)) {
  FAULTLINE_ASSERT(!rails_.empty() && transports_.size() == rails_.size() && layout.layers <= kLayersMax,
                   "rails={} layers={}", rails_.size(), layout.layers);
}

Ticket Receiver::expect(RequestId request, std::vector<std::uint32_t> blocks, Instant deadline) {
  FAULTLINE_ASSERT(!transfers_.contains(request), "request {} is expected already", request.v);
  while (slots_.contains(next_slot_)) next_slot_ = (next_slot_ + 1) % kSlots;
  const std::uint32_t slot = next_slot_;
  next_slot_ = (next_slot_ + 1) % kSlots;
  slots_[slot] = request;
  Ticket ticket{slot, blocks};
  transfers_[request] = {
      .slot = slot, .blocks = std::move(blocks), .layers = {}, .deadline = deadline, .failed = false};
  return ticket;
}

void Receiver::ask_to_stop(std::uint32_t slot) {
  for (std::size_t rail = 0; rail < rails_.size(); ++rail) {
    if (up_[rail] && transports_[rail]->post({next_op_(), rails_[rail].peer, {}, encode({Say::cancel, slot, 0})}))
      return;
  }
  // Nobody took it: the fence will do.
}

void Receiver::fail(RequestId request, Transfer& transfer, Cause cause, Instant now, bool fenced) {
  if (!transfer.failed) {
    transfer.failed = true;
    transfer.deadline = now + settings_.fence_after;
    events_.push_back(ReceiveFailed{request, cause});
    if (!fenced) ask_to_stop(transfer.slot);
  }
  if (fenced) release(request);
}

void Receiver::release(RequestId request) {
  const auto it = transfers_.find(request);
  slots_.erase(it->second.slot);
  events_.push_back(BlocksFree{request, std::move(it->second.blocks)});
  transfers_.erase(it);
}

void Receiver::cancel(RequestId request, Instant now) {
  const auto it = transfers_.find(request);
  if (it == transfers_.end()) return;
  const bool nobody = std::none_of(up_.begin(), up_.end(), [](bool up) { return up; });
  fail(request, it->second, Cause::canceled, now, nobody);
}

void Receiver::handle(std::size_t rail, const TransportEvent& event, Instant now) {
  if (const auto* told = std::get_if<Notified>(&event); told && told->from == rails_[rail].peer) {
    const Tag tag = decode(told->tag);
    const auto slot = slots_.find(tag.slot);
    if (slot == slots_.end()) return;  // of a transfer that has ended
    const RequestId request = slot->second;
    Transfer& transfer = transfers_.at(request);
    if (tag.say == Say::abort) {
      fail(request, transfer, Cause::canceled, now, true);
    } else if (tag.say == Say::layer && tag.layer < layout_.layers && !transfer.failed &&
               transfer.layers.insert(tag.layer).second) {
      if (settings_.layer_events) events_.push_back(LayerArrived{request, tag.layer});
      if (transfer.layers.size() < layout_.layers) return;
      slots_.erase(slot);
      transfers_.erase(request);
      events_.push_back(Arrived{request});
    }
  } else if (const auto* down = std::get_if<EndpointDown>(&event); down && down->peer == rails_[rail].peer) {
    up_[rail] = false;
    if (std::any_of(up_.begin(), up_.end(), [](bool up) { return up; })) return;
    // No rail is left, so nothing of this peer can land any more.
    std::vector<RequestId> all;
    for (const auto& [request, transfer] : transfers_) all.push_back(request);
    for (const RequestId request : all) fail(request, transfers_.at(request), down->cause, now, true);
  }
}

void Receiver::tick(Instant now) {
  bool fence = false;
  std::vector<RequestId> late;
  for (const auto& [request, transfer] : transfers_) {
    if (transfer.deadline <= now) late.push_back(request);
  }
  for (const RequestId request : late) {
    Transfer& transfer = transfers_.at(request);
    if (transfer.failed) {
      fence = true;
      transfer.deadline = kNever;
    } else {
      const bool nobody = std::none_of(up_.begin(), up_.end(), [](bool up) { return up; });
      fail(request, transfer, Cause::timeout, now, nobody);
    }
  }
  if (!fence) return;
  for (std::size_t rail = 0; rail < rails_.size(); ++rail)
    transports_[rail]->close(rails_[rail].peer);  // EndpointDown then frees the blocks
}

Instant Receiver::next_deadline() const {
  Instant next = kNever;
  for (const auto& [request, transfer] : transfers_) next = std::min(next, transfer.deadline);
  return next;
}

}  // namespace faultline::kv
