// What a fault cost: its blast radius and the phases of the recovery, from paired runs (same seed and arrivals, with
// and without the fault) and, where given, a placebo pair (a fault that disables nothing). docs/metrics.md defines each
// field.
//
// Two kinds of figure, kept apart: *causal* ones come from the truth of the run with the fault (hit requests, GPUs that
// stood still, KV blocks that were gone); *counterfactual* ones are differences to the paired run and exist only with
// one. Faults whose effects overlap cannot be told apart by one pair: they are reported as one cluster with several
// members.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/metrics/summary.h"
#include "core/record/run_record.h"

namespace faultline::metrics {

/// A count with what the placebo pair shows of it. `excess` is what the fault is blamed for: max(0, raw - placebo).
struct Excess {
  std::int64_t raw = 0;
  std::optional<std::int64_t> placebo;  // empty: no placebo run
  std::int64_t excess() const { return std::max<std::int64_t>(0, raw - placebo.value_or(0)); }
};

/// GPU-nanoseconds, exact: lost share in parts per billion times ns.
class GpuTime {
 public:
  void add(double lost_share, Duration time);
  GpuTime& operator+=(const GpuTime& o) {
    ppb_ns_ += o.ppb_ns_;
    return *this;
  }
  GpuTime& operator-=(const GpuTime& o) {
    ppb_ns_ -= o.ppb_ns_;
    return *this;
  }
  double gpu_seconds() const { return static_cast<double>(ppb_ns_) / 1e18; }
  bool zero() const { return ppb_ns_ == 0; }

 private:
  __extension__ __int128 ppb_ns_ = 0;
};

struct FaultMember {
  std::uint32_t index = 0;  // in RunRecord::faults
  std::string id, kind, target, recovery;
  Instant at = kNever, reverted = kNever;
  bool applied = false;
  std::string not_applied_reason;
  record::FaultPhases phases;  // absolute
  std::int64_t requests_hit = 0;
};

/// The dip of delivered output tokens, over sliding windows of Options::window.
struct Dip {
  double share_min = 1;  // of the paired run's throughput, 1 = none
  Instant at = kNever;   // start of that window
  Duration below{0};     // total time of window starts below Options::share_percent
};

/// Everything that needs the paired run.
struct Counterfactual {
  Excess requests_delayed;
  Excess instances_indirect;         // took load rerouted from a direct one while the fault lasted
  std::int64_t requests_failed = 0;  // failed here, not failed in the paired run
  std::int64_t requests_rejected = 0;
  std::int64_t requests_retried = 0;                    // more attempts than in the paired run
  std::int64_t tokens_recomputed = 0, tokens_lost = 0;  // differences
  std::int64_t goodput_loss_tokens = 0;                 // tokens within SLO there minus here
  std::vector<std::int64_t> goodput_loss_by_class;
  Dip dip;
  std::optional<Duration> t95, restore;  // after the (first) fault; empty: not restored, see the reason
  std::string not_restored_reason;
};

struct FaultImpact {
  std::vector<FaultMember> members;  // one, or the overlapping faults of a cluster by time
  std::string cluster_reason;        // why they are reported as one; empty for a single fault
  Instant at = kNever;               // of the first member
  bool applied() const { return at != kNever; }

  std::int64_t targeted = 0;               // components disabled directly, implied children included
  std::int64_t structural_gpus_max = 0;    // most GPUs at one instant that could compute no useful token
  GpuTime structural;                      // and their time integral
  GpuTime capacity_loss, own, collateral;  // capacity_loss = own + collateral
  std::optional<double> amplification;     // capacity loss / own
  std::string amplification_reason;        // why it is empty
  Duration active{0};                      // time that at least one member was in force, up to the end of the run
  std::optional<double> capacity_loss_per_fault_s;  // GPU-s per second of `active`: GPUs lost on average
  std::int64_t instances_direct = 0;
  std::int64_t requests_hit = 0;
  std::int64_t requests_hit_failed = 0, requests_hit_retried = 0, interrupted_but_completed = 0;  // of the hit ones
  std::int64_t hit_tokens_recomputed = 0, hit_tokens_lost = 0;
  std::int64_t kv_bytes_lost = 0;
  record::FaultPhases phases;  // of a cluster: the earliest symptom, detection and decision, the latest of the others
  std::optional<Counterfactual> paired;
};

struct Impacts {
  std::vector<FaultImpact> faults;  // by time; faults that were not applied come last
  /// Requests that ended before the first fault in both runs, yet differ. Must be 0: else the pair is not a pair.
  std::int64_t differences_before_fault = 0;
  std::vector<std::string> notes;  // what limits these figures, in words
};

/// `without`: the same run without these faults (faults that it has too, by id, are background and not reported);
/// nullptr leaves the counterfactual figures empty. `placebo`: as `without`, with a placebo in the faults' place; may
/// be nullptr. Time: requests * log(faults) + intervals * log(intervals) + faults * seconds of the run.
Impacts compare(const record::RunRecord& fault, const record::RunRecord* without, const record::RunRecord* placebo,
                const Options& options = {});

}  // namespace faultline::metrics
