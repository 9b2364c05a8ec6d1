// Shared beginnings for generated prompts, around any source that knows none.
#pragma once

#include <memory>

#include "core/workload/arrival.h"
#include "core/workload/spec.h"

namespace faultline::workload {

/// Which prefix request i gets depends on the seed and i alone. Ids: block b of prefix p is p * blocks + b; of a
/// request's own part every block has an id of its own (from 2^31 on, going round after 2^31 blocks).
std::unique_ptr<ArrivalSource> with_prefixes(std::unique_ptr<ArrivalSource> inner, const PrefixesSpec& spec,
                                             std::uint64_t seed);

}  // namespace faultline::workload
