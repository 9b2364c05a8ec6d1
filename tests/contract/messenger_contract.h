// What every Messenger promises (core/ports/messenger.h), one function a clause.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <vector>

#include "core/ports/messenger.h"
#include "tests/contract/verdict.h"

namespace faultline::contract {

/// Three members. Member 0 watches and is told; 1 and 2 are its peers.
class MessengerWorld {
 public:
  virtual ~MessengerWorld() = default;
  virtual Messenger& member(int i) = 0;
  virtual Address address(int i) = 0;
  /// Ends the member's process; restart() makes its next incarnation.
  virtual void kill(int i) = 0;
  virtual void restart(int i) = 0;
  virtual bool alive(int i) = 0;
  virtual void break_route(int a, int b) = 0;
  virtual void mend_route(int a, int b) = 0;
  virtual bool run_until(const std::function<bool()>& done, Duration budget) = 0;
  virtual Instant now() = 0;
  /// A watched peer that falls silent is reported lost within this.
  virtual Duration loss_budget() = 0;
  virtual std::size_t message_bytes_max() = 0;
  /// Messages to one peer that are accepted while nobody polls.
  virtual std::size_t queue_messages_max() = 0;
  /// Added to every budget; see TransportWorld::slack().
  virtual Duration slack() const { return Duration{1'000'000}; }
};

namespace messenger_clauses_detail {

inline constexpr Duration kWait{20'000'000'000};

inline std::vector<std::byte> payload_of(std::uint32_t number, std::size_t size = 8) {
  std::vector<std::byte> payload(size);
  for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<std::byte>(number >> (8 * (i % 4)));
  return payload;
}
inline std::uint32_t number_of(const std::vector<std::byte>& payload) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4 && i < payload.size(); ++i) number |= static_cast<std::uint32_t>(payload[i]) << (8 * i);
  return number;
}

/// Collects what each member hears and checks what holds always.
class Room {
 public:
  Room(MessengerWorld& world, Verdict& verdict) : world_(&world), verdict_(&verdict) {}
  struct Heard {
    std::map<Address, std::vector<std::vector<std::byte>>> messages;
    std::map<Address, int> suspected, lost, back;
    std::map<Address, bool> is_lost;
    std::map<Address, std::uint64_t> incarnation;
  };
  Heard& heard(int i) { return heard_[static_cast<std::size_t>(i)]; }
  std::vector<std::uint32_t> numbers(int i, int from) {
    std::vector<std::uint32_t> all;
    for (const auto& payload : heard(i).messages[world_->address(from)]) all.push_back(number_of(payload));
    return all;
  }
  void set_poll_size(std::size_t size) { poll_size_ = size; }
  void mute(int i, bool muted) { muted_[static_cast<std::size_t>(i)] = muted; }
  bool run_until(const std::function<bool()>& done, Duration budget = kWait) {
    return world_->run_until([&] { return collect(), done(); }, budget);
  }
  void settle() {
    const Instant end = world_->now() + world_->loss_budget() * 2 + world_->slack();
    run_until([&] { return world_->now() >= end; }, world_->loss_budget() * 4 + kWait);
  }
  void send(int from, int to, std::uint32_t number) {
    const Status status = world_->member(from).send(world_->address(to), payload_of(number));
    verdict_->expect(bool(status), "message {} from {} to {}: {}", number, from, to, name_of(status.cause()));
  }
  /// Until member 0, which must watch `peer`, has heard of it both ways.
  void say_hello(int peer) {
    send(0, peer, 0xffff);
    send(peer, 0, 0xffff);
    verdict_->expect(run_until([&] { return !numbers(0, peer).empty() && !numbers(peer, 0).empty(); }),
                     "no hello from and to {}", peer);
    const Instant end = world_->now() + world_->loss_budget();  // some heartbeats
    run_until([&] { return world_->now() >= end; });
  }

 private:
  void collect() {
    for (int i = 0; i < 3; ++i) {
      if (!world_->alive(i) || muted_[static_cast<std::size_t>(i)]) continue;
      std::vector<MessengerEvent> out(poll_size_);
      const std::size_t count = world_->member(i).poll(out);
      if (!verdict_->expect(count <= out.size(), "poll wrote {} events into {}", count, out.size())) return;
      for (std::size_t k = 0; k < count; ++k) note(heard(i), out[k]);
    }
  }
  void note(Heard& h, MessengerEvent& event) {
    if (auto* e = std::get_if<MessageReceived>(&event)) {
      h.messages[e->from].push_back(std::move(e->payload));
    } else if (const auto* e2 = std::get_if<PeerSuspected>(&event)) {
      verdict_->expect(!h.is_lost[e2->peer], "suspected after lost");
      ++h.suspected[e2->peer];
    } else if (const auto* e3 = std::get_if<PeerLost>(&event)) {
      verdict_->expect(!h.is_lost[e3->peer], "lost twice without being back");
      verdict_->expect(e3->cause != Cause::none, "lost without a cause");
      h.is_lost[e3->peer] = true;
      ++h.lost[e3->peer];
    } else if (const auto* e4 = std::get_if<PeerBack>(&event)) {
      h.is_lost[e4->peer] = false;
      h.incarnation[e4->peer] = e4->incarnation;
      ++h.back[e4->peer];
    }
  }

