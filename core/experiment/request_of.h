// A recorded or generated arrival as the request that a client hands to a router, in both worlds.
#pragma once

#include <algorithm>

#include "core/base/hash.h"
#include "core/control/messages.h"
#include "core/workload/arrival.h"

namespace faultline::experiment {

inline control::RequestArrived request_of(RequestId id, const workload::Arrival& a) {
  control::RequestArrived r{.request = id,
                            .prompt = static_cast<std::int32_t>(a.prompt.v),
                            .output = static_cast<std::int32_t>(a.output.v),
                            .slo_class = a.slo_class};
  if (a.prefix_blocks.empty()) return r;
  r.prefix_key = mix64(a.prefix_blocks[0] + 1);
  r.prefix.block_tokens = a.prefix_block_tokens;
  r.prefix.tokens = static_cast<std::int32_t>(
      std::min(a.prompt.v, static_cast<std::int64_t>(a.prefix_blocks.size()) * a.prefix_block_tokens));
  r.prefix.blocks.assign(a.prefix_blocks.begin(), a.prefix_blocks.end());
  return r;
}

}  // namespace faultline::experiment
