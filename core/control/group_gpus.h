// Which GPUs of their nodes the groups of an instance have: small groups share a node, in the order of their numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/control/instance.h"

namespace faultline::control {

/// Number, on each of its nodes, of the first GPU of `groups[g]`. Groups that share a node lie inside it.
inline std::uint32_t first_gpu(const std::vector<GroupSetup>& groups, std::size_t g) {
  std::uint32_t first = 0;
  for (std::size_t before = 0; before < g; ++before) {
    const GroupSetup& s = groups[before];
    if (s.nodes.front() == groups[g].nodes.front())
      first += static_cast<std::uint32_t>(s.ranks * s.gpus_per_rank) / static_cast<std::uint32_t>(s.nodes.size());
  }
  return first;
}

}  // namespace faultline::control
