#include "core/control/router.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::control {
namespace {
constexpr TimerKey kWakeUp = 1;
}

Router::Router(RouterSetup setup) : setup_(std::move(setup)) {
  views_.resize(setup_.accepting.size());
  for (std::size_t i = 0; i < views_.size(); ++i) {
    views_[i].accepting = views_[i].serving = setup_.accepting[i];
    digest_.add(hash_of(i, views_[i]));
  }
  const std::size_t fleets = std::max<std::size_t>(1, setup_.replays_of_fleet.size());
  for (std::size_t k = 0; k < fleets; ++k) held_.emplace_back(3 + (std::uint64_t{k} << 32));
  if (setup_.spec.policy == RoutePolicy::cache_aware) {
    for (std::size_t i = 0; i < views_.size(); ++i) believed_.emplace_back(1, i);
  }
}

std::uint32_t Router::fleet_of(const RequestArrived& request) const {
  return request.slo_class < setup_.fleet_of_class.size() ? setup_.fleet_of_class[request.slo_class] : 0;
}
std::uint32_t Router::fleet_of(std::size_t instance) const {
  return instance < setup_.fleet_of_instance.size() ? setup_.fleet_of_instance[instance] : 0;
}
bool Router::replays(const Entry& entry) const {
  return setup_.replays_of_fleet.empty() ? setup_.replays : setup_.replays_of_fleet[fleet_of(entry.request)];
}
std::size_t Router::held_count() const {
  std::size_t n = 0;
  for (const auto& held : held_) n += held.size();
  return n;
}

std::uint64_t Router::hash_of(const Entry& e) const {
  return entry_hash(1, e.request.request.v, e.attempts, e.instance, static_cast<int>(e.state), e.retrying, e.due.ns,
                    e.kept, e.cut);
}
std::uint64_t Router::hash_of(std::size_t i, const View& v) const {
  return entry_hash(2, i, v.accepting, v.lost, v.serving, v.cooldown_until.ns, v.sent_tokens, v.reported_tokens);
}

template <class F>
void Router::change(Entry& e, F&& f) {
  const std::uint64_t before = hash_of(e);
  f(e);
  digest_.replace(before, hash_of(e));
}
template <class F>
void Router::change(std::uint32_t instance, F&& f) {
  View& v = views_[instance];
  const std::uint64_t before = hash_of(instance, v);
  f(v);
  digest_.replace(before, hash_of(instance, v));
}

std::uint64_t Router::full_digest() const {
  Digest d;
  for (const auto& [id, entry] : entries_) d.add(hash_of(entry));  // a sum: the order does not matter
  for (std::size_t i = 0; i < views_.size(); ++i) d.add(hash_of(i, views_[i]));
  for (const auto& held : held_) held.add_to(d);
  for (const PrefixCache& believed : believed_) believed.add_to(d);
  for (const auto& [when, id] : wake_ups_) d.add(entry_hash(4, when.ns, id.v));
  return whole(d);
}

std::uint64_t Router::whole(const Digest& entries) const {
  return hash_combine(entries.value(), entry_hash(5, next_, armed_.ns, retries_in_flight_, term_));
}

void Router::wake_at(Instant when, RequestId id) {
  if (wake_ups_.insert({when, id}).second) digest_.add(entry_hash(4, when.ns, id.v));
}
void Router::forget_wake_up(std::set<std::pair<Instant, RequestId>>::iterator it) {
  if (it == wake_ups_.end()) return;
  digest_.remove(entry_hash(4, it->first.ns, it->second.v));
  wake_ups_.erase(it);
}

void Router::step(Instant now, const Event& event, Commands& out) {
  if (const auto* received = std::get_if<Received>(&event)) {
    if (const auto* ended = std::get_if<AttemptEnded>(&received->message)) {
      attempt_ended(now, received->from.index, *ended, out);
    } else if (const auto* report = std::get_if<LoadReport>(&received->message)) {
      change(received->from.index, [&](View& v) { v.reported_tokens = report->outstanding_tokens; });
    } else if (const auto* update = std::get_if<InstanceUpdate>(&received->message)) {
      this->update(now, *update, out);
    } else if (const auto* claim = std::get_if<ClaimFleet>(&received->message)) {
      term_ = std::max(term_, claim->term);
      RouterState state{.term = claim->term, .instances = {}};
      for (const View& v : views_) state.instances.push_back({v.accepting, v.serving});
      out.push_back(Send{received->from, std::move(state)});
    }
  } else if (const auto* arrived = std::get_if<RequestArrived>(&event)) {
    arrive(now, *arrived, out);
  } else if (const auto* peer = std::get_if<PeerChanged>(&event)) {
    if (peer->peer.role == Role::instance) {
      if (peer->to == PeerChanged::To::lost) {
        lose_instance(now, peer->peer.index, out);
      } else if (peer->to == PeerChanged::To::back) {
        change(peer->peer.index, [](View& v) { v.lost = false; });
        release_held(now, out);
      }
    }
  } else if (const auto* cut = std::get_if<StreamCut>(&event)) {
    const auto it = entries_.find(cut->request);
    if (it != entries_.end() && it->second.state == State::sent && it->second.attempts == cut->attempt + 1) {
      change(it->second, [&](Entry& e) { e.cut = cut->produced; });
    }
  } else if (std::get_if<TimerFired>(&event)) {
    fire_timer(now, out);
  } else if (std::get_if<Started>(&event)) {
    for (std::uint32_t i = 0; i < views_.size(); ++i) out.push_back(Watch{{Role::instance, i}});
  }
  set_timer(now, out);
}

