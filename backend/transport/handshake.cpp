#include "backend/transport/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>
#include <string_view>

#include "backend/transport/wire.h"
#include "core/base/assert.h"

namespace faultline::transport {
namespace {

constexpr std::uint32_t kMagic = 0x31746c66;  // "flt1": a later protocol has another number and is refused
constexpr std::uint32_t kOpsMax = 1 << 20;
constexpr std::uint16_t kStreamsMax = 64;

std::array<std::byte, 32> mac(const std::string& secret, std::string_view role,
                              std::initializer_list<std::span<const std::byte>> parts) {
  std::vector<std::byte> text(role.size());
  std::memcpy(text.data(), role.data(), role.size());
  for (const auto part : parts) {
    const std::uint64_t length = part.size();  // lengths are covered, so that no two sequences of parts look the same
    const auto* bytes = reinterpret_cast<const std::byte*>(&length);
    text.insert(text.end(), bytes, bytes + sizeof length);
    text.insert(text.end(), part.begin(), part.end());
  }
  std::array<std::byte, 32> out{};
  unsigned int length = 0;
  const unsigned char* done = HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                                   reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                                   reinterpret_cast<unsigned char*>(out.data()), &length);
  FAULTLINE_ASSERT(done != nullptr && length == out.size(), "HMAC gave {} bytes", length);
  return out;
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;  // constant time
}

constexpr std::size_t kChallengeHead = kChallengeBytes - 32;

}  // namespace

std::array<std::byte, kHelloBytes> encode(const Hello& hello) {
  std::array<std::byte, kHelloBytes> bytes{};
  WireWriter(bytes).put(kMagic, hello.from, hello.to, hello.session, hello.stream, hello.streams,
                        hello.ops_in_flight_max, hello.info_length, hello.nonce);
  return bytes;
}

std::optional<Hello> decode_hello(std::span<const std::byte, kHelloBytes> bytes) {
  std::uint32_t magic = 0;
  Hello hello;
  WireReader(bytes).get(magic, hello.from, hello.to, hello.session, hello.stream, hello.streams,
                        hello.ops_in_flight_max, hello.info_length, hello.nonce);
  if (magic != kMagic || hello.streams == 0 || hello.streams > kStreamsMax || hello.stream >= hello.streams ||
      hello.ops_in_flight_max == 0 || hello.ops_in_flight_max > kOpsMax || hello.info_length > kHelloInfoMax ||
      hello.from == hello.to) {
    return std::nullopt;
  }
  return hello;
}

std::array<std::byte, kChallengeBytes> make_challenge(const std::string& secret,
                                                      std::span<const std::byte> hello_and_info,
                                                      const Challenge& challenge, std::span<const std::byte> info) {
  std::array<std::byte, kChallengeBytes> bytes{};
  WireWriter out(bytes);
  out.put(kMagic, challenge.from, challenge.ops_in_flight_max, challenge.info_length, challenge.nonce);
  out.put(mac(secret, "acceptor", {hello_and_info, std::span(bytes).first(kChallengeHead), info}));
  return bytes;
}

std::optional<Challenge> peek_challenge(std::span<const std::byte, kChallengeBytes> bytes) {
  std::uint32_t magic = 0;
  Challenge challenge;
  WireReader(bytes).get(magic, challenge.from, challenge.ops_in_flight_max, challenge.info_length, challenge.nonce);
  if (magic != kMagic || challenge.ops_in_flight_max == 0 || challenge.ops_in_flight_max > kOpsMax ||
      challenge.info_length > kHelloInfoMax) {
    return std::nullopt;
  }
  return challenge;
}

std::optional<Challenge> check_challenge(const std::string& secret, std::span<const std::byte> hello_and_info,
                                         const Uuid& expected, std::span<const std::byte, kChallengeBytes> bytes,
                                         std::span<const std::byte> info) {
  const auto challenge = peek_challenge(bytes);
  if (!challenge || challenge->from != expected || challenge->info_length != info.size()) return std::nullopt;
  const auto expected_mac = mac(secret, "acceptor", {hello_and_info, bytes.first(kChallengeHead), info});
  if (!same(expected_mac, bytes.last(32))) return std::nullopt;
  return challenge;
}

std::array<std::byte, kProofBytes> make_proof(const std::string& secret, std::span<const std::byte> hello_and_info,
                                              std::span<const std::byte, kChallengeBytes> challenge) {
  return mac(secret, "initiator", {hello_and_info, challenge});
}

bool check_proof(const std::string& secret, std::span<const std::byte> hello_and_info,
                 std::span<const std::byte, kChallengeBytes> challenge, std::span<const std::byte, kProofBytes> proof) {
  return same(mac(secret, "initiator", {hello_and_info, challenge}), proof);
}

}  // namespace faultline::transport
