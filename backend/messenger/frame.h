// The frames of TcpMessenger: a length, a type, a payload. Pure; what an honest peer never sends is refused before a
// byte of it is kept.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ports/messenger.h"

namespace faultline::messenger {

enum class FrameType : std::uint8_t {
  message = 1,  // payload: the caller's bytes
  watch,        // sender wants heartbeats on this connection
  unwatch,
  beat,   // receiver's heartbeat
  taken,  // payload: u32, messages that the receiver's owner has polled since the last one
};

inline constexpr std::size_t kHeaderBytes = 5;  // u32 length of the payload, u8 type; little-endian

struct Frame {
  FrameType type{};
  std::string_view payload;  // points into the buffer
};

void append_frame(std::string& out, FrameType type, std::string_view payload);
void append_taken(std::string& out, std::uint32_t count);

struct Cut {
  std::optional<Frame> frame;  // empty: more bytes are needed, or `bad`
  std::size_t size = 0;        // bytes of the frame
  bool bad = false;            // no honest peer sends this
};
/// The first frame of `bytes`. message_bytes_max: of a message's payload.
Cut cut_frame(std::string_view bytes, std::size_t message_bytes_max);
/// Of a taken frame that cut_frame() accepted.
std::uint32_t taken_count(const Frame& frame);

/// Said behind the hello of a connection, and covered by its proof: who calls whom.
struct Introduction {
  Address from, to;
  friend bool operator==(const Introduction&, const Introduction&) = default;
};
std::vector<std::byte> encode(const Introduction& introduction);
/// nullopt for anything that encode() did not make.
std::optional<Introduction> decode_introduction(std::span<const std::byte> bytes);

}  // namespace faultline::messenger
