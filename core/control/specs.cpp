#include "core/control/specs.h"

namespace faultline::control {

using config::Fields;
using config::kNotNegative;
using config::kPositive;
using config::kRatio;

void describe(Fields& f, RetrySpec& s) {
  f.field("attempts_max", s.attempts_max, {.min = 1, .max = 100});
  f.field("backoff", s.backoff, kNotNegative);
  f.field("backoff_max", s.backoff_max, kNotNegative);
  f.field("budget", s.budget, kRatio);
  f.field("migrate", s.migrate);
  if (f.reading() && s.backoff > s.backoff_max) f.error("backoff", "backoff: must not exceed backoff_max");
}

void describe(Fields& f, RouterSpec& s) {
  f.field("policy", s.policy);
  f.field("replicas", s.replicas, {.min = 1, .max = 1024});
  f.field("signal_interval", s.signal_interval, {.min = 1e6});
  f.field("queue_max", s.queue_max, kNotNegative);
  f.field("queue_timeout", s.queue_timeout, kPositive);
  f.field("cooldown", s.cooldown, kNotNegative);
  f.field("index_tokens", s.index_tokens, {.min = 1, .max = 1e12});
  f.object("retry", s.retry);
  f.list("shed_above", s.shed_above);
}

void describe(Fields& f, EngineSpec& s) {
  f.field("name", s.name);
  f.field("version", s.version);
  f.field("max_num_seqs", s.max_num_seqs, {.min = 1, .max = 65'536});
  f.field("max_num_batched_tokens", s.max_num_batched_tokens, {.min = 1, .max = 1e7});
  f.field("chunked_prefill", s.chunked_prefill);
  f.field("mixed_prefill", s.mixed_prefill);
  f.field("block_tokens", s.block_tokens, {.min = 1, .max = 65'536});
  f.field("kv_fraction", s.kv_fraction, {.min = 0.01, .max = 1});
  f.field("prefix_cache", s.prefix_cache);
  f.field("max_model_len", s.max_model_len, {.min = 1, .max = 1e9});
  f.list("graph_batch_sizes", s.graph_batch_sizes);
  for (std::size_t k = 0; f.reading() && k < s.graph_batch_sizes.size(); ++k) {
    if (s.graph_batch_sizes[k] <= (k == 0 ? 0 : s.graph_batch_sizes[k - 1]) || s.graph_batch_sizes[k] > 65'536) {
      f.error("graph_batch_sizes", "graph_batch_sizes: must ascend from at least 1 to at most 65536");
      break;
    }
  }
  f.field("process_exit_notice", s.process_exit_notice, kNotNegative);
  f.field("collective_timeout", s.collective_timeout, kPositive);
  f.field("peers_die", s.peers_die);
  f.field("gateway_replays", s.gateway_replays);
  f.field("restart_process", s.restart_process, kNotNegative);
  f.field("restart_weights", s.restart_weights, kNotNegative);
  f.field("restart_compile", s.restart_compile, kNotNegative);
  f.field("restart_graph_capture", s.restart_graph_capture, kNotNegative);
  f.field("restart_warmup", s.restart_warmup, kNotNegative);
}

void describe(Fields& f, DetectorSpec& s) {
  f.field("heartbeat_period", s.heartbeat_period, {.min = 1e6});
  f.field("heartbeats_missed", s.heartbeats_missed, {.min = 1, .max = 1000});
  f.field("transfer_failures", s.transfer_failures, {.min = 1, .max = 1000});
  f.field("transfer_window", s.transfer_window, kPositive);
  f.field("probe_timeout", s.probe_timeout, kPositive);
  f.field("health_period", s.health_period, {.min = 1e9});
  f.field("false_positives", s.false_positives, {.min = 0, .max = 0.5});
  f.field("source", s.source);
}

void describe(Fields& f, ElasticSpec& s) {
  f.field("reconfigure", s.reconfigure, kNotNegative);
  f.field("peer_copy_rate", s.peer_copy_rate, kPositive);
  f.field("host_copies", s.host_copies);
  f.field("host_load_rate", s.host_load_rate, kPositive);
  f.field("disk_load_rate", s.disk_load_rate, kPositive);
  f.field("width_min", s.width_min, kRatio);
  f.field("keep_requests", s.keep_requests);
  f.field("restore_masked", s.restore_masked);
  f.field("rejoin", s.rejoin);
  f.field("rejoin_check", s.rejoin_check, {.min = 1e8});
  f.field("rank_start", s.rank_start, kNotNegative);
}

void describe(Fields& f, RoleSwitchSpec& s) {
  f.field("keep_weights", s.keep_weights);
  f.field("back", s.back);
}

void describe(Fields& f, ReplicationSpec& s) {
  f.field("enabled", s.enabled);
  f.field("interval", s.interval, {.min = 1e6});
  f.field("memory_share", s.memory_share, kRatio);
}

void describe(Fields& f, RecoverySpec& s) {
  f.field("policy", s.policy);
  f.field("decision_delay", s.decision_delay, kNotNegative);
  f.field("retry_interval", s.retry_interval, kPositive);
  f.field("retry_interval_max", s.retry_interval_max, kPositive);
  if (f.reading() && s.retry_interval > s.retry_interval_max) {
    f.error("retry_interval", "retry_interval: must not exceed retry_interval_max");
  }
  f.field("node_attach", s.node_attach, kNotNegative);
  f.field("substitution", s.substitution);
  f.field("degraded_rail", s.degraded_rail);
  f.field("spare_instance_warm", s.spare_instance_warm);
  f.object("elastic", s.elastic);
  f.object("role_switch", s.role_switch);
  f.object("replicate_kv", s.replicate_kv);
}

void describe(Fields& f, AutoscalerSpec& s) {
  f.field("enabled", s.enabled);
  f.field("instances_min", s.instances_min, {.min = 1, .max = 100'000});
  f.field("interval", s.interval, {.min = 1e6});
  f.field("scale_up_tokens", s.scale_up_tokens, kNotNegative);
  f.field("scale_down_tokens", s.scale_down_tokens, kNotNegative);
  f.field("cooldown", s.cooldown, kNotNegative);
  if (f.reading() && s.scale_down_tokens >= s.scale_up_tokens) {
    f.error("scale_down_tokens", "must be below scale_up_tokens, or the fleet would oscillate");
  }
}

void describe(Fields& f, TimingSpec& s) {
  f.field("control_latency", s.control_latency, kNotNegative);
  f.field("client_latency", s.client_latency, kNotNegative);
}

}  // namespace faultline::control
