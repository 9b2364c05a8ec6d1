// Which faults of a run can be told apart. Internal to core/metrics.
#pragma once

#include <string>
#include <vector>

#include "core/record/run_record.h"

namespace faultline::metrics {

struct Cluster {
  std::vector<std::uint32_t> faults;  // indices into RunRecord::faults, by time
  Instant begin, effect_end;          // application of the first; last sign of an effect
  std::uint64_t hit_mask = 0;         // their bits of RequestRecord::hit_by
  std::string reason;                 // why there are several; empty for one
};

/// Bit of RequestRecord::hit_by for a fault.
constexpr std::uint64_t hit_bit(std::uint32_t fault) { return std::uint64_t{1} << (fault < 63 ? fault : 63); }

/// Of each fault: the last sign of an effect, which is its revert, its last recovery phase or the end of its last
/// capacity interval. kNever where it was not applied.
std::vector<Instant> effect_ends(const record::RunRecord& run);

/// Applied faults among `faults`, grouped where one begins before the effect of another has ended, or where they share
/// a bit. Sorted by begin; each fault is in one cluster.
std::vector<Cluster> clusters_of(const record::RunRecord& run, const std::vector<std::uint32_t>& faults);

}  // namespace faultline::metrics
