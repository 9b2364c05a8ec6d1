#include "backend/inproc/inproc_messenger.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::inproc {

InprocMessenger* Switchboard::find(Address address) const {
  const auto it = members_.find(address);
  return it == members_.end() ? nullptr : it->second;
}

void Switchboard::run() {
  const Instant now = clock_->now();
  while (!due_.empty() && due_.begin()->first.first <= now) {
    Action action = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    if (action.watch != 0) check(action);
    else deliver(action);
  }
}

void Switchboard::deliver(Action& action) {
  InprocMessenger* to = find(action.to);
  // A message of an earlier life of its sender is not delivered: after PeerBack only the new incarnation speaks.
  const InprocMessenger* from = find(action.from);
  const bool stale = from && from->incarnation_ != action.sender;
  if (!to || stale || broken(action.from, action.to)) {
    auto& unread = unread_[{action.from, action.to}];
    if (unread > 0) --unread;
    return;
  }
  to->inbox_.push_back(MessageReceived{action.from, std::move(action.payload)});
}

void Switchboard::check(const Action& action) {
  using Health = InprocMessenger::Health;
  InprocMessenger* owner = find(action.from);
  if (!owner || owner->incarnation_ != action.sender) return;
  const auto it = owner->watches_.find(action.to);
  if (it == owner->watches_.end() || it->second.id != action.watch) return;
  InprocMessenger::Watch& watch = it->second;
  const Instant now = clock_->now();
  const InprocMessenger* peer = find(action.to);
  const bool reachable = !broken(action.from, action.to);
  const auto lost = [&](Cause cause) {
    watch.health = Health::lost;
    owner->inbox_.push_back(PeerLost{action.to, cause});
  };
  if (peer && reachable) {
    watch.last_heard = now;
    if (watch.incarnation != 0 && watch.incarnation != peer->incarnation_ && watch.health != Health::lost) lost(Cause::peer_lost);
    if (watch.health != Health::well) owner->inbox_.push_back(PeerBack{action.to, peer->incarnation_});
    watch.health = Health::well;
    watch.incarnation = peer->incarnation_;
  } else if (watch.health != Health::lost) {
    const bool reset = reachable && watch.incarnation != 0;  // its connection ends with it
    if (reset) {
      lost(Cause::peer_lost);
    } else if (now - watch.last_heard >= settings_.lost_after) {
      lost(Cause::timeout);
    } else if (now - watch.last_heard >= settings_.suspect_after && watch.health == Health::well) {
      watch.health = Health::suspected;
      owner->inbox_.push_back(PeerSuspected{action.to});
    }
  }
  schedule(now + settings_.heartbeat, action);
}

InprocMessenger::InprocMessenger(Switchboard& board, Address self)
    : board_(&board), self_(self), incarnation_(++board.incarnations_) {
  const bool fresh = board_->members_.emplace(self, this).second;
  FAULTLINE_ASSERT(fresh, "address role={} index={} is in use", static_cast<int>(self.role), self.index);
}

InprocMessenger::~InprocMessenger() {
  for (const MessengerEvent& event : inbox_) {
    if (const auto* message = std::get_if<MessageReceived>(&event)) --board_->unread_[{message->from, self_}];
  }
  board_->members_.erase(self_);
}

void InprocMessenger::watch(Address peer) {
  if (watches_.contains(peer)) return;
  const Instant now = board_->clock_->now();
  watches_[peer] = {.id = ++watch_ids_, .last_heard = now, .incarnation = 0, .health = Health::well};
  board_->schedule(now + board_->settings_.latency, {self_, peer, incarnation_, watch_ids_, {}});
}

Status InprocMessenger::send(Address to, std::span<const std::byte> payload) {
  board_->run();
  if (payload.size() > board_->settings_.message_bytes_max) return Cause::too_large;
  const auto watch = watches_.find(to);
  if (watch != watches_.end() && watch->second.health == Health::lost) return Cause::peer_lost;
  auto& unread = board_->unread_[{self_, to}];
  if (unread >= board_->settings_.queue_messages_max) return Cause::overload;
  ++unread;
  board_->schedule(board_->clock_->now() + board_->settings_.latency,
                   {self_, to, incarnation_, 0, std::vector<std::byte>(payload.begin(), payload.end())});
  return ok();
}

std::size_t InprocMessenger::poll(std::span<MessengerEvent> out) {
  board_->run();
  const std::size_t count = std::min(out.size(), inbox_.size());
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = std::move(inbox_.front());
    inbox_.pop_front();
    if (const auto* message = std::get_if<MessageReceived>(&out[i])) --board_->unread_[{message->from, self_}];
  }
  return count;
}

}  // namespace faultline::inproc
