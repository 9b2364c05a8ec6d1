// Messenger between objects of one process. Time comes from the Clock of the Switchboard, so that a run with a
// ManualClock is deterministic. A peer that ends while the route is whole is lost at the next heartbeat (its connection
// would be reset); a broken route is silence: suspected, then lost. Owner: one thread for a Switchboard and its users.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "core/ports/clock.h"
#include "core/ports/messenger.h"

namespace faultline::inproc {

struct SwitchboardSettings {
  Duration latency{20'000};
  Duration heartbeat{50'000'000};
  Duration suspect_after{150'000'000};  // three heartbeats missed
  Duration lost_after{500'000'000};
  std::size_t message_bytes_max = 1 << 20;
  std::size_t queue_messages_max = 1024;  // per ordered pair, sent and not yet polled
};

class InprocMessenger;

class Switchboard {
 public:
  explicit Switchboard(const Clock& clock, SwitchboardSettings settings = {}) : clock_(&clock), settings_(settings) {}
  const SwitchboardSettings& settings() const { return settings_; }
  /// Both directions lose everything from now on, also what is under way.
  void break_route(Address a, Address b) { broken_.insert(std::minmax(a, b)); }
  void mend_route(Address a, Address b) { broken_.erase(std::minmax(a, b)); }
  Instant next_due() const { return due_.empty() ? kNever : due_.begin()->first.first; }

 private:
  friend class InprocMessenger;
  struct Action {
    Address from;
    Address to;
    std::uint64_t sender;               // incarnation of `from`
    std::uint64_t watch = 0;            // != 0: a heartbeat check of that watch, else a message
    std::vector<std::byte> payload;
  };
  void schedule(Instant at, Action action) { due_.emplace(std::make_pair(at, ++scheduled_), std::move(action)); }
  void run();
  void deliver(Action& action);
  void check(const Action& action);
  InprocMessenger* find(Address address) const;
  bool broken(Address a, Address b) const { return broken_.contains(std::minmax(a, b)); }

  const Clock* clock_;
  SwitchboardSettings settings_;
  std::map<Address, InprocMessenger*> members_;
  std::map<std::pair<Instant, std::uint64_t>, Action> due_;
  std::map<std::pair<Address, Address>, std::size_t> unread_;
  std::set<std::pair<Address, Address>> broken_;
  std::uint64_t scheduled_ = 0;
  std::uint64_t incarnations_ = 0;
};

class InprocMessenger final : public Messenger {
 public:
  /// One messenger per address at a time (asserted); a later one is a new incarnation.
  InprocMessenger(Switchboard& board, Address self);
  ~InprocMessenger() override;
  InprocMessenger(const InprocMessenger&) = delete;
  InprocMessenger& operator=(const InprocMessenger&) = delete;

  std::uint64_t incarnation() const { return incarnation_; }
  void watch(Address peer) override;
  void unwatch(Address peer) override { watches_.erase(peer); }
  Status send(Address to, std::span<const std::byte> payload) override;
  std::size_t poll(std::span<MessengerEvent> out) override;

 private:
  friend class Switchboard;
  enum class Health : std::uint8_t { well, suspected, lost };
  struct Watch {
    std::uint64_t id = 0;
    Instant last_heard{};
    std::uint64_t incarnation = 0;  // of the peer when last heard; 0 = never heard
    Health health = Health::well;
  };

  Switchboard* board_;
  Address self_;
  std::uint64_t incarnation_;
  std::map<Address, Watch> watches_;
  std::deque<MessengerEvent> inbox_;
  std::uint64_t watch_ids_ = 0;
};

}  // namespace faultline::inproc
