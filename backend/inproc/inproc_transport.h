// Transport between objects of one process (core/ports/fabric.h): no socket, no thread, bytes are copied when they are
// due. It is the reference implementation of the contract, and the fast double for tests of everything above a
// transport.
//
// Time comes from the Clock given to the Fabric: with a ManualClock a run is deterministic. A path costs `latency` plus
// bytes over `bandwidth`, one batch after the other per direction; a broken path tells nobody and its operations fail
// when their budget has passed, as on a real network. Owner: one thread for a Fabric and all its transports.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/ports/clock.h"
#include "core/ports/fabric.h"

namespace faultline::inproc {

struct FabricSettings {
  Duration latency{5'000};
  BytesPerSecond bandwidth{10'000'000'000};
  Duration failure_budget{
      500'000'000};  // RC with timeout 14, retry 6: 0.47 s (IBTA: (retry + 1) * 4.096 us * 2^timeout)
  std::uint32_t ops_in_flight_max = 64;
  std::uint32_t spans_per_batch_max = 256;
};

using InprocTransport = ports::FabricTransport;

/// What connects the transports of a process; outlives them.
class Fabric final : public ports::Fabric {
 public:
  explicit Fabric(const Clock& clock, FabricSettings settings = {})
      : ports::Fabric({.latency = settings.latency,
                       .limits = {.ops_in_flight_max = settings.ops_in_flight_max,
                                  .spans_per_batch_max = settings.spans_per_batch_max,
                                  .failure_budget = settings.failure_budget,
                                  .device_memory = false}}),
        clock_(&clock),
        settings_(settings) {}
  const FabricSettings& settings() const { return settings_; }

  /// Both directions lose everything from now on, also what is under way. Nobody is told.
  void break_route(const InprocTransport& a, const InprocTransport& b) {
    broken_.insert(std::minmax(a.number(), b.number()));
  }
  void mend_route(const InprocTransport& a, const InprocTransport& b) {
    broken_.erase(std::minmax(a.number(), b.number()));
  }
  /// The next time at which something happens; kNever if nothing is due.
  Instant next_due() const { return due_.empty() ? kNever : due_.begin()->first.first; }

 private:
  using Link = std::pair<Number, Number>;  // from and to
  Instant fabric_time() const override { return clock_->now(); }
  void wake_at(Instant at, Slot slot) override { due_.emplace(std::make_pair(at, ++scheduled_), slot); }
  void carry(Slot slot, Number from, Number to, Bytes bytes) override;
  bool broken(Number from, Number to) const override { return broken_.contains(std::minmax(from, to)); }
  void catch_up() override;

  const Clock* clock_;
  FabricSettings settings_;
  std::map<std::pair<Instant, std::uint64_t>, Slot> due_;
  std::map<Link, Instant> busy_until_;
  std::set<Link> broken_;
  std::uint64_t scheduled_ = 0;
};

}  // namespace faultline::inproc
