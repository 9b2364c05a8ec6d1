// Settings of the control plane: how a fleet is cut into instances and groups, what the serving engine does when a rank
// dies, how requests are routed, how failures are noticed and what is done about them. All are read from the experiment
// (core/config/fields.h); every default is printed by `faultline check --resolved`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/fields.h"

namespace faultline::control {

using namespace faultline::literals;

/// What stops and restarts together when one of its ranks fails; independent of the EP width. `rank`: the other ranks
/// of the group wait and keep their requests, where the engine's ranks survive the loss of a peer
/// (EngineSpec::peers_die).
enum class RestartUnit : std::uint8_t { rank, ep_group, role, instance };
constexpr std::array<std::string_view, 4> enum_names(const RestartUnit*) {
  return {"rank", "ep_group", "role", "instance"};
}

enum class RoutePolicy : std::uint8_t { round_robin, least_tokens, power_of_two, prefix_affinity, cache_aware };
constexpr std::array<std::string_view, 5> enum_names(const RoutePolicy*) {
  return {"round_robin", "least_tokens", "power_of_two", "prefix_affinity", "cache_aware"};
}

struct RetrySpec {
  std::int32_t attempts_max = 3;  // the first one included
  Duration backoff = 50_ms;       // before the second attempt; doubles with each further one
  Duration backoff_max = 2_s;
  /// Share of the requests in flight that may be retries (a retry-storm bound); 1 = unbounded.
  double budget = 1.0;
  /// Request migration: a further attempt begins with the tokens that the client has already (they are prefilled with
  /// the prompt), so that the client sees a gap instead of a failure or a repeated answer. Dynamo's frontend does this.
  bool migrate = false;
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
  /// cache_aware: prompt tokens that a router remembers of each instance; assumed, more than a 2P2D instance keeps.
  std::int64_t index_tokens = std::int64_t{1} << 24;
  RetrySpec retry;
  /// Load shedding by SLO class: while the mean number of outstanding tokens of the instances that accept exceeds the
  /// class's entry, new requests of the class are rejected at once. 0 or no entry: the class is never shed.
  std::vector<std::int64_t> shed_above;
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
  bool mixed_prefill = true;       // chunks and decodes share a step (only where one group does both)
  std::int64_t block_tokens = 64;  // KV block
  double kv_fraction = 0.9;        // of the GPU memory, for weights, buffers and KV together
  /// KV of prompts stays on its prefill rank for later requests that begin with the same tokens (prefix_cache.h).
  bool prefix_cache = true;
  std::int64_t max_model_len = 131'072;
  /// Batch sizes of a rank for which decode graphs are captured, ascending: a batch is padded up to the next of them,
  /// one beyond the last is launched operation by operation. Empty: a graph for every size.
  std::vector<std::int64_t> graph_batch_sizes;
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
  Duration probe_timeout = 3_s;  // a health probe of a GPU that does not answer within it has failed
  /// A health daemon: every node is probed this often, whatever it serves. none: only what fails is probed.
  std::optional<Duration> health_period;
  /// Chance that one probe finds a healthy node bad; its instances are then restarted for nothing.
  double false_positives = 0;
  std::string source;  // where the settings were published, for reports
};

enum class RecoveryAction : std::uint8_t { none, restart, spare_node, spare_instance, elastic_ep, mask, role_switch };
constexpr std::array<std::string_view, 7> enum_names(const RecoveryAction*) {
  return {"none", "restart", "spare_node", "spare_instance", "elastic_ep", "mask", "role_switch"};
}

/// Elastic expert parallelism (policies elastic_ep and mask): the survivors of a group go on without its dead ranks.
/// docs/recovery.md section 2 derives the times; what is fitted and to what is said there.
struct ElasticSpec {
  /// Peer tables, routing tables and the contents of captured graphs, after the survivors agreed on who is left. EEP
  /// (arXiv 2605.10670): 0.203 s of metadata, and 0.37 s of its 10.546 s that are neither detection nor copying.
  Duration reconfigure = 570_ms;
  /// Expert weights that one GPU receives from its peers, as engines reach it, links apart: fitted to three published
  /// recoveries (docs/recovery.md section 4). The links' own rates apply where they are less.
  BytesPerSecond peer_copy_rate{7'200'000'000};
  /// Every expert has a copy in the memory of the hosts (EEP: 167.5 GB pinned on each of 4 nodes).
  bool host_copies = true;
  BytesPerSecond host_load_rate{1'000'000'000};  // of one node's copies to the GPUs that lack them; fitted likewise
  BytesPerSecond disk_load_rate{1'000'000'000};  // of one node's disk or share of a file system; assumed
  double width_min = 0.5;                        // with less than this share of its ranks the group restarts instead
  /// Survivors of a failure keep their requests. false: what the group held is reported failed, cached prompts
  /// included, and whoever wants an answer asks again (EEP, arXiv 2605.10670; a rank that rejoins costs nobody a
  /// request).
  bool keep_requests = true;
  /// Policy mask: experts without a copy are brought to slots of the survivors while these serve on; then the group
  /// stops for `reconfigure`.
  bool restore_masked = true;
  bool rejoin = true;           // a rank whose hardware is well again is taken back
  Duration rejoin_check = 5_s;  // how often absent ranks are looked at
  /// A rank's process, its attention weights and its graphs, beside the running survivors. EEP: serving again at 11 s,
  /// rejoined by 52 s with a pause of 8 s.
  Duration rank_start = 30_s;
};

/// Policy role_switch: while the groups of one role of an instance wait for hardware, groups of the other take it over:
/// half of them, or the only one as a group of both roles. They start anew (their KV is lost) by the phases of the
/// engine profile, and are turned back, once their instance is drained, when the lost ones are up.
struct RoleSwitchSpec {
  /// The group keeps its ranks and its expert-parallel width, so its weights stay where they are: a holder outside the
  /// engine's process keeps them over the restart. false: they are loaded again.
  bool keep_weights = true;
  bool back = true;
};

/// A copy of the KV of decoding sequences on another rank, on another node where there is one. Copies are in GPU
/// memory: they take KV blocks of the rank that holds them.
struct ReplicationSpec {
  bool enabled = false;
  Duration interval = 1_s;    // whole blocks that are new since the last copy are sent this often
  double memory_share = 0.5;  // of a rank's KV blocks that may hold copies
};

/// Which spare node may stand in for a dead one.
enum class SubstitutionRule : std::uint8_t { any, same_fabric, same_rack };
constexpr std::array<std::string_view, 3> enum_names(const SubstitutionRule*) {
  return {"any", "same_fabric", "same_rack"};
}

struct RecoverySpec {
  RecoveryAction policy = RecoveryAction::restart;
  Duration decision_delay = 100_ms;  // from verdict to command: what the orchestrator needs
  Duration retry_interval = 10_s;    // a restart that failed is tried again after this, doubling up to …
  Duration retry_interval_max = 120_s;
  Duration node_attach = 30_s;  // a spare node joins: scheduling, image, device set-up; before the worker restart
  SubstitutionRule substitution = SubstitutionRule::any;  // same_fabric: below the same leaves (one scalable unit)
  /// Degraded-rail operation: a GPU whose NIC, cable or leaf is down uses the other NICs of its node (slower for all)
  /// instead of being lost. The node's own nic_failover does the same for every policy.
  bool degraded_rail = false;
  bool spare_instance_warm = true;  // spare instances hold weights and graphs; else they start cold
  ElasticSpec elastic;
  RoleSwitchSpec role_switch;
  ReplicationSpec replicate_kv;
  /// Its plan depends on what is broken, so the nodes of failed groups are probed first.
  bool looks_at_hardware() const {
    return policy == RecoveryAction::spare_node || policy == RecoveryAction::role_switch || keeps_survivors();
  }
  bool keeps_survivors() const { return policy == RecoveryAction::elastic_ep || policy == RecoveryAction::mask; }
};

struct AutoscalerSpec {
  bool enabled = false;
  std::int32_t instances_min = 1;
  Duration interval = 10_s;
  double scale_up_tokens = 20'000;   // outstanding tokens per instance above which one more is started …
  double scale_down_tokens = 2'000;  // … and below which one is drained
  Duration cooldown = 60_s;          // between two changes
};

struct TimingSpec {
  Duration control_latency = 50_us;  // one control message between two hosts (management network)
  Duration client_latency = 0_s;     // client to router, one way
};

void describe(config::Fields&, RetrySpec&);
void describe(config::Fields&, RouterSpec&);
void describe(config::Fields&, EngineSpec&);
void describe(config::Fields&, DetectorSpec&);
void describe(config::Fields&, ElasticSpec&);
void describe(config::Fields&, RoleSwitchSpec&);
void describe(config::Fields&, ReplicationSpec&);
void describe(config::Fields&, RecoverySpec&);
void describe(config::Fields&, AutoscalerSpec&);
void describe(config::Fields&, TimingSpec&);

}  // namespace faultline::control
