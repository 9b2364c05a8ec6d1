// Requests as the fleet receives them: one ArrivalSource per run, from a recorded trace or from a generator. A source
// is deterministic (seed and settings give the same arrivals whatever else is drawn in the run) and has one owner.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "core/base/quantity.h"

namespace faultline::workload {

inline constexpr std::uint32_t kNoSession = std::numeric_limits<std::uint32_t>::max();

/// Range: prompt and output are at least 1 token (a recorded 0 is handled by TraceSpec::zero_tokens).
struct Arrival {
  Instant at{};                        // ns since the run began
  Tokens prompt{};                     // input tokens
  Tokens output{};                     // tokens to generate, the first included
  std::uint8_t slo_class = 0;          // index into WorkloadSpec::slo
  std::uint32_t session = kNoSession;  // requests of one conversation or client share it
  /// Ids of the chain of prefix blocks of the prompt, from its first token on: two requests whose first k ids are equal
  /// share the KV cache of their first k blocks. Valid until the next call of next(); empty if unknown.
  std::span<const std::uint32_t> prefix_blocks{};
  std::uint32_t prefix_block_tokens = 0;  // tokens a block; the last block may be partly filled. 0 if unknown
};

class ArrivalSource {
 public:
  virtual ~ArrivalSource() = default;
  /// Fills `arrival` with the next request, times never decreasing. False (and `arrival` untouched) at the end, and on
  /// every later call.
  virtual bool next(Arrival& arrival) = 0;
};

}  // namespace faultline::workload
