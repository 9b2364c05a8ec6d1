#include "core/ports/message_board.h"

namespace faultline::ports {

Member MessageBoard::member(Address address) {
  const auto [it, fresh] = members_.emplace(address, static_cast<Member>(addresses_.size()));
  if (fresh) {
    net_.add(it->second, false);  // a host of its own
    addresses_.push_back(address);
    seats_.push_back(nullptr);
  }
  return it->second;
}

void MessageBoard::break_route(Address a, Address b) {
  catch_up();
  net_.break_route(member(a), member(b));
}

void MessageBoard::mend_route(Address a, Address b) {
  catch_up();
  net_.mend_route(member(a), member(b));
}

void MessageBoard::received(Member to, Member from, std::vector<std::byte>&& payload) {
  seats_[to]->inbox_.push_back(MessageReceived{addresses_[from], std::move(payload)});
}

void MessageBoard::changed(Member watcher, Member peer, PeerChange to, Cause cause) {
  auto& inbox = seats_[watcher]->inbox_;
  switch (to) {
    case PeerChange::suspected: inbox.push_back(PeerSuspected{addresses_[peer]}); break;
    case PeerChange::lost: inbox.push_back(PeerLost{addresses_[peer], cause}); break;
    case PeerChange::back: inbox.push_back(PeerBack{addresses_[peer], net_.incarnation(peer)}); break;
  }
}

BoardMessenger::BoardMessenger(MessageBoard& board, Address self) : board_(&board), self_(board.member(self)) {
  FAULTLINE_ASSERT(board_->seats_[self_] == nullptr, "address role={} index={} is in use", static_cast<int>(self.role),
                   self.index);
  board_->catch_up();
  board_->seats_[self_] = this;
  board_->net_.restart(self_);
}

BoardMessenger::~BoardMessenger() {
  board_->catch_up();
  for (const MessengerEvent& event : inbox_) {
    if (const auto* message = std::get_if<MessageReceived>(&event))
      board_->vanished(self_, board_->member(message->from));
  }
  board_->seats_[self_] = nullptr;
  board_->net_.crash(self_, true);
}

Status BoardMessenger::send(Address to, std::span<const std::byte> payload) {
  board_->catch_up();
  if (payload.size() > board_->limits_.message_bytes_max) return Cause::too_large;
  const Member peer = board_->member(to);
  if (board_->net_.lost(self_, peer)) return Cause::peer_lost;
  std::size_t& unread = board_->unread_[{self_, peer}];
  if (unread >= board_->limits_.queue_messages_max) return Cause::overload;
  ++unread;
  board_->net_.send(self_, peer, std::vector<std::byte>(payload.begin(), payload.end()));
  return ok();
}

std::size_t BoardMessenger::poll(std::span<MessengerEvent> out) {
  board_->catch_up();
  const std::size_t count = std::min(out.size(), inbox_.size());
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = std::move(inbox_.front());
    inbox_.pop_front();
    if (const auto* message = std::get_if<MessageReceived>(&out[i]))
      board_->vanished(self_, board_->member(message->from));
  }
  return count;
}

}  // namespace faultline::ports
