// Observer: folds notes, truth and executor results into a RunRecord, while a simulated run goes on or from the logs of
// a live one. It sees everything and tells nobody: no controller can read it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/control/messages.h"
#include "core/fault/schedule.h"
#include "core/record/run_record.h"

namespace faultline::record {

inline constexpr std::uint32_t kNoFault = ~std::uint32_t{0};

class Observer {
 public:
  Observer(record::RunRecord& run, std::size_t instances);

  void arrived(Instant now, RequestId id, std::int32_t prompt, std::int32_t output, std::uint8_t slo_class);
  void note(Instant now, const control::Command& command);
  /// A router died that had passed on this much of the request's present attempt. Comes before router_lost(); without
  /// it, what its instance reports as lost with the router counts as passed on.
  void stream_cut(RequestId id, std::int32_t produced);
  /// The client's connection to a router broke.
  void router_lost(Instant now, RequestId id);
  /// Tokens of one executor op, spread evenly over the time it took.
  void tokens(Instant from, Instant to, std::int64_t output, std::int64_t prefill);

  /// What a request that the run's end cuts off had been given.
  void unfinished_progress(RequestId id, std::int32_t produced);

  /// A fault touches an instance directly: later symptoms there belong to it.
  void touch(Instant now, std::uint32_t instance, std::uint32_t fault);
  /// The requests that an instance (or one group of it) holds wait on what the fault did.
  void hit_all(std::uint32_t instance, std::uint32_t fault);
  std::uint32_t fault_of(std::uint32_t instance) const { return fault_of_[instance]; }
  /// While it is on, whatever runs on the instance is hit by the fault although nothing fails.
  void taint(std::uint32_t instance, std::uint32_t fault, bool on);
  /// First effect that a controller could see on an instance since its fault.
  void symptom(Instant now, std::uint32_t instance);

  std::size_t unfinished() const { return active_.size(); }
  const std::vector<RequestId>& active() const { return active_; }
  std::uint64_t arrived_count() const { return run_.requests.size(); }

 private:
  struct Live {
    std::uint32_t instance = ~std::uint32_t{0};
    std::uint32_t position = 0;                      // in active_
    std::int32_t lost_prefill = 0, lost_output = 0;  // of the attempts so far
    std::int32_t last_produced = 0;
    std::int32_t streamed = -1;        // of the present attempt, when its router died; -1: not known, or none
    std::int32_t kept = 0;             // tokens that the client keeps although their attempt was lost (migration)
    Instant cut = kNever;              // when that attempt was lost
    std::int32_t generated_again = 0;  // output tokens that the client had before this attempt
    // Prompt tokens that this attempt found in a prefix cache, and the range that the lost one before it had computed.
    std::int32_t cached = 0, lost_from = 0, again_to = 0;
    std::int32_t copied_again = 0;  // and those made again where it went on from a copy
  };
  record::FaultRecord* fault(std::uint32_t instance);
  /// The last attempt of a request is over, well or not, and the client may have got less of it than was produced.
  void attempt_over(RequestId id, std::int32_t produced, bool heard);
  void finish(Instant now, RequestId id, record::Outcome outcome, Cause cause, std::int32_t delivered);
  record::ThroughputBin& bin(std::int64_t second);

  record::RunRecord& run_;
  std::vector<Live> live_;  // by RequestId
  std::vector<RequestId> active_;
  std::vector<std::uint32_t> fault_of_;                           // by instance: the last fault that touched it
  std::vector<std::pair<std::uint32_t, std::uint32_t>> tainted_;  // instance, fault
  std::vector<bool> ready_;                                       // by instance: recovered since
};

}  // namespace faultline::record
