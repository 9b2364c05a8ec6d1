// What one run did, as numbers: a pure fold over its RunRecord. docs/metrics.md describes every field with its unit.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/metrics/distribution.h"
#include "core/record/run_record.h"

namespace faultline::metrics {

struct Options {
  std::optional<double> gpu_price_per_hour;  // of one GPU; without it cost is given in GPU-hours only
  std::string currency = "USD";
  // t95 and restore: throughput over a window, back to the share of the paired run's, and held for so long.
  Duration window{10'000'000'000};
  Duration hold{60'000'000'000};
  int share_percent = 95;
  // A request is delayed when its latency grew by more than this (or it newly missed its SLO).
  int delayed_percent = 10;
};

struct RequestCounts {
  std::int64_t arrived = 0, completed = 0, failed = 0, rejected = 0, unfinished = 0;
  std::int64_t retried = 0;                    // needed more than one attempt, whatever the outcome
  std::int64_t interrupted_but_completed = 0;  // of the retried, those that completed
  /// arrived - completed - failed - rejected - unfinished, where an outcome counts only if its record bears it out (a
  /// completed request has all its tokens and an end, a failed one a cause and an end …). Must be 0.
  std::int64_t unaccounted = 0;
  std::map<std::string, std::int64_t> failed_by_cause, rejected_by_cause;
};

struct Throughput {
  Duration duration{0};             // begin to end of the run; every rate below is per second of it
  std::int64_t input_tokens = 0;    // prompt tokens of completed requests
  std::int64_t output_tokens = 0;   // delivered to clients, those of failed requests included
  std::int64_t goodput_tokens = 0;  // output tokens of requests that met their SLO
  std::int64_t goodput_requests = 0;
  double input_tokens_per_s = 0, output_tokens_per_s = 0, goodput_tokens_per_s = 0;
  std::optional<double> input_tokens_per_s_per_prefill_node,
      output_tokens_per_s_per_decode_node;  // empty: no such node
};

struct SloClass {
  std::string name;
  Duration ttft_limit = kForever, tpot_limit = kForever;
  std::int64_t arrived = 0, completed = 0, met = 0;
  std::int64_t goodput_tokens = 0;
  double goodput_tokens_per_s = 0;
};

/// From one coupled run: all its GPUs over all its time against all its tokens. Per million tokens; empty where the
/// price is unknown or no such token was served.
struct Cost {
  std::int64_t gpus_serving = 0, gpus_spare = 0;  // both are counted
  double gpu_hours = 0;
  std::optional<double> gpu_hours_per_1m_output_tokens;
  std::optional<double> gpu_price_per_hour, total;
  std::optional<double> per_1m_input_tokens, per_1m_output_tokens, per_1m_all_tokens, per_1m_goodput_tokens;
  std::string currency;
};

struct Summary {
  std::string experiment;
  std::uint64_t seed = 0;
  RequestCounts requests;
  Distribution ttft, tpot, latency;  // of completed requests
  Throughput throughput;
  std::vector<SloClass> slo_classes;
  Cost cost;
  std::int64_t tokens_recomputed = 0, tokens_lost = 0;
  std::int64_t tokens_degraded = 0, rebalances = 0, rebalance_bytes = 0;
  std::int64_t requests_migrated = 0;
  std::int64_t replica_bytes = 0, replica_resumes = 0, replica_tokens_again = 0, role_switches = 0;  // see RunRecord
  record::PrefixCacheUse prefix_cache;
  Duration gap_max;  // longest pause that a migration put into an answer
  std::int32_t gpus = 0, spare_gpus = 0, instances = 0, prefill_nodes = 0, decode_nodes = 0;
  record::SimulatorStats simulator;
  double requests_per_cpu_s = 0;
  std::vector<std::string> warnings;    // from the run
  std::vector<std::string> violations;  // conservation laws that do not hold, in words; must be empty
};

/// O(requests). Never throws; broken conservation is reported in `violations`.
Summary summarise(const record::RunRecord& run, const Options& options = {});

}  // namespace faultline::metrics
