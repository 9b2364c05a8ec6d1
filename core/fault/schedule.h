// From the faults of an experiment to what a driver applies: names resolved, random instants drawn, sorted. Expanded
// once, before the run, by seed; the simulator and a live cluster apply the same schedule. Draws are keyed by (seed,
// fault id, component name), so neither another fault nor another component shifts them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/fault/spec.h"

namespace faultline::fault {

/// What faults can be aimed at, given by whoever knows the topology and the placement.
struct Candidates {
  /// A component's name, or an alias such as instance-0.decode-1.gpu-3 or router-0 (the host it runs on). nullopt where
  /// there is none.
  std::function<std::optional<ComponentId>(std::string_view)> resolve;
  /// What a resolved name is. nullopt for things no fault targets.
  std::function<std::optional<TargetKind>(std::string_view name, ComponentId)> kind_of;
  /// Names of one kind, for suggestions and for patterns, in a stable order.
  std::function<std::vector<std::string>(TargetKind)> names;
  /// The number of the shared-risk group that a component belongs to; nullopt where it belongs to none of that kind (a
  /// switch has no rail). Needed for faults with `common` only.
  std::function<std::optional<std::uint32_t>(GroupKind, ComponentId)> group_of = {};
  /// What contains a component (or is it) and is of the kind: the node of a GPU, the NIC of a cable. For chains only.
  std::function<std::optional<std::string>(TargetKind, ComponentId)> container = {};
};

/// The instant, or the event to count.
using Trigger = std::variant<Instant, AfterEvent>;

struct ScheduledFault {
  FaultId id;        // index in the schedule, and in RunRecord::faults
  std::string name;  // the specification's id; random ones are numbered from the second on: gpu.failstop#2
  FaultKind kind{};
  std::string target;     // as written by the user, or the component drawn; empty for a placebo without one
  ComponentId component;  // invalid only for a placebo without a target
  Trigger trigger;
  Duration length = kForever;          // kForever = stays
  double factor = 1, loss = 0;         // see Parameters in kind.h
  bool process_only = false;           // gpu.ecc: drawn from `contained`
  Duration shutdown_after = kForever;  // cooling.loss
  Duration drain{0};                   // node.maintenance: the node goes so long after the notice
  Duration down{0}, up{0};             // flaps
  std::int64_t cycles = 0;
  std::string caused_by;  // the fault that this one follows in a chain
  config::Mark mark;      // of the specification, for errors found later

  /// When it is undone if it is applied at `applied`; kNever = not.
  Instant revert_at(Instant applied) const;
  /// Undone at, where the trigger is an instant; kNever where it stays or where the trigger is an event.
  Instant revert() const;
  /// The states of the target over time when applied at `applied`: (instant, is the fault active). One entry for a
  /// fault that stays, two for one that is undone, 2 * cycles for a flap. Instants ascend.
  struct Transition {
    Instant at;
    bool active;
    bool operator==(const Transition&) const = default;
  };
  std::vector<Transition> transitions(Instant applied) const;
};

/// Sorted by (instant, order in the file); event-triggered ones after the others, in the order of the file.
using FaultSchedule = std::vector<ScheduledFault>;

struct ExpandOptions {
  std::uint64_t seed = 0;
  Instant run_end = kNever;  // kNever = not known in advance: then random faults need 'until'
  /// Draw given that at least one random fault strikes: where faults are rare, runs without any are not spent. The
  /// expectation of a loss is then the probability of that times its mean over such runs. Exponential rates only.
  bool given_a_fault = false;
};

/// Probability that at least one random fault strikes, as ExpandOptions::given_a_fault conditions on. Errors as
/// expand().
double probability_of_a_fault(const std::vector<FaultSpec>& specs, const ExpandOptions& options,
                              const Candidates& candidates, config::Diagnostics& diagnostics);

/// One component under one random fault, which strikes it with this rate while it is up.
struct UnitRate {
  const FaultSpec* spec = nullptr;  // in the list given
  std::string component;
  double per_s = 0;
  bool momentary = false;  // the fault takes no time: the component is up again at once
};
/// All of them, in the order of the list and of the components' names. Errors as probability_of_a_fault().
std::vector<UnitRate> unit_rates(const std::vector<FaultSpec>& specs, const ExpandOptions& options,
                                 const Candidates& candidates, config::Diagnostics& diagnostics);

/// Errors (unknown target, a target of the wrong kind, a pattern that matches nothing, an instant after the run's end,
/// more than 100,000 random events) go to `diagnostics` with the place in the file; the result is then incomplete.
/// Precondition: finish_list() was called on `specs` and reading them gave no error.
FaultSchedule expand(const std::vector<FaultSpec>& specs, const ExpandOptions& options, const Candidates& candidates,
                     config::Diagnostics& diagnostics);

/// True if `name` matches `pattern`, in which * stands for any text, also none.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace faultline::fault
