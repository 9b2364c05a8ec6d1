// What one run leaves behind for metrics and reports: one line a request, what every GPU could do over time, the faults
// with their phases, and the simulator's own figures. It is folded from the controllers' notes and the TruthLog while
// the run goes on; metrics compare two or three of these (with the fault, without it, placebo).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/cause.h"
#include "core/base/ids.h"
#include "core/base/quantity.h"

namespace faultline::record {

enum class Outcome : std::uint8_t { unfinished, completed, failed, rejected };
inline constexpr std::array<std::string_view, 4> kOutcomeNames{"unfinished", "completed", "failed", "rejected"};

/// One request, from the client's side. Instants are kNever where the thing did not happen.
struct RequestRecord {
  Instant arrival = kNever;
  Instant first_token = kNever;  // of the attempt that completed (or of the last attempt)
  Instant end = kNever;          // last token delivered, or the failure or rejection told to the client
  std::int32_t prompt_tokens = 0;
  std::int32_t output_tokens = 0;     // asked for
  std::int32_t output_delivered = 0;  // received by the client
  std::int32_t tokens_recomputed =
      0;                           // prompt tokens prefilled again + output tokens generated again by later attempts
  std::int32_t tokens_lost = 0;    // generated, never delivered
  InstanceId instance;             // of the last attempt
  Duration gap;                    // longest pause that a migration put between two tokens
  std::uint8_t migrations = 0;     // attempts that went on with the tokens of the one before
  std::int16_t decode_group = -1;  // group within the instance that produced the tokens; -1 where none did
  std::uint8_t slo_class = 0;
  std::uint8_t attempts = 0;  // 1 = no retry
  Outcome outcome = Outcome::unfinished;
  Cause cause = Cause::none;
  /// Bit f is set when fault number f hit this request directly: it used a component that the fault disabled, or waited
  /// on a rank, path or transfer that did (causal, from the truth of the run; faults above 63 share bit 63).
  std::uint64_t hit_by = 0;
  bool interrupted() const { return attempts > 1; }
};

/// A GPU whose usable fraction differs from 1 over [from, to). Intervals of one GPU do not overlap.
struct CapacityInterval {
  ComponentId gpu;
  InstanceId instance;  // invalid for spares
  Instant from, to;     // to = end of the run where it did not come back
  double usable = 0;    // 0 … 1; a barrier that waits for a slowed rank gives its share, 0 = no useful token
  bool own = false;     // the fault disables or disconnects this very GPU; else collateral (healthy, idle or slowed)
  std::uint32_t fault = 0;  // index into RunRecord::faults: the (last) cause
};

/// Phases of one fault's recovery, absolute instants, kNever where a phase did not happen (or had not, at the end).
struct FaultPhases {
  Instant symptom = kNever;  // first effect seen by any controller
  Instant detect = kNever;   // first correct suspicion by the component that acts
  Instant decide = kNever;   // recovery plan chosen
  Instant drain = kNever;    // no request waits on the dead any more
  Instant reroute = kNever;  // every live router has stopped sending to it
  Instant replace = kNever;  // hardware stands in for the dead (spare node or instance allocated); never for restart
  Instant ready = kNever;    // workers restarted and rejoined
  // Of survivors that go on without dead ranks (policies elastic_ep, mask):
  Instant fence = kNever;         // they were told to stop
  Instant repair_state = kNever;  // stopped: peers, routing and experts are repaired from here on
  Instant degraded = kNever;      // serving without the dead ranks
  Instant rejoin = kNever;        // ranks taken back
  Instant restore = kNever;       // whole again
  Instant first_token = kNever;   // first token from the affected unit (or its replacement) after the fault
};

struct FaultRecord {
  std::string id;             // name in the experiment
  std::string kind;           // gpu.failstop, …
  std::string target;         // component name as resolved
  Instant at = kNever;        // when it was applied
  Instant reverted = kNever;  // when it was undone by its own duration or repair; kNever where it stayed
  bool applied = false;
  std::string not_applied_reason;
  std::uint32_t targeted_components = 0;     // components disabled directly (implied children included)
  std::vector<ComponentId> own_gpus;         // GPUs disabled or disconnected directly
  std::vector<InstanceId> instances_direct;  // lost a rank, a path or a transfer
  FaultPhases phases;
  std::int64_t kv_bytes_lost = 0;
  std::string recovery;  // what the policy did, in words: "restart in place (instance)", …
};

/// Tokens of one second of simulated time (bin i covers [i, i+1) s), spread evenly over the steps that made them.
struct ThroughputBin {
  std::int64_t output_tokens = 0;   // delivered to clients; those that a later attempt makes again count once
  std::int64_t prefill_tokens = 0;  // prompt tokens computed, recomputed ones included
};

/// Where the run's step times come from, and which of its operations were priced outside of what was measured.
struct CostModelUse {
  std::string name;           // of the calibration, "roofline" without one
  std::string hardware;       // that it was measured on, or the device of the roofline
  std::string hash;           // of the calibration's content, 16 hexadecimal digits; empty for the roofline
  std::string software_date;  // of the newest measured row; empty for the roofline
  struct Extrapolated {
    std::string op;    // of the step plan
    double share = 0;  // of the time of all steps, its extrapolated part only, 0 … 1
    std::string why;   // of the longest part
  };
  std::vector<Extrapolated> extrapolated;  // the largest first; a run without any step has none
};

/// Prefix caches of prefill ranks, in prompt tokens; retries look again.
struct PrefixCacheUse {
  std::int64_t asked = 0, hit = 0;  // of admitted requests whose prompt's content was known: all, and what was there
  std::int64_t evicted = 0;         // made room for others
  std::int64_t lost = 0;            // kept for later, and gone with their rank
};

struct SimulatorStats {
  double wall_s = 0, cpu_s = 0;
  std::uint64_t events = 0, flows = 0, controller_steps = 0, decode_steps = 0;
  std::int64_t peak_rss_bytes = 0;
  std::uint64_t log_hash = 0;  // chained hash over every record of the event log
  std::string fidelity;        // "step"
};

/// One of several fleets of a run.
struct FleetPart {
  std::string name, model;
  std::int32_t instances = 0, gpus = 0;  // serving
  std::int32_t spare_gpus = 0;           // of its own spare instances; the pool of spare nodes is nobody's
  std::int32_t prefill_nodes = 0, decode_nodes = 0;
  std::int32_t first_class = 0;  // SLO classes from here to the next fleet's are its own
};

/// A spare that took a place: a node of the pool, or a standby instance.
struct SpareTaken {
  Instant at = kNever;
  InstanceId instance;     // whose place
  std::int32_t node = -1;  // -1: a standby instance took the whole place
};

struct RunRecord {
  std::string experiment;
  std::uint64_t seed = 0;
  Instant begin{0};
  Instant end = kNever;   // when the last request ended or the time limit came
  std::int32_t gpus = 0;  // in serving instances (spares apart)
  std::int32_t spare_gpus = 0;
  std::int32_t prefill_nodes = 0, decode_nodes = 0, instances = 0;
  std::vector<std::string> slo_class_names;
  std::vector<Duration> slo_ttft, slo_tpot;  // by class; kForever = no limit
  std::vector<RequestRecord> requests;       // index = RequestId
  std::vector<CapacityInterval> capacity;    // sorted by (gpu, from)
  std::vector<FaultRecord> faults;
  std::vector<ThroughputBin> throughput;             // by second
  std::int64_t tokens_degraded = 0;                  // output tokens made while some expert had no copy (policy mask)
  std::int64_t rebalances = 0, rebalance_bytes = 0;  // of groups' experts, without any fault; bytes moved between GPUs
  /// Copies of the KV of decoding sequences: bytes that their leaders know to be there, that the network delivered for
  /// them, requests that went on from a copy, and the tokens that these made again.
  std::int64_t replica_bytes = 0, replica_bytes_written = 0, replica_resumes = 0, replica_tokens_again = 0;
  PrefixCacheUse prefix_cache;
  std::int64_t role_switches = 0;  // groups that took over the other role, there and back
  /// Of a run with several fleets (else empty): they, and the fleet of every instance, spare ones included.
  std::vector<FleetPart> fleets;
  std::vector<std::uint32_t> fleet_of;
  std::vector<SpareTaken> spares_taken;  // in order of time
  std::vector<std::string> warnings;     // "prices extrapolated beyond …", each once
  CostModelUse cost_model;
  SimulatorStats stats;
};

}  // namespace faultline::record
