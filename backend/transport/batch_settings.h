// What every real transport lets one choose about batches, and in one place how it is read, printed and checked.
#pragma once

#include <cstdint>

#include "core/config/fields.h"
#include "core/ports/transport.h"

namespace faultline::transport {

struct BatchSettings {
  std::uint32_t ops_in_flight_max = 256;  // per peer
  std::uint32_t spans_per_batch_max = 1 << 16;
  Bytes chunk{1 << 20};       // longer requests are cut
  Bytes stripe_min{1 << 20};  // smaller batches stay on one connection or queue pair

  /// The limits that the owner of a transport sees. `budget`: a broken path or a silent peer ends its operations within
  /// it.
  TransportLimits limits(Duration budget) const {
    return {.ops_in_flight_max = ops_in_flight_max,
            .spans_per_batch_max = spans_per_batch_max,
            .failure_budget = budget,
            .device_memory = false};
  }
};

/// `ops_max` and `chunk_max`: what the implementation can take.
inline void describe_batches(config::Fields& f, BatchSettings& s, double ops_max, double chunk_max) {
  f.field("ops_in_flight_max", s.ops_in_flight_max, {.min = 1, .max = ops_max});
  f.field("spans_per_batch_max", s.spans_per_batch_max, {.min = 1, .max = 1 << 20});
  f.field("chunk", s.chunk, {.min = 4096, .max = chunk_max});
  f.field("stripe_min", s.stripe_min, config::kNotNegative);
}

}  // namespace faultline::transport
