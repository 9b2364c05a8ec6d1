// Run records made by hand for tests of metrics and reports.
#pragma once

#include "core/record/run_record.h"

namespace faultline::metrics::testing {

using namespace literals;
using record::Outcome;
using record::RequestRecord;
using record::RunRecord;

constexpr Instant at_s(double s) { return Instant{} + duration_from_seconds(s); }

/// Completed: arrives at `arrival`, first token after `ttft`, then a token every `gap`.
inline RequestRecord completed(double arrival, double ttft, double gap, int output, std::uint32_t instance,
                               int prompt = 100) {
  RequestRecord r;
  r.arrival = at_s(arrival);
  r.first_token = r.arrival + duration_from_seconds(ttft);
  r.end = r.first_token + duration_from_seconds(gap) * (output - 1);
  r.prompt_tokens = prompt;
  r.output_tokens = r.output_delivered = output;
  r.instance = InstanceId{instance};
  r.attempts = 1;
  r.outcome = Outcome::completed;
  return r;
}

/// Two instances of eight GPUs, one request a second, 11 tokens each (first after 1 s, end after 2 s), alternating
/// between the instances; 200 s. Every second delivers 11 tokens: those of the request that arrived two seconds before.
inline RunRecord steady_run(int span_s = 200) {
  RunRecord run;
  run.experiment = "steady";
  run.seed = 7;
  run.end = at_s(span_s);
  run.gpus = 16;
  run.spare_gpus = 0;
  run.prefill_nodes = 1;
  run.decode_nodes = 1;
  run.instances = 2;
  run.slo_class_names = {"chat"};
  run.slo_ttft = {2_s};
  run.slo_tpot = {150_ms};
  run.throughput.resize(static_cast<std::size_t>(span_s));
  for (int i = 0; i < span_s - 2; ++i) {
    run.requests.push_back(completed(i, 1.0, 0.1, 11, static_cast<std::uint32_t>(i % 2)));
    run.throughput[static_cast<std::size_t>(i + 2)].output_tokens = 11;
  }
  run.stats.cpu_s = 2;
  run.stats.wall_s = 2.5;
  run.stats.fidelity = "step";
  return run;
}

/// The steady run in which GPU 3 of instance 0 stops at 20 s and the whole instance stands still until 50 s: its
/// requests of 19 s … 50 s (odd ones are instance 1's) are hit; those in flight are retried on instance 1 with a TTFT
/// of 5 s.
inline RunRecord failstop_run() {
  RunRecord run = steady_run();
  run.cost_model = {"mi300x",
                    "MI300X",
                    "0123456789abcdef",
                    "2026-01-05",
                    {{"decode_attention", 0.25, "contexts longer than any measured"}, {"dispatch", 0.125, "no rows"}}};
  record::FaultRecord f;
  f.id = "gpu";
  f.kind = "gpu.failstop";
  f.target = "node-0.gpu-3";
  f.at = at_s(20);
  f.applied = true;
  f.targeted_components = 1;
  f.own_gpus = {ComponentId{3}};
  f.instances_direct = {InstanceId{0}};
  f.phases.symptom = at_s(20.5);
  f.phases.detect = at_s(21);
  f.phases.decide = at_s(21.25);
  f.phases.drain = at_s(22);
  f.phases.reroute = at_s(21.5);
  f.phases.ready = at_s(50);
  f.phases.first_token = at_s(51);
  f.kv_bytes_lost = 1'000'000;
  f.recovery = "restart in place (instance)";
  run.faults.push_back(f);
  for (std::uint32_t gpu = 0; gpu < 8; ++gpu) {
    run.capacity.push_back({ComponentId{gpu}, InstanceId{0}, at_s(20), at_s(50), 0.0, gpu == 3, 0});
  }
  // In flight at 20 s: request 18 (ends at 20.0, done) and 20; request 20 is retried, 22 fails, the rest up to 48 go to
  // instance 1 unhurt.
  RequestRecord& retried = run.requests[20];
  retried.attempts = 2;
  retried.hit_by = 1;
  retried.instance = InstanceId{1};
  retried.first_token = retried.arrival + 5_s;
  retried.end = retried.first_token + 1_s;
  retried.tokens_recomputed = 100;
  run.throughput[22].output_tokens -= 11;
  run.throughput[26].output_tokens += 11;
  RequestRecord& failed = run.requests[22];
  failed.outcome = Outcome::failed;
  failed.cause = Cause::retries_exhausted;
  failed.attempts = 3;
  failed.hit_by = 1;
  failed.output_delivered = 4;
  failed.tokens_lost = 6;
  failed.end = failed.arrival + 4_s;
  run.throughput[24].output_tokens -= 7;
  for (std::size_t i = 24; i < 50; i += 2) run.requests[i].instance = InstanceId{1};
  return run;
}

}  // namespace faultline::metrics::testing
