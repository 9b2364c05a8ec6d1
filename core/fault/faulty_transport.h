// A Transport around another one that misbehaves on purpose, in ways that the contract allows: an operation may be
// slow, may fail although its bytes arrived, may fail and lose its notify, may hang until the failure budget. With an
// empty policy it is transparent. It tells "does the recovery work" apart from "does the hardware misbehave", in both
// worlds.
//
// What happens to an operation depends on (seed, op id) only, so that a fault shifts no other draw.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "core/config/fields.h"
#include "core/ports/clock.h"
#include "core/ports/transport.h"

namespace faultline::fault {

/// Ratios are probabilities per operation; the first that applies in the order below wins.
struct TransportFaults {
  std::uint64_t seed = 0;
  double fail_early_ratio = 0;   // withdrawn at once: OpFailed link_down; usually nothing arrived
  double fail_late_ratio = 0;    // everything arrives, notify included: OpFailed link_down (the last ACK was lost)
  double lose_notify_ratio = 0;  // the bytes arrive, the notify does not: OpFailed timeout
  double stall_ratio = 0;        // no answer: OpFailed timeout when the failure budget has passed
  // Link emulation: completions and notifies come this much later, and completions no faster than this rate.
  Duration extra_latency{};
  BytesPerSecond rate_limit{};  // 0 = no limit
};
void describe(config::Fields& f, TransportFaults& s);

class FaultyTransport final : public Transport {
 public:
  /// `inner` and `clock` outlive this object. Nobody else may poll `inner`.
  FaultyTransport(Transport& inner, const Clock& clock, const TransportFaults& faults)
      : inner_(&inner), clock_(&clock), faults_(faults) {}
  /// For faults that begin or end during a run. Operations already accepted keep their fate.
  void set_faults(const TransportFaults& faults) { faults_ = faults; }
  /// How many operations each kind of fault was given to; a test in which no fault happened is visible.
  std::uint64_t injected() const { return injected_; }
  /// When the next held event is due; kNever if none is. For drivers of virtual time.
  Instant next_due() const { return held_.empty() ? kNever : held_.begin()->first.first; }

  TransportLimits limits() const override { return inner_->limits(); }
  std::vector<std::byte> local_address() const override { return inner_->local_address(); }
  Status open(EndpointId peer, std::span<const std::byte> address) override { return inner_->open(peer, address); }
  void close(EndpointId peer) override;
  Status register_memory(RegionId region, std::span<std::byte> memory) override {
    return inner_->register_memory(region, memory);
  }
  Status deregister(RegionId region) override;
  std::vector<std::byte> export_region(RegionId region) const override { return inner_->export_region(region); }
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override {
    return inner_->import_region(region, owner, blob);
  }
  Status post(const WriteBatch& batch) override;
  void cancel(OpId op) override;
  std::size_t poll(std::span<TransportEvent> out) override;

 private:
  enum class Fate : std::uint8_t { none, fail_early, fail_late, lose_notify, stall };
  struct Operation {
    EndpointId peer;
    Fate fate = Fate::none;
    Instant posted{};
    Instant not_before{};  // earliest completion at the limited rate
    std::vector<RegionId> locals;
  };
  Fate fate_of(OpId op) const;
  void take(const TransportEvent& event, Instant now);
  void hold(Instant until, const TransportEvent& event);
  void release_peer(EndpointId peer, bool canceled);
  void answer(const TransportEvent& event);  // to the caller, at the next poll

  Transport* inner_;
  const Clock* clock_;
  TransportFaults faults_;
  std::map<OpId, Operation> operations_;      // accepted, terminal event not yet answered
  std::map<EndpointId, std::uint32_t> owed_;  // of those, per peer
  std::map<EndpointId, Instant> busy_until_;
  std::map<std::pair<Instant, std::uint64_t>, TransportEvent> held_;
  std::deque<TransportEvent> ready_;
  std::uint64_t sequence_ = 0;
  std::uint64_t injected_ = 0;
};

}  // namespace faultline::fault
