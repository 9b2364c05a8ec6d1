#include "backend/messenger/frame.h"

#include "core/record/codec.h"

namespace faultline::messenger {
namespace {

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i)
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return value;
}
void append_u32(std::string& out, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

}  // namespace

void append_frame(std::string& out, FrameType type, std::string_view payload) {
  append_u32(out, static_cast<std::uint32_t>(payload.size()));
  out.push_back(static_cast<char>(type));
  out.append(payload);
}

void append_taken(std::string& out, std::uint32_t count) {
  std::string payload;
  append_u32(payload, count);
  append_frame(out, FrameType::taken, payload);
}

Cut cut_frame(std::string_view bytes, std::size_t message_bytes_max) {
  if (bytes.size() < kHeaderBytes) return {};
  const std::size_t length = read_u32(bytes);
  const auto type = static_cast<FrameType>(bytes[4]);
  switch (type) {
    case FrameType::message:
      if (length > message_bytes_max) return {.frame = {}, .size = 0, .bad = true};
      break;
    case FrameType::watch:
    case FrameType::unwatch:
    case FrameType::beat:
      if (length != 0) return {.frame = {}, .size = 0, .bad = true};
      break;
    case FrameType::taken:
      if (length != 4) return {.frame = {}, .size = 0, .bad = true};
      break;
    default: return {.frame = {}, .size = 0, .bad = true};
  }
  if (bytes.size() < kHeaderBytes + length) return {};
  return {.frame = Frame{type, bytes.substr(kHeaderBytes, length)}, .size = kHeaderBytes + length, .bad = false};
}

std::uint32_t taken_count(const Frame& frame) { return read_u32(frame.payload); }

std::vector<std::byte> encode(const Introduction& introduction) {
  std::string text;
  record::Encoder encoder(text);
  encoder(introduction.from, introduction.to);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

std::optional<Introduction> decode_introduction(std::span<const std::byte> bytes) {
  Introduction introduction;
  try {
    record::Decoder decoder(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    decoder(introduction.from, introduction.to);
    if (!decoder.done()) return std::nullopt;
  } catch (const record::CodecError&) {
    return std::nullopt;
  }
  for (const Address address : {introduction.from, introduction.to}) {
    if (address.role > Role::node) return std::nullopt;
  }
  return introduction;
}

}  // namespace faultline::messenger
