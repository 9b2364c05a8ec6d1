#include "backend/transport/frame.h"

#include <bit>
#include <cstring>

#include "core/base/cause.h"

namespace faultline::transport {
namespace {
static_assert(std::endian::native == std::endian::little, "the wire format is little-endian and copied as it is");

template <class T>
void put(std::byte*& at, T value) {
  std::memcpy(at, &value, sizeof value);
  at += sizeof value;
}
template <class T>
T get(const std::byte*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

constexpr std::uint16_t kMagic = 0xfa17;
}  // namespace

std::array<std::byte, kFrameBytes> encode(const Frame& frame) {
  std::array<std::byte, kFrameBytes> bytes{};
  std::byte* at = bytes.data();
  put(at, kMagic);
  put(at, static_cast<std::uint8_t>(frame.type));
  put(at, frame.flags);
  put(at, frame.length);
  put(at, frame.sequence);
  put(at, frame.key);
  put(at, frame.offset);
  put(at, frame.tag);
  put(at, frame.parts);
  return bytes;
}

std::optional<Frame> decode(std::span<const std::byte, kFrameBytes> bytes) {
  const std::byte* at = bytes.data();
  if (get<std::uint16_t>(at) != kMagic) return std::nullopt;
  const auto type = get<std::uint8_t>(at);
  if (type < static_cast<std::uint8_t>(FrameType::ready) || type > static_cast<std::uint8_t>(FrameType::pong)) return std::nullopt;
  Frame frame;
  frame.type = static_cast<FrameType>(type);
  frame.flags = get<std::uint8_t>(at);
  frame.length = get<std::uint32_t>(at);
  frame.sequence = get<std::uint64_t>(at);
  frame.key = get<std::uint64_t>(at);
  frame.offset = get<std::uint64_t>(at);
  frame.tag = get<std::uint32_t>(at);
  frame.parts = get<std::uint32_t>(at);
  if (frame.type == FrameType::data) {
    const bool empty = (frame.flags & kEmptyFlag) != 0;
    if (frame.flags > (kNotifyFlag | kEmptyFlag) || frame.length > kPayloadMax || frame.parts == 0 || frame.parts > kPartsMax) return std::nullopt;
    if (empty != (frame.length == 0) || (empty && frame.parts != 1)) return std::nullopt;
  } else if (frame.length != 0 || frame.flags != 0 || frame.parts != 0) {
    return std::nullopt;
  }
  if (frame.type == FrameType::nack && (frame.tag == 0 || frame.tag >= kCauseNames.size())) return std::nullopt;
  return frame;
}

}  // namespace faultline::transport
