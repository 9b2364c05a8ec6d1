// A worker process: all ranks of one group on one node. It computes nothing; each step takes its calibrated time and
// one real exchange with the group's other workers, a token for every rank (backend/ep over TCP). The worker of the
// first node is the head: it gets the steps and paces them; the others follow its exchanges.
#pragma once

#include <cstdint>

#include "core/config/document.h"

namespace faultline::live {

struct WorkerOptions {
  std::uint32_t group = 0;  // of its instance
  std::uint32_t index = 0;  // of its node in the group; 0 = head
  std::uint32_t count = 1;  // nodes of the group
  std::uint32_t gpus = 1;   // of the group on this node
};

/// Until its agent ends or kills it. The exit status.
int run_worker(const WorkerOptions& options, const config::FileReader& reader);

}  // namespace faultline::live