  MessengerWorld* world_;
  Verdict* verdict_;
  std::array<Heard, 3> heard_;
  std::array<bool, 3> muted_{};
  std::size_t poll_size_ = 32;
};

inline std::vector<std::uint32_t> upto(std::uint32_t count) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t k = 0; k < count; ++k) all.push_back(k);
  return all;
}

inline void messages_arrive_once_and_in_order(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  for (std::uint32_t k = 0; k < 100; ++k) {
    room.send(1, 0, k);
    room.send(2, 0, k);
    room.send(0, 1, k);
  }
  room.run_until([&] {
    return room.numbers(0, 1).size() >= 100 && room.numbers(0, 2).size() >= 100 && room.numbers(1, 0).size() >= 100;
  });
  room.settle();
  v.expect(room.numbers(0, 1) == upto(100), "1 to 0: [{}]", fmt::join(room.numbers(0, 1), " "));
  v.expect(room.numbers(0, 2) == upto(100), "2 to 0: [{}]", fmt::join(room.numbers(0, 2), " "));
  v.expect(room.numbers(1, 0) == upto(100), "0 to 1: [{}]", fmt::join(room.numbers(1, 0), " "));
  v.expect(room.numbers(2, 0).empty() && room.numbers(2, 1).empty(), "2 heard what was not for it");
}