void Router::update(Instant now, const InstanceUpdate& update, Commands& out) {
  if (update.term < term_) return;  // of a fleet manager that has been replaced
  term_ = update.term;
  const bool was_accepting = views_[update.instance.v].accepting;
  change(update.instance.v, [&](View& v) {
    v.accepting = update.accepting;
    v.serving = update.serving;
    if (update.accepting) v.cooldown_until = now;
  });
  if (!update.serving) forget_prefixes(update.instance.v);
  if (update.accepting) release_held(now, out);
  else if (was_accepting) out.push_back(NotePhase{.phase = Phase::reroute, .instance = update.instance});
}

void Router::arrive(Instant now, const RequestArrived& request, Commands& out) {
  const auto [it, fresh] = entries_.emplace(request.request, Entry{.request = request, .due = now});
  FAULTLINE_ASSERT(fresh, "request={}", request.request.v);
  digest_.add(hash_of(it->second));
  if (sheds(now, request)) finish(request.request, Cause::overload, true, 0, out);
  else place(now, request.request, out);
}

bool Router::sheds(Instant now, const RequestArrived& request) const {
  const std::uint8_t slo_class = request.slo_class;
  if (slo_class >= setup_.spec.shed_above.size() || setup_.spec.shed_above[slo_class] == 0) return false;
  std::int64_t tokens = 0, instances = 0;
  for (std::size_t i = 0; i < views_.size(); ++i) {
    if (fleet_of(i) != fleet_of(request) || !usable(now, views_[i])) continue;
    tokens += load(views_[i]);
    ++instances;
  }
  return tokens > setup_.spec.shed_above[slo_class] * instances || instances == 0;
}

void Router::place(Instant now, RequestId id, Commands& out) {
  Entry& entry = entries_.at(id);
  const std::uint32_t instance = choose(now, entry);
  if (instance == kUnknownRank) {
    if (held_count() >= static_cast<std::size_t>(setup_.spec.queue_max)) {
      give_up(id, Cause::no_capacity, entry.attempts > 0, out);
      return;
    }
    change(entry, [&](Entry& e) {
      e.state = State::held;
      e.due = now + setup_.spec.queue_timeout;
    });
    held_[fleet_of(entry.request)].push_back(id, digest_);
    wake_at(entry.due, id);
    wake_after_cooldown(now, entry);
    return;
  }
  change(entry, [&](Entry& e) {
    e.state = State::sent;
    e.instance = instance;
    ++e.attempts;
  });
  if (setup_.spec.policy == RoutePolicy::round_robin)
    next_ = (instance + 1) % static_cast<std::uint32_t>(views_.size());
  const std::int64_t tokens = std::int64_t{entry.request.prompt} + entry.request.output;
  change(instance, [&](View& v) { v.sent_tokens += tokens; });
  believe(instance, entry.request);
  out.push_back(NoteAttempt{id, InstanceId{instance}, entry.attempts - 1, entry.kept});
  out.push_back(Send{{Role::instance, instance},
                     SubmitRequest{id, entry.attempts - 1, entry.request.prompt + entry.kept,
                                   entry.request.output - entry.kept, entry.request.prefix_key, entry.request.prefix}});
}

/// A cool-down ends without any message.
void Router::wake_after_cooldown(Instant now, const Entry& entry) {
  Instant first = kNever;
  for (std::size_t i = 0; i < views_.size(); ++i) {
    const View& v = views_[i];
    if (fleet_of(i) == fleet_of(entry.request) && v.accepting && !v.lost && v.cooldown_until > now)
      first = std::min(first, v.cooldown_until);
  }
  if (first != kNever) wake_at(first, entry.request.request);
}

void Router::release_held(Instant now, Commands& out) {
  for (auto& held : held_) release_held(now, held, out);
}

void Router::release_held(Instant now, DigestQueue<RequestId>& held, Commands& out) {
  for (std::size_t n = held.size(); n > 0; --n) {
    const RequestId id = held.front();
    const auto it = entries_.find(id);
    if (it == entries_.end() || it->second.state != State::held) {
      held.pop_front(digest_);
      continue;
    }
    if (choose(now, it->second) == kUnknownRank) {  // first come, first served
      wake_after_cooldown(now, it->second);
      return;
    }
    held.pop_front(digest_);
    forget_wake_up(wake_ups_.find({it->second.due, id}));
    place(now, id, out);
  }
}

