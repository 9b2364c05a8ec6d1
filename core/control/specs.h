// Settings of the control plane: how a fleet is cut into instances and groups, what the serving engine does when a rank
// dies, how requests are routed, how failures are noticed and what is done about them. All are read from the experiment
// (core/config/fields.h); every default is printed by `faultline check --resolved`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/quantity.h"
#include "core/config/fields.h"

namespace faultline::control {

using namespace faultline::literals;

/// What stops and restarts together when one of its ranks fails; independent of the EP width. `rank`: the other ranks of the
/// group wait and keep their requests, where the engine's ranks survive the loss of a peer (EngineSpec::peers_die).
enum class RestartUnit : std::uint8_t { rank, ep_group, role, instance };
constexpr std::array<std::string_view, 4> enum_names(const RestartUnit*) { return {"rank", "ep_group", "role", "instance"}; }

enum class RoutePolicy : std::uint8_t { round_robin, least_tokens, power_of_two, prefix_affinity };
constexpr std::array<std::string_view, 4> enum_names(const RoutePolicy*) {
  return {"round_robin", "least_tokens", "power_of_two", "prefix_affinity"};
}

struct RetrySpec {
  std::int32_t attempts_max = 3;     // the first one included
  Duration backoff = 50_ms;          // before the second attempt; doubles with each further one
  Duration backoff_max = 2_s;
  /// Share of the requests in flight that may be retries (a retry-storm bound); 1 = unbounded.
  double budget = 1.0;
};

struct RouterSpec {
  RoutePolicy policy = RoutePolicy::least_tokens;
  std::int32_t replicas = 1;
  /// Age of what a router knows about requests that *other* routers placed: instances report their load this often.
  Duration signal_interval = 100_ms;
  /// Requests held while no instance accepts; beyond it, or after queue_timeout, they are rejected.
  std::int64_t queue_max = 100'000;
  Duration queue_timeout = 600_s;
  /// How long an instance that refused or lost a request gets no further one, unless the fleet manager says otherwise.
  Duration cooldown = 1_s;
  RetrySpec retry;
};

/// What a serving engine's scheduler allows and how it dies. Numbers come from a profile (topologies/engines/*.yaml)
/// that states version and source of each.
struct EngineSpec {
  std::string name = "ideal";
  std::string version;
  // scheduler
  std::int64_t max_num_seqs = 256;             // running sequences per attention (DP) rank
  std::int64_t max_num_batched_tokens = 8192;  // tokens of one step per DP rank
  bool chunked_prefill = true;
  bool mixed_prefill = true;                   // chunks and decodes share a step (only where one group does both)
  std::int64_t block_tokens = 64;              // KV block
  double kv_fraction = 0.9;                    // of the GPU memory, for weights, buffers and KV together
  std::int64_t max_model_len = 131'072;
  // failure
  Duration process_exit_notice = 100_ms;  // a dead worker process is noticed by its parent
  Duration collective_timeout = 100_s;    // a silent rank is given up by the ranks that wait for it
  bool peers_die = true;                  // ranks that wait for a dead one end too (their requests and KV are lost)
  bool gateway_replays = true;            // the router retries interrupted requests from their prompt
  // restart, by phase
  Duration restart_process = 15_s;
  Duration restart_weights = 60_s;
  Duration restart_compile = 0_s;
  Duration restart_graph_capture = 20_s;
  Duration restart_warmup = 5_s;
  Duration restart_total() const {
    return restart_process + restart_weights + restart_compile + restart_graph_capture + restart_warmup;
  }
};

/// The unit in effect: where the peers of a dead rank end with it, no rank restarts alone.
constexpr RestartUnit effective_unit(RestartUnit unit, const EngineSpec& engine) {
  return unit == RestartUnit::rank && engine.peers_die ? RestartUnit::ep_group : unit;
}

struct DetectorSpec {
  Duration heartbeat_period = 1_s;
  std::int32_t heartbeats_missed = 3;  // this many in a row: lost; one fewer (at least one): suspected
  /// This many failed transfers from or to one node within the window have it probed.
  std::int32_t transfer_failures = 3;
  Duration transfer_window = 10_s;
  Duration probe_timeout = 3_s;        // a health probe of a GPU that does not answer within it has failed
  /// A health daemon: every node is probed this often, whatever it serves. none: only what fails is probed.
  std::optional<Duration> health_period;
  /// Chance that one probe finds a healthy node bad; its instances are then restarted for nothing.
  double false_positives = 0;
  std::string source;                  // where the settings were published, for reports
};

enum class RecoveryAction : std::uint8_t { none, restart, spare_node, spare_instance };
constexpr std::array<std::string_view, 4> enum_names(const RecoveryAction*) {
  return {"none", "restart", "spare_node", "spare_instance"};
}

struct RecoverySpec {
  RecoveryAction policy = RecoveryAction::restart;
  Duration decision_delay = 100_ms;    // from verdict to command: what the orchestrator needs
  Duration retry_interval = 10_s;      // a restart that failed is tried again after this, doubling up to …
  Duration retry_interval_max = 120_s;
  Duration node_attach = 30_s;         // a spare node joins: scheduling, image, device set-up; before the worker restart
  bool spare_instance_warm = true;     // spare instances hold weights and graphs; else they start cold
};

struct AutoscalerSpec {
  bool enabled = false;
  std::int32_t instances_min = 1;
  Duration interval = 10_s;
  double scale_up_tokens = 20'000;     // outstanding tokens per instance above which one more is started …
  double scale_down_tokens = 2'000;    // … and below which one is drained
  Duration cooldown = 60_s;            // between two changes
};

struct TimingSpec {
  Duration control_latency = 50_us;    // one control message between two hosts (management network)
  Duration client_latency = 0_s;       // client to router, one way
};

void describe(config::Fields&, RetrySpec&);
void describe(config::Fields&, RouterSpec&);
void describe(config::Fields&, EngineSpec&);
void describe(config::Fields&, DetectorSpec&);
void describe(config::Fields&, RecoverySpec&);
void describe(config::Fields&, AutoscalerSpec&);
void describe(config::Fields&, TimingSpec&);

}  // namespace faultline::control
