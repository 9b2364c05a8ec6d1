// A recorded trace as an ArrivalSource: time and rate scaling, looping.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/random.h"
#include "core/workload/arrival.h"
#include "core/workload/trace.h"

namespace faultline::workload {

struct ReplayOptions {
  double time_scale = 1;
  double rate_scale = 1;
  bool loop = false;
};

/// Time scale: every recorded time times the factor. Rate scale r: row i gives floor(r) requests and one more with
/// chance r - floor(r) (keyed by round and row, "workload/copies"); the first at the row's time, the others at uniform
/// times before the next row, so that the rate is scaled and its pattern in time stays. Copies and rounds of a loop get
/// prefix ids and sessions of their own: a second copy of a conversation must not find the cache of the first. A round
/// of a loop ends one mean gap after its last row.
class ReplaySource final : public ArrivalSource {
 public:
  /// Precondition: the trace has rows, scales are positive (asserted).
  ReplaySource(Trace trace, ReplayOptions options, std::uint64_t seed);
  bool next(Arrival& arrival) override;

 private:
  bool begin_row();
  Instant row_time(std::size_t row) const;

  Trace trace_;
  ReplayOptions options_;
  Random copies_;
  Duration round_span_{};        // recorded time of one round of a loop
  std::uint32_t block_ids_ = 0;  // one more than the greatest prefix id
  std::uint32_t copies_max_ = 1;
  std::uint64_t round_ = 0;
  std::size_t row_ = 0;
  std::vector<Instant> pending_;  // times of the copies of the current row, latest first
  std::uint32_t copy_ = 0;
  std::vector<std::uint32_t> shifted_;  // prefix ids of a copy
};

}  // namespace faultline::workload
