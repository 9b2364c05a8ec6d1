// The frames of the stream transports (TCP and the same-host ring): a fixed header, for data followed by its payload.
// Pure: encoding, decoding and the checks that do not depend on a session. Little-endian on the wire.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace faultline::transport {

enum class FrameType : std::uint8_t {
  ready = 1,  // the acceptor attached the session; first frame on stream 0
  data,       // payload goes to [offset, +length) of the region with this key; one of `parts` of batch `sequence`
  ack,        // every batch below `sequence` has ended: it is visible, or a nack came before
  nack,       // batch `sequence` was refused with cause `tag`; some of its bytes may be visible
  ping,       // answered with pong, same sequence
  pong,
};

inline constexpr std::uint8_t kNotifyFlag = 1;  // the batch carries `tag` as its notify
inline constexpr std::uint8_t kSharedFlag =
    4;  // the payload is a list of SharedPiece, to be read from the sender's shared memory
inline constexpr std::uint8_t kEmptyFlag = 2;  // the batch has no bytes: key and offset mean nothing

struct Frame {
  FrameType type{};
  std::uint8_t flags = 0;
  std::uint32_t length = 0;  // of the payload; 0 unless data
  std::uint64_t sequence = 0;
  std::uint64_t key = 0;
  std::uint64_t offset = 0;
  std::uint32_t tag = 0;
  std::uint32_t parts = 0;  // data frames of the batch, 1 at least
  friend bool operator==(const Frame&, const Frame&) = default;
};

inline constexpr std::size_t kFrameBytes = 40;
inline constexpr std::uint32_t kPayloadMax = 16 << 20;  // of one frame; a longer one is a broken or hostile peer
inline constexpr std::uint32_t kPartsMax = 1 << 20;

/// Where bytes lie in memory that the sender has shared; as it is on the wire.
struct SharedPiece {
  std::uint64_t memory = 0;  // the sender's number
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
inline constexpr std::uint32_t kPiecesMax = 1024;  // of one frame

std::array<std::byte, kFrameBytes> encode(const Frame& frame);
/// nullopt for anything that no honest peer sends.
std::optional<Frame> decode(std::span<const std::byte, kFrameBytes> bytes);

}  // namespace faultline::transport
