// One fault as the user writes it in an experiment, before names are resolved and random times are drawn:
//
//   faults:
//     - {id: leaf, kind: switch.down, target: leaf-0, at: 60 s, duration: 30 s}
//     - {kind: gpu.slow, target: instance-0.decode-1.gpu-3, factor: 1.5, after: {event: decode_step, nth: 1000}}
//     - {kind: link.flap, target: node-2.nic-5.cable, at: 40 s, down: 1 s, up: 5 s, cycles: 4}
//     - {kind: gpu.failstop, target: "node-*.gpu-*", random: {rate_per_hour: 2e-5, max: 3}, repair: 24 h}
//
// schedule.h turns a list of these into what a driver applies.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/fields.h"
#include "core/fault/kind.h"
#include "core/fault/laws.h"

namespace faultline::fault {

/// Events that a causal trigger can count. They happen in both worlds, so "after the 1,000th decode step of this rank"
/// is the same point of a simulated and of a live run; the recovery_* events are phases of another fault's recovery.
enum class CausalEvent : std::uint8_t {
  request_arrived,
  request_completed,
  prefill_step,
  decode_step,
  kv_transfer_started,
  kv_transfer_completed,
  recovery_detected,
  recovery_decided,
  recovery_drained,
  recovery_rerouted,
  recovery_ready,
};
constexpr std::array<std::string_view, 11> enum_names(const CausalEvent*) {
  return {"request_arrived",     "request_completed",     "prefill_step",      "decode_step",
          "kv_transfer_started", "kv_transfer_completed", "recovery_detected", "recovery_decided",
          "recovery_drained",    "recovery_rerouted",     "recovery_ready"};
}
constexpr bool is_recovery(CausalEvent event) { return event >= CausalEvent::recovery_detected; }

/// Which events count: those that the fault's target takes part in (its rank, its instance, a path over it), or all.
enum class CausalScope : std::uint8_t { target, fleet };
constexpr std::array<std::string_view, 2> enum_names(const CausalScope*) { return {"target", "fleet"}; }

struct AfterEvent {
  CausalEvent event = CausalEvent::decode_step;
  std::int64_t nth = 1;  // 1 = the first
  CausalScope scope = CausalScope::target;
  std::string fault;  // recovery_* only: the id of the fault whose recovery is meant
  Duration delay{0};  // from the event to the fault
  bool operator==(const AfterEvent&) const = default;
};

/// Random instants: either a rate of each matching component, or one mean interval between the events of all of them.
/// A component that is down does not fail again before it is repaired (alternating renewal).
struct RandomTimes {
  std::optional<double> rate_per_hour;    // of each component that the target matches
  std::optional<Duration> mean_interval;  // of all of them together; each event picks one that is up
  std::optional<TargetKind> per;          // only components of this sort, where the kind targets several
  LifeLaw life;
  Instant from{0};
  std::optional<Instant> until;     // the end of the run where absent
  std::optional<std::int64_t> max;  // events at most, the earliest ones
  // With rate_per_hour only.
  Lemons lemons;
  CommonCause common;
  Repeat repeat;
  bool operator==(const RandomTimes&) const = default;
};

struct FaultSpec {
  std::string id;  // unique; named after the kind where absent
  FaultKind kind = FaultKind::placebo;
  std::string target;  // a component or an alias; with a random trigger a pattern in which * stands for any text
  config::Mark target_mark, mark;

  // Exactly one trigger.
  std::optional<Instant> at;
  std::optional<AfterEvent> after;
  std::optional<RandomTimes> random;

  // At most one; the fault stays to the end of the run where both are absent. They do the same: `duration` reads better
  // for a disturbance that ends by itself, `repair` for a part that is mended or replaced.
  std::optional<Duration> duration, repair;
  double repair_spread = 0;  // the repair is lognormal of mean `repair` (RepairLaw); 0: fixed

  // See Parameters in kind.h.
  std::optional<double> factor, loss, contained;
  std::optional<Duration> shutdown_after, drain;
  std::optional<Duration> down, up;  // flaps
  std::optional<std::int64_t> cycles;
  std::vector<ChainLink> then;

  /// From application to undoing, the mean where it is drawn; kForever = stays. A flap's is cycles * down + (cycles -
  /// 1)
  /// * up. A maintenance is down for this long after its drain.
  Duration length() const;
};

/// Reads or prints one entry of `faults:`. All errors of the entry by itself are found here: unknown kind, missing or
/// superfluous trigger, a parameter that the kind does not take or needs, values out of range.
void describe(config::Fields& f, FaultSpec& s);
void describe(config::Fields& f, AfterEvent& s);
void describe(config::Fields& f, RandomTimes& s);

/// Errors that need the whole list: names the unnamed ("gpu.failstop", "gpu.failstop-2", …), refuses ids that appear
/// twice and triggers that refer to an unknown fault or to themselves. Call once, after reading the list.
void finish_list(std::vector<FaultSpec>& specs, config::Diagnostics& diagnostics);

}  // namespace faultline::fault
