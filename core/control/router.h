// Router: chooses an instance for each request, tries again when an attempt is lost, holds requests while nobody
// accepts, and tells the client how each ended. Routers are stateless towards each other: what another router placed is
// known only through the instances' load reports, as old as the signal interval.
//
//   arrived -> sent -> (AttemptEnded) completed
//                   -> lost -> back-off -> sent …        while attempts and the retry budget last, else failed
//           -> held (no instance accepts) -> sent        or rejected at queue_timeout / queue_max (failed, where an
//                                                        earlier attempt was served: rejected means never served)
#pragma once

#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/random.h"
#include "core/control/controller.h"
#include "core/control/digest.h"
#include "core/control/prefix_cache.h"
#include "core/control/specs.h"

namespace faultline::control {

struct RouterSetup {
  RouterSpec spec;
  bool replays = true;  // EngineSpec::gateway_replays
  std::uint32_t index = 0;
  std::uint64_t seed = 0;
  std::vector<bool> accepting;  // [instances]; false: standby until an InstanceUpdate
  /// Several fleets, each with a model of its own: a request's SLO class says which model it is for, and only instances
  /// of that fleet get it. Empty: there is one fleet.
  std::vector<std::uint32_t> fleet_of_instance, fleet_of_class;
  std::vector<bool> replays_of_fleet;  // in place of `replays`
};

class Router final : public Controller {
 public:
  explicit Router(RouterSetup setup);
  void step(Instant now, const Event& event, Commands& out) override;
  std::uint64_t digest() const override { return whole(digest_); }
  std::uint64_t full_digest() const override;

  std::size_t in_flight() const { return entries_.size(); }

 private:
  enum class State : std::uint8_t { held, backing_off, sent };
  struct Entry {
    RequestArrived request;
    std::uint32_t attempts = 0;  // started
    std::uint32_t instance = 0;
    State state = State::held;
    std::int32_t kept = 0;  // tokens that the client has from earlier attempts (migration)
    std::int32_t cut = 0;   // and those of this attempt, when its instance ended with it
    bool retrying = false;  // counts against the retry budget
    Instant due;            // end of the back-off, or of the patience while held
  };
  struct View {
    bool accepting = true;  // the fleet manager's word
    bool lost = false;      // the connection's word
    bool serving = true;    // kept for the fleet manager
    Instant cooldown_until{0};
    std::int64_t sent_tokens = 0;      // of our own requests in flight there
    std::int64_t reported_tokens = 0;  // the instance's total, at its last report
  };

  void arrive(Instant now, const RequestArrived& request, Commands& out);
  void attempt_ended(Instant now, std::uint32_t instance, const AttemptEnded& ended, Commands& out);
  void lose_instance(Instant now, std::uint32_t instance, Commands& out);
  /// `produced`: tokens of the lost attempt that the client has.
  void lose_attempt(Instant now, RequestId id, Cause cause, std::int32_t produced, Commands& out);
  bool sheds(Instant now, const RequestArrived& request) const;
  /// Sends, or holds, or rejects.
  void place(Instant now, RequestId id, Commands& out);
  void release_held(Instant now, Commands& out);
  void wake_after_cooldown(Instant now, const Entry& entry);
  void release_held(Instant now, DigestQueue<RequestId>& held, Commands& out);
  std::size_t held_count() const;
  void give_up(RequestId id, Cause cause, bool served, Commands& out);
  void finish(RequestId id, Cause cause, bool rejected, std::int32_t delivered, Commands& out);
  std::uint32_t choose(Instant now, const Entry& entry) const;  // kUnknownRank where none accepts
  /// Fleets: 0 where there is only one.
  std::uint32_t fleet_of(const RequestArrived& request) const;
  std::uint32_t fleet_of(std::size_t instance) const;
  bool replays(const Entry& entry) const;
  bool usable(Instant now, const View& view) const;
  std::int64_t load(const View& view) const;
  const CacheChain& chain_of(const RequestArrived& request) const;
  void believe(std::uint32_t instance, const RequestArrived& request);
  void forget_prefixes(std::uint32_t instance);
  void set_timer(Instant now, Commands& out);
  void fire_timer(Instant now, Commands& out);

  void update(Instant now, const InstanceUpdate& update, Commands& out);
  void wake_at(Instant when, RequestId id);
  void forget_wake_up(std::set<std::pair<Instant, RequestId>>::iterator it);

  std::uint64_t whole(const Digest& entries) const;
  std::uint64_t hash_of(const Entry& e) const;
  std::uint64_t hash_of(std::size_t i, const View& v) const;
  template <class F>
  void change(Entry& e, F&& f);
  template <class F>
  void change(std::uint32_t instance, F&& f);

  RouterSetup setup_;
  std::unordered_map<RequestId, Entry> entries_;
  std::vector<View> views_;
  std::vector<PrefixCache> believed_;  // by instance, in tokens; cache_aware only
  mutable CacheChain chain_;           // scratch of chain_of()
  /// By fleet: those that wait for one model do not hold up the others.
  std::vector<DigestQueue<RequestId>> held_;
  std::set<std::pair<Instant, RequestId>> wake_ups_;  // ends of back-offs, queue time-outs and cool-downs; may be stale
  Instant armed_ = kNever;
  std::uint32_t next_ = 0;  // round robin
  std::uint64_t retries_in_flight_ = 0;
  Term term_ = 0;  // of the fleet manager
  Digest digest_;
};

}  // namespace faultline::control
