#include "core/workload/replay.h"

#include <algorithm>
#include <cmath>

#include "core/base/assert.h"

namespace faultline::workload {

ReplaySource::ReplaySource(Trace trace, ReplayOptions options, std::uint64_t seed)
    : trace_(std::move(trace)), options_(options), copies_(seed, "workload/copies") {
  FAULTLINE_ASSERT(!trace_.rows.empty() && options.time_scale > 0 && options.rate_scale > 0,
                   "rows={} time_scale={} rate_scale={}", trace_.rows.size(), options.time_scale, options.rate_scale);
  const auto& rows = trace_.rows;
  const Duration mean_gap = rows.size() > 1
                                ? (rows.back().at - rows.front().at) / static_cast<std::int64_t>(rows.size() - 1)
                                : Duration{1'000'000'000};
  // At least a nanosecond a round, so that a loop always gets on.
  round_span_ = std::max(Duration{rows.back().at.ns} + mean_gap, Duration{1});
  for (const std::uint32_t id : trace_.blocks) block_ids_ = std::max(block_ids_, id);
  ++block_ids_;
  copies_max_ = static_cast<std::uint32_t>(std::ceil(options.rate_scale));
}

Instant ReplaySource::row_time(std::size_t row) const {
  const Instant recorded = row < trace_.rows.size() ? trace_.rows[row].at : Instant{round_span_.v};
  const double at = static_cast<double>(round_) * static_cast<double>(round_span_.v) + static_cast<double>(recorded.ns);
  if (at * options_.time_scale >= 9.2e18) return kNever;
  // Doubles are exact to 2^53 ns (104 days); integers where no scaling asks for more.
  if (options_.time_scale == 1) return Instant{static_cast<std::int64_t>(round_) * round_span_.v + recorded.ns};
  return Instant{static_cast<std::int64_t>(at * options_.time_scale + 0.5)};
}

/// Fills pending_ with the times of the copies of row_; false at the end of the trace.
bool ReplaySource::begin_row() {
  if (row_ == trace_.rows.size()) {
    if (!options_.loop) return false;
    row_ = 0;
    ++round_;
  }
  const Instant begin = row_time(row_);
  if (begin == kNever) return false;
  copy_ = 0;
  if (options_.rate_scale == 1) {
    pending_.push_back(begin);
    return true;
  }
  Random r = copies_.at(row_, round_);
  const double whole = std::floor(options_.rate_scale);
  const auto count =
      static_cast<std::uint32_t>(whole) + static_cast<std::uint32_t>(r.chance(options_.rate_scale - whole));
  const Instant end = row_time(row_ + 1);
  for (std::uint32_t i = 0; i < count; ++i) {
    const double width = static_cast<double>((end - begin).v);
    pending_.push_back(i == 0 ? begin : begin + Duration{static_cast<std::int64_t>(r.uniform() * width)});
  }
  std::sort(pending_.begin(), pending_.end(), std::greater<>());
  return true;
}

bool ReplaySource::next(Arrival& arrival) {
  while (pending_.empty()) {
    if (!begin_row()) return false;
    if (pending_.empty()) ++row_;  // this row was thinned out
  }
  const TraceRow& row = trace_.rows[row_];
  // Copies beyond 2^32 / block_ids_ share ids again: tens of thousands of copies apart, long evicted.
  const auto lane = static_cast<std::uint32_t>(round_ * copies_max_ + copy_++);
  arrival = {.at = pending_.back(),
             .prompt = Tokens{row.prompt},
             .output = Tokens{row.output},
             .slo_class = row.slo_class,
             .session = row.session == kNoSession ? kNoSession : row.session + lane * trace_.session_count,
             .prefix_block_tokens = row.block_count > 0 ? trace_.prefix_block_tokens : 0};
  std::span<const std::uint32_t> blocks(trace_.blocks.data() + row.first_block, row.block_count);
  if (lane > 0) {
    shifted_.assign(blocks.begin(), blocks.end());
    for (std::uint32_t& id : shifted_) id += lane * block_ids_;
    blocks = shifted_;
  }
  arrival.prefix_blocks = blocks;
  pending_.pop_back();
  if (pending_.empty()) ++row_;
  return true;
}

}  // namespace faultline::workload
