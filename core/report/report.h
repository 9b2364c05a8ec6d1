// Everything that the reports of one run are made from. The writers (summary_json.h, requests_jsonl.h, terminal.h,
// html.h) are pure functions of it; the caller owns files and the terminal.
#pragma once

#include <string>
#include <vector>

#include "core/metrics/impact.h"
#include "core/metrics/summary.h"
#include "core/record/run_record.h"

namespace faultline::report {

/// A statement of where numbers come from: {"decode GEMM", "hipBLASLt table, MI300X, ROCm 6.4 …"}.
struct Source {
  std::string what, source;
};

struct Report {
  const record::RunRecord* run = nullptr;      // never null
  const record::RunRecord* without = nullptr;  // paired run, may be null
  const record::RunRecord* placebo = nullptr;  // may be null
  metrics::Options options;
  metrics::Summary summary;
  metrics::Impacts impacts;
  std::string experiment_yaml;  // resolved, with its seed
  std::vector<Source> sources;
};

/// Folds the records once. The records must outlive the report.
Report make_report(const record::RunRecord& run, const record::RunRecord* without, const record::RunRecord* placebo,
                   const metrics::Options& options = {}, std::string experiment_yaml = {},
                   std::vector<Source> sources = {});

/// "leaf", or "leaf + gpu" of a cluster.
std::string id_of(const metrics::FaultImpact& impact);
/// Kinds and targets of the members, each once: "switch.down on leaf-0".
std::string kind_of(const metrics::FaultImpact& impact);
std::string target_of(const metrics::FaultImpact& impact);

/// A phase of the recovery after the first fault; empty where it did not happen.
struct Phase {
  const char* key;    // of summary.json: "first_token"
  const char* label;  // for people: "first token"
  std::optional<Duration> after;
  /// Of the whole service against its paired run (t95, restore); else of the unit that the fault hit. The two are not
  /// in one order: a fleet may be back at 95 %, or never have left it, long before the unit serves again.
  bool service = false;
};
/// symptom, detect, decide, drain, reroute, replace, ready, first_token, t95, restore: always these, in this order;
/// after decide, where survivors went on: fence, repair_state, degraded, rejoin, whole.
std::vector<Phase> phases_of(const metrics::FaultImpact& impact);
/// For readers: as they happened, those that did not happen last; the service's own stay behind the unit's.
std::vector<Phase> by_time(std::vector<Phase> phases);

}  // namespace faultline::report
