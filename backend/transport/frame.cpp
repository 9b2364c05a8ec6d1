#include "backend/transport/frame.h"

#include "backend/transport/wire.h"
#include "core/base/cause.h"

namespace faultline::transport {
namespace {
constexpr std::uint16_t kMagic = 0xfa17;
}  // namespace

std::array<std::byte, kFrameBytes> encode(const Frame& frame) {
  std::array<std::byte, kFrameBytes> bytes{};
  WireWriter(bytes).put(kMagic, frame.type, frame.flags, frame.length, frame.sequence, frame.key, frame.offset,
                        frame.tag, frame.parts);
  return bytes;
}

std::optional<Frame> decode(std::span<const std::byte, kFrameBytes> bytes) {
  std::uint16_t magic = 0;
  std::uint8_t type = 0;
  Frame frame;
  WireReader(bytes).get(magic, type, frame.flags, frame.length, frame.sequence, frame.key, frame.offset, frame.tag,
                        frame.parts);
  if (magic != kMagic) return std::nullopt;
  if (type < static_cast<std::uint8_t>(FrameType::ready) || type > static_cast<std::uint8_t>(FrameType::pong))
    return std::nullopt;
  frame.type = static_cast<FrameType>(type);
  if (frame.type == FrameType::data) {
    const bool empty = (frame.flags & kEmptyFlag) != 0;
    if (frame.flags > (kNotifyFlag | kEmptyFlag | kSharedFlag) || frame.length > kPayloadMax || frame.parts == 0 ||
        frame.parts > kPartsMax)
      return std::nullopt;
    const bool shared = (frame.flags & kSharedFlag) != 0;
    if (shared && (empty || frame.length % sizeof(SharedPiece) != 0 || frame.length > kPiecesMax * sizeof(SharedPiece)))
      return std::nullopt;
    if (empty != (frame.length == 0) || (empty && frame.parts != 1)) return std::nullopt;
  } else if (frame.length != 0 || frame.flags != 0 || frame.parts != 0) {
    return std::nullopt;
  }
  if (frame.type == FrameType::nack && (frame.tag == 0 || frame.tag >= kCauseNames.size())) return std::nullopt;
  return frame;
}

}  // namespace faultline::transport
