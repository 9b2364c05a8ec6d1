// Several loads on one cluster: the requests of all, in the order of time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/workload/arrival.h"

namespace faultline::workload {

struct MergedPart {
  std::unique_ptr<ArrivalSource> source;  // not null
  std::uint8_t first_class = 0;           // added to the classes of its requests
};

/// Requests of all parts; where two come at one instant, that of the earlier part is first. Sessions of different parts
/// are numbered apart. Prefix blocks are those of the part: equal ids of different parts mean different texts.
std::unique_ptr<ArrivalSource> merge(std::vector<MergedPart> parts);

}  // namespace faultline::workload
