// MessageNet: who hears what, and when. The part of every Messenger in virtual time that is not bytes: way of a
// message, order, incarnations, watches, heartbeats. It does no I/O and holds no clock: its Owner tells the time, wakes
// it, and takes what arrives. Users: MessageBoard (the Messenger port in-process and simulated), the simulator's world.
//
// Heartbeats are not sent one by one, which would cost an event per period and watch: every member beats at a phase of
// its own, so a silence is dated from the last beat before it, and only silences cost events.
//
//   the process ends, its host lives   the connection is reset: lost after one way
//   the host ends, or the route breaks silence: suspected, then lost, counted from the last beat that was heard
//   a new incarnation                  lost (if that was not known yet), then back; what the old one sent is dropped
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "core/base/assert.h"
#include "core/base/cause.h"
#include "core/base/hash.h"
#include "core/base/quantity.h"

namespace faultline::ports {

struct MessageNetSettings {
  Duration latency;         // one way, between hosts; members of one host reach each other at once
  Duration heartbeat;       // > 0
  int suspected_after = 2;  // heartbeats missed, >= 1
  int lost_after = 3;       // heartbeats missed, >= suspected_after; where equal, nobody is suspected first
  std::uint64_t seed = 0;   // of the phases of heartbeats
};

using Member = std::uint32_t;
enum class PeerChange : std::uint8_t { suspected, lost, back };

template <class Payload>
class MessageNet {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual Instant message_time() const = 0;
    /// due(token) is to be called at `at`; at one instant in the order of these calls.
    virtual void wake_at(Instant at, std::uint32_t token) = 0;
    virtual void received(Member to, Member from, Payload&& payload) = 0;
    virtual void changed(Member watcher, Member peer, PeerChange to, Cause cause) = 0;
    /// An accepted message will not arrive.
    virtual void vanished(Member to, Member from) = 0;
  };

  MessageNet(Owner& owner, const MessageNetSettings& settings) : owner_(&owner), settings_(settings) {
    FAULTLINE_ASSERT(
        settings.heartbeat.v > 0 && settings.suspected_after >= 1 && settings.lost_after >= settings.suspected_after,
        "heartbeat={} suspected_after={} lost_after={}", settings.heartbeat.v, settings.suspected_after,
        settings.lost_after);
  }

  /// Members get the numbers 0, 1, 2, …; two of one `host` reach each other without latency.
  Member add(std::uint32_t host, bool alive) {
    members_.push_back({.host = host, .alive = alive, .incarnation = 0, .watchers = {}});
    return static_cast<Member>(members_.size() - 1);
  }
  /// Before a restart() elsewhere.
  void move(Member m, std::uint32_t host) {
    FAULTLINE_ASSERT(!members_[m].alive, "member {} is alive", m);
    members_[m].host = host;
  }
  bool alive(Member m) const { return members_[m].alive; }
  /// Counts restart()s.
  std::uint32_t incarnation(Member m) const { return members_[m].incarnation; }

  void send(Member from, Member to, Payload&& payload) {
    if (!members_[to].alive) return owner_->vanished(to, from);
    if (members_[from].host == members_[to].host && !broken(from, to))
      return owner_->received(to, from, std::move(payload));
    post(settings_.latency,
         Parcel{to, from, Kind::message, Cause::none, members_[from].incarnation, std::move(payload)});
  }

  /// Watching twice is watching once. A peer that is not there is lost when it could have been heard `lost_after`
  /// times.
  void watch(Member watcher, Member peer) {
    if (find(watcher, peer)) return;
    members_[peer].watchers.push_back(
        {.watcher = watcher, .health = Health::well, .heard = members_[peer].incarnation, .episode = ++episodes_});
    if (members_[peer].alive && !broken(watcher, peer)) return;
    announce(*find(watcher, peer), peer, settings_.heartbeat * settings_.lost_after + settings_.latency, Kind::lost,
             Cause::peer_lost);
  }
  void unwatch(Member watcher, Member peer) {
    std::erase_if(members_[peer].watchers, [watcher](const Watch& w) { return w.watcher == watcher; });
  }
  /// `watcher` watches it and was told that it is lost.
  bool lost(Member watcher, Member peer) const {
    const Watch* w = const_cast<MessageNet*>(this)->find(watcher, peer);
    return w != nullptr && w->health == Health::lost;
  }

  /// The process ends. With `reset` its host lives and resets its connections, else there is silence.
  void crash(Member m, bool reset) {
    FAULTLINE_ASSERT(members_[m].alive, "member {} is not alive", m);
    members_[m].alive = false;
    for (Watch& w : members_[m].watchers) {
      if (w.watcher == m || broken(w.watcher, m)) continue;
      if (reset) {
        w.episode = ++episodes_;
        announce(w, m, settings_.latency, Kind::lost, Cause::peer_lost);
      } else {
        silence(w, m);
      }
    }
    for (Member peer = 0; peer < members_.size(); ++peer) unwatch(m, peer);
  }
  /// The next incarnation runs. It tells everybody that the one before is gone, whether or not its silence was noticed.
  void restart(Member m) {
    FAULTLINE_ASSERT(!members_[m].alive, "member {} is alive", m);
    members_[m].alive = true;
    ++members_[m].incarnation;
    for (Watch& w : members_[m].watchers) {
      if (w.watcher == m || broken(w.watcher, m)) continue;
      w.episode = ++episodes_;
      announce(w, m, settings_.latency, Kind::lost, Cause::peer_lost);
      announce(w, m, settings_.latency, Kind::back, Cause::none);
    }
  }

