// A stable 64-bit hash: the same on every machine, compiler and build. Used for digests, log hashes and named random
// streams; never for security. Mixing function: the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
#pragma once

#include <cstdint>
#include <string_view>

namespace faultline {

constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Order-dependent accumulation: hash_combine(hash_combine(h, a), b) differs from the same with a and b exchanged.
constexpr std::uint64_t hash_combine(std::uint64_t hash, std::uint64_t value) {
  return mix64(hash ^ (value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2)));
}

/// FNV-1a over the bytes, then mixed.
constexpr std::uint64_t hash_text(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix64(h);
}

}  // namespace faultline
