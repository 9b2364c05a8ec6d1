// Who is at the other end of a new stream. Both sides prove that they know the cluster's secret (HMAC-SHA-256 over both
// nonces and everything that was said), so that a stranger, a replay or a process of another cluster is refused before
// any frame is read. Pure: bytes in, bytes out; nonces are given by the caller.
//
//   initiator                         acceptor
//   Hello{ids, session, nonce}  ->
//                               <-    Challenge{id, nonce, mac}     mac = HMAC(secret, "acceptor"  | hello | challenge)
//   Proof{mac}                  ->                                  mac = HMAC(secret, "initiator" | hello | challenge)
//
// It authenticates; it does not encrypt. Data may be read and changed by who controls the network (no TLS on this
// path).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace faultline::transport {

using Uuid = std::array<std::uint8_t, 16>;  // of one transport object: a restarted process has another
using Nonce = std::array<std::uint8_t, 32>;

struct Hello {
  Uuid from{};
  Uuid to{};
  std::uint64_t session = 0;  // of this open(), random
  std::uint16_t stream = 0;   // index of this stream and how many the session has
  std::uint16_t streams = 1;
  std::uint32_t ops_in_flight_max = 0;  // the sender's bound, so that the receiver can bound its books
  std::uint32_t info_length = 0;        // bytes of implementation data behind the hello (verbs: queue pairs)
  Nonce nonce{};
  friend bool operator==(const Hello&, const Hello&) = default;
};

inline constexpr std::size_t kHelloBytes = 4 + 16 + 16 + 8 + 2 + 2 + 4 + 4 + 32;
inline constexpr std::size_t kChallengeBytes = 4 + 16 + 4 + 4 + 32 + 32;
inline constexpr std::size_t kProofBytes = 32;
inline constexpr std::uint32_t kHelloInfoMax = 4096;

std::array<std::byte, kHelloBytes> encode(const Hello& hello);
/// nullopt: not ours, another version, or numbers that no honest peer sends.
std::optional<Hello> decode_hello(std::span<const std::byte, kHelloBytes> bytes);

struct Challenge {
  Uuid from{};
  std::uint32_t ops_in_flight_max = 0;
  std::uint32_t info_length = 0;
  Nonce nonce{};
};

/// The acceptor's answer to `hello`, proof of the secret included. `info` is covered by the proofs.
std::array<std::byte, kChallengeBytes> make_challenge(const std::string& secret,
                                                      std::span<const std::byte> hello_and_info,
                                                      const Challenge& challenge, std::span<const std::byte> info = {});
/// The initiator's check: nullopt if the acceptor does not know the secret or is not who was called.
std::optional<Challenge> check_challenge(const std::string& secret, std::span<const std::byte> hello_and_info,
                                         const Uuid& expected, std::span<const std::byte, kChallengeBytes> bytes,
                                         std::span<const std::byte> info = {});
/// Reads only; nothing is proved yet (the length of the info behind it must be known first).
std::optional<Challenge> peek_challenge(std::span<const std::byte, kChallengeBytes> bytes);

std::array<std::byte, kProofBytes> make_proof(const std::string& secret, std::span<const std::byte> hello_and_info,
                                              std::span<const std::byte, kChallengeBytes> challenge);
bool check_proof(const std::string& secret, std::span<const std::byte> hello_and_info,
                 std::span<const std::byte, kChallengeBytes> challenge, std::span<const std::byte, kProofBytes> proof);

}  // namespace faultline::transport
