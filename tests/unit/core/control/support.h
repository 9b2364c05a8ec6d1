// Feeding a controller one event at a time and looking at what it commanded. Every step compares the incremental digest
// with the full one.
#pragma once

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "core/control/controller.h"

namespace faultline::control::testing {

using namespace faultline::literals;

constexpr Address kFleetAddress{Role::fleet, 0};
constexpr Address router_at(std::uint32_t r) { return {Role::router, r}; }
constexpr Address leader_at(std::uint32_t i) { return {Role::instance, i}; }
constexpr Address agent_at(std::uint32_t n) { return {Role::node, n}; }

constexpr Instant at(Duration d) { return Instant{d.v}; }

inline Commands feed(Controller& c, Instant now, const Event& event) {
  Commands out;
  c.step(now, event, out);
  EXPECT_EQ(c.digest(), c.full_digest());
  return out;
}
inline Commands feed(Controller& c, Instant now, Address from, Message message) {
  return feed(c, now, Received{from, std::move(message)});
}
inline Event lost(Address peer, Cause cause = Cause::peer_lost) {
  return PeerChanged{peer, PeerChanged::To::lost, cause};
}
inline Event back(Address peer) { return PeerChanged{peer, PeerChanged::To::back, Cause::none}; }

/// The commands of one kind, in order.
template <class T>
std::vector<T> all(const Commands& commands) {
  std::vector<T> found;
  for (const Command& c : commands) {
    if (const auto* x = std::get_if<T>(&c)) found.push_back(*x);
  }
  return found;
}
/// The messages of one kind with their receivers, in order.
template <class T>
std::vector<std::pair<Address, T>> sent(const Commands& commands) {
  std::vector<std::pair<Address, T>> found;
  for (const Command& c : commands) {
    if (const auto* s = std::get_if<Send>(&c)) {
      if (const auto* m = std::get_if<T>(&s->message)) found.emplace_back(s->to, *m);
    }
  }
  return found;
}
/// The last armed deadline of a key among the commands; kNever where it was not armed.
inline Instant armed(const Commands& commands, TimerKey key) {
  Instant deadline = kNever;
  for (const ArmTimer& t : all<ArmTimer>(commands)) {
    if (t.key == key) deadline = t.deadline;
  }
  return deadline;
}

}  // namespace faultline::control::testing