  /// Both directions lose everything from now on, also what is under way.
  void break_route(Member a, Member b) {
    if (!broken_.insert(std::minmax(a, b)).second) return;
    for (const auto& [watcher, peer] : {std::pair{a, b}, {b, a}}) {
      Watch* w = find(watcher, peer);
      if (w != nullptr && members_[peer].alive) silence(*w, peer);
    }
  }
  void mend_route(Member a, Member b) {
    if (broken_.erase(std::minmax(a, b)) == 0) return;
    for (const auto& [watcher, peer] : {std::pair{a, b}, {b, a}}) {
      Watch* w = find(watcher, peer);
      if (w == nullptr || !members_[peer].alive) continue;
      const Duration after = last_beat(peer) + settings_.heartbeat - owner_->message_time() + settings_.latency;
      w->episode = ++episodes_;
      if (w->heard != members_[peer].incarnation) announce(*w, peer, after, Kind::lost, Cause::peer_lost);
      announce(*w, peer, after, Kind::back, Cause::none);
    }
  }

  /// What was asked for with wake_at().
  void due(std::uint32_t token) {
    Parcel p = std::move(parcels_[token]);
    free_.push_back(token);
    if (p.kind == Kind::message) {
      const bool stale = members_[p.from].incarnation != p.stamp;
      if (!members_[p.to].alive || stale || broken(p.from, p.to)) owner_->vanished(p.to, p.from);
      else owner_->received(p.to, p.from, std::move(p.payload));
      return;
    }
    Watch* w = find(p.to, p.from);
    if (w == nullptr || w->episode != p.stamp || !members_[p.to].alive) return;
    const auto tell = [&](Health health, PeerChange change) {
      w->health = health;
      owner_->changed(p.to, p.from, change, p.cause);
    };
    switch (p.kind) {
      case Kind::message: break;
      case Kind::suspected:
        if (w->health == Health::well) tell(Health::suspected, PeerChange::suspected);
        break;
      case Kind::lost:
        if (w->health != Health::lost) tell(Health::lost, PeerChange::lost);
        break;
      case Kind::back:
        w->heard = members_[p.from].incarnation;
        if (w->health != Health::well) tell(Health::well, PeerChange::back);
        break;
    }
  }

 private:
  enum class Kind : std::uint8_t { message, suspected, lost, back };
  enum class Health : std::uint8_t { well, suspected, lost };
  struct Watch {
    Member watcher = 0;
    Health health = Health::well;  // as the watcher was told
    std::uint32_t heard = 0;       // incarnation
    std::uint64_t episode = 0;     // changes when the peer falls silent or is heard again: older announcements are void
  };
  struct MemberState {
    std::uint32_t host = 0;
    bool alive = false;
    std::uint32_t incarnation = 0;
    std::vector<Watch> watchers;
  };
  struct Parcel {
    Member to = 0, from = 0;
    Kind kind{};
    Cause cause{};
    std::uint64_t stamp = 0;  // incarnation of the sender, or episode of the watch
    Payload payload;
  };

  Watch* find(Member watcher, Member peer) {
    for (Watch& w : members_[peer].watchers) {
      if (w.watcher == watcher) return &w;
    }
    return nullptr;
  }
  bool broken(Member a, Member b) const { return !broken_.empty() && broken_.contains(std::minmax(a, b)); }
  void post(Duration after, Parcel&& parcel) {
    std::uint32_t slot = 0;
    if (free_.empty()) {
      slot = static_cast<std::uint32_t>(parcels_.size());
      parcels_.push_back(std::move(parcel));
    } else {
      slot = free_.back();
      free_.pop_back();
      parcels_[slot] = std::move(parcel);
    }
    owner_->wake_at(owner_->message_time() + after, slot);
  }
  void announce(const Watch& w, Member peer, Duration after, Kind kind, Cause cause) {
    post(after, Parcel{w.watcher, peer, kind, cause, w.episode, Payload{}});
  }
  /// The latest heartbeat of a member, now included: at phase + k * period.
  Instant last_beat(Member m) const {
    const std::int64_t period = settings_.heartbeat.v, now = owner_->message_time().ns;
    const auto phase =
        static_cast<std::int64_t>(mix64(hash_combine(settings_.seed, m)) % static_cast<std::uint64_t>(period));
    return Instant{phase + (now >= phase ? (now - phase) / period : -1) * period};
  }
  void silence(Watch& w, Member peer) {
    w.episode = ++episodes_;
    const Duration since = last_beat(peer) - owner_->message_time();  // <= 0
    const auto after = [&](int missed) {
      return std::max(Duration{0}, since + settings_.heartbeat * missed + settings_.latency);
    };
    if (settings_.suspected_after < settings_.lost_after)
      announce(w, peer, after(settings_.suspected_after), Kind::suspected, Cause::timeout);
    announce(w, peer, after(settings_.lost_after), Kind::lost, Cause::peer_lost);
  }

  Owner* owner_;
  MessageNetSettings settings_;
  std::vector<MemberState> members_;
  std::vector<Parcel> parcels_;  // under way; the token is the slot
  std::vector<std::uint32_t> free_;
  std::set<std::pair<Member, Member>> broken_;
  std::uint64_t episodes_ = 0;
};

}  // namespace faultline::ports
