// The Messenger port on a MessageNet: members of one process that talk in bytes. What is missing is time: a subclass
// says what time it is and calls due() when it has come (in-process: by a Clock; simulated: by the simulator's event
// queue). Owner: one thread for a board and its messengers.
#pragma once

#include <deque>
#include <map>

#include "core/ports/message_net.h"
#include "core/ports/messenger.h"

namespace faultline::ports {

struct MessageLimits {
  std::size_t message_bytes_max = 1 << 20;
  std::size_t queue_messages_max = 1024;  // per ordered pair, sent and not yet polled
};

class BoardMessenger;

class MessageBoard : private MessageNet<std::vector<std::byte>>::Owner {
 public:
  MessageBoard(const MessageNetSettings& settings, const MessageLimits& limits)
      : net_(*this, settings), limits_(limits) {}
  const MessageLimits& limits() const { return limits_; }
  /// Both directions lose everything from now on, also what is under way; silence is all that the two notice.
  void break_route(Address a, Address b);
  void mend_route(Address a, Address b);

 protected:
  Instant message_time() const override = 0;
  void wake_at(Instant at, std::uint32_t token) override = 0;
  /// Called before anybody sends or polls: subclasses without an event loop of their own do what is due.
  virtual void catch_up() {}
  void due(std::uint32_t token) { net_.due(token); }

 private:
  friend class BoardMessenger;
  Member member(Address address);
  void received(Member to, Member from, std::vector<std::byte>&& payload) override;
  void changed(Member watcher, Member peer, PeerChange to, Cause cause) override;
  void vanished(Member to, Member from) override { --unread_[{from, to}]; }  // also when it has been read

  MessageNet<std::vector<std::byte>> net_;
  MessageLimits limits_;
  std::map<Address, Member> members_;
  std::vector<Address> addresses_;      // by member
  std::vector<BoardMessenger*> seats_;  // by member; null while its process is gone
  std::map<std::pair<Member, Member>, std::size_t> unread_;
};

class BoardMessenger final : public Messenger {
 public:
  /// One messenger per address at a time (asserted); a later one is a new incarnation. The destructor is its process's
  /// end.
  BoardMessenger(MessageBoard& board, Address self);
  ~BoardMessenger() override;
  BoardMessenger(const BoardMessenger&) = delete;
  BoardMessenger& operator=(const BoardMessenger&) = delete;

  std::uint64_t incarnation() const { return board_->net_.incarnation(self_); }
  void watch(Address peer) override { board_->net_.watch(self_, board_->member(peer)); }
  void unwatch(Address peer) override { board_->net_.unwatch(self_, board_->member(peer)); }
  Status send(Address to, std::span<const std::byte> payload) override;
  std::size_t poll(std::span<MessengerEvent> out) override;

 private:
  friend class MessageBoard;
  MessageBoard* board_;
  Member self_;
  std::deque<MessengerEvent> inbox_;
};

}  // namespace faultline::ports