void Router::attempt_ended(Instant now, std::uint32_t instance, const AttemptEnded& ended, Commands& out) {
  const auto it = entries_.find(ended.request);
  if (it == entries_.end()) return;  // we gave it up before
  Entry& entry = it->second;
  if (entry.state != State::sent || entry.instance != instance || entry.attempts != ended.attempt + 1) return;
  if (ended.cause == Cause::none) {
    change(instance, [&](View& v) { v.sent_tokens -= std::int64_t{entry.request.prompt} + entry.request.output; });
    finish(ended.request, Cause::none, false, entry.kept + ended.produced, out);
    return;
  }
  if (!ended.accepting) {
    change(instance, [&](View& v) { v.cooldown_until = std::max(v.cooldown_until, now + setup_.spec.cooldown); });
  }
  if (ended.cause == Cause::overload && ended.produced == 0) {  // refused, not tried: does not count as an attempt
    change(instance, [&](View& v) { v.sent_tokens -= std::int64_t{entry.request.prompt} + entry.request.output; });
    change(entry, [](Entry& e) { --e.attempts; });
    place(now, ended.request, out);
    return;
  }
  // Its leader may not know of all that the router has passed on.
  lose_attempt(now, ended.request, ended.cause, std::max(ended.produced, entry.cut), out);
}

void Router::lose_instance(Instant now, std::uint32_t instance, Commands& out) {
  change(instance, [](View& v) { v.lost = true; });
  forget_prefixes(instance);
  std::vector<RequestId> mine;
  for (const auto& [id, entry] : entries_) {
    if (entry.state == State::sent && entry.instance == instance) mine.push_back(id);
  }
  std::sort(mine.begin(), mine.end());
  out.push_back(NotePhase{.phase = Phase::reroute, .instance = InstanceId{instance}});
  for (const RequestId id : mine) lose_attempt(now, id, Cause::peer_lost, entries_.at(id).cut, out);
}

void Router::lose_attempt(Instant now, RequestId id, Cause cause, std::int32_t produced, Commands& out) {
  Entry& entry = entries_.at(id);
  change(entry.instance, [&](View& v) { v.sent_tokens -= std::int64_t{entry.request.prompt} + entry.request.output; });
  const RetrySpec& retry = setup_.spec.retry;
  if (cause == Cause::too_large) {
    give_up(id, cause, entry.attempts > 1, out);  // this attempt was refused
    return;
  }
  if (retry.migrate) {
    change(entry, [&](Entry& e) {
      // The last token always comes from an attempt that ends well.
      e.kept = std::min(e.kept + produced, e.request.output - 1);
      e.cut = 0;
    });
  } else if (!replays(entry)) {
    finish(id, cause, false, 0, out);
    return;
  }
  // A request that is a retry already has its place in the budget.
  const bool within_budget =
      entry.retrying || static_cast<double>(retries_in_flight_) < retry.budget * static_cast<double>(entries_.size());
  if (entry.attempts >= static_cast<std::uint32_t>(retry.attempts_max) || !within_budget) {
    finish(id, Cause::retries_exhausted, false, 0, out);
    return;
  }
  if (!entry.retrying) ++retries_in_flight_;
  std::int64_t backoff = retry.backoff.v;
  for (std::uint32_t k = 1; k < entry.attempts && backoff < retry.backoff_max.v; ++k) backoff *= 2;
  backoff = std::min(backoff, retry.backoff_max.v);
  // Half of it at random, so that the requests of one failure do not come back at one instant.
  Random random(setup_.seed, "router/backoff", id.v, entry.attempts);
  const Duration wait{backoff / 2 +
                      static_cast<std::int64_t>(random.uniform() * static_cast<double>(backoff - backoff / 2))};
  change(entry, [&](Entry& e) {
    e.state = State::backing_off;
    e.retrying = true;
    e.due = now + wait;
  });
  wake_at(entry.due, id);
}

void Router::finish(RequestId id, Cause cause, bool rejected, std::int32_t delivered, Commands& out) {
  const auto it = entries_.find(id);
  if (it->second.retrying) --retries_in_flight_;
  digest_.remove(hash_of(it->second));
  entries_.erase(it);
  out.push_back(NoteRequestEnded{id, cause, rejected, delivered});
}

/// Rejected means never served: a request that an instance has worked on, and whose client may have tokens, has failed.
void Router::give_up(RequestId id, Cause cause, bool served, Commands& out) { finish(id, cause, !served, 0, out); }

void Router::fire_timer(Instant now, Commands& out) {
  armed_ = kNever;
  while (!wake_ups_.empty() && wake_ups_.begin()->first <= now) {
    const RequestId id = wake_ups_.begin()->second;
    forget_wake_up(wake_ups_.begin());
    const auto it = entries_.find(id);
    if (it == entries_.end() || it->second.due > now) continue;  // of a wait that is over
    if (it->second.state == State::backing_off) {
      place(now, id, out);
    } else if (it->second.state == State::held) {
      give_up(id, Cause::no_capacity, it->second.attempts > 0, out);
    }
  }
  release_held(now, out);
}

void Router::set_timer(Instant, Commands& out) {
  const Instant first = wake_ups_.empty() ? kNever : wake_ups_.begin()->first;
  if (first == armed_) return;
  if (first == kNever) out.push_back(DisarmTimer{kWakeUp});
  else out.push_back(ArmTimer{kWakeUp, first});
  armed_ = first;
}

}  // namespace faultline::control
