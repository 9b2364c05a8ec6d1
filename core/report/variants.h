// Several runs side by side: the variants of a sweep (EP width, recovery policy, …) as rows, what they served and what
// the same fault cost them as columns.
#pragma once

#include <string>
#include <vector>

#include "core/report/stored_summary.h"

namespace faultline::report {

struct Variant {
  std::string name;  // "EP16", "spare node"
  Json summary;      // of read_summary() or summary_json()
};

/// Figures of one variant. With several faults: counts and losses are summed, times are those of the slowest; a time is
/// empty where any fault was not recovered from.
struct VariantRow {
  std::string name;
  std::optional<double> output_tokens_per_s, goodput_tokens_per_s, failed, retried, capacity_loss_gpu_s, gpus_idle_max,
      t95_s, restore_s, cost_per_1m_output;
  bool restored = true;      // false: t95 or restore is missing because the run ended first
  std::string not_restored;  // why, in words
  std::string cost_model;    // who priced the steps and what was extrapolated, in words; empty where not stated
  double extrapolated = 0;   // share of the step time
};
std::vector<VariantRow> variant_rows(const std::vector<Variant>& variants);

/// A table and two bar charts (throughput, capacity lost) in at most 80 columns.
std::string variants_text(const std::string& title, const std::vector<Variant>& variants);
/// {"title", "rows": [{"name", …}]}
Json variants_json(const std::string& title, const std::vector<Variant>& variants);
/// A section for html_text() or html_page(): table, bars, and throughput against capacity lost.
std::string variants_html(const std::string& title, const std::vector<Variant>& variants);

}  // namespace faultline::report
