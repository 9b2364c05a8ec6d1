// Where KV lies: a pool of blocks (pages of 64 tokens, say), each with a slice per layer, laid out layer by layer, so
// that a layer's slices of neighbouring blocks touch and one request can carry them.
//
// The tag of a notify carries what sender and receiver have to tell each other about a transfer: 2 bits kind, 20 bits
// slot, 10 bits layer. Slots are given out by the receiver and come round after 2^20 transfers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/assert.h"
#include "core/base/ids.h"
#include "core/base/quantity.h"

namespace faultline::kv {

struct Layout {
  std::uint32_t layers = 0;
  std::uint32_t blocks = 0;      // in the pool
  std::int64_t slice_bytes = 0;  // of one block in one layer
  std::int64_t pool_bytes() const { return static_cast<std::int64_t>(layers) * blocks * slice_bytes; }
  /// Of the slice within the pool's region.
  std::int64_t offset(std::uint32_t layer, std::uint32_t block) const {
    return (static_cast<std::int64_t>(layer) * blocks + block) * slice_bytes;
  }
  friend bool operator==(const Layout&, const Layout&) = default;
};

inline constexpr std::uint32_t kLayersMax = 1 << 10;
inline constexpr std::uint32_t kSlots = 1 << 20;

enum class Say : std::uint8_t {
  layer = 0,   // sender: every byte of this layer is there
  abort = 1,   // sender: it gave up, and nothing of this transfer moves any more
  cancel = 2,  // receiver: give up (deadline passed, request gone)
};

struct Tag {
  Say say{};
  std::uint32_t slot = 0;
  std::uint32_t layer = 0;
};
inline std::uint32_t encode(Tag tag) {
  FAULTLINE_ASSERT(tag.slot < kSlots && tag.layer < kLayersMax, "slot={} layer={}", tag.slot, tag.layer);
  return static_cast<std::uint32_t>(tag.say) << 30 | tag.slot << 10 | tag.layer;
}
inline Tag decode(std::uint32_t tag) {
  return {static_cast<Say>(tag >> 30), (tag >> 10) & (kSlots - 1), tag & (kLayersMax - 1)};
}

/// What the receiver hands to the sender (in a control message) so that it may write: slot and target blocks.
struct Ticket {
  std::uint32_t slot = 0;
  std::vector<std::uint32_t> blocks;
};

/// A way to the other side: a transport (one per rail or NIC), the peer's id there, and the pool's regions.
struct Rail {
  EndpointId peer;
  RegionId local;
  RegionId remote;
};

}  // namespace faultline::kv