inline void payloads_arrive_unchanged(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  std::vector<std::vector<std::byte>> sent{
      {}, payload_of(1, 1), payload_of(0xdeadbeef, 4'000), payload_of(77, w.message_bytes_max())};
  for (const auto& payload : sent)
    v.expect(bool(w.member(1).send(w.address(0), payload)), "{} bytes refused", payload.size());
  auto& got = room.heard(0).messages[w.address(1)];
  room.run_until([&] { return got.size() >= sent.size(); });
  v.expect(got == sent, "{} of {} messages arrived, or changed", got.size(), sent.size());
}

inline void too_large_a_message_is_refused(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  const Status status = w.member(1).send(w.address(0), payload_of(1, w.message_bytes_max() + 1));
  v.expect(status.cause() == Cause::too_large, "{}", name_of(status.cause()));
  room.settle();
  v.expect(room.numbers(0, 1).empty(), "it arrived");
}

inline void a_full_queue_refuses_and_keeps_what_it_accepted(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  room.mute(0, true);
  std::uint32_t accepted = 0;
  Status last = ok();
  // A little more than the bound: the bound is the least that is accepted, a network in between may hold more.
  for (std::size_t k = 0; k < w.queue_messages_max() * 64 && last; ++k) {
    last = w.member(1).send(w.address(0), payload_of(accepted));
    if (last) ++accepted;
  }
  v.expect(accepted >= w.queue_messages_max(), "only {} accepted, bound {}", accepted, w.queue_messages_max());
  v.expect(last.cause() == Cause::overload, "then: {}", name_of(last.cause()));
  room.mute(0, false);
  room.run_until([&] { return room.numbers(0, 1).size() >= accepted; });
  v.expect(room.numbers(0, 1) == upto(accepted), "{} of {} accepted messages arrived, in order",
           room.numbers(0, 1).size(), accepted);
}

inline void a_short_poll_buffer_loses_nothing(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  v.expect(w.member(0).poll({}) == 0, "poll into nothing returned something");
  room.set_poll_size(1);
  for (std::uint32_t k = 0; k < 20; ++k) room.send(1, 0, k);
  room.run_until([&] { return room.numbers(0, 1).size() >= 20; });
  v.expect(room.numbers(0, 1) == upto(20), "[{}]", fmt::join(room.numbers(0, 1), " "));
}

inline void a_healthy_peer_is_never_reported(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.member(0).watch(w.address(1));
  room.say_hello(1);
  room.settle();
  auto& h = room.heard(0);
  v.expect(h.lost[w.address(1)] == 0 && h.back[w.address(1)] == 0, "{} lost, {} back", h.lost[w.address(1)],
           h.back[w.address(1)]);
}

inline void a_watched_peer_that_dies_is_lost_once(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.member(0).watch(w.address(1));
  room.say_hello(1);
  w.kill(1);
  const Instant start = w.now();
  auto& h = room.heard(0);
  v.expect(room.run_until([&] { return h.lost[w.address(1)] > 0; }), "never lost");
  const Duration budget = w.loss_budget() + w.slack();
  v.expect(w.now() - start <= budget, "{} ms, budget {} ms", (w.now() - start).v / 1'000'000, budget.v / 1'000'000);
  const Status late = w.member(0).send(w.address(1), payload_of(1));
  v.expect(late.cause() == Cause::peer_lost, "send to a lost peer: {}", name_of(late.cause()));
  room.settle();
  v.expect(h.lost[w.address(1)] == 1 && h.back[w.address(1)] == 0, "{} lost, {} back", h.lost[w.address(1)],
           h.back[w.address(1)]);
}

inline void a_silent_route_is_a_lost_peer_and_it_comes_back(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.member(0).watch(w.address(1));
  w.member(0).watch(w.address(2));
  room.say_hello(1);
  room.say_hello(2);
  w.break_route(0, 1);
  const Instant start = w.now();
  auto& h = room.heard(0);
  v.expect(room.run_until([&] { return h.lost[w.address(1)] > 0; }), "never lost");
  const Duration budget = w.loss_budget() + w.slack();
  v.expect(w.now() - start <= budget, "{} ms, budget {} ms", (w.now() - start).v / 1'000'000, budget.v / 1'000'000);
  v.expect(h.lost[w.address(2)] == 0, "a healthy peer was lost too");
  w.mend_route(0, 1);
  v.expect(room.run_until([&] { return h.back[w.address(1)] > 0; }), "never back");
  room.heard(0).messages.clear();
  for (std::uint32_t k = 0; k < 5; ++k) room.send(1, 0, k);
  room.run_until([&] { return room.numbers(0, 1).size() >= 5; });
  v.expect(room.numbers(0, 1) == upto(5), "after it came back: [{}]", fmt::join(room.numbers(0, 1), " "));
}

inline void a_restarted_peer_is_a_new_incarnation(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.member(0).watch(w.address(1));
  room.say_hello(1);
  auto& h = room.heard(0);
  std::vector<std::uint64_t> incarnations;
  for (int round = 1; round <= 2; ++round) {
    w.kill(1);
    v.expect(room.run_until([&] { return h.lost[w.address(1)] >= round; }), "never lost");
    w.restart(1);
    v.expect(room.run_until([&] { return h.back[w.address(1)] >= round; }), "never back");
    incarnations.push_back(h.incarnation[w.address(1)]);
    h.messages.clear();
    room.send(1, 0, 5);
    room.run_until([&] { return !room.numbers(0, 1).empty(); });
    v.expect(room.numbers(0, 1) == std::vector<std::uint32_t>{5}, "the new incarnation is not heard");
  }
  v.expect(incarnations[0] != incarnations[1], "incarnation {} twice", incarnations[0]);
}

inline void who_does_not_watch_is_told_nothing(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.member(0).watch(w.address(1));
  w.member(0).watch(w.address(2));
  room.say_hello(1);
  room.say_hello(2);
  w.member(0).unwatch(w.address(1));
  w.member(0).unwatch(Address{Role::client, 4711});
  w.kill(1);
  w.kill(2);
  room.run_until([&] { return room.heard(0).lost[w.address(2)] > 0; });
  room.settle();
  v.expect(room.heard(0).lost[w.address(1)] == 0, "told of a peer that it no longer watches");
}

inline void watching_a_peer_that_is_not_there_reports_it_lost(MessengerWorld& w, Verdict& v) {
  Room room(w, v);
  w.kill(1);
  w.member(0).watch(w.address(1));
  v.expect(room.run_until([&] { return room.heard(0).lost[w.address(1)] > 0; }), "never lost");
  room.settle();
  v.expect(room.heard(0).lost[w.address(1)] == 1, "lost {} times", room.heard(0).lost[w.address(1)]);
}

}  // namespace messenger_clauses_detail

inline const std::vector<Clause<MessengerWorld>>& messenger_clauses() {
  using namespace messenger_clauses_detail;
#define FAULTLINE_CLAUSE(name) \
  { #name, name }
  static const std::vector<Clause<MessengerWorld>> clauses{
      FAULTLINE_CLAUSE(messages_arrive_once_and_in_order),
      FAULTLINE_CLAUSE(payloads_arrive_unchanged),
      FAULTLINE_CLAUSE(too_large_a_message_is_refused),
      FAULTLINE_CLAUSE(a_full_queue_refuses_and_keeps_what_it_accepted),
      FAULTLINE_CLAUSE(a_short_poll_buffer_loses_nothing),
      FAULTLINE_CLAUSE(a_healthy_peer_is_never_reported),
      FAULTLINE_CLAUSE(a_watched_peer_that_dies_is_lost_once),
      FAULTLINE_CLAUSE(a_silent_route_is_a_lost_peer_and_it_comes_back),
      FAULTLINE_CLAUSE(a_restarted_peer_is_a_new_incarnation),
      FAULTLINE_CLAUSE(who_does_not_watch_is_told_nothing),
      FAULTLINE_CLAUSE(watching_a_peer_that_is_not_there_reports_it_lost),
  };
#undef FAULTLINE_CLAUSE
  return clauses;
}

}  // namespace faultline::contract
